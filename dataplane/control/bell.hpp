// How workers wake the main thread: an eventfd that its loop waits on.
#pragma once

#include <cstdint>

#include <sys/eventfd.h>
#include <unistd.h>

namespace culvert::dataplane::control {

class Bell {
 public:
  Bell() : descriptor_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~Bell() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  /// -1 when the system gave none.
  [[nodiscard]] int descriptor() const { return descriptor_; }
  /// Until somebody rings again. Call before looking at what the ringing was for.
  void silence() {
    std::uint64_t count = 0;
    while (read(descriptor_, &count, sizeof(count)) == static_cast<ssize_t>(sizeof(count))) {
    }
  }

 private:
  int descriptor_;
};

}  // namespace culvert::dataplane::control
