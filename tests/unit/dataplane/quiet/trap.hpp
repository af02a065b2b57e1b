// Sees what a thread does that a worker must not do: allocate, free, lock, call the system.
// Allocation and locks by functions of the same name in the test's program, which the dynamic
// linker prefers for DPDK's and IPsec-MB's calls too; system calls by the kernel's user dispatch
// (Linux 5.11), which turns each into a signal while the trap is armed.
#pragma once

#include <cstdint>

namespace culvert::test {

/// What was seen since the trap was armed. A system call that was seen has not been made.
struct Seen {
  std::uint32_t allocations = 0, frees = 0, locks = 0, system_calls = 0;
  long last_system_call = -1;
};

/// False where the kernel cannot tell about system calls: `Seen::system_calls` stays 0.
[[nodiscard]] bool can_see_system_calls();

/// Armed on the calling thread for its life; one at a time.
class Trap {
 public:
  Trap();
  ~Trap();
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;
  [[nodiscard]] Seen seen() const;
};

}  // namespace culvert::test
