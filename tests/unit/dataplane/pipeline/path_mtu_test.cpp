// `path_mtu`: what the operator says of the way to the peer holds whatever ICMP says of it, where a
// link on it swallows what is too large and tells nobody (RFC 2923 §2.1).
#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/sizes.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

config::HeaderOptions over_path(std::uint16_t bytes) {
  config::HeaderOptions headers;
  headers.path_mtu = bytes;
  return headers;
}

}  // namespace

TEST_CASE("path_mtu: a SYN announces what fits the configured path, to the byte") {
  const bool outer_v6 = GENERATE(false, true), inner_v6 = GENERATE(false, true);
  Pair pair(over_path(1400), with_families(outer_v6, inner_v6));
  const std::string here = inner_v6 ? "2001:db8:1::9" : "10.1.0.9";
  const std::string there = inner_v6 ? "2001:db8:2::7" : "10.2.0.7";
  const Result sealed = pair.left.receive(kLan, frame(syn(here, there, 1460)));
  REQUIRE(sealed.wan.size() == 1);
  const Result opened = pair.right.receive(kWan, sealed.wan[0]);
  REQUIRE(opened.lan.size() == 1);
  // Outer IP header, ESP header of 8 bytes, IV of 8 and ICV of 16 of AES-GCM; what is left holds
  // whole words, the last two bytes of which are the trailer.
  const std::size_t inside = (1400U - (outer_v6 ? 40U : 20U) - 32U) / 4U * 4U - 2U;
  CHECK(mss_of(opened.lan[0]) == inside - (inner_v6 ? 60U : 40U));
  const auto sent = [&](std::size_t bytes) {
    return pair.left.receive(kLan, frame(ip_packet(of_size(bytes, inner_v6, 0x4000))));
  };
  const Result fits = sent(inside);
  REQUIRE(fits.wan.size() == 1);
  CHECK(fits.wan[0].size() <= 14U + 1400U);
  const Result refused = sent(inside + 1);
  REQUIRE(refused.punts.size() == 1);
  CHECK(refused.punts[0].what.reason == PuntReason::packet_too_big);
  CHECK(refused.punts[0].what.mtu == inside);
}

TEST_CASE("path_mtu: a packet that may be cut is cut for the configured path, before or after") {
  config::HeaderOptions headers = over_path(1000);
  headers.fragmentation =
      GENERATE(config::FragmentationOrder::before, config::FragmentationOrder::after);
  Pair pair(headers);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(of_size(1400, false, 0))));
  REQUIRE(sealed.wan.size() == 2);
  for (const Packet& piece : sealed.wan) CHECK(piece.size() <= 14U + 1000U);
}

TEST_CASE("path_mtu: ICMP may make it smaller for a while, never larger") {
  Pair pair(over_path(1300));
  Sad& sad = *pair.left.tables().sad;
  const auto holds = [&] { return sad.path_mtu(*sad.find(pair.out_id)); };
  CHECK(holds() == 1300);
  sad.set_path_mtu(pair.out_id, 1400);
  CHECK(holds() == 1300);
  sad.set_path_mtu(pair.out_id, 1200);
  CHECK(holds() == 1200);
  sad.set_path_mtu(pair.out_id, kNoPathMtu);  // what was learnt is forgotten
  CHECK(holds() == 1300);
}

TEST_CASE("path_mtu: an SA that begins with what was learnt has the smaller of both") {
  Gateway gateway;
  Sad& sad = *gateway.tables().sad;
  const auto begins_with = [&](std::uint16_t learnt, std::uint32_t spi) {
    const auto sa = outbound_sa({}, spi);
    gateway.install(sa, {.headers = over_path(1300), .path_mtu = learnt});
    return sad.path_mtu(*sad.find(sa.sa));
  };
  CHECK(begins_with(kNoPathMtu, 0x1000) == 1300);
  CHECK(begins_with(1400, 0x1001) == 1300);
  CHECK(begins_with(1200, 0x1002) == 1200);
}

TEST_CASE("path_mtu: the link's own MTU still bounds it") {
  Pair pair(over_path(9000));
  CHECK(pair.left.receive(kLan, frame(ip_packet(of_size(1500, false, 0x4000)))).punts.size() == 1);
}
