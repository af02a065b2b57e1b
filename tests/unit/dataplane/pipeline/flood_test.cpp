// Packets of a flood end on the short way of inbound packets. What is counted must not tell: here
// they meet the general way too, one by one, by an option in their outer header.
#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using enum DropReason;

/// The frame with four bytes of IPv4 options that say nothing: not for the short way.
Packet with_options(const Packet& plain) {
  Packet whole = plain;
  whole.insert(whole.begin() + 34, 4, 1);
  whole[14] = 0x46;
  wire::store_u16(&whole[16], static_cast<std::uint16_t>(whole.size() - 14));
  wire::write_ipv4_checksum(&whole[14], 24);
  return whole;
}

Packet spoilt(Packet sealed) {
  sealed.at(sealed.size() - 1) ^= 1;
  return sealed;
}
Packet with_spi(Packet sealed, std::uint32_t spi, std::size_t esp_at) {
  wire::store_u32(&sealed[esp_at], spi);
  return sealed;
}

void add(std::map<DropReason, std::uint64_t>& sum, const Result& result) {
  for (const auto& [reason, packets] : result.drops) sum[reason] += packets;
  // The main thread counts what it is shown.
  for (const Punt& punt : result.punts) {
    if (punt.what.reason == PuntReason::unknown_spi) ++sum[sa_not_found];
  }
}

/// A sender, the gateway that is asked, and one with the same SA that goes the general way.
struct Flooded {
  explicit Flooded(const SaOptions& given) : options(given) {
    const auto out = outbound_sa(options);
    left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(out));
    for (Gateway* gateway : {&shorter, &general}) {
      in = inbound_sa(options);
      gateway->install(in);
      ids.push_back(in.sa);
      gateway->policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
    }
    esp_at = options.udp ? 42 : 34;
  }
  Packet sealed() {
    const Packet clear = ip_packet({.payload = udp(5000, 4000, Packet(40, 0x42))});
    return left.receive(kLan, frame(clear)).wan.at(0);
  }
  /// All in one burst, and one after the other the general way: the same must come of both.
  void expect_same(const std::vector<Packet>& packets) {
    const Result at_once = shorter.receive(kWan, packets);
    std::map<DropReason, std::uint64_t> short_drops, general_drops;
    add(short_drops, at_once);
    std::size_t passed = 0;
    for (const Packet& packet : packets) {
      const Result one = general.receive(kWan, with_options(packet));
      add(general_drops, one);
      passed += one.lan.size();
    }
    CHECK(short_drops == general_drops);
    CHECK(at_once.lan.size() == passed);
    const SaTraffic mine = traffic(shorter, ids[0]), theirs = traffic(general, ids[1]);
    CHECK(mine.drops == theirs.drops);
    CHECK(mine.packets == theirs.packets);
    CHECK(mine.bytes == theirs.bytes);
    CHECK(mine.sequence == theirs.sequence);
    CHECK(mine.late.missed == theirs.late.missed);
  }
  static SaTraffic traffic(Gateway& gateway, channel::SaId id) {
    return gateway.tables().sad->traffic(*gateway.tables().sad->find(id));
  }
  std::uint64_t dropped(DropReason reason) {
    return traffic(shorter, ids[0]).drops[static_cast<std::size_t>(reason)];
  }

  SaOptions options;
  Gateway left, shorter{mirrored()}, general{mirrored()};
  channel::InstallSa in;
  std::vector<channel::SaId> ids;
  std::size_t esp_at;
};

SaOptions any_shape() {
  SaOptions options;
  options.esn = GENERATE(false, true);
  options.udp = GENERATE(false, true);
  options.window = GENERATE(64U, 1024U);
  return options;
}

}  // namespace

TEST_CASE("flood: replays are refused and counted as on the general way (RFC 4303 §3.4.3)") {
  Flooded flooded(any_shape());
  const Packet first = flooded.sealed(), second = flooded.sealed();
  flooded.expect_same({first, first, first, second, first, second});
  flooded.expect_same({second, first, flooded.sealed(), first});
  CHECK(flooded.dropped(replay_duplicate) == 7);
  CHECK(flooded.dropped(icv_mismatch) == 0);
}

TEST_CASE("flood: what is left of the window is refused and remembered by its distance") {
  Flooded flooded(any_shape());
  const Packet old = flooded.sealed();
  std::vector<Packet> others;
  for (int n = 0; n < 1100; ++n) others.push_back(flooded.sealed());
  flooded.expect_same({others.back(), old, old, others[900], others[1000]});
  // With ESN it might be one of the next 2^32 (RFC 4303 appendix A2.2): its ICV denies that.
  const auto refused = flooded.options.esn ? icv_mismatch : replay_left_of_window;
  CHECK(flooded.dropped(refused) >= 2);
  const auto missed = Flooded::traffic(flooded.shorter, flooded.ids[0]).late.missed;
  CHECK(missed[11] == 2);  // 1100 packets late
}

TEST_CASE("flood: forgeries are refused, and do not hold back or refuse what is real") {
  Flooded flooded(any_shape());
  const Packet real = flooded.sealed(), next = flooded.sealed();
  flooded.expect_same({spoilt(real), spoilt(real), real, spoilt(next), next, real, next});
  CHECK(flooded.dropped(icv_mismatch) == 3);
  CHECK(flooded.dropped(replay_duplicate) == 2);
}

TEST_CASE("flood: a forgery with a number that was verified in its burst is a replay, as later") {
  Flooded flooded(any_shape());
  const Packet real = flooded.sealed();
  flooded.expect_same({real, spoilt(real), spoilt(real)});
  CHECK(flooded.dropped(replay_duplicate) == 2);
}

TEST_CASE("flood: SPIs of nobody end here but for a hint (RFC 4303 §3.4.2)") {
  const SaOptions options = any_shape();
  Flooded flooded(options);
  std::vector<Packet> strangers;
  for (std::uint32_t n = 1; n <= 20; ++n) {
    // In the SA's place, and in others.
    const std::uint32_t spi = n % 2 == 0 ? 0x1000 + (n << 10U) : 0x7000 + n;
    strangers.push_back(with_spi(flooded.sealed(), spi, flooded.esp_at));
  }
  const Result result = flooded.shorter.receive(kWan, strangers);
  REQUIRE(result.punts.size() == 1);
  CHECK(result.punts[0].what.reason == PuntReason::unknown_spi);
  CHECK(result.punts[0].what.received_on == kWan);
  CHECK(result.punts[0].bytes.size() == strangers[0].size());
  CHECK(result.drops == std::map<DropReason, std::uint64_t>{{sa_not_found, 19}});
  CHECK(result.lan.empty());
  flooded.expect_same(strangers);
}

TEST_CASE("flood: an SPI of nobody is no end for what is in transit, IKE, or a displaced SA's") {
  SaOptions options;
  options.udp = GENERATE(false, true);
  Flooded flooded(options);
  SECTION("in transit") {
    Packet packet = with_spi(flooded.sealed(), 0x77777777, flooded.esp_at);
    wire::store_u32(&packet[14 + 16], 0xc6336409);  // 198.51.100.9
    fix_checksum(packet);
    const Result result = flooded.shorter.receive(kWan, packet);
    CHECK(result.dropped(sa_not_found) == 0);
    CHECK(result.punts.empty());
  }
  SECTION("zero: the marker of IKE in UDP (RFC 3948 §2.2), an SPI of nobody else") {
    const Result result =
        flooded.shorter.receive(kWan, with_spi(flooded.sealed(), 0, flooded.esp_at));
    REQUIRE(result.punts.size() == 1);
    CHECK(result.punts[0].what.reason ==
          (options.udp ? PuntReason::ike_newcomer : PuntReason::unknown_spi));
  }
  SECTION("an SA whose place was taken") {
    Gateway sender;
    sender.protect("10.1.0.0/24", "10.2.0.0/16", sender.install(outbound_sa(options, 0x1400)));
    flooded.shorter.install(inbound_sa(options, 0x1400));
    REQUIRE(flooded.shorter.tables().sad->has_displaced());
    const Packet clear = ip_packet({.payload = udp(5000, 4000, Packet(40, 0x42))});
    const Packet packet = sender.receive(kLan, frame(clear)).wan.at(0);
    const Packet stranger = with_spi(packet, 0x1800, flooded.esp_at);
    const Result result = flooded.shorter.receive(kWan, {stranger, packet, stranger});
    CHECK(result.lan.size() == 1);
    CHECK(result.dropped(sa_not_found) + result.punts.size() == 2);
  }
}

TEST_CASE("flood: no SPI finds the place of an SA that has gone") {
  SaOptions options;
  const bool is_v6 = GENERATE(false, true);
  if (is_v6) {
    options.outer_local = "2001:db8:ff::1";
    options.outer_remote = "2001:db8:ff::2";
  }
  options.udp = !is_v6 && GENERATE(false, true);
  const bool is_reclaimed = GENERATE(false, true);
  Pair pair({}, options);
  Sad& sad = *pair.right.tables().sad;
  const Packet first = pair.sealed(), second = pair.sealed();
  CHECK(pair.right.receive(kWan, first).lan.size() == 1);
  // In the first place, where packets with the marker of IKE (RFC 3948 §2.2) are looked for, too.
  REQUIRE(raw(sad.find(pair.in_id)->slot) == 0);
  REQUIRE(sad.remove(pair.in_id) == channel::Outcome::ok);
  if (is_reclaimed) pair.right.tables().reclaimer->drain();
  const std::size_t esp_at = is_v6 ? 54 : options.udp ? 42 : 34;
  for (const std::uint32_t spi : {0U, 1U, 0x1000U}) {
    const Packet packet = with_spi(second, spi, esp_at);
    const Result result = pair.right.receive(kWan, packet);
    CHECK(result.lan.empty());
    CHECK(result.dropped(icv_mismatch) == 0);
    CHECK(result.dropped(sa_not_found) + result.punts.size() == 1);
    if (spi == 0 && options.udp) {
      REQUIRE(result.punts.size() == 1);
      CHECK(result.punts[0].what.reason == PuntReason::ike_newcomer);
      // As it came: nobody has decrypted it.
      CHECK(result.punts[0].bytes == packet);
    }
  }
}

TEST_CASE("flood: IPv6 outside goes the general way, with the same bounds") {
  SaOptions options;
  options.outer_local = "2001:db8:ff::1";
  options.outer_remote = "2001:db8:ff::2";
  Pair pair({}, options);
  const Packet real = pair.sealed();
  std::vector<Packet> strangers(5, with_spi(real, 0x01234567, 14 + 40));
  const Result lost = pair.right.receive(kWan, strangers);
  CHECK(lost.punts.size() == 1);
  CHECK(lost.dropped(sa_not_found) == 4);
  CHECK(pair.right.receive(kWan, spoilt(real)).dropped(icv_mismatch) == 1);
  CHECK(pair.right.receive(kWan, real).lan.size() == 1);
  CHECK(pair.right.receive(kWan, real).dropped(replay_duplicate) == 1);
}

TEST_CASE("flood: bursts of everything at once") {
  SaOptions options = any_shape();
  options.window = 1024;
  const auto seed = random_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&](std::size_t limit) { return random() % limit; };
  Flooded flooded(options);
  std::vector<Packet> before{flooded.sealed()};
  for (int round = 0; round < 30; ++round) {
    std::vector<Packet> burst;
    const std::size_t size = 1 + below(60);
    while (burst.size() < size) {
      switch (below(6)) {
        case 0:
        case 1:
          before.push_back(flooded.sealed());
          burst.push_back(before.back());
          break;
        case 2:  // the newest again, or one of before
          burst.push_back(below(2) == 0 ? before.back() : before[below(before.size())]);
          break;
        case 3:
          burst.push_back(
              with_spi(flooded.sealed(), 0x9000 + (random() & 0xffffU), flooded.esp_at));
          break;
        case 4:  // of a number that never comes
          burst.push_back(spoilt(flooded.sealed()));
          break;
        default: {  // not for the short way at all
          Packet cut = flooded.sealed();
          cut.resize(cut.size() - 2);
          wire::store_u16(&cut[16], static_cast<std::uint16_t>(cut.size() - 14));
          fix_checksum(cut);
          burst.push_back(cut);
        }
      }
    }
    flooded.expect_same(burst);
  }
}
