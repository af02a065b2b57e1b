#include <catch2/catch.hpp>

#include "dataplane/control/acquire_tracker.hpp"
#include "dataplane/control/hold_queue.hpp"

namespace culvert::dataplane::control {

using namespace std::chrono_literals;

TEST_CASE("acquire: one question a child until it is answered") {
  AcquireTracker tracker;
  CHECK(tracker.want(config::ChildId{3}, 1s));
  tracker.asked(config::ChildId{3});
  CHECK_FALSE(tracker.want(config::ChildId{3}, 2s));
  CHECK(tracker.unasked(2s).empty());
  CHECK(tracker.want(config::ChildId{4}, 2s));
  tracker.answered(config::ChildId{3});
  CHECK_FALSE(tracker.is_pending(config::ChildId{3}));
  CHECK(tracker.want(config::ChildId{3}, 3s));
}

TEST_CASE("acquire: a question that was not heard is asked again, ten times a second at most") {
  AcquireTracker tracker;
  REQUIRE(tracker.want(config::ChildId{3}, 1s));
  CHECK_FALSE(tracker.want(config::ChildId{3}, 1099ms));
  CHECK(tracker.want(config::ChildId{3}, 1100ms));  // by the next packet
  CHECK(tracker.unasked(1199ms).empty());
  CHECK(tracker.unasked(1200ms) == std::vector{config::ChildId{3}});  // or without one
  CHECK(tracker.unasked(1299ms).empty());
  tracker.asked(config::ChildId{3});
  CHECK(tracker.unasked(2s).empty());
  CHECK(tracker.expire(6s) == std::vector{config::ChildId{3}});
}

TEST_CASE("acquire: an unanswered question ends after five seconds and may be asked again") {
  AcquireTracker tracker;
  CHECK(tracker.want(config::ChildId{3}, 1s));
  CHECK(tracker.expire(5999ms).empty());
  CHECK(tracker.expire(6s) == std::vector{config::ChildId{3}});
  CHECK(tracker.expire(7s).empty());
  CHECK(tracker.want(config::ChildId{3}, 7s));
}

TEST_CASE("acquire: packets that met a trap lately, in vain, want their child up") {
  AcquireTracker tracker;
  CHECK_FALSE(tracker.is_wanted(config::ChildId{3}, 1s));
  (void)tracker.want(config::ChildId{3}, 1s);
  CHECK(tracker.is_wanted(config::ChildId{3}, 60s));
  CHECK_FALSE(tracker.is_wanted(config::ChildId{3}, 61s));
  // Each packet says so anew, also while the question stands or after it was given up.
  (void)tracker.want(config::ChildId{3}, 4s);
  (void)tracker.expire(10s);
  CHECK(tracker.is_wanted(config::ChildId{3}, 63s));
  CHECK_FALSE(tracker.is_wanted(config::ChildId{4}, 10s));
  tracker.answered(config::ChildId{3});
  CHECK_FALSE(tracker.is_wanted(config::ChildId{3}, 10s));
}

TEST_CASE("hold queue: bounded a key and in total, first in first out") {
  HoldQueue<int, int> queue(2, 3);
  queue.push(1, 10);
  CHECK_FALSE(queue.is_full(1));
  queue.push(1, 11);
  CHECK(queue.is_full(1));
  CHECK_FALSE(queue.is_full(2));
  CHECK(*queue.first(1) == 10);
  CHECK(queue.first(2) == nullptr);
  queue.push(2, 20);
  CHECK(queue.is_full(3));  // three in all
  CHECK(queue.take(1) == std::vector<int>{10, 11});
  CHECK(queue.take(1).empty());
  CHECK(queue.size() == 1);
  queue.push(3, 30);
  CHECK(queue.take_all() == std::vector<int>{20, 30});
  CHECK(queue.size() == 0);
}

}  // namespace culvert::dataplane::control
