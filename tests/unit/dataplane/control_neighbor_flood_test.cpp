// Neighbours that nobody has: packets to every address of a network, and hosts that make up who
// they are (RFC 6583).
#include <algorithm>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/asked_link.hpp"

namespace culvert::dataplane::control::neighbor_flood {
namespace {

using namespace std::chrono_literals;
using test_link::AskedLink;
using test_link::kMac;
using test_link::kOtherMac;
using test_link::kPeer;

constexpr auto kMost = static_cast<std::uint32_t>(NeighborTable::kMaxNeighbors);
constexpr auto kForPackets =
    static_cast<std::uint32_t>(NeighborTable::kMaxUnresolved - NeighborTable::kKeptForRoutes);
constexpr auto kAtOnce = static_cast<std::uint32_t>(NeighborTable::kNewResolutions.burst);

NeighborKey host(std::uint32_t number, PortId port = PortId{0}) {
  return {port, wire::IpAddress::v4(0x0a000000U + number)};
}

/// So many are there, each wanted by a route, which no rate bounds.
void fill(AskedLink& link, std::uint32_t hosts) {
  for (std::uint32_t number = 0; number < hosts; ++number) {
    REQUIRE(link.want(host(number), WantedBy::route) == Wanted::hold);
    link.table.answered(host(number), kMac, link.now, link.actions);
  }
  link.actions.clear();
}

/// Packets to as many hosts as may be asked for, within a second and each port's rate.
void fill_unresolved(AskedLink& link) {
  for (std::uint32_t number = 0; number < kForPackets; ++number) {
    if (number % kAtOnce == 0) link.now += 50ms;
    REQUIRE(link.want(host(number, PortId{static_cast<std::uint16_t>(number / kAtOnce)})) ==
            Wanted::hold);
  }
}

}  // namespace

TEST_CASE(
    "neighbours: a scan keeps nobody who is there from answering, and asks little (RFC 6583)") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  std::size_t refused = 0;
  for (std::uint32_t number = 0; number < 10'000; ++number) {
    link.now += 100ns;
    refused += link.want(host(number)) == Wanted::refused ? 1 : 0;
  }
  CHECK(link.count<Solicit>() == kAtOnce);
  CHECK(refused == 10'001 - kAtOnce);
  CHECK(link.count<GaveWay>() == 0);
  link.pass(5ms);
  link.answer(kMac);
  CHECK(link.count<Resolved>() == 1);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
}

TEST_CASE("neighbours: a scan that lasts asks at a rate, a port, and takes nobody's place") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  link.answer(kMac);
  constexpr std::uint32_t kSeconds = 10;
  std::size_t most = 0;
  for (std::uint32_t number = 0; number < kSeconds * 10'000; ++number) {
    if (number % 1000 == 0) link.pass(100ms);
    static_cast<void>(link.want(host(number)));
    most = std::max(most, link.table.entries().size());
  }
  CHECK(most == kForPackets + 1);
  const auto asked = static_cast<double>(link.count<Solicit>());
  // Each has three questions at most; the rate is of the first.
  CHECK(asked <= 3 * (kSeconds * NeighborTable::kNewResolutions.per_second + kAtOnce) + 10);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
  // Another port's hosts are found meanwhile.
  CHECK(link.want(host(0, PortId{1})) == Wanted::hold);
}

TEST_CASE("neighbours: one that is asked for has a second to answer before it gives way") {
  AskedLink link;
  fill_unresolved(link);
  const NeighborKey other{PortId{0}, test::address("192.0.2.9")};
  CHECK(link.want(other) == Wanted::refused);
  CHECK(link.count<GaveWay>() == 0);
  // The next hop of a route has a place.
  CHECK(link.want(kPeer, WantedBy::route) == Wanted::hold);
  // A second after the first was asked for.
  link.now = link.table.find(host(0))->since + NeighborTable::kRetransmit;
  CHECK(link.want(other) == Wanted::hold);
  CHECK(link.count<GaveWay>() == 1);
  CHECK(link.table.find(host(0)) == nullptr);
  CHECK(link.table.find(kPeer) != nullptr);
}

TEST_CASE("neighbours: packets take no place of a route's next hop that is asked for") {
  AskedLink link;
  REQUIRE(link.want(kPeer, WantedBy::route) == Wanted::hold);
  fill_unresolved(link);
  link.now += 1s;
  CHECK(link.want({PortId{0}, test::address("192.0.2.9")}) == Wanted::hold);
  CHECK(link.count<GaveWay>() == 1);
  REQUIRE(link.table.find(kPeer) != nullptr);
  CHECK(link.want(kPeer) == Wanted::hold);
  for (int second = 0; second < 3; ++second) link.pass(1s);
  REQUIRE(link.table.find(kPeer) != nullptr);
  CHECK(link.table.find(kPeer)->state == NeighborState::failed);
}

TEST_CASE("neighbours: a scan of two links takes no place of a third's hosts (RFC 6583)") {
  AskedLink link;
  for (std::uint32_t number = 0; number < 3 * 10'000; ++number) {
    if (number % 1000 == 0) link.pass(100ms);
    static_cast<void>(link.want(host(number, PortId{0})));
    static_cast<void>(link.want(host(number, PortId{1})));
  }
  CHECK(link.want(host(0, PortId{2})) == Wanted::hold);
  link.table.answered(host(0, PortId{2}), kMac, link.now, link.actions);
  CHECK(link.table.find(host(0, PortId{2}))->state == NeighborState::reachable);
}

TEST_CASE("neighbours: of the unresolved those that failed give way first, and silently") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  for (int second = 0; second < 3; ++second) link.pass(1s);
  REQUIRE(link.table.find(kPeer)->state == NeighborState::failed);
  fill_unresolved(link);
  CHECK(link.table.find(kPeer) == nullptr);
  CHECK(link.count<GaveWay>() == 0);
  CHECK(link.table.entries().size() == kForPackets);
}

TEST_CASE("neighbours: a table full of those who answered takes nobody new but next hops") {
  AskedLink link;
  constexpr auto kFull = static_cast<std::uint32_t>(kMost - NeighborTable::kKeptForRoutes);
  fill(link, kFull);
  CHECK(link.want() == Wanted::refused);
  CHECK(link.want(kPeer, WantedBy::route) == Wanted::hold);
  const NeighborKey other{PortId{1}, test::address("192.0.2.3")};
  CHECK(link.want(other) == Wanted::refused);
  CHECK(link.count<GaveWay>() == 0);
  link.table.forget_if([](const NeighborKey& key) { return key == host(0) || key == host(1); });
  CHECK(link.want(other) == Wanted::hold);
}

TEST_CASE("neighbours: a full table has room for one more: of those whom no route wants") {
  AskedLink link;
  fill(link, static_cast<std::uint32_t>(kMost - NeighborTable::kKeptForRoutes - 2));
  for (const std::uint32_t number : {kMost, kMost + 1}) {
    REQUIRE(link.want(host(number)) == Wanted::hold);
    link.table.answered(host(number), kMac, link.now, link.actions);
    link.now += 1ms;
  }
  CHECK(link.want() == Wanted::hold);
  CHECK(link.count<Lost>() == 1);
  CHECK(link.table.find(host(kMost)) == nullptr);  // it answered before the other
  CHECK(link.table.find(host(kMost + 1)) != nullptr);
  CHECK(link.table.find(host(0)) != nullptr);
}

TEST_CASE("neighbours: a host that makes up who it is and answers takes few places") {
  AskedLink link;
  for (std::uint32_t number = 0; number < 1000; ++number) {
    link.now += 1ms;
    link.ask_us(host(number), kOtherMac);
    link.use(host(number));
    link.table.answered(host(number), kOtherMac, link.now, link.actions);
  }
  const double most = NeighborTable::kStaleAsked.burst + NeighborTable::kStaleAsked.per_second;
  CHECK(static_cast<double>(link.count<Resolved>()) <= most);
  // Nor does it take anything of what packets to others may ask.
  for (std::uint32_t number = 0; number < kAtOnce; ++number) {
    CHECK(link.want(host(2000 + number)) == Wanted::hold);
  }
}

TEST_CASE("neighbours: hosts that make up who they are take nobody's place (RFC 4861 §7.2.3)") {
  AskedLink link;
  const auto forge = [&](std::uint32_t first) {
    for (std::uint32_t number = first; number < first + 2 * kMost; ++number) {
      link.ask_us(host(number), kOtherMac);
    }
  };
  forge(0);
  CHECK(link.actions.empty());  // nothing for the workers, nobody gave way
  CHECK(link.table.entries().size() == NeighborTable::kMaxStale);

  const auto by = GENERATE(WantedBy::packet, WantedBy::route);
  CHECK(link.want(kPeer, by) == Wanted::hold);
  link.ask_us(host(5 * kMost), kOtherMac);
  forge(2 * kMost);
  CHECK(link.count<GaveWay>() == 0);
  link.answer(kMac);
  CHECK(link.count<Resolved>() == 1);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
  forge(0);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
}

TEST_CASE("neighbours: in a full table who makes up who he is takes the place of his like only") {
  AskedLink link;
  fill(link, kMost - 2);
  link.ask_us(kPeer, kMac);
  link.ask_us(host(kMost), kMac);
  link.ask_us(host(kMost + 1), kMac);
  CHECK(link.table.find(kPeer) == nullptr);
  // Whoever is wanted has it.
  CHECK(link.want(kPeer, WantedBy::route) == Wanted::hold);
  CHECK(link.want(host(kMost + 2), WantedBy::route) == Wanted::hold);
  link.ask_us(host(kMost + 3), kMac);
  CHECK(link.table.find(host(kMost + 3)) == nullptr);
  CHECK(link.count<GaveWay>() == 0);
  CHECK(link.table.entries().size() == kMost);
}

TEST_CASE("neighbours: one that asked for us has its place beside the others, also when wanted") {
  AskedLink link;
  fill_unresolved(link);
  link.ask_us(kPeer, kMac);
  link.use();  // there is no room to ask it, and what goes there goes
  CHECK(link.table.find(kPeer)->state == NeighborState::stale);
  CHECK(link.table.find(kPeer)->mac == kMac);
  link.now += NeighborTable::kRetransmit;
  link.use();
  CHECK(link.table.find(kPeer)->state == NeighborState::incomplete);
  CHECK(link.table.entries().size() == kForPackets);
}

TEST_CASE("neighbours: one that is forgotten or written down counts as unresolved no longer") {
  AskedLink link;
  const NeighborKey other{PortId{8}, test::address("192.0.2.2")};
  CHECK(link.want(host(0, PortId{8})) == Wanted::hold);
  CHECK(link.want(other) == Wanted::hold);
  link.table.forget_if([](const NeighborKey& key) { return key == host(0, PortId{8}); });
  link.table.fix({{other, kMac}}, link.now, link.actions);
  fill_unresolved(link);
  CHECK(link.count<GaveWay>() == 0);
  CHECK(link.want() == Wanted::refused);
  CHECK(link.table.find(other)->state == NeighborState::fixed);
}

}  // namespace culvert::dataplane::control::neighbor_flood
