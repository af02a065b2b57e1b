#include "tests/unit/dataplane/quiet/trap.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <ucontext.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#define SYSCALL_DISPATCH_FILTER_ALLOW 0
#define SYSCALL_DISPATCH_FILTER_BLOCK 1
#endif

namespace culvert::test {
namespace {

thread_local bool armed = false;
thread_local Seen noted;
// The kernel reads it at every system call of the thread.
thread_local volatile char selector = SYSCALL_DISPATCH_FILTER_ALLOW;

void count(std::uint32_t Seen::* what) {
  if (armed) ++(noted.*what);
}

/// The call is not made; its caller sees ENOSYS. Returning from here is a system call too, so the
/// trap is blind to system calls afterwards: one is as bad as many.
void on_system_call(int, siginfo_t* info, void* context) {
  selector = SYSCALL_DISPATCH_FILTER_ALLOW;
  ++noted.system_calls;
  noted.last_system_call = info->si_syscall;
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
}

bool dispatch(unsigned long mode) {
  const auto address = mode == PR_SYS_DISPATCH_ON ? &selector : nullptr;
  return ::prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, 0UL, 0UL, address) == 0;
}

}  // namespace

bool can_see_system_calls() {
  const bool can = dispatch(PR_SYS_DISPATCH_ON);
  if (can) dispatch(PR_SYS_DISPATCH_OFF);
  return can;
}

Trap::Trap() {
  struct sigaction action{};
  action.sa_sigaction = on_system_call;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSYS, &action, nullptr);
  // The linker's part of a lock happens before anybody looks.
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  ::pthread_mutex_lock(&mutex);
  ::pthread_mutex_unlock(&mutex);
  noted = Seen{};
  if (dispatch(PR_SYS_DISPATCH_ON)) selector = SYSCALL_DISPATCH_FILTER_BLOCK;
  armed = true;
}

Trap::~Trap() {
  armed = false;
  selector = SYSCALL_DISPATCH_FILTER_ALLOW;
  dispatch(PR_SYS_DISPATCH_OFF);
}

Seen Trap::seen() const { return noted; }

}  // namespace culvert::test

// ---- the linker's choice over libc's: glibc keeps its own under these names
// -----------------------

// NOLINTBEGIN: reserved names are the point.
extern "C" {

void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t bytes) noexcept {
  culvert::test::count(&culvert::test::Seen::allocations);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t items, std::size_t bytes) noexcept {
  culvert::test::count(&culvert::test::Seen::allocations);
  return __libc_calloc(items, bytes);
}
void* realloc(void* memory, std::size_t bytes) noexcept {
  culvert::test::count(&culvert::test::Seen::allocations);
  return __libc_realloc(memory, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  culvert::test::count(&culvert::test::Seen::allocations);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  culvert::test::count(&culvert::test::Seen::allocations);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
  culvert::test::count(&culvert::test::Seen::allocations);
  *memory = __libc_memalign(alignment, bytes);
  return *memory != nullptr ? 0 : ENOMEM;
}
void free(void* memory) noexcept {
  culvert::test::count(&culvert::test::Seen::frees);
  __libc_free(memory);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  culvert::test::count(&culvert::test::Seen::locks);
  using Lock = int (*)(pthread_mutex_t*);
  static const Lock real = reinterpret_cast<Lock>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  return real(mutex);
}
}
// NOLINTEND
