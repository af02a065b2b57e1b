// How long the main thread is at what the key daemon asks for, when that is as dear as it can be.
#include <catch2/catch.hpp>

#include "tests/unit/dataplane/requests_site.hpp"

namespace culvert::dataplane::control::requests {
namespace {

/// Sixteen networks of sixteen lengths.
channel::SelectorSet networks(std::uint32_t in, std::uint32_t number) {
  channel::SelectorSet set;
  for (std::uint8_t length = 17; length < 33; ++length) {
    const std::uint32_t place = (number << (32U - length)) & 0xffffU;
    set.items[set.count++] = wire::TrafficSelector::of({wire::IpAddress::v4(in + place), length});
  }
  return set;
}

void ask_for_policies(Site& site, std::uint32_t count, std::uint32_t first = 1) {
  for (std::uint32_t number = first; number < first + count; ++number) {
    auto request = channel::test::request(RequestType::install_policy, number);
    channel::InstallPolicy& policy = request.body.install_policy;
    policy = {};
    policy.policy = channel::PolicyId{number};
    policy.child_id = site.child();
    policy.outbound = SaId{1};
    // Of more shapes with each.
    policy.local_selectors = networks(0x0a010000, number);
    policy.local_selectors.count = 1 + number % 16;
    policy.remote_selectors = networks(0x0a020000, number);
    REQUIRE(site.client->send(request));
  }
}

}  // namespace

TEST_CASE("requests: a turn ends by time, however dear what is asked for") {
  Site site;
  site.connect();
  site.install(1);
  ask_for_policies(site, 40);
  Site::look = Requests::kTurn / 4;
  std::size_t answered = 0;
  for (int turns = 0; answered < 40; ++turns) {
    REQUIRE(turns < 20);
    site.turn();
    const auto completions = site.read(EventType::completion);
    CHECK(completions.size() <= 4);
    answered += completions.size();
  }
}

TEST_CASE("requests: one that takes longer than a turn is answered in one") {
  Site site;
  site.connect();
  site.install(1);
  ask_for_policies(site, 3);
  Site::look = 2 * Requests::kTurn;
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(site.turn() == Instant::zero());
    CHECK(site.read(EventType::completion).size() == 1);
  }
  CHECK_FALSE(site.turn().has_value());
}

TEST_CASE("requests: as many policies as there may be, of many selectors, are over the budget") {
  Site site;
  site.file.dataplane.limits.policies = 64;
  site.policies.publish();
  site.connect();
  site.install(1);
  std::size_t taken = 0, refused = 0;
  for (std::uint32_t time = 0; time < 4; ++time) {
    ask_for_policies(site, 64, 1 + 64 * time);
    while (site.turn()) {
    }
    for (const auto& event : site.read(EventType::completion)) {
      const auto outcome = event.body.completion.outcome;
      taken += outcome == channel::Outcome::ok ? 1 : 0;
      refused += outcome == channel::Outcome::over_budget ? 1 : 0;
    }
  }
  // Of the 64 that there may be: each is hundreds of rules, and all have 32 for each of the 64.
  CHECK(taken > 0);
  CHECK(taken < 16);
  CHECK(taken + refused == 256);
  CHECK(site.policies.budget().rules() <= std::size_t{32} * 64);
  // What each of them has replaced does not pile up.
  CHECK(site.tables->reclaimer->pending() < 8);
}

}  // namespace culvert::dataplane::control::requests
