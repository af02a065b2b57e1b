#include "ike/fetch/confine.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include <sys/resource.h>
#include <unistd.h>

namespace culvert::ike::fetch {
namespace {

/// Of address space: libraries, and twice the longest list.
constexpr rlim_t kMostMemory = 512UL << 20U;

constexpr std::array kCalls = std::to_array<std::string_view>({
    // memory and descriptors
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "mremap",
    "read",
    "readv",
    "pread64",
    "write",
    "writev",
    "close",
    "lseek",
    "fcntl",
    "ioctl",
    "pipe",
    "pipe2",
    "eventfd2",
    // a resolver's files: hosts, resolv.conf, nsswitch.conf, its libraries
    "open",
    "openat",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "getdents64",
    // sockets
    "socket",
    "socketpair",
    "bind",
    "connect",
    "shutdown",
    "getsockopt",
    "setsockopt",
    "getsockname",
    "getpeername",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    // waiting and time
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    // a process for each transfer, and a resolver's thread in it; no exec
    "fork",
    "clone",
    "clone3",
    "wait4",
    "kill",
    "futex",
    "set_robust_list",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "gettid",
    "exit",
    "exit_group",
    "set_tid_address",
    "restart_syscall",
    "membarrier",
    // signals
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "tgkill",
    // who am I
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "prlimit64",
    "sysinfo",
    "uname",
    "getrandom",
});

/// The user for it, or nobody: never the key daemon's, whose files and sockets are not its
/// business.
runtime::Done drop_rights() {
  if (::geteuid() != 0) return {};
  if (auto own = runtime::drop_to_user("culvert-fetch"); own) return own;
  return runtime::drop_to_user("nobody");
}

}  // namespace

runtime::Done confine() {
  if (auto done = drop_rights(); !done) return done;
  if (auto done = runtime::disable_core_dumps(); !done) return done;
  if (auto done = runtime::no_new_privileges(); !done) return done;
  const rlimit no_file{0, 0};
  const rlimit memory{kMostMemory, kMostMemory};
  if (::setrlimit(RLIMIT_FSIZE, &no_file) != 0 || ::setrlimit(RLIMIT_AS, &memory) != 0) {
    return std::unexpected(std::string("setrlimit: ") + std::strerror(errno));
  }
  // Resolvers make calls that we do not know: they are refused, not fatal.
  return runtime::allow_only_system_calls(kCalls, runtime::DeniedCall::fails);
}

}  // namespace culvert::ike::fetch
