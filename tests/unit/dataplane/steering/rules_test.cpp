// Which rules a device gets, and what happens when it takes fewer than there are SAs.
#include <algorithm>
#include <array>
#include <map>
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/control/steering.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "tests/unit/dataplane/steering/flow_device.hpp"
#include "wire/vlan.hpp"

namespace culvert::dataplane::control {
namespace {

using test::FlowDevice;
using test::kLan;
using test::kWan;

constexpr std::uint32_t kWorkers = 2, kSlots = 1024;
constexpr ports::EspForm kPlainV4{}, kInUdpV6{.is_v6 = true, .is_in_udp = true};

/// LAN and WAN on a device each; `vlans`: more interfaces on the WAN's device.
struct Bench {
  FlowDevice lan{0, kWorkers, 1000}, wan;
  std::unique_ptr<Steering> steering;

  explicit Bench(std::size_t room, const std::vector<wire::vlan::Ids>& vlans = {},
                 std::uint32_t workers = kWorkers)
      : wan(1, kWorkers, room) {
    std::vector<Steering::Interface> interfaces{{0, {}, "lan"}, {1, {}, "wan"}};
    for (const wire::vlan::Ids& ids : vlans) interfaces.push_back({1, ids, "vlan"});
    steering = Steering::create(std::move(interfaces), workers, kSlots).value();
  }
  /// SPIs are told from slots by what stands above them.
  void add(std::uint32_t slot, ports::EspForm form = kPlainV4, PortId port = kWan,
           std::uint32_t generation = 1) {
    steering->add({SlotIndex{slot}, generation << 16U | slot, port, form});
  }
  void remove(std::uint32_t slot) { steering->remove(SlotIndex{slot}); }
  /// Until nothing is left to do, or nothing can be done.
  void finish() {
    for (int times = 0; times < 100; ++times) steering->work();
  }
  [[nodiscard]] SteeringReport report(PortId port = kWan) const { return steering->report(port); }
};

/// A frame of ESP as a form has it, its last byte such that the device's hash says `queue`.
test::Packet esp_frame(std::uint32_t spi, ports::EspForm form, std::uint16_t queue,
                       const wire::vlan::Ids& vlan = {}) {
  test::Packet esp(64, static_cast<std::uint8_t>(queue));
  wire::store_u32(esp.data(), spi);
  test::PacketOptions options;
  options.source = form.is_v6 ? "2001:db8::2" : "198.51.100.2";
  options.destination = form.is_v6 ? "2001:db8::1" : "198.51.100.1";
  options.protocol = form.is_in_udp ? 17 : 50;
  options.payload = form.is_in_udp ? test::udp(4500, 4500, esp) : esp;
  const test::Packet untagged = test::frame(test::ip_packet(options));
  test::Packet whole(vlan.count() * wire::vlan::kTagBytes);
  whole.insert(whole.end(), untagged.begin(), untagged.end());
  wire::vlan::insert(whole.data(), vlan);
  return whole;
}

/// Whether frames with an SPI go to `queue` whatever the hash says.
bool is_steered(const FlowDevice& device, std::uint32_t spi, ports::EspForm form,
                std::uint16_t queue, const wire::vlan::Ids& vlan = {}) {
  return device.queue_of(esp_frame(spi, form, 0, vlan)) == queue &&
         device.queue_of(esp_frame(spi, form, 1, vlan)) == queue;
}

}  // namespace

TEST_CASE("steering: an SA of each form has a rule to its worker's queue") {
  Bench bench(100);
  bench.steering->start();
  for (std::uint32_t slot = 0; slot < 8; ++slot) bench.add(slot, ports::kEspForms[slot % 4]);
  bench.finish();
  for (std::uint32_t slot = 0; slot < 8; ++slot) {
    const auto queue = static_cast<std::uint16_t>(slot % kWorkers);
    CHECK(is_steered(bench.wan, 0x10000U | slot, ports::kEspForms[slot % 4], queue));
    // Another form with that SPI is not what the SA is.
    CHECK_FALSE(is_steered(bench.wan, 0x10000U | slot, ports::kEspForms[(slot + 1) % 4], queue));
  }
  CHECK(bench.wan.rules().size() == 8);
  CHECK(bench.lan.rules().empty());
  CHECK(bench.report().with_rule == 8);
  CHECK(bench.report().without_rule == 0);
  CHECK(bench.report().takes ==
        std::vector<std::string>{"esp-ipv4", "esp-ipv6", "esp-udp-ipv4", "esp-udp-ipv6"});
  CHECK(bench.report().refuses.empty());
  CHECK(bench.report(kLan).with_rule == 0);
}

TEST_CASE("steering: SAs that come before the device is started get their rules then") {
  Bench bench(100);
  bench.add(3);
  bench.finish();
  CHECK(bench.wan.created == 0);
  CHECK(bench.report().without_rule == 1);
  bench.steering->start();
  bench.finish();
  CHECK(is_steered(bench.wan, 0x10003, kPlainV4, 1));
}

TEST_CASE("steering: interfaces that come and go leave the rules of the others alone") {
  const wire::vlan::Ids vlan{100}, other_vlan{200};
  Bench bench(100);
  const PortId added{2};
  bench.steering->start();
  bench.add(1);
  bench.add(2);
  bench.finish();
  // An SA of an interface that comes with it is installed before the interface is told of.
  bench.add(3, kPlainV4, added);
  bench.add(1, kPlainV4, added);
  bench.finish();
  CHECK(bench.wan.rules().size() == 1);
  bench.add(1);
  bench.finish();
  const unsigned made = bench.wan.created;
  // Another name is no other interface.
  CHECK_FALSE(bench.steering->change({{0, {}, "lan"}, {1, {}, "uplink"}}));
  REQUIRE(bench.steering->change({{0, {}, "lan"}, {1, {}, "uplink"}, {1, vlan, "vlan"}}));
  CHECK(bench.wan.rules().size() == 2);
  CHECK(bench.report().with_rule == 2);
  CHECK(bench.report(added).takes.size() == 4);
  bench.add(1);
  bench.add(2, kPlainV4, added);
  bench.finish();
  CHECK(bench.wan.rules().size() == 2);
  CHECK(bench.wan.created == made + 1);
  CHECK(bench.wan.flushed == 0);
  CHECK(is_steered(bench.wan, 0x10001, kPlainV4, 1));
  CHECK(is_steered(bench.wan, 0x10002, kPlainV4, 0, vlan));
  CHECK(bench.report(added).with_rule == 1);
  // Its number is another VLAN's: the rule goes, also where nobody asks for the SA any more.
  REQUIRE(bench.steering->change({{0, {}, "lan"}, {1, {}, "uplink"}, {1, other_vlan, "vlan"}}));
  CHECK(bench.report(added).with_rule + bench.report(added).without_rule == 0);
  bench.finish();
  CHECK(bench.wan.rules().size() == 1);
  CHECK(is_steered(bench.wan, 0x10001, kPlainV4, 1));
  CHECK(bench.wan.created == made + 1);
  bench.add(2, kPlainV4, added);
  bench.finish();
  CHECK(is_steered(bench.wan, 0x10002, kPlainV4, 0, other_vlan));
}

TEST_CASE(
    "steering: what an interface leaves behind goes a part at a time, and keeps no other out") {
  const wire::vlan::Ids vlan{100};
  constexpr std::uint32_t kMany = 5 * Steering::kCallsAtOnce;
  Bench bench(1000, {vlan});
  const PortId goes{2};
  bench.steering->start();
  for (std::uint32_t slot = 0; slot < kMany; ++slot) bench.add(slot, kPlainV4, goes);
  bench.finish();
  REQUIRE(bench.wan.rules().size() == kMany);
  const auto calls = [&] { return bench.wan.created + bench.wan.destroyed + bench.wan.flushed; };
  const unsigned before = calls();
  REQUIRE(bench.steering->change({{0, {}, "lan"}, {1, {}, "wan"}, {0, vlan, "vlan"}}));
  CHECK(calls() == before);
  bench.add(kMany);
  bench.remove(0);
  bench.add(1, kPlainV4, goes);
  bench.steering->work();
  CHECK(calls() - before <= Steering::kCallsAtOnce);
  bench.finish();
  CHECK(bench.wan.rules().size() == 1);
  CHECK(is_steered(bench.wan, 0x10000U | kMany, kPlainV4, 0));
  CHECK(bench.lan.rules().size() == 1);
  CHECK(is_steered(bench.lan, 0x10001, kPlainV4, 1, vlan));
  CHECK(bench.wan.destroyed == kMany);
  // Lanes that are over are used again.
  for (const std::uint16_t device : std::array<std::uint16_t, 4>{1, 0, 1, 0}) {
    REQUIRE(bench.steering->change({{0, {}, "lan"}, {1, {}, "wan"}, {device, vlan, "vlan"}}));
    bench.add(1, kPlainV4, goes);
    bench.finish();
  }
  CHECK(bench.lan.rules().size() == 1);
  CHECK(bench.wan.rules().size() == 1);
}

TEST_CASE("steering: the rule of an SA that is gone is removed, made or not") {
  Bench bench(100);
  bench.steering->start();
  bench.add(1);
  bench.add(2);
  bench.finish();
  bench.remove(1);
  bench.add(3);
  bench.remove(3);  // before its rule was made
  bench.remove(9);  // never was
  bench.finish();
  CHECK(bench.wan.rules().size() == 1);
  CHECK(is_steered(bench.wan, 0x10002, kPlainV4, 0));
  CHECK(bench.wan.created == 2);
  CHECK(bench.report().with_rule == 1);
  CHECK(bench.report().without_rule == 0);
}

TEST_CASE("steering: a rekeyed SA's rule follows to the queue of the new one's worker") {
  Bench bench(1);  // the new SA stands beside the old one until that is deleted
  bench.steering->start();
  bench.add(4);
  bench.finish();
  bench.add(5);
  bench.finish();
  CHECK(is_steered(bench.wan, 0x10004, kPlainV4, 0));
  bench.remove(4);
  bench.finish();
  CHECK(is_steered(bench.wan, 0x10005, kPlainV4, 1));
  CHECK(bench.wan.rules().size() == 1);
  // The place of the old one is used again, by an SPI of the next generation.
  bench.remove(5);
  bench.add(4, kPlainV4, kWan, 2);
  bench.finish();
  CHECK(is_steered(bench.wan, 0x20004, kPlainV4, 0));
  CHECK_FALSE(is_steered(bench.wan, 0x10004, kPlainV4, 0));
}

TEST_CASE("steering: a full table is tried once, and again when a rule was freed") {
  Bench bench(3);
  bench.steering->start();
  for (std::uint32_t slot = 0; slot < 5; ++slot) bench.add(slot);
  bench.finish();
  CHECK(bench.report().with_rule == 3);
  CHECK(bench.report().without_rule == 2);
  CHECK(bench.report().last_refusal.starts_with("the table is full"));
  CHECK(bench.wan.refused == 1);
  bench.add(5);  // one more that finds no room asks nobody
  bench.finish();
  CHECK(bench.wan.refused == 1);
  CHECK(bench.report().without_rule == 3);
  bench.remove(0);
  bench.finish();
  CHECK(bench.report().with_rule == 3);
  CHECK(bench.report().without_rule == 2);
  CHECK(bench.wan.refused == 2);
  bench.remove(4);
  bench.remove(5);  // whichever of them had none
  bench.remove(1);
  bench.finish();
  CHECK(bench.report().without_rule == 0);
  CHECK(bench.report().last_refusal.empty());
}

TEST_CASE("steering: rules freed on a device make room for each of its interfaces and forms") {
  Bench bench(1, {wire::vlan::Ids{{100, 0}}});
  const PortId vlan{2};
  bench.steering->start();
  bench.add(0);
  bench.finish();
  bench.add(1, kInUdpV6, vlan);
  bench.finish();
  CHECK(bench.report(vlan).without_rule == 1);
  CHECK_FALSE(bench.report(vlan).last_refusal.empty());
  bench.remove(0);
  bench.finish();
  CHECK(bench.report(vlan).with_rule == 1);
  CHECK(bench.report(vlan).last_refusal.empty());
}

TEST_CASE("steering: a device that knows no ESP is asked once and called no more") {
  Bench bench(100);
  bench.wan.cannot = [](const FlowDevice::Rule&) { return "no ESP here"; };
  bench.steering->start();
  const unsigned asked = bench.wan.validated;
  for (std::uint32_t slot = 0; slot < 5; ++slot) bench.add(slot);
  bench.finish();
  bench.remove(2);
  bench.finish();
  CHECK(bench.wan.validated == asked);
  CHECK(bench.wan.created + bench.wan.refused + bench.wan.destroyed == 0);
  const SteeringReport report = bench.report();
  CHECK_FALSE(report.has_one_queue);
  CHECK(report.takes.empty());
  REQUIRE(report.refuses.size() == 4);
  CHECK(report.refuses[0].first == "esp-ipv4");
  CHECK(report.refuses[0].second == "no ESP here: Operation not supported");
  CHECK(report.without_rule == 4);
  bench.steering->stop();
  CHECK(bench.wan.flushed == 0);
}

TEST_CASE("steering: DPDK's own word for a device whose driver has no rules") {
  test::start_eal();  // its ports are rings
  auto steering = Steering::create({{0, {}, "lan"}, {1, {}, "wan"}}, kWorkers, kSlots).value();
  steering->start();
  steering->add({SlotIndex{1}, 0x10001, kWan, kPlainV4});
  steering->work();
  const SteeringReport report = steering->report(kWan);
  CHECK(report.takes.empty());
  REQUIRE(report.refuses.size() == 4);
  for (const auto& [form, why] : report.refuses) CHECK(why == "its driver has no flow rules");
  steering->stop();
}

TEST_CASE("steering: a form that the device refuses keeps none of the others out") {
  Bench bench(100);
  bench.wan.cannot = [](const FlowDevice::Rule& rule) {
    const bool is_refused =
        names(rule, RTE_FLOW_ITEM_TYPE_IPV6) && names(rule, RTE_FLOW_ITEM_TYPE_UDP);
    return is_refused ? "no ESP in UDP in IPv6" : nullptr;
  };
  bench.steering->start();
  for (std::uint32_t slot = 0; slot < 8; ++slot) bench.add(slot, ports::kEspForms[slot % 4]);
  bench.finish();
  CHECK(bench.report().with_rule == 6);
  CHECK(bench.report().without_rule == 2);
  REQUIRE(bench.report().refuses.size() == 1);
  CHECK(bench.report().refuses[0].first == "esp-udp-ipv6");
  CHECK(bench.report().last_refusal.empty());
}

TEST_CASE("steering: hardware that knows ESP in UDP by itself gets rules without the port") {
  Bench bench(100);
  const bool knows_by_itself = GENERATE(false, true);
  if (knows_by_itself) {
    bench.wan.cannot = [](const FlowDevice::Rule& rule) {
      return matches_on(rule, RTE_FLOW_ITEM_TYPE_UDP) ? "invalid input set" : nullptr;
    };
  }
  bench.steering->start();
  bench.add(1, {.is_v6 = false, .is_in_udp = true});
  bench.finish();
  REQUIRE(bench.wan.rules().size() == 1);
  CHECK(is_steered(bench.wan, 0x10001, {.is_v6 = false, .is_in_udp = true}, 1));
  CHECK(matches_on(bench.wan.rules().front(), RTE_FLOW_ITEM_TYPE_UDP) != knows_by_itself);
}

TEST_CASE("steering: of an interface that is a VLAN the rule has its tags") {
  const wire::vlan::Ids one{{100, 0}}, two{{200, 100}};
  Bench bench(100, {one, two});
  bench.steering->start();
  bench.add(1, kPlainV4, PortId{2});
  bench.add(3, kInUdpV6, PortId{3});
  bench.finish();
  CHECK(is_steered(bench.wan, 0x10001, kPlainV4, 1, one));
  CHECK_FALSE(is_steered(bench.wan, 0x10001, kPlainV4, 1));
  CHECK_FALSE(is_steered(bench.wan, 0x10001, kPlainV4, 1, wire::vlan::Ids{{101, 0}}));
  CHECK(is_steered(bench.wan, 0x10003, kInUdpV6, 1, two));
  auto with_priority = esp_frame(0x10001, kPlainV4, 0, one);
  with_priority[14] = static_cast<std::uint8_t>(with_priority[14] | 0xe0U);
  CHECK(bench.wan.queue_of(with_priority) == 1);
}

TEST_CASE("steering: many SAs get their rules a bounded number at a time") {
  Bench bench(1000);
  bench.steering->start();
  for (std::uint32_t slot = 0; slot < 500; ++slot) bench.add(slot);
  CHECK(bench.wan.created == 0);  // an SA is installed without a call of the driver
  bench.steering->work();
  CHECK(bench.wan.created <= Steering::kCallsAtOnce);
  bench.finish();
  CHECK(bench.wan.created == 500);
  for (std::uint32_t slot = 0; slot < 500; ++slot) bench.remove(slot);
  CHECK(bench.wan.destroyed == 0);
  bench.steering->work();
  CHECK(bench.wan.destroyed <= Steering::kCallsAtOnce);
  bench.finish();
  CHECK(bench.wan.rules().empty());
}

TEST_CASE("steering: all rules go at the stop, and come again at the next start") {
  Bench bench(3);
  bench.steering->start();
  for (std::uint32_t slot = 0; slot < 5; ++slot) bench.add(slot);
  bench.finish();
  bench.remove(1);  // one that leaves as the device stops
  bench.steering->stop();
  CHECK(bench.wan.rules().empty());
  CHECK(bench.wan.flushed == 1);
  CHECK(bench.report().with_rule == 0);
  bench.finish();  // nothing is made meanwhile
  bench.remove(0);
  CHECK(bench.wan.rules().empty());
  bench.steering->start();
  bench.finish();
  CHECK(bench.wan.rules().size() == 3);
  CHECK(bench.report().with_rule == 3);
  CHECK(bench.report().without_rule == 0);
}

TEST_CASE("steering: a rule that the device does not remove makes no room, and stops nothing") {
  Bench bench(2);
  bench.steering->start();
  for (std::uint32_t slot = 0; slot < 3; ++slot) bench.add(slot);
  bench.finish();
  bench.wan.keeps_rules = true;
  bench.remove(0);
  bench.finish();
  CHECK(bench.wan.rules().size() == 2);
  CHECK(bench.report().with_rule == 1);
  CHECK(bench.report().without_rule == 1);
  CHECK(bench.wan.refused == 1);
  bench.wan.keeps_rules = false;
  bench.remove(1);
  bench.finish();
  CHECK(bench.report().with_rule == 1);
  CHECK(bench.report().without_rule == 0);
}

TEST_CASE("steering: an SA whose packets come by another interface has its rule there") {
  Bench bench(100);
  bench.steering->start();
  bench.add(1);
  bench.finish();
  const unsigned before = bench.wan.created;
  bench.add(1);  // the same: nothing to do
  bench.finish();
  CHECK(bench.wan.created == before);
  CHECK(bench.wan.destroyed == 0);
  bench.add(1, kPlainV4, kLan);
  bench.finish();
  CHECK(bench.wan.rules().empty());
  CHECK(is_steered(bench.lan, 0x10001, kPlainV4, 1));
}

TEST_CASE("steering: one worker has nothing to steer") {
  Bench bench(100, {}, 1);
  bench.steering->start();
  bench.add(1);
  bench.finish();
  bench.remove(1);
  bench.steering->stop();
  CHECK(bench.report().has_one_queue);
  CHECK(bench.wan.validated + bench.wan.created + bench.wan.flushed == 0);
}

TEST_CASE(
    "steering: whatever comes and goes, a device has rules of live SAs only, and is used up") {
  const auto seed = test::random_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  constexpr std::size_t kRoom = 20;
  Bench bench(kRoom, {wire::vlan::Ids{{100, 0}}});
  bench.steering->start();
  std::map<std::uint32_t, std::pair<PortId, ports::EspForm>> live;
  std::uint32_t generation = 1;
  std::map<std::uint32_t, std::uint32_t> generations;
  for (int step = 0; step < 20000; ++step) {
    const auto slot = static_cast<std::uint32_t>(random() % 40);
    if (random() % 3 == 0) {
      bench.steering->work();
    } else if (live.contains(slot)) {
      bench.remove(slot);
      live.erase(slot);
    } else {
      const PortId port{static_cast<std::uint16_t>(1 + random() % 2)};
      const ports::EspForm form = ports::kEspForms[random() % 4];
      generations[slot] = ++generation;
      bench.add(slot, form, port, generation);
      live[slot] = {port, form};
    }
    if (step % 100 != 0) continue;
    bench.finish();
    const std::uint64_t with = bench.report().with_rule + bench.report(PortId{2}).with_rule;
    const std::uint64_t without =
        bench.report().without_rule + bench.report(PortId{2}).without_rule;
    REQUIRE(with + without == live.size());
    REQUIRE(bench.wan.rules().size() == with);
    REQUIRE(with == std::min(kRoom, live.size()));
    const auto steered = std::ranges::count_if(live, [&](const auto& sa) {
      const auto& [at, how] = sa;
      const wire::vlan::Ids vlan =
          how.first == kWan ? wire::vlan::Ids{} : wire::vlan::Ids{{100, 0}};
      return is_steered(bench.wan, generations[at] << 16U | at, how.second,
                        static_cast<std::uint16_t>(at % kWorkers), vlan);
    });
    REQUIRE(static_cast<std::uint64_t>(steered) == with);
  }
}

}  // namespace culvert::dataplane::control
