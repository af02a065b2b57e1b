// Figures of children that are gathered in slices while SAs come, carry on and end.
#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <thread>

#include <catch2/catch.hpp>
#include <rte_cycles.h>

#include "dataplane/control/child_reports.hpp"
#include "dataplane/control/figures.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/main_thread.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane::control::child_reports {
namespace {

using channel::Direction;
using channel::SaId;

constexpr std::size_t kAtOnce = ChildReports::kSasAtOnce;

/// With the rounds that figures are made from.
class MainThread : public test_main::MainThread {
 public:
  using test_main::MainThread::MainThread;

  bool work() { return reports.work(made); }
  /// To the end of the round; how many turns that took.
  std::size_t finish() {
    std::size_t turns = 1;
    while (!work()) ++turns;
    return turns;
  }
  [[nodiscard]] std::uint64_t counted(std::size_t child) {
    return associations.round().of(directory.in_order()[child]).totals[1].packets;
  }

  ChildReports reports{associations, directory};
  std::vector<ChildReport> made;
};

/// A family's `index`th.
double value_of(const runtime::MetricFamilies& families, std::string_view name,
                std::size_t index = 0) {
  const auto found = std::ranges::find(families, name, &prometheus::MetricFamily::name);
  return found->metric.at(index).counter.value;
}
/// Of the one child there is.
double packets_out(const runtime::MetricFamilies& families) {
  return value_of(families, "culvert_child_packets_total", 1);
}

}  // namespace

TEST_CASE("child reports: a turn looks at so many SAs and no more") {
  MainThread main(1);
  constexpr std::size_t kSas = 3 * kAtOnce + 10;
  for (std::uint64_t id = 1; id <= kSas; ++id) {
    main.install(id, 0);
    main.carry(id, 1);
  }
  for (std::size_t turn = 1; turn <= 3; ++turn) {
    CHECK_FALSE(main.work());
    CHECK(main.counted(0) == turn * kAtOnce);  // a packet an SA
  }
  CHECK(main.work());
  CHECK(main.made.at(0).out.packets == kSas);
}

TEST_CASE("child reports: a turn makes so many reports and no more") {
  constexpr std::size_t kChildren = 2 * ChildReports::kChildrenAtOnce + 1;
  MainThread main(kChildren);
  for (std::size_t turn = 1; turn <= 2; ++turn) {
    CHECK_FALSE(main.work());
    CHECK(main.made.size() == turn * ChildReports::kChildrenAtOnce);
  }
  CHECK(main.work());
  CHECK(main.made.size() == kChildren);
  CHECK(main.made.back().child == "net" + std::to_string(kChildren - 1));
}

TEST_CASE("child reports: few SAs are one turn, and what it reports is what is there") {
  MainThread main(2);
  for (std::uint64_t id = 1; id <= kAtOnce; ++id) main.install(id, id % 2);
  for (std::uint64_t round = 1; round <= 3; ++round) {
    main.carry(1, 5);
    CHECK(main.finish() == 1);
    CHECK(main.made.at(1).out.packets == 5 * round);
    CHECK(main.made.at(0).out.packets == 0);
  }
  main.remove(1);
  CHECK(main.finish() == 1);
  CHECK(main.made.at(1).out.packets == 15);
}

TEST_CASE("child reports: the youngest SA's age, and how long the last one has to live") {
  MainThread main(1);
  main.install(1, 0);
  main.finish();
  const auto first = main.made.at(0).out;
  REQUIRE(first.sa_age_seconds);
  CHECK(*first.sa_age_seconds >= 0);
  CHECK_FALSE(first.sa_remaining_seconds);  // it has no lifetime in time
  CHECK_FALSE(main.made.at(0).in.sa_age_seconds);
  const std::uint64_t now = rte_get_tsc_cycles(), second = rte_get_tsc_hz();
  const auto end = [&](std::uint64_t id, std::uint64_t tsc) {
    main.tables->sad->set_end(*main.tables->sad->find(SaId{id}), tsc);
  };
  main.install(2, 0);
  end(1, now + 100 * second);
  end(2, now + 3600 * second);
  main.finish();
  const auto both = main.made.at(0).out;
  REQUIRE(both.sa_remaining_seconds);
  CHECK(*both.sa_remaining_seconds > 1800);
  CHECK(*both.sa_remaining_seconds <= 3600);
  // One that is over and not yet removed is none.
  main.stop(1);
  main.stop(2);
  main.finish();
  CHECK_FALSE(main.made.at(0).out.sa_age_seconds);
  CHECK_FALSE(main.made.at(0).out.sa_remaining_seconds);
}

TEST_CASE("child reports: whatever comes and ends in a round, each SA is in the sums once") {
  constexpr std::size_t kChildren = 7;
  const auto seed = test::random_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  MainThread main(kChildren);
  std::map<std::uint64_t, std::size_t> living;  // child by SA
  std::vector<std::uint64_t> truth(kChildren), before(kChildren);
  const auto come = [&] {
    const std::uint64_t id = random() % 1'000'000 + 1;  // before and behind what was counted
    if (living.contains(id)) return;
    living[id] = random() % kChildren;
    main.install(id, living[id]);
  };
  const auto any = [&] {
    auto found = living.lower_bound(random() % 1'000'000);
    return found == living.end() ? living.begin() : found;
  };
  const auto carry = [&](const auto& sa) {
    const std::uint64_t packets = random() % 1000;
    main.carry(sa->first, packets);
    truth[sa->second] += packets;
  };
  while (living.size() < 3 * kAtOnce) come();
  for (int round = 0; round < 10; ++round) {
    const auto at_begin = truth;
    while (!main.work()) {
      for (int step = 0; step < 300; ++step) {
        carry(any());
        come();
        const auto ends = any();
        carry(ends);
        main.remove(ends->first);
        living.erase(ends);
      }
    }
    for (std::size_t child = 0; child < kChildren; ++child) {
      const std::uint64_t reported = main.made.at(child).out.packets;
      CHECK(reported >= before[child]);
      CHECK(reported >= at_begin[child]);
      CHECK(reported <= truth[child]);
      before[child] = reported;
    }
  }
  main.finish();
  for (std::size_t child = 0; child < kChildren; ++child) {
    CHECK(main.made.at(child).out.packets == truth[child]);
  }
}

TEST_CASE("child reports: one that ends in a round, before its turn or after it, counts once") {
  MainThread main(3);
  constexpr std::uint64_t kFirst = 1, kLast = 900'000;
  main.install(kFirst, 0);
  for (std::uint64_t id = 1001; id <= 1000 + kAtOnce; ++id) main.install(id, 1);
  main.install(kLast, 2);
  main.carry(kFirst, 5);
  main.carry(kLast, 5);
  REQUIRE_FALSE(main.work());
  for (const std::uint64_t id : {kFirst, kLast}) {
    main.carry(id, 3);
    main.remove(id);
  }
  CHECK(main.work());
  CHECK(main.made.at(0).out.packets == 5);  // as it was at its turn
  CHECK(main.made.at(2).out.packets == 8);
  main.finish();
  CHECK(main.made.at(0).out.packets == 8);
  CHECK(main.made.at(2).out.packets == 8);
}

TEST_CASE("child reports: what an SA carries while it ends is its child's, once") {
  MainThread main(2);
  const WorkerId worker{0};
  Reclaimer& reclaimer = *main.tables->reclaimer;
  reclaimer.online(worker);
  main.install(1, 0);
  main.install(2, 0, Direction::in);
  main.install(3, 1);
  main.carry(1, 5);
  OutboundSa& out = *main.tables->sad->outbound(main.tables->sad->find(SaId{1})->slot);
  InboundSa& in = *main.tables->sad->inbound(
      static_cast<std::uint32_t>(main.tables->sad->find(SaId{2})->spec.spi));
  in.packets = 7;
  in.details->count_drop(DropReason::replay_duplicate, 2);
  // Given: a worker has packets in hand when both are removed.
  main.remove(1);
  main.remove(2);
  main.finish();
  CHECK(main.made.at(0).out.packets == 5);
  CHECK(main.made.at(0).in.packets == 7);
  out.sequence += 3;
  out.bytes_left = out.bytes_left - 300;
  in.packets = 11;
  in.details->count_drop(DropReason::replay_duplicate, 4);
  in.details->count_late(3, true);
  // When it is done with them, perhaps in a round which the child has had its turn in,
  const bool in_a_round = GENERATE(false, true);
  if (in_a_round) {
    main.install(4, 0);
    for (std::uint64_t id = 1001; id <= 1000 + kAtOnce; ++id) main.install(id, 1);
    REQUIRE_FALSE(main.work());
  }
  reclaimer.quiescent(worker);
  reclaimer.poll();
  if (in_a_round) {
    main.finish();
    CHECK(main.made.at(0).out.packets == 5);
  }
  // then all of it is in the next round, and in none after that once more.
  for (int round = 0; round < 2; ++round) {
    main.finish();
    CHECK(main.made.at(0).out.packets == 8);
    CHECK(main.made.at(0).out.bytes == 300);
    CHECK(main.made.at(0).in.packets == 11);
    REQUIRE(main.made.at(0).in.drops.size() == 1);
    CHECK(main.made.at(0).in.drops[0].second == 6);
    CHECK(main.made.at(0).in.missed[2] == 1);
    CHECK(main.made.at(1).out.packets == 0);
  }
  // What is in its grace when the main thread's part ends asks nobody who is gone.
  main.remove(3);
  reclaimer.offline(worker);
}

TEST_CASE("child reports: an SA that ends after its child was forgotten brings it not back") {
  MainThread main(2);
  const WorkerId worker{0};
  main.tables->reclaimer->online(worker);
  main.install(1, 1);
  main.carry(1, 5);
  OutboundSa& sa = *main.tables->sad->outbound(main.tables->sad->find(SaId{1})->slot);
  const ChildId child = main.directory.in_order()[1];
  main.remove(1);
  CHECK(main.associations.accounts().of(child, Direction::out).packets == 5);
  main.file.connections[0].children.pop_back();
  main.directory.take(main.file, main.associations.borne());
  main.associations.children_changed();
  sa.sequence += 3;
  main.tables->reclaimer->quiescent(worker);
  main.tables->reclaimer->poll();
  CHECK(main.associations.accounts().of(child, Direction::out).packets == 0);
  main.tables->reclaimer->offline(worker);
}

TEST_CASE("child reports: a child is up all the time when its SAs are replaced in a round") {
  MainThread main(2);
  for (std::uint64_t id = 1001; id <= 1000 + kAtOnce; ++id) main.install(id, 1);
  constexpr std::uint64_t kIn = 900'000, kOut = 900'001;  // last in a round
  main.install(kIn, 0, Direction::in);
  main.install(kOut, 0);
  CHECK(main.finish() == 2);
  REQUIRE(main.made.at(0).up);

  REQUIRE_FALSE(main.work());
  main.install(1, 0, Direction::in);  // first in a round, which has passed them
  main.install(2, 0);
  SECTION("after they have ended") {
    main.stop(kIn);
    main.stop(kOut);
  }
  SECTION("before they end") {}
  main.remove(kIn);
  main.remove(kOut);
  CHECK(main.work());
  CHECK(main.made.at(0).up);
  main.remove(2);
  main.finish();
  CHECK_FALSE(main.made.at(0).up);
}

TEST_CASE("child reports: other children in the middle of a round are those of the next") {
  MainThread main(2);
  for (std::uint64_t id = 1; id <= 2 * kAtOnce; ++id) {
    main.install(id, id % 2);
    main.carry(id, 1);
  }
  main.finish();
  REQUIRE(main.made.size() == 2);
  REQUIRE_FALSE(main.work());
  main.remove(1);
  std::swap(main.file.connections[0].children[0], main.file.connections[0].children[1]);
  main.file.connections[0].children.pop_back();
  main.directory.take(main.file, main.associations.borne());
  main.associations.children_changed();
  CHECK(main.finish() == 1);
  REQUIRE(main.made.size() == 1);
  CHECK(main.made[0].child == "net1");
  CHECK(main.made[0].out.packets == kAtOnce);
}

TEST_CASE("figures: where nobody can ask, nothing is gathered") {
  MainThread main(1);
  main.install(1, 0);
  main.carry(1, 3);
  int filled_in = 0;
  FigureRounds figures(main.associations, main.directory, [&](Figures& next) {
    ++filled_in;
    next.status = {};
  });
  SECTION("off") {
    REQUIRE(figures.listen(std::nullopt));
    CHECK(figures.work());
    CHECK(filled_in == 0);
    CHECK(main.counted(0) == 0);
    CHECK(figures.read().empty());
  }
  SECTION("an address: from the start on, and each time") {
    REQUIRE(figures.listen(wire::Endpoint{test::address("127.0.0.1"), 0}));
    CHECK(filled_in == 1);
    CHECK(packets_out(figures.read()) == 3);
    main.carry(1, 2);
    CHECK(figures.work());
    CHECK(packets_out(figures.read()) == 5);
    CHECK(filled_in == 2);
  }
}

TEST_CASE("associations: a reading of the time-stamp counter from before it began anew is no age") {
  test::need_dpdk();
  const std::uint64_t second = rte_get_tsc_hz();
  CHECK(seconds_between(5 * second, 7 * second) == 2.0);
  CHECK(seconds_between(7 * second + second / 2, 7 * second) == 0.0);  // another core's
  CHECK_FALSE(seconds_between(9 * second, 7 * second));
  CHECK_FALSE(seconds_between(0, 7 * second));
  // Liveness is asked for then, as of a peer that never sent.
  CHECK(idle_milliseconds(rte_get_tsc_cycles() + 10 * second) == ~std::uint64_t{0});
}

TEST_CASE("figures: what is published stays while the next are written") {
  PublishedFigures figures;
  CHECK(figures.read().empty());
  const Figures* const first = &figures.next();
  CHECK(first == &figures.next());
  figures.publish();
  const Figures* const second = &figures.next();
  CHECK(second != first);
  figures.publish();
  CHECK(&figures.next() != second);
  CHECK_FALSE(figures.read().empty());
}

TEST_CASE("figures: what a scrape reads is one set, however many are published meanwhile",
          "[threads]") {
  INFO(test::kRace);
  PublishedFigures figures;
  std::atomic<int> scrapes = 0;
  std::uint64_t mixed = 0, older = 0;
  std::thread scraper([&] {
    for (double last = 0; scrapes < 300;) {
      const auto families = figures.read();
      if (families.empty()) continue;  // before the first
      const double first = value_of(families, "culvert_drops_total");
      if (value_of(families, "culvert_sas") != first) ++mixed;  // which is read last
      if (first < last) ++older;
      last = first;
      ++scrapes;
    }
  });
  for (std::uint64_t set = 1; scrapes < 300; ++set) {
    Figures& next = figures.next();
    next.drops.resize(200);
    for (DropReport& drop : next.drops) drop.packets = set;
    next.status.sas_in = set;
    figures.publish();
  }
  scraper.join();
  CHECK(mixed == 0);
  CHECK(older == 0);
}

}  // namespace culvert::dataplane::control::child_reports
