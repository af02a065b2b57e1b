// What an echo request to us is answered with, beside its data (RFC 792, RFC 1122 §3.2.2.6).
#include <set>

#include <catch2/catch.hpp>

#include "dataplane/control/packets.hpp"
#include "dataplane/worker/fragment.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

constexpr std::size_t kHeader = 20;

/// To us, with a message of so many bytes.
Packet echo_of(std::size_t bytes, const std::string& us = "10.1.0.1") {
  PacketOptions options{.source = "10.1.0.9", .destination = us, .protocol = 1};
  options.traffic_class = 0x48;
  options.payload = Packet(bytes, 0x61);
  options.payload[0] = 8;
  options.payload[1] = options.payload[2] = options.payload[3] = 0;
  wire::ChecksumSum sum;
  sum.add(options.payload);
  wire::store_u16(&options.payload[2], sum.finish());
  return ip_packet(options);
}

Packet with_options(Packet ip, const Packet& options) {
  ip.insert(ip.begin() + kHeader, options.begin(), options.end());
  ip[0] = static_cast<std::uint8_t>(0x45U + options.size() / 4);
  wire::store_u16(&ip[2], static_cast<std::uint16_t>(ip.size()));
  wire::write_ipv4_checksum(ip.data(), kHeader + options.size());
  return ip;
}

/// Its checksums are right, and it says to the client what was sent.
void check_reply(const Packet& reply, const Packet& request) {
  CHECK(wire::parse_ipv4(reply).has_value());
  CHECK(reply[9] == 1);
  CHECK(reply[kHeader] == 0);
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(reply).subspan(kHeader));
  CHECK(sum.finish() == 0);
  const std::size_t message = (request[0] & 0x0fU) * std::size_t{4};
  CHECK(Packet(reply.begin() + kHeader + 4, reply.end()) ==
        Packet(request.begin() + static_cast<std::ptrdiff_t>(message) + 4, request.end()));
}

}  // namespace

TEST_CASE("echo: the reply has a header of its own, with the request's type of service") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
  std::set<std::uint16_t> names;
  for (int count = 0; count < 8; ++count) {
    const Packet request = echo_of(64);
    REQUIRE(wire::load_u16(&request[6]) == wire::ipv4::kDontFragment);
    const Result result = gateway.receive(kLan, frame(request));
    REQUIRE(result.lan.size() == 1);
    const Packet reply = ip_of(result.lan[0]);
    check_reply(reply, request);
    CHECK(reply[1] == 0x48);
    CHECK(reply[8] == wire::kOurHopLimit);
    CHECK(wire::load_u16(&reply[6]) == 0);
    CHECK(wire::load_u32(&reply[12]) == 0x0a010001);
    CHECK(wire::load_u32(&reply[16]) == 0x0a010009);
    names.insert(wire::load_u16(&reply[4]));
  }
  // RFC 6864 §4.3: what may be fragmented is told apart.
  CHECK(names.size() == 8);
}

TEST_CASE("echo: the options of a request are not those of the reply") {
  const Packet options = GENERATE(Packet{7, 7, 4, 0, 0, 0, 0, 0},            // record route
                                  Packet{68, 8, 5, 0, 0, 0, 0, 0},           // timestamps
                                  Packet{1, 0x94, 4, 0, 0, 0, 0, 0},         // router alert
                                  Packet{0, 131, 3, 4},                      // behind the end
                                  Packet{7, 1, 131, 3}, Packet{1, 1, 1, 7},  // unsound
                                  Packet{7, 0xff, 137, 3}, Packet(40, 1));
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
  const Packet request = with_options(echo_of(64), options);
  const Result result = gateway.receive(kLan, frame(request));
  REQUIRE(result.lan.size() == 1);
  const Packet reply = ip_of(result.lan[0]);
  CHECK(reply.size() == kHeader + 64);
  check_reply(reply, request);
}

TEST_CASE("echo: a request that says by which way it goes is not answered (RFC 1122 §3.2.2.6)") {
  const Packet options =
      GENERATE(Packet{131, 7, 8, 10, 1, 0, 77, 0},  // its last address is ours
               Packet{137, 7, 4, 10, 1, 0, 77, 0}, Packet{1, 7, 3, 4, 131, 3, 4, 0});
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
  const Result result = gateway.receive(kLan, frame(with_options(echo_of(64), options)));
  CHECK(result.lan.empty());
  CHECK(result.dropped(DropReason::icmp_ignored) == 1);
}

TEST_CASE("echo: DF of a request says nothing of the way back: the reply is cut for its tunnel") {
  const auto fragmentation =
      GENERATE(config::FragmentationOrder::before, config::FragmentationOrder::after);
  const bool has_options = GENERATE(false, true);
  // The way back carries no more than 1000 bytes.
  Gateway left, right(mirrored());
  SaOptions there, back;
  std::swap(back.outer_local, back.outer_remote);
  std::swap(back.local_selectors, back.remote_selectors);
  SaSettings settings;
  settings.headers.fragmentation = fragmentation;
  settings.headers.path_mtu = 1000;
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(there, 0x1000)));
  left.install(inbound_sa(back, 0x2000));
  right.protect("10.2.0.0/16", "10.1.0.0/24", right.install(outbound_sa(back, 0x2000), settings));
  right.install(inbound_sa(there, 0x1000));
  Packet request = echo_of(1400, "10.2.0.1");
  if (has_options) request = with_options(request, {7, 7, 4, 0, 0, 0, 0, 0});
  const Result asked = left.receive(kLan, frame(request));
  REQUIRE(asked.wan.size() == 1);
  const Result answered = right.receive(kWan, asked.wan[0]);
  CHECK(answered.drops.empty());
  CHECK(answered.punts.empty());
  REQUIRE(answered.wan.size() == 2);
  for (const Packet& outer : answered.wan) CHECK(outer.size() <= 14 + 1000);
  const Result arrived = left.receive(kWan, answered.wan);
  CHECK(arrived.drops.empty());
  CHECK_FALSE(arrived.lan.empty());
  std::size_t bytes = 0;
  for (const Packet& piece : arrived.lan) bytes += ip_of(piece).size() - kHeader;
  CHECK(bytes == 1400);
}

TEST_CASE(
    "echo: one that came encrypted is answered by a policy that names the reply, or not at all") {
  const bool is_v6 = GENERATE(false, true);
  const std::string here = is_v6 ? "2001:db8:2::/64" : "10.2.0.0/16";
  const std::string there = is_v6 ? "2001:db8:1::/64" : "10.1.0.0/24";
  const std::string requests = is_v6 ? "[icmpv6/128]" : "[icmp/8]";
  const Packet request =
      is_v6 ? echo_request("2001:db8:1::9", "2001:db8:2::1") : echo_request("10.1.0.9", "10.2.0.1");
  const auto by_default = GENERATE(config::PolicyAction::discard, config::PolicyAction::bypass);
  CAPTURE(is_v6, by_default == config::PolicyAction::bypass);
  Gateway left, right(mirrored());
  SaOptions to_right;
  to_right.local_selectors = {there + requests};
  to_right.remote_selectors = {here + requests};
  left.protect(there + requests, here + requests, left.install(outbound_sa(to_right, 0x1000)));
  right.install(inbound_sa(to_right, 0x1000));
  const auto answer = [&](const std::vector<PolicyEntry>& policies) {
    right.tables().spd->replace(policies, by_default);
    const Result sealed = left.receive(kLan, frame(request));
    return right.receive(kWan, sealed.wan.at(0));
  };
  SaOptions to_left;
  to_left.outer_local = "198.51.100.2";
  to_left.outer_remote = "198.51.100.1";
  to_left.local_selectors = {here};
  to_left.remote_selectors = {there};
  PolicyEntry protect;
  protect.action = PolicyAction::protect;
  protect.local = {wire::TrafficSelector::parse(here).value()};
  protect.remote = {wire::TrafficSelector::parse(there).value()};
  protect.outbound = right.install(outbound_sa(to_left, 0x2000));
  const auto is_refused = [](const Result& result) {
    return result.wan.empty() && result.lan.empty() &&
           result.drops == std::map<DropReason, std::uint64_t>{{DropReason::no_policy_match, 1}};
  };
  SECTION("no policy names the reply") { CHECK(is_refused(answer({}))); }
  SECTION("the policy is for requests alone") {
    protect.local = {wire::TrafficSelector::parse(here + requests).value()};
    protect.remote = {wire::TrafficSelector::parse(there + requests).value()};
    CHECK(is_refused(answer({protect})));
  }
  SECTION("one that names it says how it goes") {
    CHECK(ip_of(answer({protect}).wan.at(0))[9] == wire::protocol::kEsp);  // around either
    protect.action = PolicyAction::bypass;
    const Packet reply = ip_of(answer({protect}).wan.at(0));
    CHECK(wire::parse_ip(reply)->protocol ==
          (is_v6 ? wire::protocol::kIcmpv6 : wire::protocol::kIcmp));
  }
  SECTION("a reply that waits for its SA is one still when its policy has gone") {
    protect.outbound = kNoSlot;
    const Result waits = answer({protect});
    REQUIRE(waits.punts.size() == 1);
    CHECK(waits.punts[0].what.reason == PuntReason::acquire);
    CHECK(waits.punts[0].what.originated);
    CHECK(waits.punts[0].what.from_tunnel);
    right.tables().spd->replace({}, by_default);
    control::Packets main_thread(right.tables(), packet_pool(), right.context().inject);
    main_thread.resume(main_thread.make(waits.punts[0].bytes), waits.punts[0].what);
    CHECK(is_refused(right.serve_main_thread()));
    // What answers nothing that was encrypted leaves.
    CHECK(
        right.inject(waits.punts[0].bytes, {InjectKind::outbound_local, kWan, false}).wan.size() ==
        1);
  }
}
