// One gateway seals, another opens: the inner packet arrives as it left but for its hops.
#include <catch2/catch.hpp>
#include <rte_ring.h>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

constexpr channel::SaMode kTunnel = channel::SaMode::tunnel,
                          kTransport = channel::SaMode::transport;

/// A client's packet with two hops less: one at each gateway.
Packet after_two_hops(Packet ip) {
  const bool is_v4 = ip[0] >> 4 == 4;
  ip[is_v4 ? 8 : 7] = static_cast<std::uint8_t>(ip[is_v4 ? 8 : 7] - 2);
  if (is_v4) wire::write_ipv4_checksum(ip.data(), 20);
  return ip;
}

struct TunnelCase {
  std::string name;
  bool inner_v6, outer_v6;
  bool esn, udp;
  std::uint16_t key_bits = 128;
};

}  // namespace

TEST_CASE(
    "worker: a client's packet crosses a tunnel unchanged but for two hops (RFC 4301 §5.1.2)") {
  const auto test = GENERATE(values<TunnelCase>({
      {"4in4", false, false, false, false},
      {"4in4 esn", false, false, true, false},
      {"4in4 udp", false, false, true, true},
      {"4in4 aes256", false, false, true, false, 256},
      {"4in4 aes192", false, false, false, false, 192},
      {"6in6", true, true, true, false},
      {"6in6 udp", true, true, false, true},
      {"4in6", false, true, true, false},
      {"6in4", true, false, true, false},
      {"6in4 udp", true, false, true, true},
  }));
  const std::size_t payload = GENERATE(0U, 1U, 2U, 3U, 4U, 15U, 64U, 1300U);
  INFO(test.name << ", payload " << payload);
  SaOptions options;
  options.esn = test.esn;
  options.udp = test.udp;
  options.key_bits = test.key_bits;
  if (test.inner_v6) {
    options.local_selectors = {"2001:db8:1::/64"};
    options.remote_selectors = {"2001:db8:2::/64"};
  }
  if (test.outer_v6) {
    options.outer_local = "2001:db8:ff::1";
    options.outer_remote = "2001:db8:ff::2";
  }
  Gateway left, right(mirrored());
  left.protect(options.local_selectors[0], options.remote_selectors[0],
               left.install(outbound_sa(options)));
  right.install(inbound_sa(options));
  PacketOptions packet;
  packet.payload = Packet(payload, 0x42);
  if (test.inner_v6) {
    packet.source = "2001:db8:1::9";
    packet.destination = "2001:db8:2::7";
  }
  packet.protocol = 99;  // no ports
  const Packet sent = ip_packet(packet);

  const Result sealed = left.receive(kLan, frame(sent));
  REQUIRE(sealed.wan.size() == 1);
  const Packet outer = ip_of(sealed.wan[0]);
  const auto header = wire::parse_ip(outer);
  REQUIRE(header.has_value());
  CHECK(header->protocol == (test.udp ? 17 : 50));
  CHECK(header->total_bytes == outer.size());

  const Result opened = right.receive(kWan, sealed.wan[0]);
  REQUIRE(opened.lan.size() == 1);
  CHECK(ip_of(opened.lan[0]) == after_two_hops(sent));
  CHECK(opened.drops.empty());
}

TEST_CASE("worker: a burst of two suites and two SAs is sealed and opened, each by its own key") {
  SaOptions first, second;
  second.key_bits = 256;
  second.remote_selectors = {"10.3.0.0/16"};
  Gateway left, right(mirrored());
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(first, 0x1000)));
  left.protect("10.1.0.0/24", "10.3.0.0/16", left.install(outbound_sa(second, 0x2001)));
  right.install(inbound_sa(first, 0x1000));
  right.install(inbound_sa(second, 0x2001));
  right.policy(PolicyAction::bypass, "10.1.0.0/16", "10.3.0.0/16");
  std::vector<Packet> frames;
  for (int i = 0; i < 60; ++i) {
    frames.push_back(frame(ip_packet({.destination = i % 3 == 0 ? "10.2.0.7" : "10.2.0.8"})));
  }
  const Result sealed = left.receive(kLan, frames);
  REQUIRE(sealed.wan.size() == 60);
  const Result opened = right.receive(kWan, sealed.wan);
  CHECK(opened.lan.size() + opened.punts.size() == 60);  // 10.2.0.8 is asked for first
  CHECK(opened.drops.empty());
}

TEST_CASE("worker: transport mode keeps the addresses and hides the payload (RFC 4303 §3.1.1)") {
  const bool is_v6 = GENERATE(false, true);
  const bool esn = GENERATE(false, true);
  SaOptions options;
  options.mode = kTransport;
  options.esn = esn;
  const std::string here = is_v6 ? "2001:db8:ff::1" : "198.51.100.1";
  const std::string there = is_v6 ? "2001:db8:ff::2" : "198.51.100.2";
  options.outer_local = here;
  options.outer_remote = there;
  options.local_selectors = {here + (is_v6 ? "/128" : "/32")};
  options.remote_selectors = {there + (is_v6 ? "/128" : "/32")};
  Gateway left, right(mirrored());
  left.protect(options.local_selectors[0], options.remote_selectors[0],
               left.install(outbound_sa(options)));
  right.install(inbound_sa(options));

  const Packet request = echo_request(here, there);
  const Result sealed = left.inject(request, {InjectKind::outbound_local, kWan, false});
  REQUIRE(sealed.wan.size() == 1);
  CHECK(wire::parse_ip(ip_of(sealed.wan[0]))->protocol == 50);

  SECTION("the peer answers the echo, in clear where a policy says so") {
    right.policy(PolicyAction::bypass, options.remote_selectors[0], options.local_selectors[0]);
    const Result opened = right.receive(kWan, sealed.wan[0]);
    CHECK(opened.drops.empty());
    REQUIRE(opened.wan.size() == 1);
    CHECK(wire::parse_ip(ip_of(opened.wan[0]))->protocol == (is_v6 ? 58 : 1));
  }
  SECTION("the peer answers the echo through the SA back") {
    SaOptions back = options;
    std::swap(back.outer_local, back.outer_remote);
    std::swap(back.local_selectors, back.remote_selectors);
    right.protect(back.local_selectors[0], back.remote_selectors[0],
                  right.install(outbound_sa(back, 0x3000)));
    const Result opened = right.receive(kWan, sealed.wan[0]);
    REQUIRE(opened.wan.size() == 1);
    CHECK(wire::parse_ip(ip_of(opened.wan[0]))->protocol == 50);
  }
}

TEST_CASE(
    "worker: DSCP and ECN go into the outer header, DF too (RFC 4301 §5.1.2.1, RFC 6040 §4.1)") {
  Gateway left;
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa({})));
  const auto outer_of = [&](const PacketOptions& options) {
    return ip_of(left.receive(kLan, frame(ip_packet(options))).wan.at(0));
  };
  const Packet marked = outer_of({.traffic_class = 0xb9, .fragment = 0x4000});
  CHECK(marked[1] == 0xb9);
  CHECK(wire::load_u16(&marked[6]) == 0x4000);
  const Packet plain = outer_of({.fragment = 0});
  CHECK(plain[1] == 0);
  CHECK(wire::load_u16(&plain[6]) == 0);
  CHECK(wire::ipv4_header_sum(plain.data(), 20) == 0xffff);
}

TEST_CASE("worker: congestion marked on the tunnel reaches the inner packet (RFC 6040 §4.2)") {
  struct EcnCase {
    std::uint8_t inner, outer;
    int result;  ///< -1: dropped
  };
  const auto test = GENERATE(values<EcnCase>({{0, 0, 0},
                                              {0, 1, 0},
                                              {0, 2, 0},
                                              {0, 3, -1},
                                              {1, 0, 1},
                                              {1, 2, 1},
                                              {1, 3, 3},
                                              {2, 0, 2},
                                              {2, 1, 1},
                                              {2, 3, 3},
                                              {3, 0, 3},
                                              {3, 1, 3},
                                              {3, 2, 3},
                                              {3, 3, 3}}));
  INFO("inner " << int{test.inner} << ", outer " << int{test.outer});
  Gateway left, right(mirrored());
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa({})));
  right.install(inbound_sa({}));
  Packet sealed = left.receive(kLan, frame(ip_packet({.traffic_class = test.inner}))).wan.at(0);
  sealed[15] = test.outer;
  fix_checksum(sealed);
  const Result opened = right.receive(kWan, sealed);
  if (test.result < 0) {
    CHECK(opened.dropped(DropReason::congestion_marked) == 1);
    return;
  }
  REQUIRE(opened.lan.size() == 1);
  CHECK((opened.lan[0][15] & 3) == test.result);
  CHECK(wire::parse_ipv4(ip_of(opened.lan[0])).has_value());
}

TEST_CASE("worker: an echo that came through the tunnel is answered through it") {
  Gateway left, right(mirrored());
  SaOptions there, back;
  std::swap(back.outer_local, back.outer_remote);
  back.local_selectors = {"10.2.0.0/16"};
  back.remote_selectors = {"10.1.0.0/24"};
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(there, 0x1000)));
  left.install(inbound_sa(back, 0x2000));
  right.protect("10.2.0.0/16", "10.1.0.0/24", right.install(outbound_sa(back, 0x2000)));
  right.install(inbound_sa(there, 0x1000));
  const Result sealed = left.receive(kLan, frame(echo_request("10.1.0.9", "10.2.0.1")));
  REQUIRE(sealed.wan.size() == 1);
  const Result answered = right.receive(kWan, sealed.wan[0]);
  REQUIRE(answered.wan.size() == 1);
  const Result arrived = left.receive(kWan, answered.wan[0]);
  REQUIRE(arrived.lan.size() == 1);
  const Packet reply = ip_of(arrived.lan[0]);
  CHECK(reply[20] == 0);  // echo reply
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(reply).subspan(20));
  CHECK(sum.finish() == 0);
}

TEST_CASE("worker: a reply's checksum is zero where it has to be, not minus zero (RFC 1624 §3)") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
  PacketOptions options;
  options.source = "10.1.0.9";
  options.destination = "10.1.0.1";
  options.protocol = 1;
  options.payload = {8, 0, 0xf7, 0xff, 0, 0, 0xff, 0xff};  // a reply's words come to 0xffff
  const Result answered = gateway.receive(kLan, frame(ip_packet(options)));
  REQUIRE(answered.lan.size() == 1);
  const Packet reply = ip_of(answered.lan[0]);
  CHECK(Packet(reply.begin() + 20, reply.end()) == Packet{0, 0, 0, 0, 0, 0, 0xff, 0xff});
}

TEST_CASE("worker: what came through one tunnel goes on through another (hub and spoke)") {
  Gateway spoke, hub(mirrored());
  SaOptions up, down;
  up.remote_selectors = {"10.0.0.0/8"};
  down.outer_local = "198.51.100.2";
  down.outer_remote = "198.51.100.1";
  down.local_selectors = {"10.0.0.0/8"};
  down.remote_selectors = {"10.3.0.0/16"};
  spoke.protect("10.1.0.0/24", "10.0.0.0/8", spoke.install(outbound_sa(up, 0x1000)));
  hub.install(inbound_sa(up, 0x1000));
  hub.protect("10.0.0.0/8", "10.1.0.0/24", kNoSlot);
  hub.protect("10.0.0.0/8", "10.3.0.0/16", hub.install(outbound_sa(down, 0x2000)));
  const Result sealed = spoke.receive(kLan, frame(ip_packet({.destination = "10.3.0.5"})));
  REQUIRE(sealed.wan.size() == 1);
  const Result relayed = hub.receive(kWan, sealed.wan[0]);
  REQUIRE(relayed.wan.size() == 1);
  CHECK(relayed.lan.empty());
  CHECK(wire::load_u32(&relayed.wan[0][14 + 20]) == 0x2000);
}

TEST_CASE("worker: sequence numbers rise by one from one, over bursts (RFC 4303 §3.3.3)") {
  Gateway left;
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa({})));
  std::uint32_t expected = 1;
  for (const std::size_t burst : {1U, 3U, 64U, 2U}) {
    const Result sealed = left.receive(kLan, std::vector<Packet>(burst, frame(ip_packet({}))));
    REQUIRE(sealed.wan.size() == burst);
    for (const Packet& packet : sealed.wan) {
      CHECK(wire::load_u32(&packet[14 + 20 + 4]) == expected++);
    }
  }
}

TEST_CASE("worker: ESP is taken in UDP and without, whichever the SA sends (RFC 7296 §2.23)") {
  const bool has_udp = GENERATE(false, true);
  SaOptions options;
  options.udp = has_udp;
  Pair pair({}, options);
  // The ESP of a sealed packet in the other form, from where the peer is or from elsewhere.
  const auto in_other_form = [&](const std::string& source) {
    const Packet sealed = pair.sealed();
    const Packet esp(sealed.begin() + (has_udp ? 42 : 34), sealed.end());
    PacketOptions outer{.source = source, .destination = "198.51.100.2"};
    outer.protocol = has_udp ? wire::protocol::kEsp : wire::protocol::kUdp;
    outer.payload = has_udp ? esp : udp(4500, 4500, esp);
    return frame(ip_packet(outer));
  };
  for (const std::string source : {"198.51.100.1", "198.51.100.1", "198.51.100.77"}) {
    CAPTURE(source);
    CHECK(pair.right.receive(kWan, in_other_form(source)).lan.size() == 1);
    CHECK(pair.right.receive(kWan, pair.sealed()).lan.size() == 1);
  }
  CHECK(pair.traffic().packets == 6);
  // Where ours go is nothing that it says.
  CHECK(rte_ring_count(pair.right.hints()) == 0);
}
