// Selectors of ICMP types and codes, as they are configured, at a worker (RFC 4301 §4.4.1.1).
#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/gateway.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

Packet icmp(std::uint8_t type, std::uint8_t code, bool is_v6) {
  PacketOptions options;
  if (is_v6) {
    options.source = "2001:db8:1::9";
    options.destination = "2001:db8:2::7";
  }
  options.protocol = is_v6 ? 58 : 1;
  options.payload = Packet(16);
  options.payload[0] = type;
  options.payload[1] = code;
  return frame(ip_packet(options));
}

}  // namespace

TEST_CASE("icmp selectors: policies let echo pass and refuse another type") {
  const bool is_v6 = GENERATE(false, true);
  const std::string here = is_v6 ? "2001:db8:1::/64" : "10.1.0.0/24";
  const std::string there = is_v6 ? "2001:db8:2::/64" : "10.2.0.0/16";
  const std::uint8_t request = is_v6 ? 128 : 8, reply = is_v6 ? 129 : 0, timestamp = 13;
  Gateway gateway;
  for (const std::uint8_t type : {request, reply}) {
    const std::string which = (is_v6 ? "[icmpv6/" : "[icmp/") + std::to_string(type) + "]";
    gateway.policy(PolicyAction::bypass, here + which, there + which);
  }
  for (const std::uint8_t type : {request, reply}) {
    for (const std::uint8_t code : {std::uint8_t{0}, std::uint8_t{7}}) {
      const Result passed = gateway.receive(kLan, icmp(type, code, is_v6));
      CHECK(passed.wan.size() == 1);
      CHECK(passed.drops.empty());
    }
  }
  const Result refused = gateway.receive(kLan, icmp(timestamp, 0, is_v6));
  CHECK(refused.wan.empty());
  CHECK(refused.dropped(DropReason::no_policy_match) == 1);
}

TEST_CASE("icmp selectors: an SA for one code takes that code, both ways") {
  SaOptions options;
  options.local_selectors = {"10.1.0.0/24[icmp/3.4]"};
  options.remote_selectors = {"10.2.0.0/16[icmp/3.4]"};
  Gateway left, right(mirrored());
  left.protect(options.local_selectors[0], options.remote_selectors[0],
               left.install(outbound_sa(options)));
  CHECK(left.receive(kLan, icmp(3, 3, false)).dropped(DropReason::no_policy_match) == 1);
  const Result sealed = left.receive(kLan, icmp(3, 4, false));
  REQUIRE(sealed.wan.size() == 1);

  SECTION("the receiver agrees") {
    right.install(inbound_sa(options));
    CHECK(right.receive(kWan, sealed.wan[0]).lan.size() == 1);
  }
  SECTION("the receiver's SA was made for another code") {
    options.local_selectors = {"10.1.0.0/24[icmp/3.3]"};
    options.remote_selectors = {"10.2.0.0/16[icmp/3.3]"};
    right.install(inbound_sa(options));
    CHECK(right.receive(kWan, sealed.wan[0]).dropped(DropReason::inner_selector_mismatch) == 1);
  }
}
