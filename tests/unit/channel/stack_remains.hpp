// What a function leaves of a secret behind itself on the stack.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>

#include <pthread.h>
#include <sys/mman.h>

namespace culvert::channel::test {

/// Runs `task` in a thread whose stack is then looked through: whether it holds these bytes.
inline bool leaves_on_stack(const std::function<void()>& task,
                            std::span<const std::uint8_t> secret) {
  constexpr std::size_t kBytes = std::size_t{1} << 20U;
  void* const memory =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return true;
  pthread_attr_t attributes;
  pthread_t thread{};
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstack(&attributes, memory, kBytes);
  const auto run = [](void* what) -> void* {
    (*static_cast<const std::function<void()>*>(what))();
    return nullptr;
  };
  const int begun = ::pthread_create(&thread, &attributes, run,
                                     const_cast<void*>(static_cast<const void*>(&task)));
  if (begun == 0) ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
  const std::span<const std::uint8_t> stack(static_cast<const std::uint8_t*>(memory), kBytes);
  const bool found = begun != 0 || !std::ranges::search(stack, secret).empty();
  ::munmap(memory, kBytes);
  return found;
}

}  // namespace culvert::channel::test
