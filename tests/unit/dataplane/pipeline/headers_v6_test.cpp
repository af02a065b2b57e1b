// What an SA says of its outer header when that is IPv6: flow label, hop limit, DSCP, around
// packets of either family, first ones of a flow and those behind them.
#include <catch2/catch.hpp>

#include "dataplane/worker/header_fields.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

constexpr std::uint32_t kLabel = 0xabcde, kLabelBits = 0xfffff;

/// A client's packet with a traffic class, and a flow label where there is one.
Packet labelled_packet(bool is_v6) {
  PacketOptions options = from_client(is_v6, 40);
  options.traffic_class = 0xb9;
  Packet ip = ip_packet(options);
  if (is_v6) wire::store_u32(ip.data(), wire::load_u32(ip.data()) | kLabel);
  return ip;
}

struct OuterFields {
  std::uint8_t traffic_class, hop_limit;
  std::uint32_t flow_label;
  friend bool operator==(const OuterFields&, const OuterFields&) = default;
};
/// Of the outer header of what is sealed, which is opened again.
OuterFields sealed_fields(Pair& pair, bool inner_v6) {
  const Packet sent = labelled_packet(inner_v6);
  const Packet sealed = pair.left.receive(kLan, frame(sent)).wan.at(0);
  const Packet outer = ip_of(sealed);
  const auto header = wire::parse_ipv6(outer);
  REQUIRE(header.has_value());
  CHECK(header->protocol == 50);
  CHECK(header->total_bytes == outer.size());
  const Result opened = pair.right.receive(kWan, sealed);
  REQUIRE(opened.lan.size() == 1);
  const Packet inside = ip_of(opened.lan[0]);
  CHECK(traffic_class_at(inside.data()) == 0xb9);
  if (inner_v6) CHECK((wire::load_u32(inside.data()) & kLabelBits) == kLabel);
  CHECK(Packet(inside.end() - 40, inside.end()) == Packet(sent.end() - 40, sent.end()));
  return {traffic_class_at(outer.data()), outer[7], wire::load_u32(outer.data()) & kLabelBits};
}

/// The same for the first packet of a flow and for those that follow.
void check_fields(const config::HeaderOptions& headers, bool inner_v6,
                  const OuterFields& expected) {
  INFO((inner_v6 ? "6in6" : "4in6"));
  Pair pair(headers, with_families(true, inner_v6));
  for (int packet = 0; packet < 3; ++packet) CHECK(sealed_fields(pair, inner_v6) == expected);
}

}  // namespace

TEST_CASE("headers: an outer IPv6 header has no flow label, but the inner one's when asked for") {
  const bool inner_v6 = GENERATE(false, true);
  config::HeaderOptions headers;
  check_fields(headers, inner_v6, {0xb9, 64, 0});
  headers.copy_flow_label = true;
  check_fields(headers, inner_v6, {0xb9, 64, inner_v6 ? kLabel : 0});
  headers.hop_limit = 3;  // and with it
  check_fields(headers, inner_v6, {0xb9, 3, inner_v6 ? kLabel : 0});
}

TEST_CASE("headers: an SA's hop limit stands in its outer IPv6 header, not the inner packet's") {
  const bool inner_v6 = GENERATE(false, true);
  config::HeaderOptions headers;
  headers.hop_limit = GENERATE(std::uint8_t{1}, std::uint8_t{7}, std::uint8_t{255});
  check_fields(headers, inner_v6, {0xb9, headers.hop_limit, 0});
}

TEST_CASE("headers: an SA's DSCP stands in its outer IPv6 header, beside congestion (RFC 6040)") {
  const bool inner_v6 = GENERATE(false, true);
  config::HeaderOptions headers;
  headers.copy_dscp = config::CopyDscp::none;
  headers.dscp = 10;
  check_fields(headers, inner_v6, {10 << 2 | 1, 64, 0});
  headers.copy_ecn = false;
  check_fields(headers, inner_v6, {10 << 2, 64, 0});
}

TEST_CASE("headers: an SA whose endpoints moved keeps its hop limit and flow labels") {
  const bool inner_v6 = GENERATE(false, true);
  config::HeaderOptions headers;
  headers.hop_limit = 9;
  headers.copy_flow_label = GENERATE(false, true);
  Pair pair(headers, with_families(true, inner_v6));
  Sad& sad = *pair.left.tables().sad;
  channel::UpdateEndpoints moved;
  moved.sa = pair.out_id;
  moved.local = sad.find(pair.out_id)->spec.local;
  moved.remote = sad.find(pair.out_id)->spec.remote;
  const OuterFields expected{0xb9, 9, inner_v6 && headers.copy_flow_label ? kLabel : 0};
  CHECK(sealed_fields(pair, inner_v6) == expected);
  REQUIRE(sad.update_endpoints(moved) == channel::Outcome::ok);
  CHECK(sealed_fields(pair, inner_v6) == expected);
  CHECK(sealed_fields(pair, inner_v6) == expected);
}
