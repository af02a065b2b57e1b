// Frames of one SA one after another are a train: behind the second, only what tells them apart is
// looked at. What comes of a burst must be what comes of its frames one by one.
#include <algorithm>
#include <functional>
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/ecn.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

constexpr std::size_t kIpAt = 14;

struct Change {
  const char* what;
  std::function<void(Packet&)> make;
  bool keeps_checksum = false;
  /// Such a packet is looked at behind the others of its burst: they are higher then.
  bool comes_late = false;
  /// Whether its number is left of the window may depend on that.
  bool has_any_number = false;
};

const std::vector<Change>& changes() {
  static const std::vector<Change> all{
      {"to another MAC", [](Packet& f) { f[5] ^= 1; }},
      {"from another MAC", [](Packet& f) { f[7] ^= 1; }},
      {"from another MAC, its end", [](Packet& f) { f[11] ^= 1; }},
      {"of another ethertype", [](Packet& f) { wire::store_u16(&f[12], 0x88cc); }},
      {"not of version 4", [](Packet& f) { f[kIpAt] = 0x65; }},
      {"with a short header", [](Packet& f) { f[kIpAt] = 0x44; }},
      {"of another class", [](Packet& f) { f[kIpAt + 1] = 0xb8; }},
      {"with congestion that its sender cannot be told of", [](Packet& f) { f[kIpAt + 1] = 3; },
       false, true},
      {"of another class, with congestion", [](Packet& f) { f[kIpAt + 1] = 0xbb; }, false, true},
      {"longer than its frame", [](Packet& f) { f[kIpAt + 2] = 0x05; }},
      {"shorter by four", [](Packet& f) { f[kIpAt + 3] -= 4; }},
      {"of a length that is no multiple of four", [](Packet& f) { f[kIpAt + 3] -= 2; }},
      {"with no room for ESP", [](Packet& f) { wire::store_u16(&f[kIpAt + 2], 24); }},
      {"of no length", [](Packet& f) { wire::store_u16(&f[kIpAt + 2], 0); }},
      {"of another identification", [](Packet& f) { f[kIpAt + 4] ^= 0x5a; }},
      {"that may be fragmented", [](Packet& f) { f[kIpAt + 6] ^= 0x40; }},
      {"with more fragments", [](Packet& f) { f[kIpAt + 6] |= 0x20; }},
      {"at an offset", [](Packet& f) { f[kIpAt + 7] = 8; }},
      {"of another TTL", [](Packet& f) { f[kIpAt + 8] = 9; }},
      {"of another protocol", [](Packet& f) { f[kIpAt + 9] = 17; }},
      {"with a wrong checksum", [](Packet& f) { f[kIpAt + 10] ^= 1; }, true},
      {"with a wrong identification", [](Packet& f) { f[kIpAt + 5] ^= 1; }, true},
      {"with a wrong length", [](Packet& f) { f[kIpAt + 3] -= 4; }, true},
      {"from another address", [](Packet& f) { f[kIpAt + 15] ^= 1; }, false, true},
      {"to another address", [](Packet& f) { f[kIpAt + 19] ^= 9; }},
      {"of another SPI", [](Packet& f) { f[kIpAt + 21] ^= 1; }},
      {"of a number that was", [](Packet& f) { f[kIpAt + 27] = 1; }, false, false, true},
      {"of a number far ahead", [](Packet& f) { f[kIpAt + 26] = 7; }, false, false, true},
      {"forged", [](Packet& f) { f.back() ^= 1; }},
      {"cut off", [](Packet& f) { f.resize(f.size() - 8); }},
      {"cut off in its header", [](Packet& f) { f.resize(kIpAt + 22); }},
      {"with bytes behind it", [](Packet& f) { f.insert(f.end(), 12, 0); }},
  };
  return all;
}

Packet changed(Packet frame, const Change& change) {
  change.make(frame);
  const bool has_header = frame.size() >= kIpAt + 20 && frame[kIpAt] == 0x45;
  if (!change.keeps_checksum && has_header) fix_checksum(frame);
  return frame;
}

/// A sender and two gateways with the same SA.
struct Trains {
  explicit Trains(const SaOptions& given) : options(given) {
    left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(options)));
    for (Gateway* gateway : {&at_once, &one_by_one}) {
      const auto in = inbound_sa(options);
      gateway->install(in);
      ids.push_back(in.sa);
      gateway->policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
    }
  }
  Packet sealed(std::size_t payload = 40) {
    const Packet clear = ip_packet({.payload = udp(5000, 4000, Packet(payload, 0x42))});
    return left.receive(kLan, frame(clear)).wan.at(0);
  }
  void expect_same(const std::vector<Packet>& burst, bool has_late = false) {
    Result whole = at_once.receive(kWan, burst), sum;
    for (const Packet& frame : burst) {
      const Result one = one_by_one.receive(kWan, frame);
      sum.lan.insert(sum.lan.end(), one.lan.begin(), one.lan.end());
      sum.punts.insert(sum.punts.end(), one.punts.begin(), one.punts.end());
      for (const auto& [reason, packets] : one.drops) sum.drops[reason] += packets;
    }
    for (Result* result : {&whole, &sum}) {
      // The main thread is shown one of an unknown SPI from time to time, and counts it.
      result->drops[DropReason::sa_not_found] += std::erase_if(result->punts, [](const Punt& punt) {
        return punt.what.reason == PuntReason::unknown_spi;
      });
    }
    std::ranges::sort(whole.lan);
    std::ranges::sort(sum.lan);
    CHECK(whole.lan == sum.lan);
    CHECK(whole.punts.size() == sum.punts.size());
    CHECK(whole.drops == sum.drops);
    const SaTraffic mine = traffic(at_once, ids[0]), theirs = traffic(one_by_one, ids[1]);
    CHECK(mine.packets == theirs.packets);
    CHECK(mine.bytes == theirs.bytes);
    CHECK(mine.sequence == theirs.sequence);
    CHECK(mine.drops == theirs.drops);
    if (!has_late) CHECK(mine.late.accepted == theirs.late.accepted);
    CHECK(mine.late.missed == theirs.late.missed);
  }
  static SaTraffic traffic(Gateway& gateway, channel::SaId id) {
    return gateway.tables().sad->traffic(*gateway.tables().sad->find(id));
  }

  SaOptions options;
  Gateway left, at_once{mirrored()}, one_by_one{mirrored()};
  std::vector<channel::SaId> ids;
};

}  // namespace

TEST_CASE("train: whatever one frame is, it and those around it end as they would alone") {
  SaOptions options;
  options.esn = GENERATE(false, true);
  const std::size_t where = GENERATE(0U, 1U, 2U, 4U, 7U);
  Trains trains(options);
  trains.expect_same({trains.sealed()});  // its flow is known
  bool has_late = false;
  for (const Change& change : changes()) {
    INFO("frame " << where << " is " << change.what);
    has_late |= change.comes_late;
    std::vector<Packet> burst;
    for (std::size_t n = 0; n < 8; ++n) {
      burst.push_back(trains.sealed(40 + n));
      if (n == where) burst.back() = changed(burst.back(), change);
    }
    trains.expect_same(burst, has_late);
    trains.expect_same({trains.sealed(), trains.sealed(), trains.sealed()}, has_late);
  }
}

TEST_CASE("train: bursts of trains, with anything between them") {
  const auto seed = random_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  SaOptions options;
  options.esn = GENERATE(false, true);
  options.window = 1024;
  Trains trains(options);
  std::vector<Packet> before{trains.sealed()};
  for (int round = 0; round < 200; ++round) {
    std::vector<Packet> burst;
    const std::size_t size = 1 + random() % 60;
    while (burst.size() < size) {
      const std::size_t run = 1 + random() % 12;
      for (std::size_t n = 0; n < run && burst.size() < size; ++n) {
        before.push_back(trains.sealed(random() % 200));
        burst.push_back(before.back());
      }
      if (burst.size() == size) break;
      switch (random() % 3) {
        case 0:  // again
          burst.push_back(
              before[before.size() - 1 - random() % std::min<std::size_t>(before.size(), 40)]);
          break;
        default: {
          const Change& change = changes()[random() % changes().size()];
          if (!change.has_any_number) burst.push_back(changed(trains.sealed(), change));
        }
      }
    }
    trains.expect_same(burst, true);
  }
}

TEST_CASE(
    "train: packets of a flow stay in order whatever they tell of congestion (RFC 6040 §4.2)") {
  SaOptions options;
  options.esn = GENERATE(false, true);
  options.udp = GENERATE(false, true);
  Trains trains(options);
  const auto sealed = [&](std::uint8_t inner, std::uint8_t outer, std::uint8_t number) {
    const Packet clear =
        ip_packet({.traffic_class = inner, .payload = udp(5000, 4000, Packet(40, number))});
    Packet packet = trains.left.receive(kLan, frame(clear)).wan.at(0);
    packet[kIpAt + 1] = outer;
    fix_checksum(packet);
    return packet;
  };
  trains.expect_same({sealed(0, 0, 0)});
  std::vector<Packet> burst;
  std::vector<std::uint8_t> classes;
  for (std::uint8_t inner = 0; inner < 4; ++inner) {
    for (std::uint8_t outer = 0; outer < 4; ++outer) {
      const EcnVerdict verdict = decapsulated_ecn(static_cast<Ecn>(inner), static_cast<Ecn>(outer));
      if (verdict.drop || verdict.alarm != EcnAlarm::none) continue;
      burst.push_back(sealed(inner, outer, static_cast<std::uint8_t>(burst.size())));
      classes.push_back(static_cast<std::uint8_t>(verdict.inner));
    }
  }
  const Result result = trains.at_once.receive(kWan, burst);
  REQUIRE(result.lan.size() == burst.size());
  for (std::size_t n = 0; n < burst.size(); ++n) {
    INFO("packet " << n);
    CHECK(result.lan[n].back() == n);  // of its payload
    CHECK(ip_of(result.lan[n])[1] == classes[n]);
    CHECK(wire::parse_ipv4(ip_of(result.lan[n])).has_value());
  }
  CHECK(trains.traffic(trains.at_once, trains.ids[0]).late.accepted == LatePackets{}.accepted);
}
