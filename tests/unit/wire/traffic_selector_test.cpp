#include "wire/traffic_selector.hpp"

#include <random>

#include <catch2/catch.hpp>

#include "tests/unit/wire/bytes.hpp"

namespace culvert::wire {
namespace {

TrafficSelector selector(std::string_view text) { return TrafficSelector::parse(text).value(); }
std::vector<TrafficSelector> selectors(std::initializer_list<std::string_view> texts) {
  std::vector<TrafficSelector> result;
  for (const std::string_view text : texts) result.push_back(selector(text));
  return result;
}

/// A selector over a space so small that chance finds every corner: eight addresses, three
/// protocols, ports 0 to 7.
TrafficSelector small(std::mt19937& random) {
  const auto below = [&](std::uint32_t limit) {
    return static_cast<std::uint32_t>(random() % limit);
  };
  TrafficSelector result;
  const std::uint32_t first = below(8);
  result.first = IpAddress::v4(0x0a000000U + first);
  result.last = IpAddress::v4(0x0a000000U + first + below(8 - first));
  result.protocol = std::array<std::uint8_t, 3>{0, protocol::kTcp, protocol::kUdp}[below(3)];
  if (result.any_protocol() || below(3) == 0) return result;
  result.port_first = static_cast<std::uint16_t>(below(8));
  result.port_last = static_cast<std::uint16_t>(result.port_first + below(8U - result.port_first));
  return result;
}

/// Calls `check(address, protocol, port)` for every packet of that space, and one beyond it.
template <typename Check>
void for_every_packet(Check check) {
  for (std::uint32_t host = 0; host < 9; ++host) {
    for (const std::uint8_t number : {protocol::kTcp, protocol::kUdp, protocol::kIcmp}) {
      for (std::uint16_t port = 0; port < 9; ++port) {
        check(IpAddress::v4(0x0a000000U + host), number, port);
      }
    }
  }
}

}  // namespace

TEST_CASE("traffic_selector: text and value turn into each other") {
  for (const char* text : {"10.2.0.0/24",
                           "10.2.0.0/24[tcp/443]",
                           "10.2.0.4-10.2.0.9[udp/5000-6000]",
                           "10.0.0.0/8[icmp]",
                           "2001:db8::/32[icmpv6]",
                           "0.0.0.0/0",
                           "::/0",
                           "192.0.2.1/32",
                           "10.0.0.0/8[tcp/opaque]",
                           "10.0.0.1-10.0.0.2",
                           "2001:db8::1-2001:db8::5[sctp/0]",
                           "10.0.0.0/8[99]",
                           "10.0.0.0/8[tcp/65535]",
                           "10.0.0.0/8[tcp/0-65534]",
                           "10.0.0.0/8[icmp/8]",
                           "10.0.0.0/8[icmp/0]",
                           "10.0.0.0/8[icmp/3.4]",
                           "10.0.0.0/8[icmp/0.0]",
                           "10.0.0.0/8[icmp/8-10]",
                           "10.0.0.0/8[icmp/255.255]",
                           "10.0.0.0/8[icmp/3.1-3.4]",
                           "10.0.0.0/8[icmp/3.1-11.0]",
                           "10.0.0.0/8[icmp/opaque]",
                           "2001:db8::/32[icmpv6/128-129]",
                           "2001:db8::/32[icmpv6/1.4]"}) {
    INFO(text);
    CHECK(selector(text).to_string() == text);
  }
}

TEST_CASE("traffic_selector: other spellings of the same packets") {
  CHECK(selector("10.2.0.0-10.2.0.255").to_string() == "10.2.0.0/24");
  CHECK(selector("10.2.0.1").to_string() == "10.2.0.1/32");
  CHECK(selector("2001:db8::/32[58]").to_string() == "2001:db8::/32[icmpv6]");
  CHECK(selector("10.0.0.0/8[6/443]") == selector("10.0.0.0/8[tcp/443]"));
  CHECK(selector("10.0.0.0/8[tcp/0-65535]") == selector("10.0.0.0/8[tcp]"));
  CHECK(selector("10.0.0.0/8[0]") == selector("10.0.0.0/8"));
  CHECK(selector("2001:db8::/32[ipv6-icmp/128]").to_string() == "2001:db8::/32[icmpv6/128]");
  CHECK(selector("2001:db8::/32[58/128]").to_string() == "2001:db8::/32[icmpv6/128]");
  CHECK(selector("10.0.0.0/8[1/8]") == selector("10.0.0.0/8[icmp/8]"));
  CHECK(selector("10.0.0.0/8[icmp/0-255]") == selector("10.0.0.0/8[icmp]"));
  CHECK(selector("10.0.0.0/8[icmp/8-8]") == selector("10.0.0.0/8[icmp/8]"));
}

TEST_CASE("traffic_selector: what is not exactly a selector is refused") {
  for (const std::string_view text : {"",
                                      "[tcp]",
                                      "10.0.0.1/8",
                                      "10.0.0.9-10.0.0.1",
                                      "10.0.0.1-::1",
                                      "10.0.0.0/8[",
                                      "10.0.0.0/8]",
                                      "10.0.0.0/8[]",
                                      "10.0.0.0/8[tcp/]",
                                      "10.0.0.0/8[tcp/80",
                                      "10.0.0.0/8[tcp/90-80]",
                                      "10.0.0.0/8[tcp/65536]",
                                      "10.0.0.0/8[tcp/-80]",
                                      "10.0.0.0/8[tcp/80-]",
                                      "10.0.0.0/8[256]",
                                      "10.0.0.0/8[tpc]",
                                      "10.0.0.0/8[0/80]",
                                      "10.0.0.0/8[0/opaque]",
                                      "10.0.0.0/8[/80]",
                                      "10.0.0.0/8[tcp/80]x",
                                      "10.0.0.0/8[tcp][udp]",
                                      "10.0.0.0/8 [tcp]",
                                      "10.0.0.1-",
                                      "-10.0.0.1",
                                      "10.0.0.0/8-10.0.0.9",
                                      "10.0.0.0/8[tcp/80/90]",
                                      "10.0.0.0/8[tcp/8.0]",
                                      "10.0.0.0/8[47/5]",
                                      "10.0.0.0/8[esp/0]",
                                      "2001:db8::/32[135/1280-1535]",
                                      "10.0.0.0/8[icmp/256]",
                                      "10.0.0.0/8[icmp/2048]",
                                      "10.0.0.0/8[icmp/8.256]",
                                      "10.0.0.0/8[icmp/8.]",
                                      "10.0.0.0/8[icmp/.0]",
                                      "10.0.0.0/8[icmp/8.0.0]",
                                      "10.0.0.0/8[icmp/10-8]",
                                      "10.0.0.0/8[icmp/8-9.0]",
                                      "10.0.0.0/8[icmp/8.1-8]",
                                      "10.0.0.0/8[icmp/3.4-3.1]",
                                      "10.0.0.0/8[icmp/]",
                                      "10.0.0.0/8[icmp/8-]",
                                      "10.0.0.0/8[icmp/echo]"}) {
    INFO(std::string(text));
    CHECK_FALSE(TrafficSelector::parse(text));
  }
}

TEST_CASE("traffic_selector: ports of a protocol that has none are narrowed away") {
  // As RFC 7296 §3.13.1 has Mobility Headers, and as a peer might ask for GRE.
  TrafficSelector mobility = selector("2001:db8::/32[135]");
  mobility.port_first = 5U << 8U;
  mobility.port_last = (5U << 8U) + 255U;
  TrafficSelector gre = selector("10.0.0.0/8[47]");
  gre.port_first = gre.port_last = 5;
  CHECK(narrow({mobility}, selectors({"2001:db8::/32[135]"})).empty());
  CHECK(narrow({gre}, selectors({"10.0.0.0/8"})).empty());
  CHECK_FALSE(selector("10.0.0.0/8").overlaps(gre));
  CHECK(narrow({gre, selector("10.2.0.0/16[47]")}, selectors({"10.0.0.0/8[47]"})) ==
        selectors({"10.2.0.0/16[47]"}));
  // Such packets are of port 0 to the tables.
  gre.port_first = gre.port_last = 0;
  CHECK(narrow({gre}, selectors({"10.0.0.0/8"})).size() == 1);
}

TEST_CASE("traffic_selector: two sides that a packet may have") {
  const auto both = [](std::string_view one, std::string_view other) {
    const bool may = may_be_of_one_packet(selector(one), selector(other));
    CHECK(may == may_be_of_one_packet(selector(other), selector(one)));
    return may;
  };
  CHECK(both("10.1.0.0/24", "10.2.0.0/24"));
  CHECK(both("10.1.0.0/24[tcp/80]", "10.2.0.0/24"));
  CHECK(both("10.1.0.0/24[tcp/80]", "10.2.0.0/24[tcp/5000-6000]"));
  CHECK(both("10.1.0.0/24[icmp/8]", "10.2.0.0/24[icmp/8-10]"));
  CHECK(both("10.1.0.0/24[icmp/8]", "10.2.0.0/24[icmp]"));
  CHECK(both("10.1.0.0/24[udp/opaque]", "10.2.0.0/24[udp/opaque]"));
  CHECK(both("10.1.0.0/24[udp/opaque]", "10.2.0.0/24[udp]"));
  CHECK_FALSE(both("10.1.0.0/24[tcp]", "10.2.0.0/24[udp]"));
  CHECK_FALSE(both("10.1.0.0/24[icmp/8]", "10.2.0.0/24[icmp/0]"));
  CHECK_FALSE(both("10.1.0.0/24[udp/opaque]", "10.2.0.0/24[udp/53]"));
  CHECK_FALSE(both("10.1.0.0/24", "2001:db8::/32"));
}

TEST_CASE("traffic_selector: a packet on the edge matches, one beyond does not") {
  const TrafficSelector web = selector("10.2.0.0/24[tcp/80-443]");
  CHECK(web.matches(address("10.2.0.0"), protocol::kTcp, 80));
  CHECK(web.matches(address("10.2.0.255"), protocol::kTcp, 443));
  CHECK_FALSE(web.matches(address("10.2.1.0"), protocol::kTcp, 80));
  CHECK_FALSE(web.matches(address("10.1.255.255"), protocol::kTcp, 80));
  CHECK_FALSE(web.matches(address("10.2.0.0"), protocol::kTcp, 79));
  CHECK_FALSE(web.matches(address("10.2.0.0"), protocol::kTcp, 444));
  CHECK_FALSE(web.matches(address("10.2.0.0"), protocol::kUdp, 80));
  CHECK_FALSE(web.matches(address("::a02:0"), protocol::kTcp, 80));
}

TEST_CASE("traffic_selector: ICMP type and code stand in the ports (RFC 7296 §3.13.1)") {
  const auto takes = [](const TrafficSelector& selector, unsigned type, unsigned code) {
    const auto value = static_cast<std::uint16_t>(type << 8U | code);
    return selector.matches(address("10.0.0.1"), protocol::kIcmp, value);
  };
  const TrafficSelector echo = selector("10.0.0.0/8[icmp/8]");
  CHECK(echo.port_first == 0x0800);
  CHECK(echo.port_last == 0x08ff);
  CHECK(takes(echo, 8, 0));
  CHECK(takes(echo, 8, 255));
  CHECK_FALSE(takes(echo, 0, 8));
  CHECK_FALSE(takes(echo, 7, 255));
  CHECK_FALSE(takes(echo, 9, 0));
  const TrafficSelector too_big = selector("10.0.0.0/8[icmp/3.4]");
  CHECK(too_big.port_first == 0x0304);
  CHECK(too_big.port_last == 0x0304);
  CHECK_FALSE(takes(too_big, 3, 3));
  const TrafficSelector several = selector("10.0.0.0/8[icmp/8-10]");
  CHECK(several.port_first == 0x0800);
  CHECK(several.port_last == 0x0aff);
}

TEST_CASE("traffic_selector: whatever a peer narrows ICMP to is printed as it is read") {
  const std::uint32_t seed = 792;
  std::mt19937 random(seed);
  for (int round = 0; round < 5000; ++round) {
    TrafficSelector narrowed = selector(round % 2 == 0 ? "10.0.0.0/8[icmp]" : "::/0[icmpv6]");
    // Edges of types often, for they print otherwise.
    const auto any = [&] {
      constexpr std::array<std::uint16_t, 3> kCodes{0x00, 0xff, 0x07};
      return static_cast<std::uint16_t>((random() % 256) << 8U | kCodes[random() % 3]);
    };
    narrowed.port_first = any();
    narrowed.port_last = any();
    if (narrowed.port_last < narrowed.port_first)
      std::swap(narrowed.port_first, narrowed.port_last);
    CAPTURE(seed, round, narrowed.to_string());
    CHECK(TrafficSelector::parse(narrowed.to_string()) == narrowed);
  }
}

TEST_CASE(
    "traffic_selector: OPAQUE ports match no packet whose port is known (RFC 4301 §4.4.1.1)") {
  const TrafficSelector opaque = selector("10.0.0.0/8[tcp/opaque]");
  CHECK_FALSE(opaque.matches(address("10.0.0.1"), protocol::kTcp, 0));
  CHECK_FALSE(opaque.matches(address("10.0.0.1"), protocol::kTcp, 65535));
  CHECK_FALSE(opaque.any_port());
}

TEST_CASE("traffic_selector: OPAQUE meets OPAQUE and ANY only") {
  const TrafficSelector opaque = selector("10.0.0.0/8[tcp/opaque]");
  CHECK(opaque.intersect(selector("10.0.0.0/8[tcp]")) == opaque);
  CHECK(selector("10.0.0.0/8").intersect(opaque) == opaque);
  CHECK(opaque.intersect(opaque) == opaque);
  CHECK_FALSE(opaque.intersect(selector("10.0.0.0/8[tcp/443]")));
  CHECK_FALSE(opaque.intersect(selector("10.0.0.0/8[tcp/0-65534]")));
  CHECK_FALSE(opaque.covers(selector("10.0.0.0/8[tcp]")));
  CHECK(selector("10.0.0.0/8[tcp]").covers(opaque));
}

TEST_CASE("traffic_selector: nothing is common across families, protocols, or gaps") {
  CHECK_FALSE(selector("0.0.0.0/0").overlaps(selector("::/0")));
  CHECK_FALSE(selector("10.0.0.0/8[tcp]").overlaps(selector("10.0.0.0/8[udp]")));
  CHECK_FALSE(selector("10.0.0.0/25").overlaps(selector("10.0.0.128/25")));
  CHECK_FALSE(selector("10.0.0.0/8[tcp/1-2]").overlaps(selector("10.0.0.0/8[tcp/3-4]")));
  CHECK(selector("10.0.0.0/8").overlaps(selector("10.255.255.255/32")));
}

TEST_CASE("traffic_selector: intersect, covers and overlaps agree with matching every packet") {
  const std::uint32_t seed = 7296;
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    const TrafficSelector a = small(random);
    const TrafficSelector b = small(random);
    CAPTURE(seed, round, a.to_string(), b.to_string());
    const auto common = a.intersect(b);
    bool inside = true;
    bool agree = true;
    for_every_packet([&](const IpAddress& host, std::uint8_t number, std::uint16_t port) {
      const bool in_a = a.matches(host, number, port);
      const bool in_b = b.matches(host, number, port);
      agree &= (common && common->matches(host, number, port)) == (in_a && in_b);
      inside &= in_a || !in_b;
    });
    CHECK(agree);
    CHECK(a.overlaps(b) == common.has_value());
    CHECK(common == b.intersect(a));
    // `covers` also knows of the packets outside the small space.
    if (a.covers(b)) CHECK(inside);
    if (!inside) CHECK_FALSE(a.covers(b));
    CHECK(a.covers(a));
    if (common) CHECK((a.covers(*common) && b.covers(*common)));
  }
}

TEST_CASE("traffic_selector: narrowing keeps exactly what both sides match (RFC 7296 §2.9)") {
  const std::uint32_t seed = 29;
  std::mt19937 random(seed);
  for (int round = 0; round < 1000; ++round) {
    const std::vector<TrafficSelector> proposed{small(random), small(random), small(random)};
    const std::vector<TrafficSelector> configured{small(random), small(random)};
    CAPTURE(seed, round, to_string(proposed), to_string(configured));
    const auto narrowed = narrow(proposed, configured);
    const auto any = [](const std::vector<TrafficSelector>& set, const IpAddress& host,
                        std::uint8_t number, std::uint16_t port) {
      for (const TrafficSelector& one : set) {
        if (one.matches(host, number, port)) return true;
      }
      return false;
    };
    bool agree = true;
    for_every_packet([&](const IpAddress& host, std::uint8_t number, std::uint16_t port) {
      agree &= any(narrowed, host, number, port) ==
               (any(proposed, host, number, port) && any(configured, host, number, port));
    });
    CHECK(agree);
    for (std::size_t one = 0; one < narrowed.size(); ++one) {
      for (std::size_t other = 0; other < narrowed.size(); ++other) {
        if (one != other) CHECK_FALSE(narrowed[one].covers(narrowed[other]));
      }
    }
  }
}

TEST_CASE("traffic_selector: narrowing in the operator's words") {
  CHECK(to_string(narrow(selectors({"0.0.0.0/0"}), selectors({"10.1.0.0/24", "10.2.0.0/24"}))) ==
        "10.1.0.0/24, 10.2.0.0/24");
  CHECK(narrow(selectors({"10.1.0.0/24"}), selectors({"10.2.0.0/24"})).empty());
  CHECK(narrow({}, selectors({"10.2.0.0/24"})).empty());
  // The first packet's selector in front, as RFC 7296 §2.9 has it: covered by the second.
  CHECK(to_string(narrow(selectors({"10.1.0.5/32[tcp/443]", "10.1.0.0/24"}),
                         selectors({"10.1.0.0/16"}))) == "10.1.0.0/24");
}

TEST_CASE("traffic_selector: a set covers another when each of that lies in one of it") {
  const auto configured = selectors({"10.2.0.0/16", "10.9.0.0/24"});
  CHECK(covers(configured, selectors({"10.2.3.0/24", "10.9.0.0/24"})));
  CHECK_FALSE(covers(configured, selectors({"10.2.3.0/24", "10.9.0.0/16"})));
  CHECK_FALSE(covers(configured, selectors({"0.0.0.0/0"})));
  CHECK_FALSE(covers(configured, {}));
  CHECK_FALSE(covers({}, configured));
}

TEST_CASE("traffic_selector: the whole of a family covers everything of it") {
  CHECK(TrafficSelector::everything(Family::v6).covers(selector("2001:db8::/32[tcp/443]")));
  CHECK_FALSE(TrafficSelector::everything(Family::v6).covers(selector("10.0.0.0/8")));
  CHECK(TrafficSelector::everything(Family::v4).to_string() == "0.0.0.0/0");
  CHECK(TrafficSelector::of(Prefix::parse("10.1.0.7/24").value()) == selector("10.1.0.0/24"));
}

TEST_CASE("protocol: names and numbers") {
  CHECK(protocol::parse("tcp") == protocol::kTcp);
  CHECK(protocol::parse("255") == 255);
  CHECK_FALSE(protocol::parse("256"));
  CHECK_FALSE(protocol::parse(""));
  CHECK_FALSE(protocol::parse("TCP "));
  for (unsigned number = 0; number < 256; ++number) {
    const auto value = static_cast<std::uint8_t>(number);
    CHECK(protocol::parse(protocol::to_string(value)) == value);
  }
}

}  // namespace culvert::wire
