// A loop that policies make: what came out of one tunnel goes into another, and round again. A hop
// is counted at each gateway, so that the packet ends (RFC 1812 §5.3.1, RFC 4301 §5.1.2.1).
#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// Two hubs, each of which takes the other for where the packets of the spokes belong.
struct Circle {
  Circle(bool outer_v6, bool inner_v6, const std::optional<crypto::EspSuite>& suite) {
    everywhere = inner_v6 ? "2001:db8::/32" : "10.0.0.0/8";
    SaOptions there = with_families(outer_v6, false);
    there.suite = suite;
    there.esn = true;
    there.local_selectors = there.remote_selectors = {everywhere};
    SaOptions back = there;
    std::swap(back.outer_local, back.outer_remote);
    left.protect(everywhere, everywhere, left.install(outbound_sa(there, 0x1000)));
    right.install(inbound_sa(there, 0x1000));
    right.protect(everywhere, everywhere, right.install(outbound_sa(back, 0x2000)));
    left.install(inbound_sa(back, 0x2000));
  }
  std::string everywhere;
  Gateway left, right{mirrored()};
};

struct CircleShape {
  bool outer_v6, inner_v6;
};

}  // namespace

TEST_CASE("loop: packets that policies send round and round end by their hops, and are counted") {
  const auto shape =
      GENERATE(values<CircleShape>({{false, false}, {false, true}, {true, false}, {true, true}}));
  // By the short way, which a flow goes from its second circle on, and by the general one.
  const auto suite = GENERATE(values<std::optional<crypto::EspSuite>>(
      {std::nullopt,
       crypto::EspSuite{crypto::Encryption::aes_cbc, 128, crypto::Integrity::hmac_sha2_256_128}}));
  Circle circle(shape.outer_v6, shape.inner_v6, suite);
  constexpr std::uint8_t kHops = 20;
  constexpr std::size_t kPackets = 8;
  PacketOptions options = from_client(shape.inner_v6, 32);
  options.ttl = kHops;
  options.destination = shape.inner_v6 ? "2001:db8:77::7" : "10.77.0.7";
  std::vector<Packet> under_way =
      circle.left.receive(kLan, std::vector<Packet>(kPackets, frame(ip_packet(options)))).wan;
  REQUIRE(under_way.size() == kPackets);
  std::size_t gateways = 1;
  std::vector<Punt> ended;
  for (; !under_way.empty() && gateways < 2 * kHops; ++gateways) {
    Gateway& next = gateways % 2 == 1 ? circle.right : circle.left;
    const Result result = next.receive(kWan, under_way);
    CHECK(result.lan.empty());
    CHECK(result.drops.empty());
    CHECK(result.wan.size() + result.punts.size() == kPackets);
    under_way = result.wan;
    ended.insert(ended.end(), result.punts.begin(), result.punts.end());
  }
  // Each gateway before the last took one hop.
  CHECK(gateways == kHops);
  REQUIRE(ended.size() == kPackets);
  for (const Punt& punt : ended) {
    CHECK(punt.what.reason == PuntReason::ttl_exceeded);
    CHECK(punt.bytes[shape.inner_v6 ? 7 : 8] == 1);
  }
}
