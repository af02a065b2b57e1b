// Neighbours that are known only because they asked for us: what goes there goes at once, and no
// worker is told of them before they have answered.
#include <catch2/catch.hpp>

#include "dataplane/control/neighbors.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"
#include "wire/arp.hpp"

namespace culvert::dataplane::control::stale_neighbors {
namespace {

using test::kLan;
using test::kOurMac;
using test::kTheirMac;
using test::kWan;
using Frame = test::Packet;

const std::string kNeighbor = "198.51.100.77", kClient = "10.1.0.9";
constexpr std::uint32_t kOurs = 0xc6336401;        // 198.51.100.1
constexpr std::uint32_t kNeighborV4 = 0xc633644d;  // kNeighbor

config::Dataplane network() {
  config::Config config = test::one_connection();
  config::Interface lan;
  lan.name = "lan";
  lan.addresses = {wire::Prefix::parse(test::Addresses{}.lan).value()};
  config.dataplane.interfaces.insert(config.dataplane.interfaces.begin(), lan);
  return config.dataplane;
}

/// Main thread and worker of a gateway whose policies let everything pass.
struct Site {
  Site() {
    gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
    REQUIRE(forwarding.install(topology));
  }
  ~Site() { neighbors.stop(); }
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  test::Result arp(wire::ArpMessage::Operation operation, std::uint32_t sender) {
    wire::ArpMessage message;
    message.operation = operation;
    message.sender_mac = kTheirMac;
    message.sender = wire::IpAddress::v4(sender);
    message.target_mac = kOurMac;
    message.target = wire::IpAddress::v4(kOurs);
    Frame bytes(wire::kArpBytes);
    wire::Writer writer(bytes);
    wire::build_arp(writer, message);
    neighbors.arp_arrived(kWan, packets.make(bytes), now);
    return gateway.serve_main_thread();
  }
  /// A client's packet for the neighbour, through the worker and, if it says so, the main thread.
  test::Result come() {
    const auto packet = test::ip_packet({.source = kClient,
                                         .destination = kNeighbor,
                                         .payload = test::udp(1000, 2000, Frame(40, 0x42))});
    test::Result result = gateway.receive(kLan, test::frame(packet));
    if (result.punts.empty()) return result;
    REQUIRE(result.punts.size() == 1);
    const test::Punt& punt = result.punts[0];
    REQUIRE(punt.what.reason == PuntReason::resolve_neighbor);
    Packet held = packets.make(punt.bytes);
    REQUIRE(held != nullptr);
    neighbors.send({kWan, *wire::IpAddress::parse(kNeighbor)}, std::move(held), punt.what, now);
    return gateway.serve_main_thread();
  }
  [[nodiscard]] AdjacencyKind way() {
    const AdjacencyIndex to = gateway.tables().fib->lookup_v4(kNeighborV4);
    return (*gateway.tables().adjacencies)[to].kind.load();
  }

  test::Gateway gateway;
  Topology topology{network()};
  Packets packets{gateway.tables(), test::packet_pool(), gateway.context().inject};
  Forwarding forwarding{gateway.tables()};
  Neighbors neighbors{topology, *gateway.tables().spd, forwarding, packets};
  Instant now = std::chrono::hours(1);
};

std::uint16_t type_of(const Frame& frame) { return wire::load_u16(&frame.at(12)); }
bool is_to(const Frame& frame, const std::array<std::uint8_t, 6>& mac) {
  return std::equal(mac.begin(), mac.end(), frame.begin());
}

}  // namespace

TEST_CASE("neighbours: hosts that make up who they are change nothing for workers") {
  Site site;
  const std::uint64_t era = site.gateway.tables().reclaimer->era();
  for (std::uint32_t forged = 2; forged < 255; ++forged) {
    const auto answered = site.arp(wire::ArpMessage::Operation::request, (kOurs & ~0xffU) | forged);
    REQUIRE(answered.wan.size() == 1);  // RFC 826: each gets its answer
  }
  CHECK(site.gateway.tables().reclaimer->era() == era);
  CHECK(site.way() == AdjacencyKind::glean);
}

TEST_CASE("neighbours: who asked for us gets its first packet at once, and a route by answering") {
  Site site;
  static_cast<void>(site.arp(wire::ArpMessage::Operation::request, kNeighborV4));
  const auto first = site.come();
  REQUIRE(first.wan.size() == 2);
  CHECK(type_of(first.wan[0]) == kEtherTypeArp);  // RFC 4861 §7.3.3: asked, where it said it is
  CHECK(is_to(first.wan[0], kTheirMac));
  CHECK(type_of(first.wan[1]) == kEtherTypeIpv4);
  CHECK(is_to(first.wan[1], kTheirMac));
  CHECK(site.way() == AdjacencyKind::glean);
  // Until then each goes by the main thread, and asks nothing more.
  CHECK(site.come().wan.size() == 1);

  static_cast<void>(site.arp(wire::ArpMessage::Operation::reply, kNeighborV4));
  CHECK(site.way() == AdjacencyKind::resolved);
  const auto direct = site.come();
  REQUIRE(direct.wan.size() == 1);
  CHECK(direct.punts.empty());
  CHECK(is_to(direct.wan[0], kTheirMac));
}

}  // namespace culvert::dataplane::control::stale_neighbors
