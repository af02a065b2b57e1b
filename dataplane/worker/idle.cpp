#include "dataplane/worker/idle.hpp"

#include <rte_pause.h>
#include <sys/prctl.h>
#include <time.h>

namespace culvert::dataplane {

Idler::Idler(config::IdleMode mode, WorkerId worker, Reclaimer& reclaimer)
    : mode_(mode), worker_(worker), reclaimer_(reclaimer) {
  // The kernel may add 50 µs to each sleep by default, for the sake of batching timers.
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
}

void Idler::was_idle() {
  if (mode_ == config::IdleMode::busy) return;
  const std::uint32_t microseconds = sleep_microseconds(empty_polls_);
  if (empty_polls_ < UINT32_MAX) ++empty_polls_;
  if (microseconds == 0) {
    rte_pause();
    return;
  }
  const timespec duration{0, static_cast<long>(microseconds) * 1000};
  reclaimer_.offline(worker_);
  ::nanosleep(&duration, nullptr);  // woken early by a signal: polls early
  reclaimer_.online(worker_);
}

}  // namespace culvert::dataplane
