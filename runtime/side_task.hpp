// What would keep an event loop too long, done in a thread beside it.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <string>

#include "runtime/event_loop.hpp"

namespace culvert::runtime {

/// The loop's thread, but for `work`.
class SideTask {
 public:
  /// Empty, or what `work` threw.
  using Ended = std::expected<void, std::string>;

  /// `work` runs in a thread that has the rights, cores and blocked signals of the one that begins
  /// it, and shares with the loop only what nobody else touches until `done`, which the loop calls
  /// behind it. `begins` is the loop's, too, each time before the work: what others are to know of
  /// it before anything else happens. `loop` outlives this. The error is a sentence.
  static std::expected<std::unique_ptr<SideTask>, std::string> create(
      EventLoop& loop, std::function<void()> work, std::function<void(const Ended&)> done,
      std::function<void()> begins = [] {});
  /// Waits for work that is under way; `done` is not called any more.
  virtual ~SideTask() = default;

  /// Begins the work, or where it is under way has it done once more behind that, however often
  /// this is asked.
  virtual void begin() = 0;
  /// It has begun, and `done` was not called yet.
  [[nodiscard]] virtual bool is_under_way() const = 0;
};

}  // namespace culvert::runtime
