// What a daemon gives up: user, capabilities, core dumps, system calls; and the run directory it
// keeps. Errors are sentences that name the call and its errno. Start-up only.
#pragma once

#include <expected>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace culvert::runtime {

using Done = std::expected<void, std::string>;

struct UserIds {
  uid_t uid = 0;
  gid_t gid = 0;
};
/// The error says how to create the user.
[[nodiscard]] std::expected<UserIds, std::string> lookup_user(const std::string& name);

/// Becomes `name` for good: supplementary groups, all gids and uids, every capability dropped from
/// every set, bounding set included. Checks that there is no way back. Already being that user is
/// success. Before threads are started.
[[nodiscard]] Done drop_to_user(const std::string& name);

/// No exec can raise privileges from now on (PR_SET_NO_NEW_PRIVS).
[[nodiscard]] Done no_new_privileges();

/// Keys do not end in a core file, nor can another process of the same user attach
/// (PR_SET_DUMPABLE, RLIMIT_CORE).
[[nodiscard]] Done disable_core_dumps();

/// From now on any system call but `allowed` (names as in syscalls(2)) ends the process with
/// SIGSYS, in every thread. Needs no_new_privileges. A name the kernel's headers do not know is an
/// error.
[[nodiscard]] Done allow_only_system_calls(std::span<const std::string_view> allowed);

/// The calls an event-loop daemon with sockets, timers, the channel's memory, files it re-reads at
/// a reload, and metrics threads makes after start-up: culvert-ike's list.
[[nodiscard]] std::span<const std::string_view> key_daemon_system_calls();

/// Makes `path` (and its parents, 0755) owned by `owner` with mode 0700, or brings an existing one
/// to that. A symbolic link in its place is refused.
[[nodiscard]] Done create_run_directory(const std::filesystem::path& path, UserIds owner);

}  // namespace culvert::runtime
