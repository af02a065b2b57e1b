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
/// success. Threads that run already change along and keep no capability.
[[nodiscard]] Done drop_to_user(const std::string& name);
/// The same, but the calling thread keeps `capabilities` (CAP_…), permitted and effective.
[[nodiscard]] Done drop_to_user_but_keep(const std::string& name,
                                         std::span<const unsigned> capabilities);

/// No exec can raise privileges from now on (PR_SET_NO_NEW_PRIVS).
[[nodiscard]] Done no_new_privileges();

/// Keys do not end in a core file, nor can another process of the same user attach
/// (PR_SET_DUMPABLE, RLIMIT_CORE).
[[nodiscard]] Done disable_core_dumps();

/// Lets this process lock as much memory as it likes, if it still may say so (root): best effort,
/// the limit of whoever started it stays otherwise.
void lift_locked_memory_limit();

/// What a system call that is not allowed does: SIGSYS for the whole process, or EPERM for its
/// caller. The latter where drivers that we do not know make calls of their own.
enum class DeniedCall { ends_the_process, fails };
/// From now on no thread of this process signals or limits another process, makes it the owner of a
/// file's signals or types into a terminal, whatever their users are. For a process that does not
/// fork. Needs no_new_privileges; call it before allow_only_system_calls, whose lists have no
/// seccomp(2).
[[nodiscard]] Done leave_other_processes_alone(DeniedCall denied = DeniedCall::ends_the_process);

/// From now on only `allowed` system calls (names as in syscalls(2)) are made, in every thread.
/// Needs no_new_privileges. A name the kernel's headers do not know is an error.
[[nodiscard]] Done allow_only_system_calls(std::span<const std::string_view> allowed,
                                           DeniedCall denied = DeniedCall::ends_the_process);

/// The calls an event-loop daemon with sockets, timers, the channel's memory, files it re-reads at
/// a reload, and metrics threads makes after start-up: culvert-ike's list.
[[nodiscard]] std::span<const std::string_view> key_daemon_system_calls();

/// The same for culvert-dataplane after its devices are open: what the loop, the drivers' sending
/// and receiving, growing memory for a reload and closing devices need. No exec.
[[nodiscard]] std::span<const std::string_view> packet_daemon_system_calls();

/// Makes `path` (and its parents, 0755) owned by `owner` with mode 0700, or brings an existing one
/// to that. A symbolic link in its place is refused.
[[nodiscard]] Done create_run_directory(const std::filesystem::path& path, UserIds owner);

}  // namespace culvert::runtime
