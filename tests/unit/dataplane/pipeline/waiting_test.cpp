// Packets that wait for their next hop's MAC address while policies change: what left the worker in
// clear meets the policies that are in force when the next hop answers.
#include <algorithm>
#include <optional>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/control/neighbors.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane::control::waiting {
namespace {

using test::kLan;
using test::kWan;
using Frame = test::Packet;  // or an IP packet

const std::string kNextHop = "198.51.100.77", kClient = "10.1.0.9";
constexpr std::uint8_t kTtl = 64;

/// Main thread and worker of a gateway whose policies let the client's packets to `kNextHop` pass.
struct Site {
  Site() { set_policy(PolicyAction::bypass); }
  ~Site() { neighbors.stop(); }
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  void set_policy(PolicyAction action, SlotIndex outbound = kNoSlot) {
    PolicyEntry entry;
    entry.action = action;
    entry.outbound = outbound;
    entry.local = {wire::TrafficSelector::parse("10.1.0.0/24").value()};
    entry.remote = {wire::TrafficSelector::parse("198.51.100.64/26").value()};
    gateway.tables().spd->replace({entry});
  }
  SlotIndex install_sa() {
    test::SaOptions options;
    options.remote_selectors = {"198.51.100.64/26"};
    return gateway.install(test::outbound_sa(options));
  }
  /// The client's packet: what the worker hands to the main thread.
  std::vector<test::Punt> come() {
    const auto packet = test::ip_packet({.source = kClient,
                                         .destination = kNextHop,
                                         .ttl = kTtl,
                                         .payload = test::udp(1000, 2000, Frame(40, 0x42))});
    return gateway.receive(kLan, test::frame(packet)).punts;
  }
  /// It waits for its next hop, or goes on.
  void take(const test::Punt& punt) {
    Packet packet = packets.make(punt.bytes);
    REQUIRE(packet != nullptr);
    neighbors.send({kWan, *wire::IpAddress::parse(kNextHop)}, std::move(packet), punt.what, now);
  }
  void wait_for_next_hop() {
    const auto punts = come();
    REQUIRE(punts.size() == 1);
    REQUIRE(punts[0].what.reason == PuntReason::resolve_neighbor);
    take(punts[0]);
    const auto asked = gateway.serve_main_thread().wan;
    REQUIRE(asked.size() == 1);
    REQUIRE(wire::load_u16(&asked[0][12]) == kEtherTypeArp);
  }
  test::Result answer() {
    wire::ArpMessage message;
    message.operation = wire::ArpMessage::Operation::reply;
    message.sender_mac = test::kTheirMac;
    message.sender = *wire::IpAddress::parse(kNextHop);
    message.target_mac = test::kOurMac;
    message.target = wire::IpAddress::v4(0xc6336401U);
    Frame bytes(wire::kArpBytes);
    wire::Writer writer(bytes);
    wire::build_arp(writer, message);
    neighbors.arp_arrived(kWan, packets.make(bytes), now);
    return gateway.serve_main_thread();
  }

  test::Gateway gateway;
  // Ports in the order of the fixture's.
  config::Dataplane network = [] {
    config::Config config = test::one_connection();
    config::Interface lan;
    lan.name = "lan";
    lan.addresses = {wire::Prefix::parse(test::Addresses{}.lan).value()};
    config.dataplane.interfaces.insert(config.dataplane.interfaces.begin(), lan);
    return config.dataplane;
  }();
  Topology topology{network};
  Packets packets{gateway.tables(), test::packet_pool(), gateway.context().inject};
  Forwarding forwarding{gateway.tables()};
  Neighbors neighbors{topology, *gateway.tables().spd, forwarding, packets};
  Instant now = std::chrono::hours(1);
};

std::uint8_t protocol_of(const Frame& frame) { return frame.at(14 + wire::ipv4::kProtocol); }

void is_whole_and_counted_once(const Frame& frame) {
  const Frame ip = test::ip_of(frame);
  CHECK(protocol_of(frame) == wire::protocol::kUdp);
  CHECK(ip[wire::ipv4::kTtl] == kTtl - 1);
  CHECK(wire::plain_ipv4_checksum_is_right(ip.data()));
}

}  // namespace

TEST_CASE("waiting: what policies go on to let pass leaves when the next hop answers") {
  Site site;
  site.wait_for_next_hop();
  const auto sent = site.answer().wan;
  REQUIRE(sent.size() == 1);
  is_whole_and_counted_once(sent[0]);
}

TEST_CASE("waiting: what is protected meanwhile does not leave in clear (RFC 4301 §5)") {
  Site site;
  site.wait_for_next_hop();
  site.set_policy(PolicyAction::protect, site.install_sa());
  const auto result = site.answer();
  REQUIRE(result.wan.size() == 1);
  CHECK(protocol_of(result.wan[0]) == wire::protocol::kEsp);
  CHECK(result.drops.empty());
}

TEST_CASE("waiting: what is refused meanwhile is dropped, counted") {
  Site site;
  site.wait_for_next_hop();
  site.set_policy(PolicyAction::discard);
  const auto result = site.answer();
  CHECK(result.wan.empty());
  CHECK(result.drops == std::map<DropReason, std::uint64_t>{{DropReason::policy_discard, 1}});
}

TEST_CASE("waiting: what still may pass after a change goes on, its hop counted once") {
  Site site;
  site.wait_for_next_hop();
  site.set_policy(PolicyAction::bypass);
  auto result = site.answer();
  // These routes know no neighbour: the worker asks again, and the answer is there.
  REQUIRE(result.wan.empty());
  REQUIRE(result.punts.size() == 1);
  site.take(result.punts[0]);
  result = site.gateway.serve_main_thread();
  REQUIRE(result.wan.size() == 1);
  is_whole_and_counted_once(result.wan[0]);
}

TEST_CASE("waiting: a change on the way to the main thread counts, too") {
  Site site;
  site.wait_for_next_hop();
  static_cast<void>(site.answer());
  const auto punts = site.come();
  REQUIRE(punts.size() == 1);
  site.set_policy(PolicyAction::discard);
  site.take(punts[0]);
  const auto result = site.gateway.serve_main_thread();
  CHECK(result.wan.empty());
  CHECK(result.dropped(DropReason::policy_discard) == 1);
}

TEST_CASE("waiting: what was sealed goes where it was to go, whatever policies become") {
  Site site;
  const test::Punt sealed{
      .what = {.reason = PuntReason::resolve_neighbor, .originated = true},
      .bytes = test::ip_packet(
          {.source = "198.51.100.1", .destination = kNextHop, .protocol = wire::protocol::kEsp})};
  site.take(sealed);
  static_cast<void>(site.gateway.serve_main_thread());
  site.set_policy(PolicyAction::discard);
  const auto sent = site.answer().wan;
  REQUIRE(sent.size() == 1);
  CHECK(test::ip_of(sent[0]) == sealed.bytes);
}

}  // namespace culvert::dataplane::control::waiting
