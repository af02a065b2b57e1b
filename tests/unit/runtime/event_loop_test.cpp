#include "runtime/event_loop.hpp"

#include <array>
#include <csignal>
#include <vector>

#include <catch2/catch.hpp>
#include <unistd.h>

using namespace culvert::runtime;
using namespace std::chrono_literals;

namespace {

struct Pipe {
  std::array<int, 2> ends{};
  Pipe() { REQUIRE(::pipe(ends.data()) == 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void write() const { REQUIRE(::write(ends[1], "x", 1) == 1); }
  void read() const {
    char byte = 0;
    REQUIRE(::read(ends[0], &byte, 1) == 1);
  }
};

}  // namespace

TEST_CASE("event_loop: a descriptor's callback runs while it is readable") {
  const auto loop = *EventLoop::create();
  const Pipe pipe;
  int calls = 0;
  REQUIRE(loop->add(pipe.ends[0], [&] { ++calls; }));
  loop->run_once(0ms);
  CHECK(calls == 0);
  pipe.write();
  loop->run_once(0ms);
  loop->run_once(0ms);
  CHECK(calls == 2);  // level-triggered: nobody read it
  pipe.read();
  loop->run_once(0ms);
  CHECK(calls == 2);
  loop->remove(pipe.ends[0]);
  pipe.write();
  loop->run_once(0ms);
  CHECK(calls == 2);
}

TEST_CASE("event_loop: a callback may remove itself and others of the same turn") {
  const auto loop = *EventLoop::create();
  const Pipe first, second;
  int calls = 0;
  const auto remove_both = [&] {
    ++calls;
    loop->remove(first.ends[0]);
    loop->remove(second.ends[0]);
  };
  REQUIRE(loop->add(first.ends[0], remove_both));
  REQUIRE(loop->add(second.ends[0], remove_both));
  first.write();
  second.write();
  loop->run_once(0ms);
  CHECK(calls == 1);
}

TEST_CASE("event_loop: what has the number of a closed descriptor is watched in its place") {
  const auto loop = *EventLoop::create();
  const Pipe first, second;
  int calls_of_first = 0, calls_of_second = 0;
  REQUIRE(loop->add(first.ends[0], [&] { ++calls_of_first; }));
  REQUIRE(::dup2(second.ends[0], first.ends[0]) == first.ends[0]);  // closes the first
  REQUIRE(loop->add(first.ends[0], [&] { ++calls_of_second; }));
  second.write();
  loop->run_once(0ms);
  CHECK(calls_of_first == 0);
  CHECK(calls_of_second == 1);
  // Watched already: another callback, no more.
  int calls_of_third = 0;
  REQUIRE(loop->add(first.ends[0], [&] { ++calls_of_third; }));
  loop->run_once(0ms);
  CHECK(calls_of_second == 1);
  CHECK(calls_of_third == 1);
}

TEST_CASE("event_loop: a descriptor that epoll cannot watch is an error, not a surprise") {
  const auto loop = *EventLoop::create();
  CHECK_FALSE(loop->add(-1, [] {}));
  CHECK_FALSE(loop->add(999'999, [] {}));
}

TEST_CASE("event_loop: timers run in the order of their times, those in the past at once") {
  const auto loop = *EventLoop::create();
  std::vector<int> order;
  const Instant start = now();
  loop->set_timer(start + 2ms, [&] {
    order.push_back(3);
    loop->stop();
  });
  loop->set_timer(start + 1ms, [&] { order.push_back(2); });
  loop->set_timer(Instant{0}, [&] { order.push_back(1); });
  loop->run();
  CHECK(order == std::vector{1, 2, 3});
  CHECK(now() - start >= 2ms);
}

TEST_CASE("event_loop: a cancelled timer does not run, also when another cancels it when due") {
  const auto loop = *EventLoop::create();
  bool ran = false;
  const TimerId early = loop->set_timer(Instant{1}, [&] { ran = true; });
  loop->cancel_timer(early);
  const auto victim = std::make_shared<TimerId>();
  loop->set_timer(Instant{2}, [&, victim] { loop->cancel_timer(*victim); });
  *victim = loop->set_timer(Instant{3}, [&] { ran = true; });
  loop->run_once(0ms);
  loop->run_once(0ms);
  CHECK_FALSE(ran);
  loop->cancel_timer(early);  // once more is no error
}

TEST_CASE("event_loop: a timer that sets itself anew in the past gets one run a turn") {
  const auto loop = *EventLoop::create();
  int runs = 0;
  std::function<void()> again = [&] {
    ++runs;
    loop->set_timer(Instant{0}, again);
  };
  again();
  for (int turns = 0; turns < 5; ++turns) loop->run_once(10ms);
  CHECK(runs == 6);
}

TEST_CASE("event_loop: a signal arrives as a callback, and only those asked for") {
  const auto loop = *EventLoop::create();
  int hangups = 0, terminations = 0;
  REQUIRE(loop->on_signal(SIGHUP, [&] { ++hangups; }));
  REQUIRE(loop->on_signal(SIGTERM, [&] { ++terminations; }));
  ::raise(SIGHUP);
  loop->run_once(0ms);
  CHECK(hangups == 1);
  CHECK(terminations == 0);
  ::raise(SIGTERM);
  loop->run_once(0ms);
  CHECK(terminations == 1);
}

TEST_CASE("event_loop: a stop before run is not forgotten") {
  const auto loop = *EventLoop::create();
  loop->stop();
  loop->run();
  SUCCEED("it came back");
}
