// What becomes of fragments for us whose packet does not become whole: how long they wait, and who
// is told (RFC 1122 §3.3.2, RFC 8200 §4.5, RFC 4443 §2.4). Worker and main thread's part of a
// gateway; time is the test's.
#include <catch2/catch.hpp>
#include <rte_cycles.h>

#include "dataplane/control/icmp_sender.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;
using test::kLan;
using test::kWan;
using test::Result;
using Bytes = test::Packet;  // a frame, or an IP packet
using Drops = std::map<DropReason, std::uint64_t>;

constexpr std::uint8_t kUdp = 17, kEsp = 50;

struct Piece {
  bool is_v6 = false;
  std::uint8_t protocol = kUdp;
  std::uint16_t offset = 0;  ///< bytes
  bool is_last = false;
  std::uint16_t identification = 1;
  Bytes data = test::udp(1000, 7, Bytes(24, 0x5a));
  std::string from = "198.51.100.2", from6 = "2001:db8:ff::2";
  std::string to = "198.51.100.1", to6 = "2001:db8:ff::1";
};
Bytes ip_of(const Piece& piece) {
  if (piece.is_v6) {
    Bytes payload{piece.protocol, 0, 0, 0, 0, 0, 0, 0};
    wire::store_u16(&payload[2],
                    static_cast<std::uint16_t>(piece.offset | (piece.is_last ? 0U : 1U)));
    wire::store_u16(&payload[6], piece.identification);
    payload.insert(payload.end(), piece.data.begin(), piece.data.end());
    return test::ip_packet(
        {.source = piece.from6, .destination = piece.to6, .protocol = 44, .payload = payload});
  }
  const unsigned place = piece.offset / 8U | (piece.is_last ? 0U : 0x2000U);
  Bytes packet = test::frame(test::ip_packet({.source = piece.from,
                                              .destination = piece.to,
                                              .protocol = piece.protocol,
                                              .fragment = static_cast<std::uint16_t>(place),
                                              .payload = piece.data}));
  wire::store_u16(&packet[14 + wire::ipv4::kIdentification], piece.identification);
  test::fix_checksum(packet);
  return test::ip_of(packet);
}

/// Interfaces as a Gateway has them.
config::Dataplane interfaces() {
  const test::Addresses ours;
  config::Interface lan, wan;
  lan.name = "lan";
  lan.addresses = {wire::Prefix::parse(ours.lan).value(), wire::Prefix::parse(ours.lan6).value()};
  wan.name = "wan";
  wan.addresses = {wire::Prefix::parse(ours.wan).value(), wire::Prefix::parse(ours.wan6).value()};
  config::Dataplane dataplane;
  dataplane.interfaces = {lan, wan};
  return dataplane;
}

struct Waiting {
  Result receive(const Piece& piece) { return gateway.receive(kWan, test::frame(ip_of(piece))); }
  /// Waits; nothing else comes meanwhile.
  Result after(std::uint64_t seconds) {
    gateway.worker().reassembler.clock_ahead += seconds * rte_get_tsc_hz();
    gateway.worker().last_expiry = 0;
    return gateway.receive(kWan, std::vector<Bytes>{});
  }
  /// What the main thread does with the punted, and what the worker then sends of it.
  Result answer(const Result& result) {
    for (const test::Punt& punt : result.punts) {
      REQUIRE(punt.what.reason == PuntReason::reassembly_timeout);
      icmp.report(IcmpErrorKind::reassembly_timeout, 0, packets.make(punt.bytes), punt.what, now);
    }
    return gateway.serve_main_thread();
  }
  Result answer_after_its_time(const Piece& piece) {
    CHECK(receive(piece).drops.empty());
    const Result result = after(60);
    REQUIRE(result.punts.size() == 1);
    return answer(result);
  }

  test::Gateway gateway;
  Topology topology{interfaces()};
  Packets packets{gateway.tables(), test::packet_pool(), gateway.context().inject};
  Instant now = 1h;
  IcmpSender icmp{topology, *gateway.tables().spd, packets, now};
};

bool is_silent(const Result& result) {
  return result.lan.empty() && result.wan.empty() && result.drops.empty();
}

}  // namespace

TEST_CASE("fragment timeout: they wait for 60 seconds, and no longer (RFC 8200 §4.5)") {
  const bool is_v6 = GENERATE(false, true);
  Waiting site;
  site.receive({.is_v6 = is_v6});
  CHECK(is_silent(site.after(50)));
  site.receive({.is_v6 = is_v6, .offset = 64});  // which does not begin the time anew
  const Result early = site.after(9);
  CHECK(is_silent(early));
  CHECK(early.punts.empty());
  CHECK(site.gateway.worker().reassembler.held() == 2);
  const Result over = site.after(1);
  CHECK(over.drops == Drops{{DropReason::reassembly_timeout, 1}});
  REQUIRE(over.punts.size() == 1);
  CHECK(over.punts[0].what.reason == PuntReason::reassembly_timeout);
  CHECK(over.punts[0].what.received_on == kWan);
  CHECK(over.punts[0].bytes == ip_of({.is_v6 = is_v6}));
  CHECK(site.gateway.worker().reassembler.held() == 0);
}

TEST_CASE("fragment timeout: the source is told, Time Exceeded code 1 (RFC 1122 §3.3.2)") {
  Waiting site;
  const Result v4 = site.answer_after_its_time({});
  REQUIRE(v4.wan.size() == 1);
  const Bytes error = test::ip_of(v4.wan[0]);
  CHECK(wire::IpAddress::v4(wire::Bytes(error).subspan(12, 4)) == test::address("198.51.100.1"));
  CHECK(wire::IpAddress::v4(wire::Bytes(error).subspan(16, 4)) == test::address("198.51.100.2"));
  CHECK(error[9] == 1);
  CHECK(Bytes(error.begin() + 20, error.begin() + 22) == Bytes{11, 1});
  CHECK(Bytes(error.begin() + 28, error.end()) == ip_of({}));
  const Result v6 = site.answer_after_its_time({.is_v6 = true});
  REQUIRE(v6.wan.size() == 1);
  const Bytes error6 = test::ip_of(v6.wan[0]);
  CHECK(wire::IpAddress::v6(wire::Bytes(error6).subspan(8, 16)) == test::address("2001:db8:ff::1"));
  CHECK(wire::IpAddress::v6(wire::Bytes(error6).subspan(24, 16)) ==
        test::address("2001:db8:ff::2"));
  CHECK(error6[6] == 58);
  CHECK(Bytes(error6.begin() + 40, error6.begin() + 42) == Bytes{3, 1});
  CHECK(Bytes(error6.begin() + 48, error6.end()) == ip_of({.is_v6 = true}));
}

TEST_CASE("fragment timeout: nobody is told without the first fragment") {
  const bool is_v6 = GENERATE(false, true);
  Waiting site;
  site.receive({.is_v6 = is_v6, .offset = 64});
  site.receive({.is_v6 = is_v6, .offset = 128, .is_last = true});
  const Result over = site.after(60);
  CHECK(over.drops == Drops{{DropReason::reassembly_timeout, 2}});
  CHECK(over.punts.empty());
}

TEST_CASE("fragment timeout: nobody is told of an overlap (RFC 8200 §4.5)") {
  const bool is_v6 = GENERATE(false, true);
  Waiting site;
  site.receive({.is_v6 = is_v6});
  CHECK(site.receive({.is_v6 = is_v6, .offset = 8}).dropped(DropReason::fragment_overlap) == 2);
  site.receive({.is_v6 = is_v6, .offset = 64, .identification = 2});  // that somebody looks
  CHECK(site.after(60).punts.empty());
}

TEST_CASE("fragment timeout: nobody is told of a packet that gave way before its time") {
  Waiting site;
  for (std::uint16_t i = 0; i <= Reassembler::kPackets; ++i) {
    const Result result = site.receive({.identification = i});
    CHECK(result.punts.empty());
    const std::uint64_t gone = i == Reassembler::kPackets ? 1 : 0;
    CHECK(result.dropped(DropReason::reassembly_full) == gone);
  }
  CHECK(site.after(60).punts.size() == Reassembler::kPackets);
}

TEST_CASE("fragment timeout: never about an ICMP error (RFC 1122 §3.2.2, RFC 4443 §2.4 e)") {
  Waiting site;
  Bytes error(32, 0);
  error[0] = 3;  // destination unreachable; time exceeded
  const Piece about4{.protocol = 1, .data = error};
  const Piece about6{.is_v6 = true, .protocol = 58, .data = error};
  CHECK(is_silent(site.answer_after_its_time(about4)));
  CHECK(is_silent(site.answer_after_its_time(about6)));
  error[0] = 8;
  CHECK(site.answer_after_its_time({.protocol = 1, .data = error}).wan.size() == 1);
}

TEST_CASE("fragment timeout: to one source twenty errors at once and no more (RFC 4443 §2.4 f)") {
  Waiting site;
  for (std::uint16_t i = 0; i < 30; ++i) site.receive({.identification = i});
  const Result over = site.after(60);
  REQUIRE(over.punts.size() == 30);
  CHECK(site.answer(over).wan.size() == 20);
}

TEST_CASE("fragment timeout: what policy refuses is told nothing, ESP and IKE it is not asked") {
  const Piece esp{.protocol = kEsp};
  const Piece ike{.data = test::udp(500, 500, Bytes(24, 0))};
  Waiting site;
  SECTION("discarded in either direction, errors too") {
    site.gateway.policy(PolicyAction::discard, "198.51.100.1/32", "198.51.100.2/32");
    CHECK(is_silent(site.answer_after_its_time({})));
    CHECK(site.answer_after_its_time(esp).drops == Drops{{DropReason::policy_discard, 1}});
  }
  SECTION("discarded by protocol") {
    site.gateway.policy(PolicyAction::discard, "198.51.100.1/32[udp]", "198.51.100.2/32[udp]");
    CHECK(is_silent(site.answer_after_its_time({})));
    CHECK(site.answer_after_its_time(esp).wan.size() == 1);
    CHECK(site.answer_after_its_time(ike).wan.size() == 1);
  }
  SECTION("in clear though protected: the error leaves by the SA, or not at all") {
    test::SaOptions options;
    options.local_selectors = {"198.51.100.1/32"};
    options.remote_selectors = {"198.51.100.2/32"};
    const SlotIndex slot = site.gateway.install(test::outbound_sa(options));
    site.gateway.protect("198.51.100.1/32", "198.51.100.2/32", slot);
    CHECK(is_silent(site.answer_after_its_time({})));
    for (const Piece& piece : {esp, ike}) {
      const Result answered = site.answer_after_its_time(piece);
      REQUIRE(answered.wan.size() == 1);
      CHECK(test::ip_of(answered.wan[0])[wire::ipv4::kProtocol] == kEsp);
    }
  }
}

TEST_CASE("fragment timeout: what came through an SA is answered through one, or not at all") {
  const test::SaOptions back;
  test::SaOptions there;
  std::swap(there.outer_local, there.outer_remote);
  std::swap(there.local_selectors, there.remote_selectors);
  test::Gateway peer(test::mirrored());
  peer.protect("10.2.0.0/16", "10.1.0.0/24", peer.install(test::outbound_sa(there, 0x2000)));
  Waiting site;
  site.gateway.install(test::inbound_sa(there, 0x2000));
  const bool has_way_back = GENERATE(true, false);
  if (has_way_back) {
    site.gateway.protect("10.1.0.0/24", "10.2.0.0/16",
                         site.gateway.install(test::outbound_sa(back)));
  }
  const Bytes first = ip_of({.from = "10.2.0.9", .to = "10.1.0.1"});
  const Result sealed = peer.receive(kLan, test::frame(first));
  REQUIRE(sealed.wan.size() == 1);
  CHECK(site.gateway.receive(kWan, sealed.wan).drops.empty());
  const Result over = site.after(60);
  REQUIRE(over.punts.size() == 1);
  CHECK(over.punts[0].what.from_tunnel);
  const Result answered = site.answer(over);
  CHECK(answered.wan.size() == (has_way_back ? 1 : 0));
  for (const Bytes& frame : answered.wan) {
    CHECK(test::ip_of(frame)[wire::ipv4::kProtocol] == kEsp);
  }
}

}  // namespace culvert::dataplane::control
