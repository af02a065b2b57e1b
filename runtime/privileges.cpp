#include "runtime/privileges.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace culvert::runtime {
namespace {

std::unexpected<std::string> failed(const std::string& call) {
  return std::unexpected(call + ": " + std::strerror(errno));
}

}  // namespace

std::expected<UserIds, std::string> lookup_user(const std::string& name) {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 16384> buffer{};
  const int error = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (error != 0) return std::unexpected("user " + name + ": " + std::strerror(error));
  if (found == nullptr) {
    return std::unexpected("there is no user \"" + name +
                           "\": make it with `useradd --system --shell /usr/sbin/nologin " + name +
                           "`, or name another with `user:`");
  }
  return UserIds{entry.pw_uid, entry.pw_gid};
}

Done drop_to_user(const std::string& name) { return drop_to_user_but_keep(name, {}); }

Done drop_to_user_but_keep(const std::string& name, std::span<const unsigned> capabilities) {
  // 1. who  2. nothing to do?  3. groups, then gid, then uid: each step needs the rights the next
  // takes away  4. capabilities, bounding set included  5. prove that there is no way back
  const auto user = lookup_user(name);
  if (!user) return std::unexpected(user.error());

  const bool already = ::geteuid() == user->uid && ::getuid() == user->uid;
  if (already && user->uid != 0) return {};

  if (::initgroups(name.c_str(), user->gid) != 0) return failed("initgroups");
  if (::setresgid(user->gid, user->gid, user->gid) != 0) return failed("setresgid");

  // While CAP_SETPCAP is still there; the other sets empty themselves when uid 0 is left, unless
  // the thread asks to keep what is permitted.
  ::capng_clear(CAPNG_SELECT_BOUNDS);
  if (::capng_apply(CAPNG_SELECT_BOUNDS) != 0) return failed("capability bounding set");
  if (!capabilities.empty() && ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) {
    return failed("PR_SET_KEEPCAPS");
  }
  if (::setresuid(user->uid, user->uid, user->uid) != 0) return failed("setresuid");
  ::capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned capability : capabilities) {
    const auto sets = static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED);
    if (::capng_update(CAPNG_ADD, sets, capability) != 0) return failed("capabilities");
  }
  if (::capng_apply(CAPNG_SELECT_CAPS) != 0) return failed("capabilities");

  if (user->uid != 0 && (::setuid(0) == 0 || ::geteuid() != user->uid)) {
    return std::unexpected("user " + name + ": root's rights could be taken back");
  }
  return {};
}

Done no_new_privileges() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("PR_SET_NO_NEW_PRIVS");
  return {};
}

Done disable_core_dumps() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return failed("RLIMIT_CORE");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return failed("PR_SET_DUMPABLE");
  return {};
}

void lift_locked_memory_limit() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  (void)::setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

Done create_run_directory(const std::filesystem::path& path, UserIds owner) {
  std::error_code error;
  if (path.has_parent_path()) {
    std::filesystem::create_directories(path.parent_path(), error);
    if (error) {
      return std::unexpected(path.parent_path().string() + ": " + error.message());
    }
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return failed(path.string());
  // Through a descriptor that is surely a folder: what is checked is what is changed.
  const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return failed(path.string());
  struct stat status{};
  Done result;
  if (::fstat(folder, &status) != 0) {
    result = failed(path.string());
  } else if (status.st_uid != owner.uid && ::fchown(folder, owner.uid, owner.gid) != 0) {
    result = failed(path.string() + ": chown");
  } else if (::fchmod(folder, 0700) != 0) {
    result = failed(path.string() + ": chmod");
  }
  ::close(folder);
  return result;
}

}  // namespace culvert::runtime
