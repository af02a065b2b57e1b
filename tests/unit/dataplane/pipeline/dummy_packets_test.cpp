// Dummy packets (RFC 4303 §2.6): main thread and worker of one gateway, and its peer.
#include <algorithm>
#include <set>

#include <catch2/catch.hpp>
#include <rte_cycles.h>

#include "config/limits.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/packets.hpp"
#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;
using config::DummyPackets;
using config::HeaderOptions;
using test::kLan;
using test::kWan;
using Frame = test::Packet;  // or an IP packet

constexpr Instant kStep = 1ms;

HeaderOptions with_dummies(std::uint16_t per_second, std::uint16_t bytes = 0) {
  HeaderOptions headers;
  headers.dummy_packets = {per_second, bytes};
  return headers;
}

std::uint32_t spi_of(const Frame& frame) { return wire::load_u32(&frame[14 + 20]); }
/// Of the outer packet.
std::size_t size_of(const Frame& frame) { return frame.size() - 14; }

/// A gateway with a main thread's part in dummies, and its peer.
struct Site {
  explicit Site(const HeaderOptions& headers) : config(test::one_connection(headers)) {}

  channel::InstallSa establish(std::uint32_t spi, const test::SaOptions& options = {}) {
    channel::InstallSa out = test::outbound_sa(options, spi);
    out.child_id = config::ChildId{};
    const bool is_transport = options.mode == channel::SaMode::transport;
    config.connections[0].children[0].mode =
        is_transport ? config::Mode::transport : config::Mode::tunnel;
    children.take(config, {});
    REQUIRE(associations.install(out, now) == channel::Outcome::ok);
    const auto in = test::inbound_sa(options, spi);
    received_by = in.sa;
    peer.install(in);
    return out;
  }
  /// An SA that the traffic of the child takes.
  channel::InstallSa bear_traffic(std::uint32_t spi, const test::SaOptions& options = {}) {
    const channel::InstallSa out = establish(spi, options);
    gateway.protect(options.local_selectors[0], options.remote_selectors[0], slot(out));
    return out;
  }
  SlotIndex slot(const channel::InstallSa& sa) { return sad().find(sa.sa)->slot; }
  Sad& sad() { return *gateway.tables().sad; }
  SaTraffic sent(const channel::InstallSa& sa) { return sad().traffic(*sad().find(sa.sa)); }
  SaTraffic received() { return peer.tables().sad->traffic(*peer.tables().sad->find(received_by)); }

  /// One turn of the main thread and of the worker, and what left.
  std::vector<Frame> turn(Instant span = kStep) {
    now += span;
    associations.send_dummies(packets, now);
    test::Result result = gateway.serve_main_thread();
    CHECK(result.drops.empty());
    CHECK(result.punts.empty());
    return std::move(result.wan);
  }
  std::vector<Frame> pass(Instant span) {
    std::vector<Frame> all;
    for (const Instant end = now + span; now < end;)
      std::ranges::move(turn(), std::back_inserter(all));
    return all;
  }
  void send_traffic() {
    REQUIRE(gateway.receive(kLan, test::frame(test::ip_packet({}))).wan.size() == 1);
  }

  test::Gateway gateway;
  test::Gateway peer{test::mirrored()};
  config::Config config;
  Topology topology{config.dataplane};
  ChildDirectory children{config};
  std::unique_ptr<Steering> steering =
      Steering::create({}, 1, gateway.tables().sad->slots()).value();
  Associations associations{gateway.tables(), topology, children, *steering};
  Packets packets{gateway.tables(), test::packet_pool(), gateway.context().inject};
  Instant now = 1h;
  channel::SaId received_by{};
};

}  // namespace

TEST_CASE("dummies: an idle SA sends so many a second, evenly spaced (RFC 4303 §2.6)") {
  Site site(with_dummies(50));
  const auto sa = site.bear_traffic(0x1000);
  CHECK(site.associations.next_dummy().has_value());
  site.pass(20ms);  // the first turn is anywhere in it
  std::size_t count = 0;
  Instant last = site.now;
  for (const Instant end = site.now + 2s; site.now < end;) {
    const std::size_t left = site.turn().size();
    REQUIRE(left <= 1);
    if (left == 0) continue;
    if (count++ != 0) CHECK(site.now - last == 20ms);
    last = site.now;
  }
  CHECK(count == 100);
  CHECK(site.sent(sa).dummies >= 100);
  CHECK(site.sent(sa).dummies == site.sent(sa).packets);
}

TEST_CASE("dummies: what the SA sends by itself counts, and no turn is left empty") {
  Site site(with_dummies(100));
  const auto sa = site.bear_traffic(0x1000);
  const auto second = [&](int every_milliseconds) {
    std::size_t dummies = 0;
    for (int millisecond = 0; millisecond < 1000; ++millisecond) {
      if (every_milliseconds != 0 && millisecond % every_milliseconds == 0) site.send_traffic();
      dummies += site.turn().size();
    }
    return dummies;
  };
  site.pass(10ms);
  CHECK(second(0) == 100);
  const std::size_t beside_some = second(40);
  CHECK(beside_some >= 74);
  CHECK(beside_some <= 76);
  CHECK(second(10) <= 1);
  CHECK(second(5) == 0);

  // A burst leaves nothing for later.
  for (int packet = 0; packet < 50; ++packet) site.send_traffic();
  CHECK(site.pass(1s).size() >= 99);
  CHECK(site.sent(sa).packets > site.sent(sa).dummies);
}

TEST_CASE("dummies: the peer ends them in silence, and both count the same (RFC 4303 §2.6)") {
  test::SaOptions options;
  SECTION("tunnel") {}
  SECTION("tunnel, in UDP") { options.udp = true; }
  SECTION("tunnel over IPv6") { options = test::with_families(true, true); }
  SECTION("extended numbers") { options.esn = true; }
  SECTION("blocks") {
    options.suite =
        crypto::EspSuite{crypto::Encryption::aes_cbc, 128, crypto::Integrity::hmac_sha2_256_128};
  }
  SECTION("transport") {
    options.mode = channel::SaMode::transport;
    options.local_selectors = {"198.51.100.1/32"};
    options.remote_selectors = {"198.51.100.2/32"};
  }
  SECTION("transport over IPv6, in UDP") {
    options = test::with_families(true, true);
    options.mode = channel::SaMode::transport;
    options.udp = true;
    options.local_selectors = {"2001:db8:ff::1/128"};
    options.remote_selectors = {"2001:db8:ff::2/128"};
  }
  Site site(with_dummies(200));
  const auto sa = site.bear_traffic(0x1000, options);
  const std::vector<Frame> frames = site.pass(300ms);
  CHECK(frames.size() >= 59);
  const test::Result result = site.peer.receive(kWan, frames);
  CHECK(result.drops ==
        std::map<DropReason, std::uint64_t>{{DropReason::dummy_packet, frames.size()}});
  CHECK(result.lan.empty());
  CHECK(result.wan.empty());
  CHECK(result.punts.empty());
  CHECK(site.sent(sa).packets == frames.size());
  CHECK(site.received().packets == frames.size());
  CHECK(site.received().bytes == site.sent(sa).bytes);
}

TEST_CASE("dummies: as large as is written, as padded packets are, or of any size") {
  const auto sizes = [](const HeaderOptions& headers, std::uint16_t path_mtu = kNoPathMtu) {
    Site site(headers);
    const auto sa = site.bear_traffic(0x1000);
    site.sad().set_path_mtu(sa.sa, path_mtu);
    std::set<std::size_t> all;
    for (const Frame& frame : site.pass(500ms)) all.insert(size_of(frame));
    site.send_traffic();
    REQUIRE_FALSE(all.empty());
    return all;
  };
  constexpr std::size_t kAround = 20 + 8 + 8 + 2 + 16;  // a multiple of four with what is inside
  CHECK(sizes(with_dummies(100, 702)) == std::set<std::size_t>{702 + kAround});
  CHECK(sizes(with_dummies(100, 9000)) == std::set<std::size_t>{1500});
  CHECK(sizes(with_dummies(100, 9000), 800) == std::set<std::size_t>{800});

  HeaderOptions padded = with_dummies(100);
  padded.tfc_padding = 702;
  CHECK(sizes(padded) == std::set<std::size_t>{702 + kAround});
  padded.tfc_padding = HeaderOptions::kPadToPath;
  CHECK(sizes(padded) == std::set<std::size_t>{1500});
  CHECK(sizes(padded, 600) == std::set<std::size_t>{600});

  const auto any = sizes(with_dummies(100));
  CHECK(any.size() > 25);
  CHECK(*any.begin() < 400);
  CHECK(*any.rbegin() > 1000);
  CHECK(*any.rbegin() <= 1500);
}

TEST_CASE("dummies: the outer header is what the SA's settings say") {
  HeaderOptions headers = with_dummies(100);
  headers.copy_dscp = config::CopyDscp::none;
  headers.dscp = 46;
  headers.hop_limit = 77;
  Site site(headers);
  site.bear_traffic(0x1000);
  const std::vector<Frame> frames = site.pass(50ms);
  REQUIRE_FALSE(frames.empty());
  for (const Frame& frame : frames) {
    CHECK(frame[14 + 1] == 46 << 2);
    CHECK(frame[14 + 8] == 77);
  }
}

TEST_CASE("dummies: they leave by the SA that the traffic takes, before a rekey and after it") {
  Site site(with_dummies(100));
  const auto before = site.bear_traffic(0x1000);
  const auto after = site.establish(0x2000);
  const auto spis = [&] {
    std::set<std::uint32_t> all;
    for (const Frame& frame : site.pass(200ms)) all.insert(spi_of(frame));
    return all;
  };
  CHECK(spis() == std::set<std::uint32_t>{0x1000});
  REQUIRE(site.gateway.tables().spd->rebind(channel::PolicyId{1}, site.slot(after)));
  CHECK(spis() == std::set<std::uint32_t>{0x2000});
  REQUIRE(site.associations.remove(before.sa) == channel::Outcome::ok);
  CHECK(spis() == std::set<std::uint32_t>{0x2000});
  site.gateway.tables().spd->unbind(site.slot(after));
  CHECK(spis().empty());
  REQUIRE(site.associations.remove(after.sa) == channel::Outcome::ok);
  CHECK(spis().empty());
  CHECK_FALSE(site.associations.next_dummy());
}

TEST_CASE(
    "dummies: they count against an SA's limits, and none is made beyond (RFC 4301 §4.4.2.1)") {
  test::SaOptions options;
  SECTION("packets") {
    options.lifetime.hard_packets = 12;
    Site site(with_dummies(100));
    const auto sa = site.bear_traffic(0x1000, options);
    site.send_traffic();
    CHECK(site.pass(1s).size() == 11);
    CHECK(site.sent(sa).packets == 12);
  }
  SECTION("bytes") {
    options.lifetime.hard_bytes = 3000;
    Site site(with_dummies(100, 900));
    const auto sa = site.bear_traffic(0x1000, options);
    CHECK(site.pass(1s).size() == 3);
    CHECK(site.sent(sa).bytes == 2700);
    site.send_traffic();  // what is left is the traffic's
  }
  SECTION("numbers") {
    Site site(with_dummies(100));
    const auto sa = site.bear_traffic(0x1000);
    site.sad().outbound(site.slot(sa))->sequence.store(0xffffffff - 5);
    site.turn(20ms);  // what is new at the first turn was the traffic's
    CHECK(site.pass(1s).size() == 5);
  }
  SECTION("time") {
    Site site(with_dummies(100));
    const auto sa = site.bear_traffic(0x1000);
    CHECK_FALSE(site.pass(50ms).empty());
    site.sad().set_end(*site.sad().find(sa.sa), rte_get_tsc_cycles());
    CHECK(site.pass(200ms).empty());
  }
  SECTION("an SA that was stopped") {
    Site site(with_dummies(100));
    const auto sa = site.bear_traffic(0x1000);
    CHECK_FALSE(site.pass(50ms).empty());
    site.sad().stop(sa.sa, StopCause::hard_time);
    CHECK(site.pass(200ms).empty());
    CHECK_FALSE(site.associations.next_dummy());
  }
}

TEST_CASE("dummies: all SAs together send no more than the bound") {
  Site site(with_dummies(config::limits::kDummyPacketsPerSa, 64));
  for (std::uint32_t n = 0; n < 30; ++n) {
    test::SaOptions options;
    options.remote_selectors = {"10.2." + std::to_string(n) + ".0/24"};
    site.bear_traffic(0x1000 + n, options);
  }
  const std::size_t sent = site.pass(200ms).size();
  CHECK(sent <= config::limits::kDummyPacketsTotal / 5 + config::limits::kDummyPacketsTotal / 100);
  CHECK(sent >= config::limits::kDummyPacketsTotal / 5 * 9 / 10);
}

TEST_CASE("dummies: a child of many peers has no more turns than the main thread has time for") {
  DummySchedule schedule(1);
  const DummySource source{.apart = 1ms};
  constexpr std::uint64_t kMost = 40'000;
  for (int peer = 0; peer < 40; ++peer) CHECK(schedule.add(source, Instant{}, kMost));
  CHECK_FALSE(schedule.add(source, Instant{}, kMost));
  // One that is gone makes room.
  int served = 0;
  schedule.run(1ms, [&](DummySource&, std::uint64_t) { return ++served != 1; });
  CHECK(schedule.add(source, 1ms, kMost));
  CHECK_FALSE(schedule.add(source, 1ms, kMost));
}

TEST_CASE("dummies: turns that a late main thread has missed do not come all at once") {
  Site site(with_dummies(100));
  site.bear_traffic(0x1000);
  site.pass(20ms);
  CHECK(site.turn(3s).size() <= 5);
  CHECK(site.pass(1s).size() <= 101);
}

TEST_CASE("dummies: none is sealed by an SA that it was not made for") {
  Site site(with_dummies(100));
  const auto sa = site.bear_traffic(0x1000);
  const InjectedPacket how{InjectKind::dummy, PortId{0}, false, site.slot(sa), raw(sa.sa) + 1};
  const test::Result other = site.gateway.inject(test::ip_packet({}), how);
  CHECK(other.drops == std::map<DropReason, std::uint64_t>{{DropReason::no_sa, 1}});
  CHECK(other.wan.empty());
  InjectedPacket nowhere = how;
  nowhere.outbound = kNoSlot;
  CHECK(site.gateway.inject(test::ip_packet({}), nowhere).dropped(DropReason::no_sa) == 1);
  site.sad().stop(sa.sa, StopCause::hard_time);
  InjectedPacket stopped = how;
  stopped.sa = raw(sa.sa);
  CHECK(site.gateway.inject(test::ip_packet({}), stopped).dropped(DropReason::no_sa) == 1);
}

TEST_CASE("dummies: traffic beside them is none") {
  Site site(with_dummies(100));
  const auto sa = site.bear_traffic(0x1000);
  site.pass(20ms);
  // Of the main thread, in one burst with a dummy.
  const Frame bytes = test::ip_packet({.source = "10.1.0.1"});
  site.packets.originate(site.packets.make(bytes));
  const Frame dummy = test::ip_packet({.source = "198.51.100.1", .destination = "198.51.100.2"});
  site.packets.seal_dummy(site.packets.make(dummy), site.slot(sa), sa.sa);
  site.packets.originate(site.packets.make(bytes));
  const std::uint64_t before = site.sent(sa).dummies;
  const test::Result sealed = site.gateway.serve_main_thread();
  REQUIRE(sealed.wan.size() == 3);
  CHECK(site.sent(sa).dummies == before + 1);
  const test::Result arrived = site.peer.receive(kWan, sealed.wan);
  CHECK(arrived.lan.size() == 2);
  CHECK(arrived.dropped(DropReason::dummy_packet) == 1);
}

}  // namespace culvert::dataplane::control
