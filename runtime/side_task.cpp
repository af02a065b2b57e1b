#include "runtime/side_task.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <exception>
#include <thread>
#include <utility>

#include <sys/eventfd.h>
#include <unistd.h>

namespace culvert::runtime {
namespace {

class ThreadTask final : public SideTask {
 public:
  ThreadTask(EventLoop& loop, int descriptor, std::function<void()> work,
             std::function<void(const Ended&)> done, std::function<void()> begins)
      : loop_(loop),
        descriptor_(descriptor),
        work_(std::move(work)),
        done_(std::move(done)),
        begins_(std::move(begins)) {}
  ThreadTask(const ThreadTask&) = delete;
  ThreadTask& operator=(const ThreadTask&) = delete;
  ~ThreadTask() override {
    loop_.remove(descriptor_);
    if (thread_.joinable()) thread_.join();
    ::close(descriptor_);
  }

  [[nodiscard]] std::expected<void, std::string> watch() {
    return loop_.add(descriptor_, [this] { ended(); });
  }

  void begin() override {
    if (std::exchange(is_under_way_, true)) {
      is_asked_again_ = true;
      return;
    }
    begins_();
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::exception&) {
      // No thread can be had, or no memory for one: the loop waits rather than that nothing is
      // done.
      run();
    }
  }
  [[nodiscard]] bool is_under_way() const override { return is_under_way_; }

 private:
  void run() {
    try {
      work_();
      how_ = {};
    } catch (const std::exception& thrown) {
      how_ = std::unexpected(thrown.what());
    } catch (...) {
      how_ = std::unexpected("an exception without a text");
    }
    const std::uint64_t one = 1;
    (void)!::write(descriptor_, &one, sizeof(one));
  }

  void ended() {
    std::uint64_t count = 0;
    (void)!::read(descriptor_, &count, sizeof(count));
    // What the thread has written is ours from here on.
    if (thread_.joinable()) thread_.join();
    is_under_way_ = false;
    const bool is_asked_again = std::exchange(is_asked_again_, false);
    done_(how_);
    if (is_asked_again) begin();
  }

  EventLoop& loop_;
  const int descriptor_;
  std::function<void()> work_;
  std::function<void(const Ended&)> done_;
  std::function<void()> begins_;
  Ended how_;  ///< the thread's while it runs
  std::thread thread_;
  bool is_under_way_ = false;
  bool is_asked_again_ = false;
};

}  // namespace

std::expected<std::unique_ptr<SideTask>, std::string> SideTask::create(
    EventLoop& loop, std::function<void()> work, std::function<void(const Ended&)> done,
    std::function<void()> begins) {
  const int descriptor = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (descriptor < 0) return std::unexpected(std::string("eventfd: ") + std::strerror(errno));
  auto task = std::make_unique<ThreadTask>(loop, descriptor, std::move(work), std::move(done),
                                           std::move(begins));
  if (auto watched = task->watch(); !watched) return std::unexpected(watched.error());
  return task;
}

}  // namespace culvert::runtime
