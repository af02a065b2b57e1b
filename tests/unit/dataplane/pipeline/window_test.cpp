// The anti-replay window beside bursts: a number is judged by those that came before it, whichever
// way through the worker its packet and the others of its burst go (RFC 4303 §3.4.3).
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/control/child_accounts.hpp"
#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ethernet.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// Sealed packets of an SA in order, numbers 1 to `count`.
std::vector<Packet> numbered(Pair& pair, std::size_t count) {
  std::vector<Packet> packets;
  const PacketOptions options{.payload = udp(5000, 4000, Packet(40, 0x42))};
  for (std::size_t i = 0; i < count; ++i) packets.push_back(pair.sealed(options));
  return packets;
}
std::vector<Packet> some_of(const std::vector<Packet>& packets, std::size_t first,
                            std::size_t last) {
  return {packets.begin() + static_cast<std::ptrdiff_t>(first - 1),
          packets.begin() + static_cast<std::ptrdiff_t>(last)};
}

SaOptions with_window(std::uint32_t window) {
  SaOptions options;
  options.window = window;
  options.esn = GENERATE(false, true);
  return options;
}

/// The same packet with a header that most have not: a router's option of no effect (RFC 791 §3.1).
Packet with_outer_option(Packet whole) {
  constexpr std::size_t kIp = wire::ethernet::kHeaderBytes;
  const Packet padding(4, 1);
  whole.insert(whole.begin() + kIp + wire::ipv4::kHeaderBytes, padding.begin(), padding.end());
  whole[kIp] = 0x46;
  wire::store_u16(&whole[kIp + wire::ipv4::kTotalLength],
                  static_cast<std::uint16_t>(whole.size() - kIp));
  wire::write_ipv4_checksum(&whole[kIp], wire::ipv4::kHeaderBytes + padding.size());
  return whole;
}

}  // namespace

TEST_CASE("window: a late packet is judged where it stands in its burst") {
  const std::uint32_t window = GENERATE(32U, 64U);
  Pair pair({}, with_window(window));
  const auto packets = numbered(pair, 50 + window);
  std::vector<Packet> in_order = some_of(packets, 1, 50);
  in_order.erase(in_order.begin() + 39);
  REQUIRE(pair.right.receive(kWan, in_order).lan.size() == 49);
  // The window takes number 40 until number 40 + its size has come: here that is in this burst.
  std::vector<Packet> burst = some_of(packets, 51, 50 + window - 2);
  burst.insert(burst.begin() + 3, packets[40 - 1]);
  burst.insert(burst.begin() + 5, packets[40 - 1]);  // and not twice
  const Result taken = pair.right.receive(kWan, burst);
  CHECK(taken.lan.size() == window - 1);
  CHECK(taken.drops == std::map<DropReason, std::uint64_t>{{DropReason::replay_duplicate, 1}});
  CHECK(pair.traffic().late.accepted[4] == 1);  // 13 behind
}

TEST_CASE("window: a late packet that others of its burst have passed by is refused and counted") {
  Pair pair({}, with_window(32));
  const auto packets = numbered(pair, 80);
  std::vector<Packet> in_order = some_of(packets, 1, 50);
  in_order.erase(in_order.begin() + 39);
  REQUIRE(pair.right.receive(kWan, in_order).lan.size() == 49);
  std::vector<Packet> burst = some_of(packets, 51, 80);
  burst.insert(burst.begin() + 22, packets[40 - 1]);  // behind number 72
  const Result result = pair.right.receive(kWan, burst);
  CHECK(result.lan.size() == 30);
  CHECK(result.drops ==
        std::map<DropReason, std::uint64_t>{{DropReason::replay_left_of_window, 1}});
  CHECK(pair.traffic().late.missed[6] == 1);  // 32 behind
}

namespace {

/// How a packet of an SA looks that is not what most are.
enum class Look : std::uint8_t { with_option, with_priority_tag, from_elsewhere, small, padded };

/// The same packet in a frame of VLAN 0, which is none (802.1Q).
Packet with_priority_tag(Packet whole) {
  const Packet tag{0x81, 0x00, 0xa0, 0x00};
  whole.insert(whole.begin() + wire::ethernet::kHeaderBytes - 2, tag.begin(), tag.end());
  return whole;
}

/// The next packet of an SA. Small ones are shorter than the short way takes them, as they are or
/// in a longer frame.
Packet next_that_looks(Pair& pair, Look look) {
  if (look == Look::small || look == Look::padded) {
    Packet whole = pair.sealed({.protocol = 99, .payload = Packet(2, 0x42)});
    if (look == Look::padded) whole.resize(128);
    return whole;
  }
  Packet whole = numbered(pair, 1).front();
  if (look == Look::with_option) return with_outer_option(whole);
  if (look == Look::with_priority_tag) return with_priority_tag(whole);
  whole[wire::ethernet::kHeaderBytes + wire::ipv4::kSource + 3] = 77;
  fix_checksum(whole);
  return whole;
}

/// None came late, so far as its SA knows.
bool none_was_late(Pair& pair) {
  const LatePackets late = pair.traffic().late;
  return late.accepted == decltype(late.accepted){} && late.missed == decltype(late.missed){};
}

}  // namespace

TEST_CASE("window: packets that look otherwise are judged in order among the others") {
  const auto look = GENERATE(Look::with_option, Look::with_priority_tag, Look::from_elsewhere,
                             Look::small, Look::padded);
  SaOptions options = with_window(32);
  const bool goes_the_short_way = GENERATE(false, true);
  if (!goes_the_short_way) {
    options.suite =
        crypto::EspSuite{crypto::Encryption::chacha20_poly1305, 256, crypto::Integrity::none};
  }
  CAPTURE(static_cast<int>(look), goes_the_short_way, options.esn);
  SECTION("where it stands") {
    const std::size_t in_front = GENERATE(0U, 1U, 2U, 20U, 59U);
    CAPTURE(in_front);
    Pair pair({}, options);
    auto packets = numbered(pair, in_front);
    packets.push_back(next_that_looks(pair, look));
    for (Packet& packet : numbered(pair, 59 - in_front)) packets.push_back(std::move(packet));
    const Result result = pair.right.receive(kWan, packets);
    CHECK(result.drops.empty());
    CHECK(result.lan.size() == packets.size());
    CHECK(none_was_late(pair));
  }
  SECTION("late, by ten") {
    Pair pair({}, options);
    const Packet late = next_that_looks(pair, look);
    auto packets = numbered(pair, 59);
    packets.insert(packets.begin() + 10, late);
    const Result result = pair.right.receive(kWan, packets);
    CHECK(result.drops.empty());
    CHECK(result.lan.size() == packets.size());
    CHECK(pair.traffic().late.accepted[4] == 1);
  }
  SECTION("among packets of another SA") {
    Pair pair({}, options);
    options.outer_local = "198.51.100.3";
    Gateway other;
    other.protect("10.1.0.0/24", "10.2.0.0/16", other.install(outbound_sa(options, 0x2041)));
    pair.right.install(inbound_sa(options, 0x2041));
    std::vector<Packet> packets;
    for (int i = 0; i < 20; ++i) {
      packets.push_back(i == 0 ? next_that_looks(pair, look) : numbered(pair, 1).front());
      packets.push_back(numbered(pair, 1).front());
      packets.push_back(other.receive(kLan, frame(ip_packet({}))).wan.at(0));
    }
    const Result result = pair.right.receive(kWan, packets);
    CHECK(result.drops.empty());
    CHECK(result.lan.size() == packets.size());
    CHECK(none_was_late(pair));
  }
}

namespace {

/// How often the gateway's worker entered the last of the general stages while it received.
std::uint64_t generally_forwarded(Gateway& gateway, const std::vector<Packet>& frames,
                                  Result& result) {
  StageClock clock;
  gateway.context().stage_clock = &clock;
  result = gateway.receive(kWan, frames);
  gateway.context().stage_clock = nullptr;
  return clock.entries(Stage::forward);
}

}  // namespace

TEST_CASE("window: a packet that came late goes the short way") {
  Pair pair({}, with_window(GENERATE(32U, 65'536U)));
  REQUIRE(pair.right.receive(kWan, numbered(pair, 3)).lan.size() == 3);  // the flow is known
  auto packets = numbered(pair, 20);
  const auto twenty = packets;
  std::swap(packets[4], packets[9]);
  Result result;
  CHECK(generally_forwarded(pair.right, packets, result) == 0);
  CHECK(result.drops.empty());
  CHECK(result.lan.size() == 20);
  const LatePackets late = pair.traffic().late;
  // Behind the tenth come four by 4, 3, 2 and 1, and the fifth by 5.
  CHECK(late.accepted[1] == 1);
  CHECK(late.accepted[2] == 2);
  CHECK(late.accepted[3] == 2);
  CHECK(pair.traffic().packets == 23);
  // Nothing is forgotten of it.
  CHECK(pair.right.receive(kWan, twenty).dropped(DropReason::replay_duplicate) == 20);
}

TEST_CASE("window: without one, numbers that come again go the short way and are not late") {
  Pair pair({}, with_window(0));
  auto packets = numbered(pair, 20);
  REQUIRE(pair.right.receive(kWan, packets).lan.size() == 20);
  std::swap(packets[4], packets[9]);
  packets.push_back(packets[3]);
  for (int round = 1; round <= 3; ++round) {
    CAPTURE(round, pair.options.esn);
    Result result;
    CHECK(generally_forwarded(pair.right, packets, result) == 0);
    CHECK(result.drops.empty());
    CHECK(result.lan.size() == 21);
  }
  CHECK(pair.traffic().packets == 20 + 3 * 21);
  CHECK(none_was_late(pair));
}

TEST_CASE("window: what looks otherwise takes none of its SA with it") {
  const auto look = GENERATE(Look::with_option, Look::with_priority_tag, Look::from_elsewhere,
                             Look::small, Look::padded);
  CAPTURE(static_cast<int>(look));
  Pair pair({}, with_window(32));
  REQUIRE(pair.right.receive(kWan, numbered(pair, 3)).lan.size() == 3);
  SECTION("a forgery") {
    Packet forged = next_that_looks(pair, look);
    forged[wire::ethernet::kHeaderBytes + wire::ipv4::kHeaderBytes + 20] ^= 1;  // behind the IV
    auto packets = numbered(pair, 20);
    const std::size_t in_front = GENERATE(0U, 10U, 20U);
    packets.insert(packets.begin() + static_cast<std::ptrdiff_t>(in_front), forged);
    Result result;
    CHECK(generally_forwarded(pair.right, packets, result) == 0);
    CHECK(result.lan.size() == 20);
    CHECK(result.drops == std::map<DropReason, std::uint64_t>{{DropReason::icv_mismatch, 1}});
    CHECK(none_was_late(pair));
  }
  SECTION("a replay") {
    const Packet odd = next_that_looks(pair, look);
    REQUIRE(pair.right.receive(kWan, odd).lan.size() == 1);
    auto packets = numbered(pair, 20);
    packets.insert(packets.begin() + 7, odd);
    Result result;
    CHECK(generally_forwarded(pair.right, packets, result) == 0);
    CHECK(result.lan.size() == 20);
    CHECK(result.drops == std::map<DropReason, std::uint64_t>{{DropReason::replay_duplicate, 1}});
  }
}

namespace {

/// Whether a window of so many packets takes one that comes so far behind the highest.
bool takes(std::uint32_t packets, std::uint32_t distance) {
  std::uint64_t highest = 1'000'000;
  std::uint32_t newest = 0;
  std::vector<ReplayWord> words(replay_words(packets));
  const ReplayWindow window(highest, newest, words.data(), packets, replay_words(packets) - 1);
  return window.check(highest - distance) == ReplayVerdict::fresh;
}

/// After one packet that came so late, taken or not.
std::uint32_t advised_after(std::uint32_t distance, bool is_missed) {
  InboundDetails details;
  details.count_late(distance, is_missed);
  SaTraffic traffic;
  for (std::size_t bucket = 0; bucket < kLateBuckets; ++bucket) {
    traffic.late.accepted[bucket] = details.late[bucket];
    traffic.late.missed[bucket] = details.missed[bucket];
  }
  control::ChildTotals totals;
  totals.add(traffic);
  return control::advised_window(totals);
}

}  // namespace

TEST_CASE("window: the advised one is the smallest that there is and that takes what came late") {
  CHECK(control::advised_window({}) == 0);
  // Windows are powers of two, and so are the bounds of what is counted: it needs no more.
  for (std::uint32_t packets = channel::kMinReplayWindow; packets <= channel::kMaxReplayWindow;
       packets *= 2) {
    for (const bool is_missed : {false, true}) {
      for (const std::uint32_t distance : {packets / 2, packets / 2 + 1, packets - 1}) {
        const std::uint32_t advised = advised_after(distance, is_missed);
        CAPTURE(distance, advised);
        CHECK(advised == packets);
        CHECK(takes(advised, distance));
        if (advised > channel::kMinReplayWindow) CHECK_FALSE(takes(advised / 2, distance));
      }
    }
  }
  CHECK(advised_after(1, false) == channel::kMinReplayWindow);
  // Nothing takes what came later than this.
  CHECK(advised_after(channel::kMaxReplayWindow, true) == channel::kMaxReplayWindow);
  CHECK(advised_after(~0U, true) == channel::kMaxReplayWindow);
}
