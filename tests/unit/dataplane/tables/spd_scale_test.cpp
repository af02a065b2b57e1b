// A hundred thousand policies: what a list costs at once, and one change of it.
#include <algorithm>
#include <ctime>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/tables/spd.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint32_t kPolicies = 100'000;
constexpr std::uint32_t kSites = 0x20000000;

/// Of this thread: what others do on the machine does not count.
double seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}
template <typename Work>
double seconds_of(Work work) {
  const double before = seconds();
  work();
  return seconds() - before;
}

wire::TrafficSelector network(std::uint32_t address, std::uint8_t length) {
  return wire::TrafficSelector::of({wire::IpAddress::v4(address), length});
}
PolicyEntry site(std::uint32_t number) {
  PolicyEntry entry;
  entry.rank = {1, std::uint64_t{number} * 2};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.child_id = channel::ChildId{number};
  entry.policy = channel::PolicyId{number};
  entry.local = {network(0x0a000000, 9)};
  entry.remote = {network(kSites + (number << 8U), 24)};
  entry.outbound = SlotIndex{number};
  return entry;
}
FlowKey flow_to(std::uint32_t number) {
  return {.source = wire::IpAddress::v4(0x0a000001),
          .destination = wire::IpAddress::v4(kSites + (number << 8U) + 7),
          .source_port = 1234,
          .destination_port = 443,
          .protocol = wire::protocol::kTcp};
}

/// In the place before a site's, for all of its packets, in one of the shapes that policies have:
/// each kind is found in another way.
PolicyEntry in_front_of(std::uint32_t number, std::uint32_t kind) {
  PolicyEntry entry = site(number);
  entry.policy = channel::PolicyId{kPolicies};
  entry.outbound = SlotIndex{kPolicies};
  --entry.rank.place;
  switch (kind % 5) {
    case 1:  // one host
      entry.remote = {network(kSites + (number << 8U) + 7, 32)};
      break;
    case 2:  // one service
      entry.local[0].protocol = entry.remote[0].protocol = wire::protocol::kTcp;
      entry.remote[0].port_first = entry.remote[0].port_last = 443;
      break;
    case 3:  // a range that is no prefix
      entry.remote[0].first = wire::IpAddress::v4(kSites + (number << 8U) + 5);
      entry.remote[0].last = wire::IpAddress::v4(kSites + (number << 8U) + 200);
      break;
    case 4:  // several of each
      entry.local = {network(0x0a000000, 24), network(0x0a000100, 24)};
      entry.remote = {network(kSites + (number << 8U), 25),
                      network(kSites + (number << 8U) + 128, 25)};
      break;
    default:
      break;
  }
  return entry;
}

}  // namespace

TEST_CASE("spd: 100 000 policies within two seconds, and a change of them within a millisecond") {
#if defined(__OPTIMIZE__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
  constexpr double kSlower = 1;
#else  // instrumented, or not optimised
  constexpr double kSlower = 20;
#endif
  constexpr double kWhole = 2 * kSlower, kOne = 1e-3 * kSlower;
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer, kPolicies + 1);
  std::vector<PolicyEntry> all;
  for (std::uint32_t number = 0; number < kPolicies; ++number) all.push_back(site(number));
  CHECK(seconds_of([&] { spd.replace(all); }) < kWhole);
  const auto slot_of = [&](const FlowKey& flow) {
    SlotIndex slot = kNoSlot;
    const SpdSnapshot& snapshot = spd.snapshot();
    CHECK(snapshot.verdict(snapshot.find(flow, PacketOrigin::clear), slot) == Verdict::protect);
    return raw(slot);
  };
  for (const std::uint32_t number : {0U, 1U, 54'321U, kPolicies - 1}) {
    CHECK(slot_of(flow_to(number)) == number);
  }
  // One in front of another of the same site takes its packets, as long as it is there.
  constexpr std::uint32_t kChanges = 501;
  std::vector<double> inserts, erases;
  for (std::uint32_t change = 0; change < kChanges; ++change) {
    const auto number = static_cast<std::uint32_t>(change * 7919ULL % (kPolicies - 1)) + 1;
    const PolicyEntry entry = in_front_of(number, change);
    inserts.push_back(seconds_of([&] { spd.insert(entry); }));
    CHECK(slot_of(flow_to(number)) == kPolicies);
    erases.push_back(seconds_of([&] {
      spd.erase(entry.policy);
      reclaimer.poll();
    }));
    CHECK(slot_of(flow_to(number)) == number);
  }
  // The longest few are the system's: it may clear pages in this thread's name.
  for (std::vector<double>* const times : {&inserts, &erases}) {
    std::ranges::sort(*times);
    INFO("longest " << times->back() * 1e6 << " µs");
    CHECK((*times)[kChanges * 98 / 100] < kOne);
  }
}

TEST_CASE("spd: to a later fragment sixty thousand ports of one network are one rule") {
  constexpr std::uint32_t kPorts = 60'000;
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer, kPorts + 1);
  const auto of_port = [](std::uint32_t port) {
    PolicyEntry entry = site(port);
    entry.remote = {network(kSites, 16)};
    entry.local[0].protocol = entry.remote[0].protocol = wire::protocol::kTcp;
    entry.remote[0].port_first = entry.remote[0].port_last = static_cast<std::uint16_t>(port);
    return entry;
  };
  std::vector<PolicyEntry> all;
  for (std::uint32_t port = 1; port <= kPorts; ++port) all.push_back(of_port(port));
  spd.replace(all);
  const auto met_first = [&] {
    FlowKey later = flow_to(0);
    later.ports_known = false;
    const SpdSnapshot& snapshot = spd.snapshot();
    const auto match = snapshot.find(later, PacketOrigin::clear);
    CHECK(match.unclear);
    CHECK(snapshot.find_shown(later, PacketOrigin::clear).entry == SpdSnapshot::kNoEntry);
    return snapshot.child_id(match);
  };
  CHECK(met_first() == channel::ChildId{1});
  // Were they compared one by one, each of these would take as long as the whole list.
  for (std::uint32_t port = 1; port < 20'000; ++port) {
    spd.erase(channel::PolicyId{port});
    reclaimer.poll();
  }
  CHECK(met_first() == channel::ChildId{20'000});
  for (std::uint32_t port = kPorts - 1; port > 40'000; --port) spd.erase(channel::PolicyId{port});
  CHECK(met_first() == channel::ChildId{20'000});
  spd.insert(of_port(7));
  CHECK(met_first() == channel::ChildId{7});
  spd.erase(channel::PolicyId{7});
  CHECK(met_first() == channel::ChildId{20'000});
  reclaimer.poll();  // the one that was behind for a while goes
  for (std::uint32_t port = 20'000; port <= 40'000; ++port) spd.erase(channel::PolicyId{port});
  CHECK(met_first() == channel::ChildId{kPorts});
}

}  // namespace culvert::dataplane
