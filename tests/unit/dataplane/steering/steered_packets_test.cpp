// Two workers behind a device that applies its rules: whose queue a packet of an SA comes to, and
// what is handed from one worker to the other.
#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/control/associations.hpp"
#include "tests/unit/dataplane/any_child.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "tests/unit/dataplane/steering/flow_device.hpp"

namespace culvert::dataplane::control {
namespace {

using test::FlowDevice;
using test::kLan;
using test::kWan;

constexpr std::uint32_t kSiteWorkers = 2;

config::Interface interface(const std::string& name, const std::vector<std::string>& addresses) {
  config::Interface made;
  made.name = name;
  for (const std::string& text : addresses) {
    made.addresses.push_back(wire::Prefix::parse(text).value());
  }
  return made;
}

/// The far gateway of pipeline/gateway.hpp.
config::Config configuration() {
  const test::Addresses ours = test::mirrored();
  config::Config config;
  config.dataplane.interfaces = {interface("lan", {ours.lan, ours.lan6}),
                                 interface("wan", {ours.wan, ours.wan6})};
  const config::Child child = test::any_child("net");
  config::Connection connection;
  connection.name = "peer";
  connection.children = {child};
  config.connections = {connection};
  return config;
}

/// What a second worker of the same tables needs.
struct SecondWorker {
  explicit SecondWorker(Tables& tables) {
    context.id = WorkerId{1};
    context.tables = &tables;
    context.engine = crypto::esp::make_engine();
    context.pool = test::packet_pool();
    context.large_pool = test::large_packet_pool();
    handoff = rte_ring_create("second", 1024, 0, 0);
    punt = rte_ring_create("second_punt", 1024, 0, 0);
    REQUIRE(handoff != nullptr);
    REQUIRE(punt != nullptr);
    context.handoff = handoff;
    context.punt = punt;
    state = std::make_unique<WorkerState>(context);
  }
  ~SecondWorker() {
    state->free_given_back();
    rte_ring_free(handoff);
    rte_ring_free(punt);
  }
  SecondWorker(const SecondWorker&) = delete;
  SecondWorker& operator=(const SecondWorker&) = delete;

  WorkerContext context;
  rte_ring *handoff, *punt;
  std::unique_ptr<WorkerState> state;
};

struct Tunnel {
  test::SaOptions options;
  channel::InstallSa in;
};

/// A gateway of two workers, and a peer that sends to it.
struct Site {
  test::Gateway peer;
  test::Gateway gateway{test::mirrored(), kSiteWorkers, 0};
  SecondWorker second{gateway.tables()};
  std::array<WorkerContext*, kSiteWorkers> peers{&gateway.context(), &second.context};
  FlowDevice lan{0, kSiteWorkers, 1000}, wan;
  config::Config config = configuration();
  Topology topology{config.dataplane};
  ChildDirectory children{config};
  std::unique_ptr<Steering> steering = Steering::create({{0, {}, "lan"}, {1, {}, "wan"}},
                                                        kSiteWorkers, gateway.tables().sad->slots())
                                           .value();
  Associations associations{gateway.tables(), topology, children, *steering};

  explicit Site(std::size_t room) : wan(1, kSiteWorkers, room) {
    gateway.context().peers = second.context.peers = peers.data();
    steering->start();
  }

  /// An SA from a client of the peer on, inbound here and outbound at the peer.
  Tunnel establish(int client, bool is_v6, bool is_in_udp) {
    Tunnel tunnel;
    tunnel.options.udp = is_in_udp;
    tunnel.options.local_selectors = {"10.1.0." + std::to_string(20 + client) + "/32"};
    if (is_v6) {
      tunnel.options.outer_local = test::Addresses{}.peer6;
      tunnel.options.outer_remote = test::mirrored().peer6;
      std::swap(tunnel.options.outer_local, tunnel.options.outer_remote);
    }
    const auto spis = gateway.tables().sad->lease_spis(1);
    REQUIRE(spis.size() == 1);
    const auto spi = static_cast<std::uint32_t>(spis.front());
    tunnel.in = test::inbound_sa(tunnel.options, spi);
    tunnel.in.child_id = config::ChildId{};
    REQUIRE(associations.install(tunnel.in, runtime::now()) == channel::Outcome::ok);
    peer.protect(tunnel.options.local_selectors[0], "10.2.0.0/16",
                 peer.install(test::outbound_sa(tunnel.options, spi)));
    return tunnel;
  }
  void make_rules() {
    for (int times = 0; times < 100; ++times) steering->work();
  }
  test::Packet sealed(int client, std::uint8_t filling) {
    test::PacketOptions options;
    options.source = "10.1.0." + std::to_string(20 + client);
    options.payload = test::Packet(40, filling);
    return peer.receive(kLan, test::frame(test::ip_packet(options))).wan.at(0);
  }

  /// Each frame at the queue that the device chooses; both workers until all is done. How many came
  /// out at the LAN.
  std::size_t arrive(const std::vector<test::Packet>& frames) {
    for (const test::Packet& bytes : frames) {
      rte_mbuf* packet = rte_pktmbuf_alloc(test::packet_pool());
      REQUIRE(packet != nullptr);
      char* const data = rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size()));
      std::copy(bytes.begin(), bytes.end(), data);
      REQUIRE(rte_eth_tx_burst(1, wan.queue_of(bytes), &packet, 1) == 1);
    }
    auto burst = std::make_unique<Burst>();
    std::size_t delivered = 0;
    for (int round = 0; round < 4; ++round) {
      for (WorkerState* const worker : {&gateway.worker(), second.state.get()}) {
        test::take_whole_bursts(*worker);
        run_iteration(*worker, *burst);
        delivered += take_sent(static_cast<std::uint16_t>(raw(worker->context.id)));
      }
    }
    return delivered;
  }
  /// What a looped port would receive next.
  static std::size_t take_sent(std::uint16_t queue) {
    std::size_t count = 0;
    rte_mbuf* frame = nullptr;
    while (rte_eth_rx_burst(0, queue, &frame, 1) == 1) {
      rte_pktmbuf_free(frame);
      ++count;
    }
    return count;
  }
  [[nodiscard]] const WorkerCounters& counters(std::size_t worker) {
    return gateway.tables().counters[worker];
  }
  [[nodiscard]] std::uint64_t handed_over() {
    return counters(0).handed_over.read() + counters(1).handed_over.read();
  }
};

constexpr int kTunnels = 8, kPackets = 6;

std::vector<test::Packet> packets_of_all(Site& site) {
  std::vector<test::Packet> frames;
  for (int packet = 0; packet < kPackets; ++packet) {
    for (int client = 1; client <= kTunnels; ++client) {
      frames.push_back(site.sealed(client, static_cast<std::uint8_t>(packet)));
    }
  }
  return frames;
}

std::vector<Tunnel> tunnels_of_all_forms(Site& site) {
  std::vector<Tunnel> tunnels;
  for (int client = 1; client <= kTunnels; ++client) {
    tunnels.push_back(site.establish(client, client % 4 >= 2, client > 4));
  }
  return tunnels;
}

}  // namespace

TEST_CASE("steered packets: with rules each comes to its SA's worker, and none is handed over") {
  Site site(100);
  tunnels_of_all_forms(site);
  site.make_rules();
  CHECK(site.wan.rules().size() == kTunnels);
  const auto frames = packets_of_all(site);
  CHECK(site.arrive(frames) == frames.size());
  CHECK(site.handed_over() == 0);
  CHECK(site.counters(0).received.read() == frames.size() / 2);  // every second slot is each one's
  CHECK(site.counters(1).received.read() == frames.size() / 2);
}

TEST_CASE("steered packets: without rules some are handed over, and all arrive") {
  Site site(0);
  tunnels_of_all_forms(site);
  site.make_rules();
  CHECK(site.wan.rules().empty());
  const auto frames = packets_of_all(site);
  CHECK(site.arrive(frames) == frames.size());
  CHECK(site.handed_over() > 0);
}

TEST_CASE("steered packets: in a table that is too small some have rules, and all arrive") {
  Site site(5);
  tunnels_of_all_forms(site);
  site.make_rules();
  CHECK(site.steering->report(kWan).with_rule == 5);
  CHECK(site.steering->report(kWan).without_rule == 3);
  const auto frames = packets_of_all(site);
  CHECK(site.arrive(frames) == frames.size());
  CHECK(site.handed_over() > 0);
  CHECK(site.handed_over() <= 3U * kPackets);
}

TEST_CASE("steered packets: an SA that the key daemon deletes frees its rule") {
  Site site(100);
  const auto tunnels = tunnels_of_all_forms(site);
  site.make_rules();
  REQUIRE(site.associations.remove(tunnels[2].in.sa) == channel::Outcome::ok);
  site.make_rules();
  CHECK(site.wan.rules().size() == kTunnels - 1);
  CHECK(site.steering->report(kWan).with_rule == kTunnels - 1);
}

TEST_CASE("steered packets: a rekey moves the packets to the new SA's worker") {
  Site site(100);
  const Tunnel before = site.establish(1, false, false);
  site.make_rules();
  const auto old = site.sealed(1, 1);
  const Tunnel after = site.establish(1, false, false);
  site.make_rules();
  const auto owner = [&](const Tunnel& tunnel) {
    return raw(site.gateway.tables().sad->find(tunnel.in.sa)->slot) % kSiteWorkers;
  };
  REQUIRE(owner(before) != owner(after));
  // Both while both are there.
  test::Packet fresh = old;
  wire::store_u32(&fresh[34], static_cast<std::uint32_t>(after.in.spi));
  CHECK(site.wan.queue_of(old) == owner(before));
  CHECK(site.wan.queue_of(fresh) == owner(after));
  REQUIRE(site.associations.remove(before.in.sa) == channel::Outcome::ok);
  site.make_rules();
  REQUIRE(site.wan.rules().size() == 1);
  CHECK(site.wan.rules().front().queue == owner(after));
}

TEST_CASE("steered packets: an SA that moves to another address of ours is steered there") {
  Site site(100);
  const Tunnel tunnel = site.establish(1, false, false);
  site.make_rules();
  channel::UpdateEndpoints update;
  update.sa = tunnel.in.sa;
  update.local = {wire::IpAddress::parse("10.2.0.1").value(), 0};  // the LAN's
  update.remote = {wire::IpAddress::parse("10.2.0.99").value(), 0};
  REQUIRE(site.associations.update_endpoints(update, runtime::now()) == channel::Outcome::ok);
  site.make_rules();
  CHECK(site.wan.rules().empty());
  CHECK(site.lan.rules().size() == 1);
}

TEST_CASE("steered packets: a reload that moves our addresses moves the rules") {
  Site site(100);
  site.establish(1, false, false);
  site.establish(2, true, true);
  site.make_rules();
  const Topology before = site.topology;
  std::swap(site.config.dataplane.interfaces[0].addresses,
            site.config.dataplane.interfaces[1].addresses);
  site.topology = Topology(site.config.dataplane);
  CHECK(before.has_addresses_of(before));
  CHECK_FALSE(site.topology.has_addresses_of(before));
  site.associations.steer_again();
  site.associations.steer_some();
  site.make_rules();
  CHECK(site.wan.rules().empty());
  CHECK(site.lan.rules().size() == 2);
}

TEST_CASE("steered packets: a manual SA whose SPI is not its slot goes to the slot's worker") {
  Site site(100);
  auto& sad = *site.gateway.tables().sad;
  const auto first = static_cast<std::uint32_t>(sad.lease_spis(1).at(0));
  test::SaOptions options;
  // The place that this SPI would have is leased already.
  const std::uint32_t spi = first ^ 0x80000000U;
  config::ManualSa configured;
  configured.name = "by hand";
  channel::InstallSa request = test::inbound_sa(options, spi);
  const auto slot = site.associations.install_manual(request, configured, runtime::now());
  REQUIRE(slot);
  REQUIRE(raw(*slot) != (spi & (sad.slots() - 1)));
  site.make_rules();
  REQUIRE(site.wan.rules().size() == 1);
  CHECK(site.wan.rules().front().queue == raw(*slot) % kSiteWorkers);
}

}  // namespace culvert::dataplane::control
