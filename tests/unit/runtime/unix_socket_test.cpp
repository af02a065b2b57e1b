// A daemon's listening socket, in a folder where another user may put something in its place.
#include "runtime/unix_socket.hpp"

#include <filesystem>
#include <functional>
#include <utility>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/unit/runtime/control_daemon.hpp"

namespace {

/// What happens right behind the next `bind`; nothing: as usual.
std::function<void()> after_bind;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

}  // namespace

/// In place of the C library's: the moment between the socket's name and what is done to it.
extern "C" int bind(int descriptor, const sockaddr* address, socklen_t length) noexcept {
  const auto done = static_cast<int>(::syscall(SYS_bind, descriptor, address, length));
  if (after_bind) std::exchange(after_bind, nullptr)();
  return done;
}

namespace culvert::runtime {
namespace {

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status{};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777U;
}

uid_t owner_of(const std::filesystem::path& path) {
  struct stat status{};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_uid;
}

constexpr uid_t kOther = 12345;

}  // namespace

TEST_CASE("unix socket: it has the mode that was asked for, whatever the umask, which stays") {
  const test::Folder folder;
  const mode_t wanted = GENERATE(mode_t{0600}, mode_t{0660}, mode_t{0666});
  const mode_t before = ::umask(0077);
  const auto socket = listen_unix(folder.path / "s", wanted, ::geteuid());
  const mode_t after = ::umask(before);
  REQUIRE(socket.has_value());
  ::close(*socket);
  CHECK(mode_of(folder.path / "s") == wanted);
  CHECK(after == 0077);
}

TEST_CASE("unix socket: what somebody puts in its place keeps its own mode") {
  const test::Folder folder;
  const auto socket = folder.path / "s";
  const auto victim = folder.path / "victim";
  const int file = ::open(victim.c_str(), O_CREAT | O_WRONLY, 0600);
  REQUIRE(file >= 0);
  ::close(file);
  after_bind = [&] {
    std::filesystem::remove(socket);
    std::filesystem::create_symlink(victim, socket);
  };
  const auto listening = listen_unix(socket, 0660, ::geteuid());
  if (listening) ::close(*listening);
  CHECK(after_bind == nullptr);
  CHECK(mode_of(victim) == 0600);
}

TEST_CASE("unix socket: it is given to whom it is for") {
  if (::geteuid() != 0) return;
  const test::Folder folder;
  const auto listening = listen_unix(folder.path / "s", 0600, kOther);
  REQUIRE(listening);
  ::close(*listening);
  CHECK(owner_of(folder.path / "s") == kOther);
}

TEST_CASE("unix socket: what somebody links into its place keeps its owner") {
  if (::geteuid() != 0) return;
  const test::Folder folder;
  const auto socket = folder.path / "s", victim = folder.path / "victim";
  SECTION("a file") {
    const int file = ::open(victim.c_str(), O_CREAT | O_WRONLY, 0600);
    REQUIRE(file >= 0);
    ::close(file);
  }
  SECTION("another's socket") { ::close(listen_unix(victim, 0600, ::geteuid()).value()); }
  after_bind = [&] {
    std::filesystem::remove(socket);
    std::filesystem::create_hard_link(victim, socket);
  };
  CHECK_FALSE(listen_unix(socket, 0660, kOther));
  CHECK(after_bind == nullptr);
  CHECK(owner_of(victim) == 0);
  CHECK(mode_of(victim) == 0600);
}

}  // namespace culvert::runtime
