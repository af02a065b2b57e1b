// ESP in IPv6, and IPv6 in ESP, on the short way inbound. What comes of a burst must be what comes
// of its packets on the general way, one by one: there they have an option or an extension header
// in front of ESP, which says nothing.
#include <algorithm>
#include <functional>
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

constexpr std::size_t kOuterAt = 14;

/// With four bytes of options, or eight of an extension header.
Packet on_general_way(Packet whole) {
  if (whole.size() < kOuterAt + 40) return whole;
  if (whole[kOuterAt] == 0x45) {
    const std::uint16_t total = wire::load_u16(&whole[kOuterAt + 2]);
    whole.insert(whole.begin() + kOuterAt + 20, 4, 1);
    whole[kOuterAt] = 0x46;
    wire::store_u16(&whole[kOuterAt + 2], static_cast<std::uint16_t>(total + 4));
    wire::write_ipv4_checksum(&whole[kOuterAt], 24);
  } else if (whole[kOuterAt] >> 4U == 6) {
    const Packet padding{whole[kOuterAt + 6], 0, 1, 4, 0, 0, 0, 0};
    const std::uint16_t payload = wire::load_u16(&whole[kOuterAt + 4]);
    whole.insert(whole.begin() + kOuterAt + 40, padding.begin(), padding.end());
    whole[kOuterAt + 6] = wire::ipv6::kDestinationOptions;
    wire::store_u16(&whole[kOuterAt + 4], static_cast<std::uint16_t>(payload + 8));
  }
  return whole;
}

/// A sender of both families, the gateway that is asked, and one that goes the general way.
struct Arriving {
  explicit Arriving(bool outer_v6, bool esn = false) {
    SaOptions options = with_families(outer_v6, false);
    options.esn = esn;
    options.window = 1024;
    options.local_selectors = {"10.1.0.0/24", "2001:db8:1::/64"};
    options.remote_selectors = {"10.2.0.0/16", "2001:db8:2::/64"};
    const SlotIndex slot = left.install(outbound_sa(options));
    // More than the receiver's SA takes.
    left.protect("10.0.0.0/8", "10.2.0.0/16", slot);
    left.protect("2001:db8::/32", "2001:db8:2::/64", slot);
    for (Gateway* gateway : {&shorter, &general}) {
      const auto in = inbound_sa(options);
      gateway->install(in);
      ids.push_back(in.sa);
      gateway->policy(PolicyAction::bypass, "10.2.0.0/16", "10.0.0.0/8");
      gateway->policy(PolicyAction::bypass, "2001:db8:2::/64", "2001:db8::/32");
    }
    esp_at = kOuterAt + (outer_v6 ? 40U : 20U);
  }
  Packet sealed(const Packet& ip) {
    Packet whole = left.receive(kLan, frame(ip)).wan.at(0);
    return whole;
  }
  /// The same must come of both.
  void expect_same(const std::vector<Packet>& packets) {
    Result at_once = shorter.receive(kWan, packets), sum;
    for (const Packet& packet : packets) {
      const Result one = general.receive(kWan, on_general_way(packet));
      CHECK_FALSE((one.lan.size() == 1 && general.worker().went_the_short_way));
      sum.lan.insert(sum.lan.end(), one.lan.begin(), one.lan.end());
      sum.punts.insert(sum.punts.end(), one.punts.begin(), one.punts.end());
      for (const auto& [reason, count] : one.drops) sum.drops[reason] += count;
    }
    for (Result* result : {&at_once, &sum}) {
      // The main thread is shown one of an unknown SPI from time to time, and counts it.
      result->drops[DropReason::sa_not_found] += std::erase_if(result->punts, [](const Punt& punt) {
        return punt.what.reason == PuntReason::unknown_spi;
      });
    }
    std::ranges::sort(at_once.lan);
    std::ranges::sort(sum.lan);
    CHECK(at_once.lan == sum.lan);
    CHECK(at_once.punts.size() == sum.punts.size());
    CHECK(at_once.drops == sum.drops);
    const SaTraffic mine = traffic(shorter, ids[0]), theirs = traffic(general, ids[1]);
    CHECK(mine.packets == theirs.packets);
    CHECK(mine.bytes == theirs.bytes);
    CHECK(mine.sequence == theirs.sequence);
    CHECK(mine.drops == theirs.drops);
    CHECK(mine.ecn_alarms == theirs.ecn_alarms);
    CHECK(mine.late.missed == theirs.late.missed);
  }
  static SaTraffic traffic(Gateway& gateway, channel::SaId id) {
    return gateway.tables().sad->traffic(*gateway.tables().sad->find(id));
  }

  Gateway left, shorter{mirrored()}, general{mirrored()};
  std::vector<channel::SaId> ids;
  std::size_t esp_at = 0;
};

/// What is inside of a packet of a tunnel: what most are, and the rest.
Packet any_inside(std::mt19937& random, bool v6) {
  const auto below = [&](std::size_t limit) { return random() % limit; };
  PacketOptions options = from_client(v6, below(8) == 0 ? 600 + below(600) : below(70));
  options.traffic_class = static_cast<std::uint8_t>(below(2) == 0 ? 0 : below(256));
  switch (below(24)) {
    case 0:
      return echo_request(options.source, options.destination);
    case 1:  // not of the receiver's selectors
      options.source = v6 ? "2001:db8:7::9" : "10.7.0.9";
      break;
    case 2:
      options.protocol = 47;
      options.payload.resize(below(6));
      break;
    case 3:
      options.protocol = 6;
      options.payload = udp(5000, 4000, Packet(12, 0));
      options.payload[12] = 0x50;
      options.payload[13] = below(2) == 0 ? 0x02 : 0x10;
      break;
    case 4:
      if (v6) return behind_extension(ip_packet(options), 0, {0, 0, 1, 4, 0, 0, 0, 0});
      options.fragment = 0x2000;
      break;
    case 5:
      if (v6) return behind_extension(ip_packet(options), 44, {0, 0, 0, 1, 0, 0, 0, 7});
      break;
    default:
      break;
  }
  return ip_packet(options);
}

/// A frame on its way; the outer checksum is kept right.
void change(Packet& whole, std::mt19937& random, std::size_t esp_at) {
  const auto below = [&](std::size_t limit) { return random() % limit; };
  std::uint8_t* const ip = &whole[kOuterAt];
  const bool v6 = ip[0] >> 4U == 6;
  switch (below(14)) {
    case 0:
      whole.back() ^= 1;  // forged
      break;
    case 1:
      whole[esp_at + 1] ^= 1;  // of another SPI
      break;
    case 2:
      whole[esp_at + 8] ^= 1;  // of another IV
      break;
    case 3:
      whole[5] ^= 1;  // to another MAC
      break;
    case 4:
      whole[9] ^= 1;  // from another MAC
      break;
    case 5:
      ip[v6 ? 7 : 8] = 9;  // hops
      break;
    case 6:
      ip[v6 ? 3 : 5] ^= 0x5a;  // flow label, identification
      break;
    case 7:  // ECN
      v6 ? ip[1] ^= static_cast<std::uint8_t>(below(4) << 4U)
         : ip[1] ^= static_cast<std::uint8_t>(below(4));
      break;
    case 8:
      ip[v6 ? 1 : 1] ^= 0x40;  // DSCP
      break;
    case 9:
      wire::store_u16(
          ip + (v6 ? 4 : 2),
          static_cast<std::uint16_t>(wire::load_u16(ip + (v6 ? 4 : 2)) - (below(2) == 0 ? 4 : 2)));
      break;
    case 10:
      whole.resize(whole.size() - 1 - below(30));
      break;
    case 11:
      whole.insert(whole.end(), 9, 0);
      break;
    case 12:
      ip[v6 ? 23 : 15] ^= 1;  // from another address
      break;
    default:
      ip[v6 ? 39 : 19] ^= 9;  // to another address
      break;
  }
  fix_checksum(whole);
}

}  // namespace

TEST_CASE("known IPv6 inbound: what most packets are goes the short way, of either family") {
  const bool outer_v6 = GENERATE(false, true), inner_v6 = GENERATE(false, true);
  Arriving arriving(outer_v6, GENERATE(false, true));
  for (int burst = 0; burst < 3; ++burst) {
    std::vector<Packet> packets;
    for (std::size_t n = 0; n < 20; ++n) {
      packets.push_back(arriving.sealed(ip_packet(from_client(inner_v6, n))));
    }
    arriving.expect_same(packets);
    CHECK(arriving.shorter.worker().went_the_short_way);
  }
  const SaTraffic mine = Arriving::traffic(arriving.shorter, arriving.ids[0]);
  CHECK(mine.packets == 60);
  CHECK(mine.late.accepted == LatePackets{}.accepted);
}

TEST_CASE("known IPv6 inbound: bursts of everything end as its packets do one by one") {
  const auto seed = random_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  Arriving arriving(GENERATE(false, true), GENERATE(false, true));
  std::vector<Packet> before;
  std::size_t short_bursts = 0;
  for (int round = 0; round < 150; ++round) {
    std::vector<Packet> burst;
    const std::size_t size = 1 + random() % 60;
    bool v6 = true;
    while (burst.size() < size) {
      if (random() % 6 == 0) v6 = !v6;
      before.push_back(arriving.sealed(any_inside(random, v6)));
      burst.push_back(before.back());
      if (random() % 20 == 0) change(burst.back(), random, arriving.esp_at);
      if (random() % 20 == 0) {
        burst.back() =
            before[before.size() - 1 - random() % std::min<std::size_t>(before.size(), 40)];
      }
    }
    arriving.expect_same(burst);
    short_bursts += arriving.shorter.worker().went_the_short_way;
  }
  CHECK(short_bursts > 10);
}

TEST_CASE("known IPv6 inbound: packets of one family leave in order, whatever is between them") {
  Arriving arriving(true);
  std::vector<Packet> packets;
  for (std::uint8_t n = 0; n < 60; ++n) {
    PacketOptions options = from_client(n % 5 < 3, 0);
    options.payload = udp(5000, 4000, Packet(20U + n % 7, n));
    packets.push_back(arriving.sealed(ip_packet(options)));
  }
  for (const std::size_t count : {1U, 59U}) {
    const std::vector<Packet> burst(packets.begin(), packets.begin() + std::ptrdiff_t(count));
    packets.erase(packets.begin(), packets.begin() + std::ptrdiff_t(count));
    const Result opened = arriving.shorter.receive(kWan, burst);
    CHECK(opened.drops.empty());
    REQUIRE(opened.lan.size() == count);
    for (const bool v6 : {false, true}) {
      std::vector<std::uint8_t> numbers;
      for (const Packet& one : opened.lan) {
        if ((one[12] == 0x86) == v6) numbers.push_back(one.back());
      }
      CHECK(std::ranges::is_sorted(numbers));
    }
  }
}

TEST_CASE("known IPv6 inbound: an SA of one family passes no packet of the other (RFC 4301 §5.2)") {
  const bool has_v6 = GENERATE(false, true), outer_v6 = GENERATE(false, true);
  const SaOptions options = with_families(outer_v6, has_v6);
  Gateway left, right(mirrored());
  const SlotIndex slot = left.install(outbound_sa(options));
  left.protect("10.1.0.0/24", "10.2.0.0/16", slot);
  left.protect("2001:db8:1::/64", "2001:db8:2::/64", slot);
  right.install(inbound_sa(options));
  right.policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
  right.policy(PolicyAction::bypass, "2001:db8:2::/64", "2001:db8:1::/64");
  for (int time = 0; time < 2; ++time) {
    std::vector<Packet> packets;
    for (const bool v6 : {false, true, true, false, true}) {
      packets.push_back(left.receive(kLan, frame(ip_packet(from_client(v6, 9)))).wan.at(0));
    }
    const Result opened = right.receive(kWan, packets);
    CHECK(opened.lan.size() == (has_v6 ? 3 : 2));
    CHECK(opened.dropped(DropReason::inner_selector_mismatch) == (has_v6 ? 2 : 3));
    for (const Packet& one : opened.lan) CHECK((one[12] == 0x86) == has_v6);
  }
}

TEST_CASE("known IPv6 inbound: a hard lifetime lets not one packet more through, nor fewer") {
  SaOptions options = with_families(true, true);
  const SaOptions unlimited = options;
  SECTION("bytes") { options.lifetime.hard_bytes = 10 * 57 + 56; }
  SECTION("packets") { options.lifetime.hard_packets = 10; }
  Gateway left, right(mirrored());
  left.protect("2001:db8:1::/64", "2001:db8:2::/64", left.install(outbound_sa(unlimited)));
  right.install(inbound_sa(options));
  right.policy(PolicyAction::bypass, "2001:db8:2::/64", "2001:db8:1::/64");
  std::size_t passed = 0;
  std::uint64_t refused = 0;
  for (int burst = 0; burst < 4; ++burst) {
    std::vector<Packet> packets;
    for (int n = 0; n < 4; ++n) {
      packets.push_back(left.receive(kLan, frame(ip_packet(from_client(true, 9)))).wan.at(0));
    }
    const Result opened = right.receive(kWan, packets);
    passed += opened.lan.size();
    refused += opened.dropped(DropReason::sa_expired);
  }
  CHECK(passed == 10);
  CHECK(refused == 6);
}
