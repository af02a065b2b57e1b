// What the main thread takes to change what workers read: a whole list of policies, one policy more
// and less, another SA for a policy, an SA more and less. Beside it, what a search costs that no
// cache answers, and what a worker feels of a thousand changes a second.
//
//   table_changes [policies|sas|stalls]
//
// But for `stalls` nobody reads meanwhile, so that nothing waits for a grace period; the machine's
// other work shows in the greatest values.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string_view>
#include <vector>

#include "benchmarks/stalls.hpp"
#include "benchmarks/suites.hpp"
#include "benchmarks/workload.hpp"
#include "dataplane/tables/sad.hpp"
#include "dataplane/tables/spd.hpp"

namespace {

using namespace culvert;
using namespace culvert::dataplane;

constexpr std::uint32_t kChanges = 2000;
constexpr std::uint32_t kSearches = 200'000;

double microseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

struct Spread {
  double median, high, greatest;
};
Spread spread(std::vector<double> times) {
  std::ranges::sort(times);
  return {times[times.size() / 2], times[times.size() * 99 / 100], times.back()};
}
void print(const char* what, const Spread& times) {
  std::printf("  %-28s %9.2f µs median %9.2f µs of 99 %% %9.2f µs greatest\n", what, times.median,
              times.high, times.greatest);
}

wire::TrafficSelector network(std::uint32_t address, std::uint8_t length) {
  return wire::TrafficSelector::of({wire::IpAddress::v4(address), length});
}

/// Sites behind /24 networks, by turns whole and for one service.
PolicyEntry policy(std::uint32_t number) {
  PolicyEntry entry;
  entry.rank = {1, std::uint64_t{number} * 2};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.child_id = channel::ChildId{number};
  entry.policy = channel::PolicyId{number};
  entry.local = {network(0x0a000000, 9)};
  entry.remote = {network(0x20000000 + (number << 8U), 24)};
  if (number % 2 != 0) {
    entry.remote[0].protocol = wire::protocol::kTcp;
    entry.remote[0].port_first = entry.remote[0].port_last = 443;
  }
  entry.outbound = SlotIndex{number};
  return entry;
}

double search_nanoseconds(const SpdSnapshot& snapshot, std::uint32_t count) {
  std::mt19937 generator(count);
  const auto random = [&](std::uint32_t below) {
    return static_cast<std::uint32_t>(generator() % below);
  };
  std::vector<FlowKey> flows(kSearches);
  for (FlowKey& flow : flows) {
    flow.source = wire::IpAddress::v4(0x0a000000 + random(65536));
    flow.destination = wire::IpAddress::v4(0x20000000 + (random(count) << 8U) + random(256));
    flow.destination_port = 443;
    flow.protocol = wire::protocol::kTcp;
  }
  std::uint32_t found = 0;
  const double time = microseconds([&] {
    for (const FlowKey& flow : flows) {
      found += snapshot.find(flow, PacketOrigin::clear).entry != SpdSnapshot::kNoEntry;
    }
  });
  if (found != kSearches) std::abort();
  return time * 1000 / kSearches;
}

void time_policies(std::uint32_t count) {
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer, count + kChanges);
  std::vector<PolicyEntry> all;
  for (std::uint32_t number = 0; number < count; ++number) all.push_back(policy(number));
  std::printf("%u policies\n", count);
  const double whole = microseconds([&] { spd.replace(all); });
  const double again = microseconds([&] { spd.replace(all); });
  reclaimer.drain();
  std::printf("  whole list %.1f ms, the same again %.1f ms, search %.0f ns\n", whole / 1000,
              again / 1000, search_nanoseconds(spd.snapshot(), count));
  std::vector<double> inserts, erases, rebinds;
  for (std::uint32_t change = 0; change < kChanges; ++change) {
    // Between the others, all over the list.
    PolicyEntry entry = policy(static_cast<std::uint32_t>(change * 7919ULL % count));
    entry.policy = channel::PolicyId{count + change};
    ++entry.rank.place;
    inserts.push_back(microseconds([&] { spd.insert(entry); }));
    rebinds.push_back(microseconds([&] { spd.rebind(entry.policy, SlotIndex{count + 1}); }));
    erases.push_back(microseconds([&] {
      spd.erase(entry.policy);
      reclaimer.poll();
    }));
  }
  print("one more", spread(inserts));
  print("another SA for it", spread(rebinds));
  print("one less", spread(erases));
}

void time_sas(std::uint32_t count) {
  Reclaimer reclaimer(1);
  const auto engine = crypto::esp::make_engine();
  auto sad = Sad::create(count, 1, *engine, reclaimer);
  if (!sad) std::abort();
  std::printf("%u SAs in and as many out\n", count);
  for (const auto direction : {benchmarks::Direction::in, benchmarks::Direction::out}) {
    const bool is_in = direction == benchmarks::Direction::in;
    const auto test = benchmarks::ordinary_case(direction, 64, count);
    std::vector<double> installs, erases;
    for (std::uint32_t number = 0; number < count; ++number) {
      const channel::Spi spi = is_in ? (*sad)->lease_spis(1).at(0) : channel::Spi{0x10000 + number};
      auto request = benchmarks::sa_request(test, number, spi);
      request.sa = channel::SaId{number + 1 + (is_in ? 0 : count)};
      installs.push_back(microseconds([&] {
        if (!(*sad)->install(request, 0)) std::abort();
      }));
    }
    for (std::uint32_t number = count; number > 0; number -= std::max(1U, count / kChanges)) {
      const channel::SaId sa{number + (is_in ? 0 : count)};
      erases.push_back(microseconds([&] {
        (*sad)->remove(sa);
        reclaimer.poll();
      }));
      if (number <= count / kChanges) break;
    }
    print(is_in ? "one more, inbound" : "one more, outbound", spread(installs));
    print(is_in ? "one less, inbound" : "one less, outbound", spread(erases));
  }
}

// ---- stalls ----

constexpr int kRounds = 4;
constexpr std::uint32_t kOfEach = 100, kWholeLists = 3;
constexpr std::uint32_t kBulkPolicies = 100'000;

const std::vector<benchmarks::Change>& changes_one_by_one() {
  using enum benchmarks::Change;
  static const std::vector<benchmarks::Change> kinds{
      policy_more, policy_less, policy_in_front, policy_from_front, rekey,   inbound_sa_less,
      peer_moved,  path_mtu,    route_more,      route_less,        next_hop};
  return kinds;
}

void print_iterations(const char* what, std::vector<float> times) {
  std::ranges::sort(times);
  const auto at = [&](double part) {
    return static_cast<double>(
               times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1))]) *
           1e6;
  };
  std::printf("  %-28s %9zu iterations, µs: %6.1f median %6.1f of 99 %% %6.1f of 99.99 %% %7.1f\n",
              what, times.size(), at(0.5), at(0.99), at(0.9999), at(1));
}

/// The wakes of several rounds become one: of each the least.
void take_least(std::vector<benchmarks::Wake>& least,
                const std::vector<benchmarks::Wake>& of_round) {
  if (least.empty()) least.resize(of_round.size(), {1e9, 1e9, 0, 0, 0});
  for (std::size_t change = 0; change < of_round.size(); ++change) {
    benchmarks::Wake& kept = least[change];
    kept.longest = std::min(kept.longest, of_round[change].longest);
    kept.longest_there = std::min(kept.longest_there, of_round[change].longest_there);
    kept.waits += of_round[change].waits;
    kept.faults += of_round[change].faults;
  }
}

void print_kind(const std::vector<benchmarks::Change>& kinds, std::size_t kind,
                const std::vector<benchmarks::Wake>& wakes) {
  std::vector<double> times;
  double longest_there = 0;
  std::uint32_t waits = 0, faults = 0;
  for (std::size_t change = kind; change < wakes.size(); change += kinds.size()) {
    times.push_back(wakes[change].longest * 1e6);
    longest_there = std::max(longest_there, wakes[change].longest_there);
    waits += wakes[change].waits;
    faults += wakes[change].faults;
  }
  std::ranges::sort(times);
  std::printf("  %-32s %8.1f %8.1f %8.1f %8.1f %8u %8u\n", to_string(kinds[kind]),
              times[times.size() / 2], times[times.size() * 99 / 100], times.back(),
              longest_there * 1e6, waits, faults);
}

void time_changes(benchmarks::StallRig& rig, const char* what,
                  const std::vector<benchmarks::Change>& kinds, std::uint32_t of_each) {
  std::vector<benchmarks::Wake> wakes;
  std::vector<float> all;
  for (int round = 0; round < kRounds; ++round) {
    take_least(wakes, rig.round(kinds, of_each));
    all.insert(all.end(), rig.iterations().begin(), rig.iterations().end());
  }
  print_iterations(what, std::move(all));
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) print_kind(kinds, kind, wakes);
}

void time_stalls(benchmarks::Shapes shapes) {
  benchmarks::start_stall_environment();
  benchmarks::StallSettings settings;
  settings.policies = kBulkPolicies;
  settings.shapes = shapes;
  settings.seconds_between = 1e-3;
  benchmarks::StallRig rig(settings);
  std::printf("%u policies of %s shapes, bursts of 64 from either side, no two of one flow\n",
              settings.policies, shapes == benchmarks::Shapes::few ? "few" : "many");
  std::printf(
      "  longest iteration after, µs         median   of 99 %% greatest  on wall    waits"
      "   faults\n");
  time_changes(rig, "quiet", {benchmarks::Change::none},
               kOfEach * static_cast<std::uint32_t>(changes_one_by_one().size()));
  time_changes(rig, "a thousand changes a second", changes_one_by_one(), kOfEach);
  time_changes(rig, "the whole list again", {benchmarks::Change::all_policies_again}, kWholeLists);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::string_view only = argc > 1 ? argv[1] : "";
  if (only == "stalls") {
    for (const auto shapes : {benchmarks::Shapes::few, benchmarks::Shapes::many}) {
      time_stalls(shapes);
    }
    return 0;
  }
  if (only != "sas") {
    for (const std::uint32_t count : {10U, 1000U, 10'000U, 100'000U}) time_policies(count);
  }
  if (only != "policies") {
    for (const std::uint32_t count : {1000U, 100'000U, 1'000'000U}) time_sas(count);
  }
  return 0;
}
