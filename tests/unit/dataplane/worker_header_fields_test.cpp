#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/worker/header_fields.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane {
namespace {

using Packet = std::vector<std::uint8_t>;
using config::CopyDscp;
using config::DontFragment;
using config::HeaderOptions;

Packet v4(std::uint8_t traffic_class, std::uint16_t fragment = 0) {
  Packet packet(wire::ipv4::kHeaderBytes);
  packet[0] = 0x45;
  packet[1] = traffic_class;
  packet[wire::ipv4::kTtl] = 64;
  packet[wire::ipv4::kProtocol] = 17;
  packet[wire::ipv4::kSource] = 10;
  wire::store_u16(packet.data() + wire::ipv4::kTotalLength, 20);
  wire::store_u16(packet.data() + wire::ipv4::kFragment, fragment);
  wire::write_ipv4_checksum(packet.data(), packet.size());
  return packet;
}
Packet v6(std::uint8_t traffic_class, std::uint32_t flow_label = 0) {
  Packet packet(wire::ipv6::kHeaderBytes);
  wire::store_u32(packet.data(), 0x60000000U | std::uint32_t{traffic_class} << 20U | flow_label);
  packet[wire::ipv6::kNextHeader] = 59;
  return packet;
}
std::uint32_t flow_label(const Packet& packet) { return wire::load_u32(packet.data()) & 0xfffffU; }
bool has_df(const Packet& packet) {
  return (wire::load_u16(packet.data() + wire::ipv4::kFragment) & wire::ipv4::kDontFragment) != 0;
}
bool is_sound(const Packet& packet) { return wire::parse_ip(packet).has_value(); }

std::vector<Packet> both_families(std::uint8_t traffic_class) {
  return {v4(traffic_class), v6(traffic_class, 0x12345)};
}

}  // namespace

TEST_CASE(
    "outer header: DSCP and ECN by every choice, in all four pairs of families (RFC 6040 §4.1)") {
  for (const Packet& inner : both_families(0xb9)) {  // EF, ECT(1)
    for (Packet outer : both_families(0)) {
      struct Case {
        CopyDscp copy;
        std::uint8_t dscp;
        bool ecn;
        std::uint8_t expected;
      };
      for (const Case& item :
           {Case{CopyDscp::out, 0, true, 0xb9}, Case{CopyDscp::both, 0, false, 0xb8},
            Case{CopyDscp::none, 0, true, 0x01}, Case{CopyDscp::in, 34, true, 0x89},
            Case{CopyDscp::none, 34, false, 0x88}}) {
        HeaderOptions options;
        options.copy_dscp = item.copy;
        options.dscp = item.dscp;
        options.copy_ecn = item.ecn;
        apply_to_outer(outer.data(), inner.data(), options, 7);
        CHECK(traffic_class_at(outer.data()) == item.expected);
        CHECK(is_sound(outer));
      }
    }
  }
}

TEST_CASE("outer header: DF is copied, set or cleared (RFC 4301 §8.1)") {
  const auto sealed = [](const Packet& inner, DontFragment df) {
    Packet outer = v4(0);
    HeaderOptions options;
    options.df = df;
    apply_to_outer(outer.data(), inner.data(), options, 0xbeef);
    CHECK(is_sound(outer));
    // RFC 6864 §4.1: only what may be fragmented needs an identification.
    CHECK((wire::load_u16(outer.data() + wire::ipv4::kIdentification) == 0xbeef) == !has_df(outer));
    return has_df(outer);
  };
  const Packet may = v4(0), may_not = v4(0, wire::ipv4::kDontFragment);
  CHECK_FALSE(sealed(may, DontFragment::copy));
  CHECK(sealed(may_not, DontFragment::copy));
  CHECK(sealed(v6(0), DontFragment::copy));
  CHECK(sealed(may, DontFragment::set));
  CHECK_FALSE(sealed(may_not, DontFragment::clear));
  CHECK_FALSE(sealed(v6(0), DontFragment::clear));
}

TEST_CASE("outer header: an IPv6 flow label is copied when asked for, and else stays") {
  HeaderOptions options;
  Packet outer = v6(0);
  apply_to_outer(outer.data(), v6(0, 0xabcde).data(), options, 0);
  CHECK(flow_label(outer) == 0);
  options.copy_flow_label = true;
  apply_to_outer(outer.data(), v6(0xff, 0xabcde).data(), options, 0);
  CHECK(flow_label(outer) == 0xabcde);
  CHECK(traffic_class_at(outer.data()) == 0xff);
  apply_to_outer(outer.data(), v4(0).data(), options, 0);
  CHECK(flow_label(outer) == 0xabcde);
}

TEST_CASE("inner header: ECN by RFC 6040 figure 4, each of the sixteen cells, in all families") {
  // Written as the figure is: rows inner Not-ECT, ECT(0), ECT(1), CE; columns outer in that order.
  constexpr std::uint8_t n = 0, t0 = 2, t1 = 1, ce = 3;
  constexpr std::array<std::uint8_t, 4> kOrder{n, t0, t1, ce};
  struct Cell {
    std::uint8_t result;
    std::string mark;
  };
  const std::array<std::array<Cell, 4>, 4> figure{{
      {{{n, ""}, {n, "!!!"}, {n, "!!!"}, {n, "drop!!!"}}},
      {{{t0, ""}, {t0, ""}, {t1, ""}, {ce, ""}}},
      {{{t1, ""}, {t1, "!"}, {t1, ""}, {ce, ""}}},
      {{{ce, ""}, {ce, ""}, {ce, "!!!"}, {ce, ""}}},
  }};
  for (std::size_t row = 0; row < 4; ++row) {
    for (std::size_t column = 0; column < 4; ++column) {
      const Cell& cell = figure[row][column];
      for (Packet inner : both_families(static_cast<std::uint8_t>(0xb8 | kOrder[row]))) {
        for (const Packet& outer : both_families(kOrder[column])) {
          INFO("inner " << int{kOrder[row]} << " outer " << int{kOrder[column]});
          const EcnVerdict verdict = apply_to_inner(inner.data(), outer.data(), false);
          CHECK(verdict.drop == (cell.mark == "drop!!!"));
          CHECK((verdict.alarm != EcnAlarm::none) == !cell.mark.empty());
          CHECK((traffic_class_at(inner.data()) & 3U) == cell.result);
          CHECK((traffic_class_at(inner.data()) >> 2U) == 46);
          CHECK(is_sound(inner));
        }
      }
    }
  }
}

TEST_CASE("inner header: the outer DSCP comes in only when asked for (RFC 4301 §5.1.2.1)") {
  for (Packet inner : both_families(0xba)) {
    for (const Packet& outer : both_families(0x29)) {
      static_cast<void>(apply_to_inner(inner.data(), outer.data(), false));
      CHECK(traffic_class_at(inner.data()) == 0xb9);
      static_cast<void>(apply_to_inner(inner.data(), outer.data(), true));
      CHECK(traffic_class_at(inner.data()) == 0x29);
      CHECK(is_sound(inner));
      set_traffic_class(inner.data(), 0xba);
    }
  }
}

}  // namespace culvert::dataplane
