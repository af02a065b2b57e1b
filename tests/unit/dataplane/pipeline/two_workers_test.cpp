// What one worker hands to another: within a flow it stays in its order, and a ring that is full is
// no loss without a word.
#include <algorithm>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include "dataplane/worker/fragment.hpp"
#include "tests/unit/dataplane/agreement/second_worker.hpp"
#include "tests/unit/dataplane/pipeline/pieces.hpp"
#include "wire/ip.hpp"

namespace culvert::test::two_workers {
namespace {

using namespace dataplane;

constexpr std::uint32_t kWorkers = 2;
using Serials = std::vector<std::uint8_t>;

Serials up_to(std::uint8_t last) {
  Serials all;
  for (std::uint8_t serial = 1; serial <= last; ++serial) all.push_back(serial);
  return all;
}

/// A peer with a tunnel for each client, and the gateway of two workers that it sends to.
struct Site {
  Gateway peer;
  Gateway gateway{mirrored(), kWorkers, 0};
  std::uint32_t next_spi = 0x1000;

  static std::string address_of(int client) { return "10.1.0." + std::to_string(20 + client); }
  /// A client's tunnel, whose SA belongs to the worker here.
  channel::SaId connect(int client, std::uint32_t owner) {
    SaOptions options;
    options.local_selectors = {address_of(client) + "/32"};
    while (true) {
      const std::uint32_t spi = next_spi++;
      const auto in = inbound_sa(options, spi);
      if (raw(gateway.install(in)) % kWorkers != owner) continue;
      peer.protect(options.local_selectors[0], "10.2.0.0/16",
                   peer.install(outbound_sa(options, spi)));
      return in.sa;
    }
  }
  /// ESP of a packet whose last byte is its serial number.
  Packet sealed(int client, std::uint8_t serial, std::size_t bytes = 40) {
    PacketOptions options;
    options.source = address_of(client);
    options.payload = Packet(bytes, serial);
    return peer.receive(kLan, frame(ip_packet(options))).wan.at(0);
  }
  /// Of what came out of a client's tunnel, in the order in which it left.
  static Serials serials_of(int client, const std::vector<Packet>& frames) {
    const auto from = wire::IpAddress::parse(address_of(client)).value();
    Serials serials;
    for (const Packet& one : frames) {
      const Packet ip = ip_of(one);
      if (wire::load_u32(&ip[wire::ipv4::kSource]) == from.v4_host()) serials.push_back(ip.back());
    }
    return serials;
  }
  std::uint64_t handed_over() { return sum(&WorkerCounters::handed_over); }
  std::uint64_t fragments_handed_over() { return sum(&WorkerCounters::fragments_handed_over); }

 private:
  std::uint64_t sum(Counter WorkerCounters::* counter) {
    std::uint64_t count = 0;
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      count += (gateway.tables().counters[worker].*counter).read();
    }
    return count;
  }
};

/// With both workers at work.
struct Working : Site {
  SecondWorker second{gateway};
  Working() {
    gateway.iterate = [this](WorkerState& first, Burst& burst) { second.iterate(first, burst); };
  }
};

/// A packet that a router cut: a frame each piece.
std::vector<Packet> cut_up(Packet ip, std::uint16_t identification) {
  wire::store_u16(&ip[wire::ipv4::kIdentification], identification);
  wire::store_u16(&ip[wire::ipv4::kFragment], 0);
  wire::write_ipv4_checksum(ip.data(), wire::ipv4::kHeaderBytes);
  const auto cut = cut_for(ip, 600, identification);
  REQUIRE(cut);
  std::vector<Packet> pieces;
  for (std::uint16_t index = 0; index < cut->count; ++index) {
    Packet piece(600);
    piece.resize(write_fragment(ip, *cut, index, piece));
    pieces.push_back(frame(piece));
  }
  return pieces;
}

/// With a second worker that takes nothing out of its ring.
struct Stuck : Site {
  static constexpr unsigned int kPlaces = 15;
  // As the data plane makes it: who enqueues goes by the ring's type.
  Stuck() : ring(rte_ring_create("stuck", kPlaces + 1, 0, RING_F_MP_RTS_ENQ | RING_F_SC_DEQ)) {
    REQUIRE(ring != nullptr);
    second.id = WorkerId{1};
    second.handoff = ring;
    gateway.context().peers = peers.data();
    gateway.waits_elsewhere = [this] { return rte_ring_count(ring); };
  }
  ~Stuck() {
    empty();
    rte_ring_free(ring);
  }
  Stuck(const Stuck&) = delete;
  Stuck& operator=(const Stuck&) = delete;

  void empty() const {
    void* packet = nullptr;
    while (rte_ring_dequeue(ring, &packet) == 0) {
      rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
    }
  }

  rte_ring* ring;
  WorkerContext second;
  std::array<WorkerContext*, kWorkers> peers{&gateway.context(), &second};
};

}  // namespace

TEST_CASE("two workers: ESP of an SA stays in its order, whose worker ever receives it") {
  Working site;
  for (int client = 0; client < 4; ++client) {
    site.connect(client, static_cast<std::uint32_t>(client) % kWorkers);
  }
  std::vector<Packet> frames;
  for (std::uint8_t serial = 1; serial <= 16; ++serial) {
    for (int client = 0; client < 4; ++client) frames.push_back(site.sealed(client, serial));
  }
  site.gateway.receiver = GENERATE(std::uint16_t{0}, std::uint16_t{1});
  const Result result = site.gateway.receive(kWan, frames);
  CHECK(result.drops.empty());
  CHECK(site.handed_over() == 2 * 16);
  for (int client = 0; client < 4; ++client) {
    CHECK(Site::serials_of(client, result.lan) == up_to(16));
  }
}

TEST_CASE(
    "two workers: what was handed over comes before what new rules steer to the SA's worker") {
  Working site;
  site.connect(0, 1);
  std::vector<Packet> before, behind;
  for (std::uint8_t serial = 1; serial <= 20; ++serial) before.push_back(site.sealed(0, serial));
  for (std::uint8_t serial = 21; serial <= 40; ++serial) behind.push_back(site.sealed(0, serial));
  int turn = 0;
  site.gateway.iterate = [&](WorkerState& first, Burst& burst) {
    // The rule is there: from now on the other queue has them.
    if (turn++ == 1) {
      for (const Packet& bytes : behind) {
        rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
        REQUIRE(packet != nullptr);
        char* const data = rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size()));
        std::ranges::copy(bytes, data);
        REQUIRE(rte_eth_tx_burst(static_cast<std::uint16_t>(raw(kWan)), 1, &packet, 1) == 1);
      }
    }
    site.second.iterate(first, burst);
  };
  const Result result = site.gateway.receive(kWan, before);
  CHECK(result.drops.empty());
  CHECK(site.handed_over() == before.size());
  CHECK(Site::serials_of(0, result.lan) == up_to(40));
}

TEST_CASE("two workers: fragments of a flow in transit go on in its order") {
  Working site;
  site.gateway.tables().spd->replace(
      {entry(PolicyAction::bypass, "10.2.0.0/16[udp]", "10.1.0.0/16[udp/53]")});
  bool stayed = false, moved = false;
  for (int client = 0; client < 12; ++client) {
    std::vector<Packet> frames;
    Serials expected;
    for (std::uint8_t serial = 1; serial <= 20; ++serial) {
      for (const std::size_t offset : {0, 64, 128}) {
        frames.push_back(packet_of({.identification = serial,
                                    .offset = offset,
                                    .more = offset != 128,
                                    .source = "10.2.0." + std::to_string(20 + client),
                                    .destination = "10.1.0.9"}));
        expected.push_back(serial);
      }
    }
    const std::uint64_t before = site.fragments_handed_over();
    const Result result = site.gateway.receive(kLan, frames);
    CHECK(result.drops.empty());
    Serials left;
    for (const Packet& one : result.wan) {
      left.push_back(ip_of(one)[wire::ipv4::kIdentification + 1]);
    }
    CHECK(left == expected);
    const std::uint64_t handed = site.fragments_handed_over() - before;
    CHECK((handed == 0 || handed == frames.size()));
    (handed == 0 ? stayed : moved) = true;
  }
  CHECK(stayed);
  CHECK(moved);
  CHECK(site.handed_over() == 0);
}

TEST_CASE("two workers: ESP that comes in fragments stays in its order") {
  const std::uint32_t owner = GENERATE(0U, 1U);
  Working site;
  site.connect(0, owner);
  std::vector<Packet> frames;
  for (std::uint8_t serial = 1; serial <= 20; ++serial) {
    const auto pieces = cut_up(ip_of(site.sealed(0, serial, 1000)), serial);
    frames.insert(frames.end(), pieces.begin(), pieces.end());
  }
  site.gateway.receiver = GENERATE(std::uint16_t{0}, std::uint16_t{1});
  const Result result = site.gateway.receive(kWan, frames);
  CHECK(result.drops.empty());
  CHECK(Site::serials_of(0, result.lan) == up_to(20));
}

TEST_CASE("two workers: ESP that finds the ring full is counted, for its SA too, and freed") {
  const unsigned int in_use = rte_mempool_in_use_count(packet_pool());
  {
    Stuck site;
    const channel::SaId sa = site.connect(0, 1);
    std::vector<Packet> frames;
    for (std::uint8_t serial = 1; serial <= 20; ++serial) frames.push_back(site.sealed(0, serial));
    const Result result = site.gateway.receive(kWan, frames);
    CHECK(result.drops == std::map<DropReason, std::uint64_t>{
                              {DropReason::handoff_queue_full, 20 - Stuck::kPlaces}});
    CHECK(site.handed_over() == Stuck::kPlaces);
    Sad& sad = *site.gateway.tables().sad;
    const SaTraffic traffic = sad.traffic(*sad.find(sa));
    CHECK(traffic.drops[static_cast<std::size_t>(DropReason::handoff_queue_full)] ==
          20 - Stuck::kPlaces);
    CHECK(traffic.packets == 0);
    CHECK(rte_ring_count(site.ring) == Stuck::kPlaces);
  }
  CHECK(rte_mempool_in_use_count(packet_pool()) == in_use);
}

TEST_CASE("two workers: fragments that flood one leave ESP its half of the ring") {
  Stuck site;
  site.connect(0, 1);
  // Of one source after the other, for only some meet at that worker.
  std::uint64_t refused = 0;
  for (int source = 0; source < 60; ++source) {
    const Result result =
        site.gateway.receive(kWan, packet_of({.source = "203.0.113." + std::to_string(source),
                                              .destination = "198.51.100.2"}));
    refused += result.dropped(DropReason::handoff_queue_full);
  }
  CHECK(refused > 0);
  CHECK(site.fragments_handed_over() == Stuck::kPlaces / 2 + 1);
  CHECK(rte_ring_count(site.ring) == Stuck::kPlaces / 2 + 1);
  const Result result = site.gateway.receive(
      kWan, std::vector<Packet>{site.sealed(0, 1), site.sealed(0, 2), site.sealed(0, 3)});
  CHECK(result.drops.empty());
  CHECK(site.handed_over() == 3);
}

TEST_CASE("two workers: strangers' fragments have a budget, and take none of a peer's") {
  Gateway gateway;
  gateway.tables().peers.publish({*wire::IpAddress::parse("198.51.100.2")},
                                 *gateway.tables().reclaimer);
  gateway.worker().fragment_budget = FragmentBudget(std::uint64_t{1} << 50U);  // nothing comes back
  const auto come = [&](const std::string& source, std::uint32_t count) {
    std::uint64_t policed = 0;
    for (std::uint32_t sent = 0; sent < count;) {
      std::vector<Packet> frames;
      for (; sent < count && frames.size() < 32; ++sent) {
        frames.push_back(
            packet_of({.identification = sent, .source = source, .destination = "198.51.100.1"}));
      }
      policed += gateway.receive(kWan, frames).dropped(DropReason::fragments_policed);
    }
    return policed;
  };
  CHECK(come("203.0.113.1", FragmentBudget::kAtOnce) == 0);
  CHECK(come("203.0.113.2", 10) == 10);
  CHECK(come("198.51.100.2", 10) == 0);
}

}  // namespace culvert::test::two_workers
