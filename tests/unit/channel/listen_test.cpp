// The data plane's listening socket, in a folder where another user may put something in its place.
#include <filesystem>
#include <functional>
#include <utility>

#include <catch2/catch.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel/handshake.hpp"
#include "tests/unit/channel/fixture.hpp"

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

namespace culvert::channel {
namespace {

constexpr uid_t kOther = 12345;

uid_t owner_of(const std::filesystem::path& path) {
  struct stat status{};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_uid;
}

}  // namespace

TEST_CASE("listen: the socket is given to whom it is for") {
  if (::geteuid() != 0) return;
  const test::Folder folder;
  REQUIRE(listen_at(folder.socket(), kOther));
  CHECK(owner_of(folder.socket()) == kOther);
}

TEST_CASE("listen: a socket that somebody links into its place keeps its owner") {
  if (::geteuid() != 0) return;
  const test::Folder folder;
  const auto victim = folder.path / "victim";
  REQUIRE(listen_at(victim, ::geteuid()));
  after_bind = [&] {
    std::filesystem::remove(folder.socket());
    std::filesystem::create_hard_link(victim, folder.socket());
  };
  CHECK_FALSE(listen_at(folder.socket(), kOther));
  CHECK(after_bind == nullptr);
  CHECK(owner_of(victim) == 0);
}

}  // namespace culvert::channel
