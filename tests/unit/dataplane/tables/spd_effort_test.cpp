// What a search looks at where rules are many and alike: ranges that begin and end with the same
// bits, which one hash finds.
#include <map>
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/tables/spd.hpp"
#include "tests/random_seed.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint32_t kLocal = 0x0a010000, kRemote = 0x0a020000;

/// From that address to the end of its network of sixteen bits, which it shares with all of them.
wire::TrafficSelector range(std::uint32_t network, std::uint32_t first) {
  wire::TrafficSelector selector = wire::TrafficSelector::everything(wire::Family::v4);
  selector.first = wire::IpAddress::v4(network + first % 0x8000);
  selector.last = wire::IpAddress::v4(network + 0xffff - first % 256);
  return selector;
}

PolicyEntry tunnel(std::uint32_t number) {
  PolicyEntry entry;
  entry.rank = {1, 1'000'000 - std::uint64_t{number}};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.policy = channel::PolicyId{number};
  entry.child_id = channel::ChildId{number};
  entry.local = {range(kLocal, number)};
  entry.remote = {range(kRemote, number * 3)};
  return entry;
}

FlowKey flow(std::uint32_t source, std::uint32_t destination) {
  return {.source = wire::IpAddress::v4(source),
          .destination = wire::IpAddress::v4(destination),
          .source_port = 1,
          .destination_port = 2,
          .protocol = wire::protocol::kUdp};
}

/// First match, one policy after the other.
std::pair<std::uint64_t, bool> met(const std::map<std::uint64_t, PolicyEntry>& by_place,
                                   const FlowKey& packet, bool in_clear) {
  for (const auto& [place, entry] : by_place) {
    const auto is_in = [](const auto& side, const wire::IpAddress& address) {
      return side.front().contains(address);
    };
    if (is_in(entry.local, packet.source) && is_in(entry.remote, packet.destination)) {
      return {place, false};
    }
    if (in_clear && is_in(entry.remote, packet.source) && is_in(entry.local, packet.destination)) {
      return {place, true};
    }
  }
  return {0, false};
}

}  // namespace

TEST_CASE("spd effort: a tunnel's packets do not go through what must not come in clear") {
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer);
  constexpr std::uint32_t kMany = 500;
  for (std::uint32_t number = 1; number <= kMany; ++number) spd.insert(tunnel(number));
  const SpdSnapshot& snapshot = spd.snapshot();
  // It is the reverse of none of them, though it looks so until addresses are compared.
  const FlowKey back = flow(kRemote, kLocal);
  CHECK(snapshot.effort(back, PacketOrigin::clear).rules == kMany);
  const SearchEffort effort = snapshot.effort(back, PacketOrigin::tunnel);
  CHECK(effort.rules <= 1);
  CHECK(effort.probes <= snapshot.probes());
  CHECK(snapshot.find(back, PacketOrigin::tunnel).entry == SpdSnapshot::kNoEntry);
  CHECK(spd.most_alike(tunnel(kMany + 1)) == kMany);
}

TEST_CASE("spd effort: whatever comes and goes, the first match is the first, of either origin") {
  std::mt19937_64 generator(test::random_seed());
  const auto random = [&](std::uint32_t below) {
    return static_cast<std::uint32_t>(generator() % below);
  };
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer);
  std::map<std::uint64_t, PolicyEntry> by_place;
  std::map<std::uint32_t, std::uint64_t> places;
  for (int step = 0; step < 3000; ++step) {
    const std::uint32_t number = 1 + random(40);
    if (places.erase(number) != 0) {
      std::erase_if(by_place, [&](const auto& one) {
        return one.second.policy == channel::PolicyId{number};
      });
      REQUIRE(spd.erase(channel::PolicyId{number}));
      reclaimer.poll();
    } else {
      // Either way round of the same two networks, and some of both ends alike: reverse and forward
      // rules stand in one list.
      PolicyEntry entry = tunnel(number);
      entry.rank.place = std::uint64_t{number} * 7919 % 104'729;
      entry.local = {range(random(2) == 0 ? kLocal : kRemote, random(0x8000))};
      entry.remote = {range(random(2) == 0 ? kLocal : kRemote, random(0x8000))};
      places[number] = entry.rank.place;
      by_place[entry.rank.place] = entry;
      spd.insert(entry);
    }
    const auto address = [&] { return (random(2) == 0 ? kLocal : kRemote) + random(0x10000); };
    const FlowKey packet = flow(address(), address());
    for (const PacketOrigin origin : {PacketOrigin::clear, PacketOrigin::tunnel}) {
      const auto [place, is_reverse] = met(by_place, packet, origin == PacketOrigin::clear);
      const SpdSnapshot& snapshot = spd.snapshot();
      const auto match = snapshot.find(packet, origin);
      REQUIRE((match.entry == SpdSnapshot::kNoEntry) == (place == 0));
      if (place == 0) continue;
      REQUIRE(match.reverse == is_reverse);
      REQUIRE(snapshot.child_id(match) == by_place.at(place).child_id);
    }
  }
}

}  // namespace culvert::dataplane
