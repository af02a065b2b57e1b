#include "runtime/side_task.hpp"

#include <atomic>
#include <csignal>
#include <semaphore>
#include <stdexcept>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using namespace culvert::runtime;
using namespace std::chrono_literals;

namespace {

/// Work that lasts until it is let go.
struct Held {
  explicit Held(EventLoop& loop)
      : task(*SideTask::create(
            loop,
            [this] {
              ++begun;
              gate.acquire();
              ++finished;
            },
            [this](const SideTask::Ended& how) { ended.push_back(how); })) {}

  std::atomic<int> begun = 0, finished = 0;
  std::counting_semaphore<> gate{0};
  std::vector<SideTask::Ended> ended;
  std::unique_ptr<SideTask> task;  ///< last
};

void run_until(EventLoop& loop, const auto& is_so) {
  const Instant deadline = now() + 20s;
  while (!is_so() && now() < deadline) loop.run_once(10ms);
  REQUIRE(is_so());
}

}  // namespace

TEST_CASE("side_task: the loop goes on while the work is under way, and is told of its end") {
  const auto loop = *EventLoop::create();
  Held held(*loop);
  CHECK(held.begun == 0);
  held.task->begin();
  int turns = 0;
  loop->set_timer(now(), [&] { ++turns; });
  run_until(*loop, [&] { return turns == 1 && held.begun == 1; });
  CHECK(held.finished == 0);
  CHECK(held.ended.empty());
  held.gate.release();
  run_until(*loop, [&] { return !held.ended.empty(); });
  CHECK(held.finished == 1);
  CHECK(held.ended.front().has_value());
}

TEST_CASE("side_task: what is asked for meanwhile is done once more behind it, however often") {
  const auto loop = *EventLoop::create();
  Held held(*loop);
  for (int request = 0; request < 5; ++request) held.task->begin();
  held.gate.release();
  run_until(*loop, [&] { return held.begun == 2; });
  CHECK(held.ended.size() == 1);
  held.gate.release();
  run_until(*loop, [&] { return held.ended.size() == 2; });
  loop->run_once(0ms);
  CHECK(held.begun == 2);
  held.task->begin();
  held.gate.release();
  run_until(*loop, [&] { return held.ended.size() == 3; });
}

TEST_CASE("side_task: what the work throws is told, and the next time is another one") {
  const auto loop = *EventLoop::create();
  bool is_bad = true;
  std::vector<SideTask::Ended> ended;
  const auto task = *SideTask::create(
      *loop,
      [&] {
        if (is_bad) throw std::runtime_error("no more memory");
      },
      [&](const SideTask::Ended& how) { ended.push_back(how); });
  task->begin();
  run_until(*loop, [&] { return ended.size() == 1; });
  REQUIRE_FALSE(ended[0].has_value());
  CHECK(ended[0].error() == "no more memory");
  is_bad = false;
  task->begin();
  run_until(*loop, [&] { return ended.size() == 2; });
  CHECK(ended[1].has_value());
}

TEST_CASE("side_task: its end waits for the work, and nobody is told") {
  const auto loop = *EventLoop::create();
  std::atomic<bool> is_finished = false;
  std::binary_semaphore gate{0};
  bool is_told = false;
  auto task = *SideTask::create(
      *loop,
      [&] {
        gate.acquire();
        is_finished = true;
      },
      [&](const SideTask::Ended&) { is_told = true; });
  task->begin();
  std::thread opener([&] { gate.release(); });
  task.reset();
  CHECK(is_finished);
  opener.join();
  loop->run_once(0ms);
  CHECK_FALSE(is_told);
}

TEST_CASE("side_task: signals that the loop takes are left to it") {
  const auto loop = *EventLoop::create();
  REQUIRE(loop->on_signal(SIGHUP, [] {}));
  bool is_blocked = false, is_done = false;
  const auto task = *SideTask::create(
      *loop,
      [&] {
        sigset_t mask;
        pthread_sigmask(SIG_BLOCK, nullptr, &mask);
        is_blocked = sigismember(&mask, SIGHUP) == 1;
      },
      [&](const SideTask::Ended&) { is_done = true; });
  task->begin();
  run_until(*loop, [&] { return is_done; });
  CHECK(is_blocked);
}
