// The seccomp filter and the daemons' lists for it.
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/privileges.hpp"

namespace culvert::runtime {
namespace {

constexpr std::array kKeyDaemonCalls = std::to_array<std::string_view>({
    // memory (allocators, threads' stacks, the channel's mapping)
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "mremap",
    "mlock",
    "mlock2",
    // descriptors
    "read",
    "readv",
    "pread64",
    "write",
    "writev",
    "pwrite64",
    "close",
    "dup",
    "dup2",
    "dup3",
    "lseek",
    "fcntl",
    "ioctl",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    // files that a reload reads again
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
    "getdents64",
    "readlink",
    "readlinkat",
    "unlink",
    "unlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "umask",
    "getcwd",
    // sockets: control, channel, metrics, service manager
    "socket",
    "socketpair",
    "bind",
    "listen",
    "accept",
    "accept4",
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
    "recvmmsg",
    // waiting and time
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd2",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "signalfd4",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    // threads
    "futex",
    "clone",
    "clone3",
    "set_robust_list",
    "get_robust_list",
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
    "rt_sigtimedwait",
    "sigaltstack",
    "tgkill",
    // who am I
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getrlimit",
    "prlimit64",
    "getrusage",
    "sysinfo",
    "uname",
    "prctl",
    "getrandom",
});

/// Beyond those: memory that DPDK takes and places when a table grows, drivers' waiting and
/// sleeping, threads that go to their cores, files of theirs that are closed and removed at the
/// end.
constexpr std::array kPacketDaemonCalls = std::to_array<std::string_view>({
    "epoll_create",  // DPDK's interrupt thread, whenever a device comes or goes; it panics without
    "flock",
    "get_mempolicy",
    "getcpu",
    "kill",
    "mbind",
    "memfd_create",
    "mincore",
    "msync",
    "munlock",
    "pipe2",
    "rmdir",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getparam",
    "sched_getscheduler",
    "sched_setaffinity",
    "set_mempolicy",
    "setpriority",
});

/// Frees the filter being built; the installed one is the kernel's copy.
class Filter {
 public:
  explicit Filter(std::uint32_t default_action) : context_(::seccomp_init(default_action)) {}
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;
  ~Filter() {
    if (context_ != nullptr) ::seccomp_release(context_);
  }
  [[nodiscard]] scmp_filter_ctx get() const { return context_; }

 private:
  scmp_filter_ctx context_;
};

std::unexpected<std::string> failed(const std::string& what, int negative_errno) {
  return std::unexpected("seccomp: " + what + ": " + std::strerror(-negative_errno));
}

std::uint32_t action_of(DeniedCall denied) {
  return denied == DeniedCall::fails ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_KILL_PROCESS;
}

Done put_in_force(const Filter& filter) {
  // The metrics threads run already: the filter is for them too.
  if (const int error = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1); error != 0) {
    return failed("thread sync", error);
  }
  if (const int error = ::seccomp_load(filter.get()); error != 0) return failed("load", error);
  return {};
}

/// A call that is denied where all of `when` holds.
struct Denial {
  std::string_view name;
  std::vector<scmp_arg_cmp> when;
};

scmp_arg_cmp is_not(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_NE, value, 0};
}
/// The kernel reads the lower half of such an argument alone: so does the filter.
scmp_arg_cmp is_command(std::uint64_t command) {
  return {1, SCMP_CMP_MASKED_EQ, 0xffffffffULL, command};
}

/// Calls by which a process reaches another one of its user without a capability (kill(2),
/// prlimit(2)), or root's shell, on whose terminal it may have been started. A file's owner gets
/// its SIGIO, or the signal that F_SETSIG chooses, SIGKILL among them (fcntl(2)).
std::vector<Denial> denials(pid_t own) {
  const auto self = static_cast<std::uint64_t>(own);
  return {
      {"tgkill", {is_not(0, self)}},
      {"kill", {is_not(0, self)}},
      {"prlimit64", {is_not(0, 0)}},  // 0: the caller
      {"fcntl", {is_command(F_SETOWN), is_not(2, self)}},
      {"fcntl", {is_command(F_SETOWN_EX)}},
      {"ioctl", {is_command(FIOSETOWN)}},
      {"ioctl", {is_command(SIOCSPGRP)}},
      {"ioctl", {is_command(TIOCSPGRP)}},
      {"ioctl", {is_command(TIOCSTI)}},
      {"ioctl", {is_command(TIOCLINUX)}},
  };
}

}  // namespace

std::span<const std::string_view> key_daemon_system_calls() { return kKeyDaemonCalls; }

std::span<const std::string_view> packet_daemon_system_calls() {
  static const std::vector<std::string_view> all = [] {
    std::vector<std::string_view> calls(kKeyDaemonCalls.begin(), kKeyDaemonCalls.end());
    calls.insert(calls.end(), kPacketDaemonCalls.begin(), kPacketDaemonCalls.end());
    return calls;
  }();
  return all;
}

Done leave_other_processes_alone(DeniedCall denied) {
  // A filter of its own, for arguments: of several filters the strictest word holds.
  const Filter filter(SCMP_ACT_ALLOW);
  if (filter.get() == nullptr) return std::unexpected("seccomp: no filter could be made");
  for (const Denial& denial : denials(::getpid())) {
    const int number = ::seccomp_syscall_resolve_name(std::string(denial.name).c_str());
    if (const int error =
            ::seccomp_rule_add_array(filter.get(), action_of(denied), number,
                                     static_cast<unsigned>(denial.when.size()), denial.when.data());
        error != 0) {
      return failed(std::string(denial.name), error);
    }
  }
  return put_in_force(filter);
}

Done allow_only_system_calls(std::span<const std::string_view> allowed, DeniedCall denied) {
  const Filter filter(action_of(denied));
  if (filter.get() == nullptr) return std::unexpected("seccomp: no filter could be made");
  for (const std::string_view name : allowed) {
    const int number = ::seccomp_syscall_resolve_name(std::string(name).c_str());
    if (number == __NR_SCMP_ERROR) {
      return std::unexpected("seccomp: there is no system call \"" + std::string(name) + "\"");
    }
    // Negative: another architecture's call (open on arm64). Nothing to allow.
    if (number < 0) continue;
    if (const int error = ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, number, 0); error != 0) {
      return failed(std::string(name), error);
    }
  }
  return put_in_force(filter);
}

}  // namespace culvert::runtime
