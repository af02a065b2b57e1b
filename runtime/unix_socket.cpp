#include "runtime/unix_socket.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace culvert::runtime {
namespace {

constexpr int kBacklog = 16;

std::unexpected<std::string> problem(const std::filesystem::path& path, const std::string& what) {
  return std::unexpected(path.string() + ": " + what);
}

/// Removes what a daemon that died left at `path`.
std::expected<void, std::string> clear_stale(const std::filesystem::path& path,
                                             const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return problem(path, std::strerror(errno));
  }
  if (!S_ISSOCK(status.st_mode)) return problem(path, "is in the way and is not a socket");
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe < 0) return problem(path, std::string("socket: ") + std::strerror(errno));
  const int connected =
      ::connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  ::close(probe);
  // EAGAIN: a full backlog, so somebody lives there too.
  if (connected == 0 || error == EAGAIN) {
    return problem(path, "another daemon of this instance answers there");
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return problem(path, std::string("unlink: ") + std::strerror(errno));
  }
  return {};
}

/// The umask would take away of `mode` what it has: it is the opposite of it meanwhile.
bool bind_with(int descriptor, const sockaddr_un& address, mode_t mode) {
  const mode_t before = ::umask(~mode & 0777U);
  const int done = ::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  ::umask(before);  // keeps errno
  return done == 0;
}

/// By a descriptor, and only a socket of ours with one name: what somebody has put in its place, be
/// it a link to another's file or to his socket, stays whose it is.
std::expected<void, std::string> give_away(const std::filesystem::path& path, uid_t owner) {
  const int place = ::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (place < 0) return problem(path, std::string("open: ") + std::strerror(errno));
  std::expected<void, std::string> done;
  struct stat status{};
  if (::fstat(place, &status) != 0) {
    done = problem(path, std::string("stat: ") + std::strerror(errno));
  } else if (!S_ISSOCK(status.st_mode) || status.st_nlink != 1 || status.st_uid != ::geteuid()) {
    done = problem(path, "somebody has put something else in the new socket's place");
  } else if (::fchownat(place, "", owner, static_cast<gid_t>(-1), AT_EMPTY_PATH) != 0) {
    done = problem(path, std::string("chown: ") + std::strerror(errno));
  }
  ::close(place);
  return done;
}

}  // namespace

std::expected<sockaddr_un, std::string> unix_address(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (text.empty() || text.size() >= sizeof(address.sun_path)) {
    return problem(path, "a socket's path has 1 to 107 bytes");
  }
  text.copy(address.sun_path, text.size());
  return address;
}

std::expected<int, std::string> listen_unix(const std::filesystem::path& path, mode_t mode,
                                            uid_t owner) {
  const auto address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  if (auto cleared = clear_stale(path, *address); !cleared) {
    return std::unexpected(std::move(cleared.error()));
  }
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return problem(path, std::string("socket: ") + std::strerror(errno));
  const auto fail = [&](const char* call) {
    auto result = problem(path, std::string(call) + ": " + std::strerror(errno));
    ::close(descriptor);
    return result;
  };
  // Before bind, and by no path: the folder may be another user's, who could have put a link to
  // somebody's file there. The file never exists with wider permissions than asked for.
  if (::fchmod(descriptor, mode) != 0) return fail("fchmod");
  if (!bind_with(descriptor, *address, mode)) return fail("bind");
  if (owner != ::geteuid()) {
    if (auto given = give_away(path, owner); !given) {
      ::close(descriptor);
      return std::unexpected(std::move(given.error()));
    }
  }
  if (::listen(descriptor, kBacklog) != 0) return fail("listen");
  return descriptor;
}

}  // namespace culvert::runtime
