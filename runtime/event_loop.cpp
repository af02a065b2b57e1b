#include "runtime/event_loop.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <map>
#include <utility>

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace culvert::runtime {
namespace {

std::string system_error(const char* call) {
  return std::string(call) + ": " + std::strerror(errno);
}

class EpollLoop final : public EventLoop {
 public:
  EpollLoop(int epoll, int timer) : epoll_(epoll), timer_(timer) {}
  EpollLoop(const EpollLoop&) = delete;
  EpollLoop& operator=(const EpollLoop&) = delete;
  ~EpollLoop() override {
    if (signals_ >= 0) ::close(signals_);
    ::close(timer_);
    ::close(epoll_);
  }

  std::expected<void, std::string> add(int descriptor, Callback on_readable) override {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = descriptor;
    // Whether it is watched only the kernel knows: the number may have been another's, which was
    // closed and with that not watched any more. What is watched already needs no change.
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) != 0 && errno != EEXIST) {
      return std::unexpected(system_error("epoll_ctl"));
    }
    callbacks_[descriptor] = std::make_shared<Callback>(std::move(on_readable));
    return {};
  }

  void remove(int descriptor) override {
    if (callbacks_.erase(descriptor) != 0) {
      ::epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
    }
  }

  TimerId set_timer(Instant when, Callback on_time) override {
    const TimerId id{++last_timer_};
    timers_.emplace(std::pair{when, id}, std::move(on_time));
    when_.emplace(id, when);
    arm();
    return id;
  }

  void cancel_timer(TimerId timer) override {
    const auto found = when_.find(timer);
    if (found == when_.end()) return;
    timers_.erase({found->second, timer});
    when_.erase(found);
    arm();
  }

  std::expected<void, std::string> on_signal(int signal, Callback callback) override {
    sigset_t wanted = mask_;
    if (signal_callbacks_.empty()) sigemptyset(&wanted);
    sigaddset(&wanted, signal);
    if (const int error = ::pthread_sigmask(SIG_BLOCK, &wanted, nullptr); error != 0) {
      errno = error;
      return std::unexpected(system_error("pthread_sigmask"));
    }
    const int descriptor = ::signalfd(signals_, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
    if (descriptor < 0) return std::unexpected(system_error("signalfd"));
    mask_ = wanted;
    signal_callbacks_[signal] = std::move(callback);
    if (signals_ >= 0) return {};
    signals_ = descriptor;
    return add(signals_, [this] { deliver_signals(); });
  }

  void run() override {
    while (!stopped_) turn(-1);
    stopped_ = false;
  }

  void run_once(std::chrono::milliseconds wait) override { turn(static_cast<int>(wait.count())); }

  void stop() override { stopped_ = true; }

 private:
  static constexpr int kEventsPerTurn = 64;

  void turn(int wait_milliseconds) {
    std::array<epoll_event, kEventsPerTurn> events{};
    const int count = ::epoll_wait(epoll_, events.data(), kEventsPerTurn, wait_milliseconds);
    for (int index = 0; index < count; ++index) {
      const int descriptor = events[static_cast<std::size_t>(index)].data.fd;
      if (descriptor == timer_) {
        std::uint64_t expirations = 0;
        (void)!::read(timer_, &expirations, sizeof(expirations));
        continue;
      }
      // Looked up at each event: an earlier callback of this turn may have removed it. Held by the
      // shared pointer while it runs: it may remove itself.
      const auto found = callbacks_.find(descriptor);
      if (found == callbacks_.end()) continue;
      const std::shared_ptr<Callback> callback = found->second;
      (*callback)();
    }
    run_due_timers();
  }

  void run_due_timers() {
    // Only those due at the start: a callback that sets a timer in the past runs in the next turn.
    const Instant due = now();
    const TimerId newest{last_timer_};
    for (auto next = timers_.begin(); next != timers_.end() && next->first.first <= due;) {
      const TimerId id = next->first.second;
      if (id > newest) {
        ++next;
        continue;
      }
      const Callback callback = std::move(next->second);
      timers_.erase(next);
      when_.erase(id);
      callback();
      next = timers_.begin();
    }
    arm();
  }

  /// Sets the timerfd to the earliest timer, if that changed.
  void arm() {
    const Instant earliest = timers_.empty() ? Instant::max() : timers_.begin()->first.first;
    if (earliest == armed_ && earliest > now()) return;
    armed_ = earliest;
    itimerspec setting{};
    if (!timers_.empty()) {
      // All zero would disarm: a timer at or before boot is due at once.
      const Instant when = std::max(earliest, Instant{1});
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(when);
      setting.it_value.tv_sec = seconds.count();
      setting.it_value.tv_nsec = (when - seconds).count();
    }
    ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &setting, nullptr);
  }

  void deliver_signals() {
    signalfd_siginfo info{};
    while (::read(signals_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      const auto found = signal_callbacks_.find(static_cast<int>(info.ssi_signo));
      if (found != signal_callbacks_.end()) found->second();
    }
  }

  int epoll_;
  int timer_;
  int signals_ = -1;
  sigset_t mask_{};
  bool stopped_ = false;
  std::map<int, std::shared_ptr<Callback>> callbacks_;
  std::map<int, Callback> signal_callbacks_;
  std::map<std::pair<Instant, TimerId>, Callback> timers_;
  std::map<TimerId, Instant> when_;
  std::uint64_t last_timer_ = 0;
  Instant armed_ = Instant::max();
};

}  // namespace

Instant now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::expected<std::unique_ptr<EventLoop>, std::string> EventLoop::create() {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return std::unexpected(system_error("epoll_create1"));
  const int timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (timer < 0) {
    std::string problem = system_error("timerfd_create");
    ::close(epoll);
    return std::unexpected(std::move(problem));
  }
  auto loop = std::make_unique<EpollLoop>(epoll, timer);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = timer;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event) != 0) {
    return std::unexpected(system_error("epoll_ctl"));
  }
  return loop;
}

}  // namespace culvert::runtime
