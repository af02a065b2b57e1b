// Whether a step's time follows from how much there is: processor time of this thread, beside a
// small table and a large one, in turns. Noise only adds, so the least of several rounds counts. A
// machine that others use may disturb every one of a few rounds, so there are more of them until
// the bound is seen to hold.
#pragma once

#include <algorithm>
#include <ctime>
#include <functional>

namespace culvert::test {

inline constexpr double kMostTimes = 4;
inline constexpr int kRounds = 5, kMostRounds = 60;

inline double seconds_of(const std::function<void()>& work) {
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double before = now();
  work();
  return now() - before;
}

/// How many times as long it takes with the large table; more rounds while that is not as `wanted`.
inline double times_as_long(const std::function<void()>& with_few,
                            const std::function<void()>& with_many,
                            const std::function<bool(double)>& wanted) {
  double few = 0, many = 0;
  for (int round = 0; round < kMostRounds && (round < kRounds || !wanted(many / few)); ++round) {
    const double now_few = seconds_of(with_few), now_many = seconds_of(with_many);
    few = round == 0 ? now_few : std::min(few, now_few);
    many = round == 0 ? now_many : std::min(many, now_many);
  }
  return many / few;
}
inline bool is_constant(double times) { return times <= kMostTimes; }
inline bool grows(double times) { return times > kMostTimes; }

}  // namespace culvert::test
