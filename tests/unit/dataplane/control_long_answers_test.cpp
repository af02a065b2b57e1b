// Answers that tell of every SA, child or policy, made in slices while these come and go.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

#include <catch2/catch.hpp>
#include <spdlog/fmt/fmt.h>

#include "dataplane/control/long_answers.hpp"
#include "dataplane/control/report_json.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/main_thread.hpp"

namespace culvert::dataplane::control::long_answers {
namespace {

using channel::Direction;
using channel::SaId;
using nlohmann::json;
using test_main::MainThread;

constexpr std::size_t kSasAtOnce = kSasASlice, kItems = kItemsASlice;

ListSources sources(MainThread& main) { return {*main.tables, main.associations, main.directory}; }

/// An answer, as far as it is made.
template <typename Answer>
class Asked {
 public:
  template <typename... Arguments>
  explicit Asked(MainThread& main, const Arguments&... arguments)
      : answer_(sources(main), arguments...) {}

  /// True: that was the last.
  bool slice() { return answer_.make_slice(text); }
  /// To its end; how many slices that took.
  std::size_t finish() {
    std::size_t slices = 1;
    while (!slice()) ++slices;
    return slices;
  }
  /// Items that the text has up to now, by a field that each has once.
  [[nodiscard]] std::size_t items(std::string_view field) const {
    const std::string key = '"' + std::string(field) + "\":";
    std::size_t count = 0;
    for (auto at = text.find(key); at != std::string::npos; at = text.find(key, at + 1)) ++count;
    return count;
  }
  [[nodiscard]] json result() const { return json::parse(text); }

  std::string text;

 private:
  Answer answer_;
};

std::multiset<std::string> ids(const json& sas) {
  std::multiset<std::string> all;
  for (const json& sa : sas) all.insert(sa["id"]);
  return all;
}
std::string id_text(std::uint64_t id) { return fmt::format("{:016x}", id); }

/// What an answer made in one turn has of children.
std::vector<ChildReport> children_at_once(MainThread& main) {
  std::unordered_map<ChildId, ChildSums> sums;
  for (const ChildId child : main.directory.in_order()) {
    for (const Direction direction : {Direction::in, Direction::out}) {
      sums[child].totals[static_cast<std::size_t>(direction)] =
          main.associations.accounts().of(child, direction);
    }
  }
  main.tables->sad->for_each([&](const SaRecord& record) {
    sums[record.spec.child_id].add(record.spec.direction, main.tables->sad->traffic(record),
                                   main.associations.is_live(record));
  });
  std::vector<ChildReport> reports;
  for (const ChildId child : main.directory.in_order()) {
    reports.push_back(child_report(child, main.directory.name(child), sums[child], {}, 0));
  }
  return reports;
}

std::uint64_t packets_of(const json& status, std::size_t child) {
  return status["children"].at(child)["out"]["packets"];
}

PolicyEntry policy(std::uint64_t place, SlotIndex outbound = kNoSlot) {
  PolicyEntry entry;
  entry.rank = {1, place};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.policy = channel::PolicyId{place + 1};
  entry.local = {wire::TrafficSelector::of(test::prefix("10.1.0.0/24"))};
  entry.remote = {wire::TrafficSelector::of(test::prefix("10.2.0.0/24"))};
  entry.outbound = outbound;
  return entry;
}

}  // namespace

TEST_CASE("long answers: so many SAs a slice, and all together are the text of one turn") {
  MainThread main(2);
  constexpr std::size_t kSas = 3 * kItems + 10;
  for (std::uint64_t id = 1; id <= kSas; ++id) main.install(id, id % 2);
  Asked<SasAnswer> asked(main);
  for (std::size_t slice = 1; slice <= 3; ++slice) {
    CHECK_FALSE(asked.slice());
    CHECK(asked.items("spi") == slice * kItems);
  }
  CHECK(asked.slice());

  json at_once = json::array();
  main.tables->sad->for_each([&](const SaRecord& record) {
    at_once.push_back(to_json(sa_report(record, sources(main), runtime::now())));
  });
  json result = asked.result();
  CHECK(asked.text == runtime::control_text(result));  // no byte but those of the values
  for (json* const list : {&at_once, &result["sas"]}) {
    std::sort(list->begin(), list->end(),
              [](const json& one, const json& other) { return one["id"] < other["id"]; });
    for (json& sa : *list) sa["age_seconds"] = 0;
  }
  CHECK(result == json{{"sas", at_once}});
}

TEST_CASE("long answers: SAs are listed the newest first, and few in one slice") {
  MainThread main(1);
  Asked<SasAnswer> none(main);
  CHECK(none.finish() == 1);
  CHECK(none.text == R"({"sas":[]})");
  for (std::uint64_t id = 1; id <= kItems; ++id) main.install(id, 0);
  Asked<SasAnswer> asked(main);
  CHECK(asked.finish() == 1);
  CHECK(asked.result()["sas"].front()["id"] == id_text(kItems));
  CHECK(asked.result()["sas"].back()["id"] == id_text(1));
}

TEST_CASE("long answers: an SA that goes between slices is out, whichever it is") {
  MainThread main(1);
  constexpr std::uint64_t kSas = 2 * kItems;
  for (std::uint64_t id = 1; id <= kSas; ++id) main.install(id, 0);
  Asked<SasAnswer> asked(main);
  REQUIRE_FALSE(asked.slice());
  constexpr std::uint64_t kLast = kSas - kItems + 1, kNext = kLast - 1;
  main.remove(kLast);  // was told of
  SECTION("the next") { main.remove(kNext); }
  SECTION("all that were to come") {
    for (std::uint64_t id = 1; id <= kNext; ++id) main.remove(id);
  }
  SECTION("all there are") {
    for (std::uint64_t id = 1; id <= kSas; ++id) {
      if (id != kLast) main.remove(id);
    }
  }
  asked.finish();
  const auto told = ids(asked.result()["sas"]);
  CHECK(told.count(id_text(kLast)) == 1);
  CHECK(told.count(id_text(kNext)) == 0);
  CHECK(told.count(id_text(1)) == (main.tables->sad->find(SaId{1}) == nullptr ? 0 : 1));
}

TEST_CASE("long answers: whatever comes and goes, what stays is told of once") {
  const auto seed = test::random_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  MainThread main(3);
  std::set<std::uint64_t> living;
  const auto come = [&] {
    const std::uint64_t id = random() % 100'000 + 1;
    if (living.insert(id).second) main.install(id, id % 3);
  };
  while (living.size() < 10 * kItems) come();
  auto stays = living;
  Asked<SasAnswer> sas(main);
  Asked<StatusAnswer> status(main, StatusReport{});
  bool are_over = false;
  while (!are_over) {
    are_over = sas.slice();
    for (int step = 0; step < 40; ++step) {
      come();
      auto gone = living.lower_bound(random() % 100'000);
      if (gone == living.end()) gone = living.begin();
      main.remove(*gone);
      stays.erase(*gone);
      living.erase(gone);
    }
  }
  status.finish();
  const auto told = ids(sas.result()["sas"]);
  for (const std::uint64_t id : stays) CHECK(told.count(id_text(id)) == 1);
  for (const std::string& id : told) CHECK(told.count(id) == 1);
}

TEST_CASE("long answers: status looks at so many SAs a slice and no more") {
  MainThread main(1);
  constexpr std::uint64_t kSas = 3 * kSasAtOnce + 10;
  for (std::uint64_t id = 1; id <= kSas; ++id) main.install(id, 0);
  Asked<StatusAnswer> asked(main, StatusReport{});
  // Each slice finds a packet more in each SA: the sum says how many it looked at.
  for (std::size_t slice = 1; slice <= 4; ++slice) {
    for (std::uint64_t id = 1; id <= kSas; ++id) main.carry(id, 1);
    CHECK(asked.slice() == (slice == 4));
    CHECK(asked.items("directions") == (slice == 4 ? 1 : 0));
  }
  CHECK(packets_of(asked.result(), 0) == kSasAtOnce * (1 + 2 + 3) + 10 * 4);
}

TEST_CASE("long answers: status looks at so many SAs of all its children together") {
  MainThread main(4);
  constexpr std::uint64_t kOfEach = kSasAtOnce / 2 + 1;
  for (std::uint64_t id = 0; id < 4 * kOfEach; ++id) main.install(id + 1, id / kOfEach);
  Asked<StatusAnswer> asked(main, StatusReport{});
  for (const std::size_t whole : {1U, 3U}) {
    CHECK_FALSE(asked.slice());
    CHECK(asked.items("directions") == whole);
  }
  CHECK(asked.slice());
}

TEST_CASE("long answers: status tells of so many children a slice, SAs or not") {
  constexpr std::size_t kChildren = 2 * kItems + 1;
  MainThread main(kChildren);
  Asked<StatusAnswer> asked(main, StatusReport{});
  for (std::size_t slice = 1; slice <= 2; ++slice) {
    CHECK_FALSE(asked.slice());
    CHECK(asked.items("directions") == slice * kItems);
  }
  CHECK(asked.slice());
  CHECK(asked.result()["children"].back()["child"] == "net" + std::to_string(kChildren - 1));
}

TEST_CASE("long answers: a status in slices is the one of one turn, byte for byte") {
  constexpr std::size_t kChildren = 300;
  MainThread main(kChildren);
  for (std::uint64_t id = 1; id <= 3000; ++id) {
    main.install(id, id * id % kChildren, id % 3 == 0 ? Direction::in : Direction::out);
    if (id % 3 != 0) main.carry(id, id);
  }
  for (std::uint64_t id = 1; id <= 3000; id += 7) main.remove(id);
  for (std::uint64_t id = 2; id <= 3000; id += 7) main.stop(id);
  StatusReport status;
  status.instance = R"("children":[])";
  status.interfaces.emplace_back().name = R"("children":[])";
  Asked<StatusAnswer> asked(main, status);
  CHECK(asked.finish() > 2);
  status.children = children_at_once(main);
  CHECK(asked.text == runtime::control_text(to_json(status)));
}

TEST_CASE("long answers: an SA that ends in the middle of its child counts once in its status") {
  MainThread main(1);
  constexpr std::uint64_t kFirst = 1, kLast = 900'000;
  for (std::uint64_t id = 1; id <= kSasAtOnce; ++id) main.install(id, 0);
  main.install(kLast, 0);
  main.carry(kFirst, 5);
  main.carry(kLast, 5);
  Asked<StatusAnswer> asked(main, StatusReport{});
  REQUIRE_FALSE(asked.slice());
  for (const std::uint64_t id : {kFirst, kLast}) {
    main.carry(id, 3);
    main.remove(id);
  }
  CHECK(asked.slice());
  CHECK(packets_of(asked.result(), 0) == 5 + 8);  // as it was at its turn; all that it carried
  Asked<StatusAnswer> after(main, StatusReport{});
  after.finish();
  CHECK(packets_of(after.result(), 0) == 8 + 8);
}

TEST_CASE("long answers: a child is up when its last SAs are replaced in the middle of it") {
  MainThread main(1);
  for (std::uint64_t id = 1001; id <= 1000 + kSasAtOnce; ++id) {
    main.install(id, 0);
    main.stop(id);
  }
  constexpr std::uint64_t kIn = 900'000, kOut = 900'001;
  main.install(kIn, 0, Direction::in);
  main.install(kOut, 0);
  Asked<StatusAnswer> asked(main, StatusReport{});
  REQUIRE_FALSE(asked.slice());
  main.install(1, 0, Direction::in);  // whose turns are over
  main.install(2, 0);
  main.remove(kIn);
  main.remove(kOut);
  CHECK(asked.slice());
  CHECK(asked.result()["children"][0]["up"] == true);
}

TEST_CASE("long answers: other children in the middle of a status") {
  MainThread main(kItems + 2);
  Asked<StatusAnswer> asked(main, StatusReport{});
  REQUIRE_FALSE(asked.slice());
  auto& children = main.file.connections[0].children;
  children.erase(children.begin() + kItems);  // whose turn was next
  std::swap(children.front(), children.back());
  main.directory.take(main.file, main.associations.borne());
  main.associations.children_changed();
  CHECK(asked.slice());
  const json told = asked.result()["children"];
  CHECK(told.size() == kItems + 1);
  CHECK(told.back()["child"] == "net" + std::to_string(kItems + 1));
}

TEST_CASE("long answers: whoever leaves between slices is forgotten, several ask at once") {
  MainThread main(2);
  for (std::uint64_t id = 1; id <= 2 * kSasAtOnce; ++id) {
    main.install(id, 0);
    main.carry(id, 1);
  }
  Asked<StatusAnswer> stays(main, StatusReport{});
  REQUIRE_FALSE(stays.slice());
  {
    Asked<StatusAnswer> leaves(main, StatusReport{});
    REQUIRE_FALSE(leaves.slice());
  }
  main.remove(1);
  main.remove(2 * kSasAtOnce);
  Asked<StatusAnswer> other(main, StatusReport{});
  stays.finish();
  other.finish();
  CHECK(packets_of(stays.result(), 0) == 2 * kSasAtOnce);
  CHECK(packets_of(other.result(), 0) == 2 * kSasAtOnce);
}

TEST_CASE("long answers: so many policies a slice, the default behind them") {
  MainThread main(1);
  main.install(7, 0);
  const SlotIndex outbound = main.tables->sad->find(SaId{7})->slot;
  constexpr std::size_t kPolicies = 2 * kItems + 10;
  for (std::uint64_t place = 0; place < kPolicies; ++place) {
    main.tables->spd->insert(policy(place, place % 2 == 0 ? outbound : kNoSlot));
  }
  Asked<PoliciesAnswer> asked(main);
  for (std::size_t slice = 1; slice <= 2; ++slice) {
    CHECK_FALSE(asked.slice());
    CHECK(asked.items("origin") == slice * kItems);
  }
  CHECK(asked.slice());
  json list = json::array();
  for (const PolicyEntry& entry : main.tables->spd->entries()) {
    list.push_back(to_json(policy_report(entry, sources(main)), list.size()));
  }
  CHECK(list[0]["outbound_spi"] == "0x00000007");
  CHECK(list[1]["outbound_spi"].is_null());
  list.push_back(to_json(default_policy_report(*main.tables), list.size()));
  CHECK(asked.text == runtime::control_text({{"policies", list}}));
}

TEST_CASE("long answers: the default counts what it refuses") {
  MainThread main(1);
  main.tables->counters[0].drop(DropDirection::out, DropReason::no_policy_match, 5);
  main.tables->main_counters().drop(DropDirection::in, DropReason::no_policy_match, 2);
  main.tables->counters[0].drop(DropDirection::out, DropReason::no_route, 9);
  CHECK(to_json(default_policy_report(*main.tables), 0)["packets"] == 7);
  main.tables->spd->replace({}, config::PolicyAction::bypass);
  CHECK(to_json(default_policy_report(*main.tables), 0)["packets"].is_null());
}

TEST_CASE("long answers: policies and their SAs go between slices") {
  MainThread main(1);
  main.install(7, 0);
  const SlotIndex outbound = main.tables->sad->find(SaId{7})->slot;
  for (std::uint64_t place = 0; place < 2 * kItems; ++place) {
    main.tables->spd->insert(policy(place, outbound));
  }
  Asked<PoliciesAnswer> asked(main);
  REQUIRE_FALSE(asked.slice());
  main.tables->spd->erase(channel::PolicyId{kItems});  // told of last
  std::size_t rest = kItems;
  SECTION("the next") {
    main.tables->spd->erase(channel::PolicyId{kItems + 1});
    --rest;
  }
  SECTION("all") {
    for (std::uint64_t place = 0; place < 2 * kItems; ++place) {
      main.tables->spd->erase(channel::PolicyId{place + 1});
    }
    rest = 0;
  }
  SECTION("another list, as by a reload") {
    main.tables->spd->replace(main.tables->spd->entries());
  }
  SECTION("the SA") { main.remove(7); }
  asked.finish();
  const json list = asked.result()["policies"];
  CHECK(list.size() == kItems + rest + 1);
  CHECK(list[0]["outbound_spi"] == "0x00000007");
  CHECK(list.back()["origin"] == "default");
  if (rest != 0 && main.tables->sad->find(SaId{7}) == nullptr) {
    CHECK(list[kItems]["outbound_spi"].is_null());
  }
}

}  // namespace culvert::dataplane::control::long_answers
