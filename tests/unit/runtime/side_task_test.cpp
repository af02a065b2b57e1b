#include "runtime/side_task.hpp"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <new>
#include <semaphore>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

using namespace culvert::runtime;
using namespace std::chrono_literals;

// The sanitizers have allocators of their own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CULVERT_ADDRESS_SANITIZER
#endif
#endif
#if !defined(CULVERT_ADDRESS_SANITIZER) && !defined(__SANITIZE_ADDRESS__)
#define CULVERT_MEMORY_RUNS_OUT

namespace {

/// This thread's, once.
thread_local bool is_memory_out = false;

}  // namespace

void* operator new(std::size_t bytes) {
  if (!std::exchange(is_memory_out, false)) {
    if (void* const place = std::malloc(bytes)) return place;
  }
  throw std::bad_alloc();
}
void operator delete(void* place) noexcept { std::free(place); }
void operator delete(void* place, std::size_t) noexcept { std::free(place); }

#endif

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

#if defined(CULVERT_MEMORY_RUNS_OUT)
TEST_CASE("side_task: where there is no memory for a thread, the loop does the work") {
  const auto loop = *EventLoop::create();
  std::thread::id worked;
  bool is_done = false;
  const auto task = *SideTask::create(
      *loop, [&] { worked = std::this_thread::get_id(); },
      [&](const SideTask::Ended& how) { is_done = how.has_value(); });
  is_memory_out = true;
  task->begin();
  CHECK_FALSE(is_memory_out);
  CHECK(worked == std::this_thread::get_id());
  CHECK(task->is_under_way());
  run_until(*loop, [&] { return is_done; });
  CHECK_FALSE(task->is_under_way());
}
#endif

TEST_CASE("side_task: the loop says that the work begins before it does, and of the next one too") {
  const auto loop = *EventLoop::create();
  std::vector<std::thread::id> said;
  std::vector<std::size_t> said_before;  // by the thread, which the loop's end of it goes behind
  std::binary_semaphore gate{0};
  int ended = 0;
  const auto task = *SideTask::create(
      *loop,
      [&] {
        gate.acquire();
        said_before.push_back(said.size());
      },
      [&](const SideTask::Ended&) { ++ended; },
      [&] { said.push_back(std::this_thread::get_id()); });
  task->begin();
  CHECK(said.size() == 1);  // before anything else is heard
  task->begin();
  CHECK(said.size() == 1);
  gate.release();
  run_until(*loop, [&] { return ended == 1; });
  CHECK(said.size() == 2);
  gate.release();
  run_until(*loop, [&] { return ended == 2; });
  CHECK(said == std::vector(2, std::this_thread::get_id()));
  CHECK(said_before == std::vector<std::size_t>{1, 2});
}
