#include "runtime/privileges.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <catch2/catch.hpp>
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/control_client.hpp"
#include "runtime/control_server.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/metrics_endpoint.hpp"
#include "runtime/notify.hpp"

using namespace culvert::runtime;

namespace {

/// Runs `act` in a child and returns how it ended (waitpid's status).
template <typename Act>
int in_child(Act act) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);  // a child that hangs fails its test instead of holding up the suite
    ::_exit(act() ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

std::string own_status(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return line.substr(key.size() + 2);
  }
  return "";
}

bool is_root() {
  if (::geteuid() == 0) return true;
  WARN("needs root");
  return false;
}

}  // namespace

TEST_CASE("privileges: a user that is not there is an error that says how to make it") {
  const auto user = lookup_user("culvert-no-such-user");
  REQUIRE_FALSE(user);
  CHECK(user.error().find("useradd") != std::string::npos);
  CHECK(lookup_user("root")->uid == 0);
}

TEST_CASE("privileges: a dropped process has no capability, no group of root and no way back") {
  if (!is_root()) return;
  const int status = in_child([] {
    if (!drop_to_user("nobody")) return false;
    const bool no_capabilities =
        own_status("CapPrm") == "0000000000000000" && own_status("CapEff") == "0000000000000000" &&
        own_status("CapInh") == "0000000000000000" && own_status("CapBnd") == "0000000000000000";
    const bool no_root_group = ::getegid() != 0 && ::setgid(0) != 0;
    return no_capabilities && no_root_group && ::getuid() != 0 && ::setuid(0) != 0;
  });
  CHECK(status == 0);
}

TEST_CASE("privileges: what is kept is kept by the calling thread alone, and brings no way back") {
  if (!is_root()) return;
  const int status = in_child([] {
    std::atomic<int> stage{0};
    std::string of_other;
    std::thread other([&] {
      while (stage != 1) std::this_thread::yield();
      std::ifstream file("/proc/thread-self/status");
      for (std::string line; std::getline(file, line);) {
        if (line.starts_with("CapPrm:")) of_other = line.substr(8);
      }
    });
    constexpr std::array<unsigned, 2> kept{CAP_NET_ADMIN, CAP_IPC_LOCK};
    const bool dropped = drop_to_user_but_keep("nobody", kept).has_value();
    stage = 1;
    other.join();
    return dropped && own_status("CapEff") == "0000000000005000" &&
           own_status("CapPrm") == "0000000000005000" &&
           own_status("CapBnd") == "0000000000000000" && of_other == "0000000000000000" &&
           ::getuid() != 0 && ::setuid(0) != 0;
  });
  CHECK(status == 0);
}

TEST_CASE("privileges: dropping to the user one already is changes nothing and succeeds") {
  if (!is_root()) return;
  CHECK(in_child([] { return drop_to_user("nobody") && drop_to_user("nobody"); }) == 0);
}

TEST_CASE("privileges: no core dump, no new privileges") {
  CHECK(in_child([] {
          rlimit limit{};
          return disable_core_dumps() && no_new_privileges() &&
                 ::getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0 &&
                 ::prctl(PR_GET_DUMPABLE) == 0 && own_status("NoNewPrivs") == "1";
        }) == 0);
}

TEST_CASE("privileges: behind the filter a listed system call works, another ends the process") {
  const auto confined = [] {
    return no_new_privileges() && allow_only_system_calls(key_daemon_system_calls());
  };
  CHECK(in_child([&] {
          if (!confined()) return false;
          const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
          return descriptor >= 0 && ::close(descriptor) == 0;
        }) == 0);
  const int status = in_child([&] {
    if (!confined()) return false;
    ::chroot("/");
    return true;
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGSYS);
}

TEST_CASE("privileges: the packet daemon's filter lets DPDK watch the interrupts of its devices") {
  CHECK(in_child([] {
          if (!no_new_privileges() ||
              !allow_only_system_calls(packet_daemon_system_calls(), DeniedCall::fails)) {
            return false;
          }
          return ::epoll_create(1) >= 0;  // not epoll_create1: another system call
        }) == 0);
}

TEST_CASE("privileges: where drivers make calls of their own, a denied one fails with EPERM") {
  CHECK(in_child([] {
          if (!no_new_privileges() ||
              !allow_only_system_calls(packet_daemon_system_calls(), DeniedCall::fails)) {
            return false;
          }
          return ::chroot("/") == -1 && errno == EPERM &&
                 ::execl("/bin/true", "true", nullptr) == -1 && errno == EPERM && ::getppid() > 0;
        }) == 0);
}

namespace {

/// A system call that names a process.
struct NamesProcess {
  const char* what;
  long (*call)(pid_t process);
};
/// Which one may.
constexpr std::array kNamesOneself = std::to_array<NamesProcess>({
    {"tgkill", [](pid_t process) { return ::syscall(SYS_tgkill, process, process, 0); }},
    {"kill", [](pid_t process) { return ::syscall(SYS_kill, process, 0); }},
    {"prlimit64",
     [](pid_t process) {
       rlimit limit{};
       const pid_t named = process == ::getpid() ? 0 : process;
       return ::syscall(SYS_prlimit64, named, RLIMIT_NOFILE, nullptr, &limit);
     }},
    {"F_SETOWN",
     [](pid_t process) {
       const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
       return ::syscall(SYS_fcntl, descriptor, F_SETOWN, process);
     }},
});
/// Whoever they name; the kernel reads 32 bits of a command.
constexpr std::array kNamesAnybody = std::to_array<NamesProcess>({
    {"F_SETOWN_EX",
     [](pid_t process) {
       const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
       const f_owner_ex owner{F_OWNER_PID, process};
       return ::syscall(SYS_fcntl, descriptor, F_SETOWN_EX, &owner);
     }},
    {"F_SETOWN in 64 bits",
     [](pid_t process) {
       const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
       return ::syscall(SYS_fcntl, descriptor, (1UL << 32U) | F_SETOWN, process);
     }},
    {"FIOSETOWN",
     [](pid_t process) {
       const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
       return ::syscall(SYS_ioctl, descriptor, FIOSETOWN, &process);
     }},
    {"SIOCSPGRP",
     [](pid_t process) {
       const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
       return ::syscall(SYS_ioctl, descriptor, (1UL << 32U) | SIOCSPGRP, &process);
     }},
});

bool confined_as_packet_daemon() {
  return no_new_privileges() && leave_other_processes_alone(DeniedCall::fails) &&
         allow_only_system_calls(packet_daemon_system_calls(), DeniedCall::fails);
}
bool confined_as_key_daemon() {
  return no_new_privileges() && leave_other_processes_alone() &&
         allow_only_system_calls(key_daemon_system_calls());
}

}  // namespace

TEST_CASE("privileges: behind the filter a process reaches no other one, of its user either") {
  const pid_t other = ::getpid();
  const auto is_denied = [&](const NamesProcess& one) {
    CAPTURE(one.what);
    // Nothing else is in the way.
    CHECK(in_child([&] { return one.call(other) == 0; }) == 0);
    CHECK(in_child([&] {
            return confined_as_packet_daemon() && one.call(other) == -1 && errno == EPERM;
          }) == 0);
    const int status = in_child([&] {
      if (!confined_as_key_daemon()) return false;
      one.call(other);
      return true;
    });
    REQUIRE(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGSYS);
  };
  for (const NamesProcess& one : kNamesOneself) is_denied(one);
  for (const NamesProcess& one : kNamesAnybody) is_denied(one);
}

TEST_CASE("privileges: behind the filter a process reaches itself") {
  for (const NamesProcess& one : kNamesOneself) {
    CAPTURE(one.what);
    CHECK(in_child([&] { return confined_as_packet_daemon() && one.call(::getpid()) == 0; }) == 0);
  }
  const int status = in_child([] {
    std::signal(SIGABRT, SIG_DFL);  // not the test program's
    if (confined_as_key_daemon()) std::abort();
    return true;
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

// The address sanitizer's own threads make system calls that no daemon of ours makes.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CULVERT_ADDRESS_SANITIZER
#endif
#endif
#if !defined(CULVERT_ADDRESS_SANITIZER) && !defined(__SANITIZE_ADDRESS__)
TEST_CASE("privileges: behind the filter a key daemon's furniture works") {
  std::string base_name = (std::filesystem::temp_directory_path() / "seccomp-XXXXXX").string();
  const std::filesystem::path base = ::mkdtemp(base_name.data());
  const int status = in_child([&] {
    if (!no_new_privileges() || !allow_only_system_calls(key_daemon_system_calls())) return false;
    // Everything after the filter: sockets, threads, timers, files, HTTP.
    const auto loop = EventLoop::create();
    const auto server = ControlServer::create(base / "ike.sock", 0600, ::geteuid());
    const auto metrics = MetricsEndpoint::create("127.0.0.1:0", [] { return MetricFamilies{}; });
    if (!loop || !server || !metrics) return false;
    (*server)->handle("status", [](const nlohmann::json&, const Responder& to) { to.ok({}); });
    if (!(*loop)->add((*server)->descriptor(), [&] { (*server)->poll(); })) return false;
    std::atomic<bool> answered = false, finished = false;
    std::thread operator_asks([&] {
      answered =
          control_request(base / "ike.sock", "status", {}, std::chrono::seconds(20)).has_value();
      finished = true;
    });
    bool timer_ran = false;
    (*loop)->set_timer(now(), [&] { timer_ran = true; });
    while (!finished) (*loop)->run_once(std::chrono::milliseconds(10));
    operator_asks.join();
    std::ifstream file("/etc/hostname");
    std::string line;
    std::getline(file, line);
    notify_status("confined");
    return answered && timer_ran && std::filesystem::exists(base);
  });
  CHECK(status == 0);
  std::filesystem::remove_all(base);
}
#endif

TEST_CASE("privileges: a system call that does not exist is an error at start-up") {
  const std::array<std::string_view, 1> names{"teleport"};
  const auto done = allow_only_system_calls(names);
  REQUIRE_FALSE(done);
  CHECK(done.error().find("teleport") != std::string::npos);
}

TEST_CASE("privileges: the run directory is made, tightened, and never a link") {
  std::string base_name = (std::filesystem::temp_directory_path() / "run-XXXXXX").string();
  const std::filesystem::path base = ::mkdtemp(base_name.data());
  const UserIds self{::geteuid(), ::getegid()};
  const auto mode_of = [](const std::filesystem::path& path) {
    struct stat status{};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return status.st_mode & 07777U;
  };

  CHECK(create_run_directory(base / "culvert" / "hq", self));
  CHECK(mode_of(base / "culvert" / "hq") == 0700U);

  REQUIRE(::chmod((base / "culvert" / "hq").c_str(), 0777) == 0);
  CHECK(create_run_directory(base / "culvert" / "hq", self));
  CHECK(mode_of(base / "culvert" / "hq") == 0700U);

  std::filesystem::create_directory(base / "elsewhere");
  std::filesystem::create_symlink(base / "elsewhere", base / "link");
  CHECK_FALSE(create_run_directory(base / "link", self));
  std::ofstream(base / "file").put('x');
  CHECK_FALSE(create_run_directory(base / "file", self));
  std::filesystem::remove_all(base);
}
