#include <catch2/catch.hpp>

#include "dataplane/control/neighbor_table.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;

const NeighborKey kPeer{PortId{0}, test::address("192.0.2.2")};
constexpr wire::MacAddress kMac{2, 0, 0, 0, 0, 2};
constexpr wire::MacAddress kOtherMac{2, 0, 0, 0, 0, 9};

/// A table, its virtual clock and what it asked for.
struct AskedLink {
  NeighborTable table;
  Instant now{1h};
  std::vector<NeighborAction> actions;

  void pass(Instant time) {
    now += time;
    table.tick(now, actions);
  }
  bool want() { return table.want(kPeer, now, actions); }
  void answer(const wire::MacAddress& mac) { table.answered(kPeer, mac, now, actions); }
  template <typename Action>
  std::size_t count() const {
    return static_cast<std::size_t>(std::ranges::count_if(
        actions,
        [](const NeighborAction& action) { return std::holds_alternative<Action>(action); }));
  }
};

}  // namespace

TEST_CASE("neighbours: a packet asks once, the answer resolves") {
  AskedLink link;
  CHECK(link.want());
  CHECK(link.want());
  CHECK(link.count<Solicit>() == 1);

  link.answer(kMac);
  REQUIRE(link.count<Resolved>() == 1);
  CHECK(std::get<Resolved>(link.actions.back()).mac == kMac);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
}

TEST_CASE("neighbours: three questions a second apart, then failed and left alone (RFC 4861 §10)") {
  AskedLink link;
  CHECK(link.want());
  link.pass(999ms);
  CHECK(link.count<Solicit>() == 1);
  link.pass(1ms);
  link.pass(1s);
  CHECK(link.count<Solicit>() == 3);
  CHECK(link.count<Failed>() == 0);
  link.pass(1s);
  CHECK(link.count<Failed>() == 1);
  CHECK_FALSE(link.want());
  CHECK(link.count<Solicit>() == 3);

  link.pass(3s);
  CHECK(link.want());
  CHECK(link.count<Solicit>() == 4);
}

TEST_CASE(
    "neighbours: one that failed is known as such for two minutes, and asked again meanwhile") {
  AskedLink link;
  CHECK(link.want());
  for (int second = 0; second < 3; ++second) link.pass(1s);
  REQUIRE(link.table.find(kPeer) != nullptr);
  link.pass(119s);
  REQUIRE(link.table.find(kPeer) != nullptr);
  CHECK(link.table.find(kPeer)->state == NeighborState::failed);
  link.pass(1s);
  CHECK(link.table.find(kPeer) == nullptr);

  CHECK(link.want());
  for (int second = 0; second < 60; ++second) link.pass(1s);
  CHECK(link.want());
  CHECK(link.table.find(kPeer)->state == NeighborState::incomplete);
  link.answer(kMac);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
}

TEST_CASE("neighbours: an answer nobody asked for is not believed") {
  AskedLink link;
  link.answer(kMac);
  CHECK(link.table.find(kPeer) == nullptr);
  CHECK(link.actions.empty());
}

TEST_CASE("neighbours: a reachable neighbour is asked again, and kept while it answers") {
  AskedLink link;
  CHECK(link.want());
  link.answer(kMac);
  link.actions.clear();

  link.pass(NeighborTable::kReachable);
  REQUIRE(link.count<Solicit>() == 1);
  CHECK(std::get<Solicit>(link.actions.back()).unicast == kMac);
  link.answer(kMac);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
  CHECK(link.count<Resolved>() == 0);  // nothing changed for the workers
}

TEST_CASE("neighbours: one that no longer answers is lost; the last question goes to everybody") {
  AskedLink link;
  CHECK(link.want());
  link.answer(kMac);
  link.actions.clear();
  link.pass(NeighborTable::kReachable);
  link.pass(1s);
  link.pass(1s);
  REQUIRE(link.count<Solicit>() == 3);
  CHECK_FALSE(std::get<Solicit>(link.actions[2]).unicast);
  link.pass(1s);
  CHECK(link.count<Lost>() == 1);
  CHECK(link.table.find(kPeer) == nullptr);
}

TEST_CASE("neighbours: a gratuitous announcement of another MAC makes us ask, not believe") {
  AskedLink link;
  CHECK(link.want());
  link.answer(kMac);
  link.actions.clear();

  link.table.announced(kPeer, kOtherMac, link.now, link.actions);
  REQUIRE(link.count<Solicit>() == 1);
  CHECK(link.table.find(kPeer)->mac == kMac);

  link.answer(kOtherMac);  // a failover: the address did move
  REQUIRE(link.count<Resolved>() == 1);
  CHECK(std::get<Resolved>(link.actions.back()).mac == kOtherMac);
}

TEST_CASE("neighbours: who asks for us is known without asking (RFC 826)") {
  AskedLink link;
  link.table.asked_us(kPeer, kMac, link.now, link.actions);
  CHECK(link.count<Resolved>() == 1);
  CHECK(link.count<Solicit>() == 0);

  // … but may not take over an address that is somebody else's by asking.
  link.actions.clear();
  link.table.asked_us(kPeer, kOtherMac, link.now, link.actions);
  CHECK(link.count<Resolved>() == 0);
  CHECK(link.count<Solicit>() == 1);
}

TEST_CASE("neighbours: a scan over a whole network takes nobody's place (RFC 6583)") {
  AskedLink link;
  const auto host = [](std::uint32_t number) {
    return NeighborKey{PortId{0}, wire::IpAddress::v4(0x0a000000U + number)};
  };
  constexpr auto kScanned = static_cast<std::uint32_t>(2 * NeighborTable::kMaxNeighbors);
  CHECK(link.want());
  for (std::uint32_t number = 0; number < kScanned; ++number) {
    CHECK(link.table.want(host(number), link.now, link.actions));
  }
  CHECK(link.table.entries().size() == NeighborTable::kMaxUnresolved);
  // Those asked for longest ago gave way: what waited for them is to be dropped.
  CHECK(link.count<GaveWay>() == kScanned + 1 - NeighborTable::kMaxUnresolved);
  CHECK(link.table.find(kPeer) == nullptr);
  CHECK(link.table.find(host(0)) == nullptr);
  CHECK(link.table.find(host(kScanned - 1)) != nullptr);

  link.pass(1s);
  CHECK(link.want());
  link.answer(kMac);
  const NeighborKey other{PortId{0}, test::address("192.0.2.3")};
  link.table.asked_us(other, kOtherMac, link.now, link.actions);
  CHECK(link.count<Resolved>() == 2);
  // Whoever answered stays, however many are asked for then.
  for (std::uint32_t number = 0; number < kScanned; ++number) {
    CHECK(link.table.want(host(number), link.now, link.actions));
  }
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
  CHECK(link.table.find(other)->state == NeighborState::reachable);
  CHECK(link.table.entries().size() == NeighborTable::kMaxUnresolved + 2);
}

TEST_CASE("neighbours: of the unresolved those that failed give way first, and silently") {
  AskedLink link;
  CHECK(link.want());
  for (int second = 0; second < 3; ++second) link.pass(1s);
  REQUIRE(link.table.find(kPeer)->state == NeighborState::failed);
  for (std::uint32_t number = 0; number < NeighborTable::kMaxUnresolved; ++number) {
    const NeighborKey key{PortId{0}, wire::IpAddress::v4(0x0a000000U + number)};
    CHECK(link.table.want(key, link.now, link.actions));
  }
  CHECK(link.table.find(kPeer) == nullptr);
  CHECK(link.count<GaveWay>() == 0);
  CHECK(link.table.entries().size() == NeighborTable::kMaxUnresolved);
}

TEST_CASE("neighbours: a table full of those who answered takes nobody new until one is gone") {
  AskedLink link;
  const auto host = [](std::uint32_t number) {
    return NeighborKey{PortId{0}, wire::IpAddress::v4(0x0a000000U + number)};
  };
  constexpr auto kMost = static_cast<std::uint32_t>(NeighborTable::kMaxNeighbors);
  CHECK(link.want());
  for (std::uint32_t number = 0; number < kMost + 1; ++number) {
    link.table.asked_us(host(number), kMac, link.now, link.actions);
  }
  // Who had not answered gave way to who is there.
  CHECK(link.count<GaveWay>() == 1);
  CHECK(link.table.entries().size() == kMost);
  CHECK(link.table.find(host(kMost)) == nullptr);
  CHECK_FALSE(link.want());
  link.table.forget_if([&](const NeighborKey& key) { return key == host(0); });
  CHECK(link.want());
}

TEST_CASE("neighbours: one that is forgotten or written down counts as unresolved no longer") {
  AskedLink link;
  const NeighborKey other{PortId{1}, test::address("192.0.2.2")};
  CHECK(link.want());
  CHECK(link.table.want(other, link.now, link.actions));
  link.table.forget_if([](const NeighborKey& key) { return key == kPeer; });
  link.table.fix({{other, kMac}}, link.now, link.actions);
  for (std::uint32_t number = 0; number <= NeighborTable::kMaxUnresolved; ++number) {
    const NeighborKey key{PortId{0}, wire::IpAddress::v4(0x0a000000U + number)};
    CHECK(link.table.want(key, link.now, link.actions));
  }
  CHECK(link.count<GaveWay>() == 1);
  CHECK(link.table.find(other)->state == NeighborState::fixed);
}

TEST_CASE("neighbours: what the operator wrote down, nothing on the link changes or ages") {
  AskedLink link;
  CHECK(link.want());  // asked for already: what waits goes where the operator says
  link.table.fix({{kPeer, kMac}}, link.now, link.actions);
  CHECK(link.count<Resolved>() == 1);
  CHECK(link.table.find(kPeer)->state == NeighborState::fixed);
  CHECK(to_string(NeighborState::fixed) == "static");

  link.actions.clear();
  link.answer(kOtherMac);
  link.table.asked_us(kPeer, kOtherMac, link.now, link.actions);
  link.table.announced(kPeer, kOtherMac, link.now, link.actions);
  for (int hour = 0; hour < 48; ++hour) link.pass(1h);
  CHECK(link.want());
  CHECK(link.actions.empty());
  CHECK(link.table.find(kPeer)->mac == kMac);
}

TEST_CASE(
    "neighbours: a reload changes what was written down, and gives the rest back to the link") {
  AskedLink link;
  const NeighborKey other{PortId{1}, test::address("2001:db8::2")};
  link.table.fix({{kPeer, kMac}, {other, kMac}}, link.now, link.actions);
  link.actions.clear();
  link.table.fix({{kPeer, kOtherMac}}, link.now, link.actions);
  CHECK(link.count<Lost>() == 1);
  REQUIRE(link.count<Resolved>() == 1);
  CHECK(std::get<Resolved>(link.actions.back()).mac == kOtherMac);
  CHECK(link.table.find(other) == nullptr);

  link.table.fix({{kPeer, kOtherMac}}, link.now, link.actions);
  CHECK(link.actions.size() == 2);  // nothing new
  CHECK(link.table.want(other, link.now, link.actions));
  CHECK(link.count<Solicit>() == 1);
}

}  // namespace culvert::dataplane::control
