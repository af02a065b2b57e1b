// How a key daemon gets in: the server's one message on the socket, and the descriptors with it.
//
// After `connect` the server checks the peer's uid (SO_PEERCRED) and sends a Greeting. With
// Welcome::ok descriptors come along (SCM_RIGHTS): the memory, the bell, and where there is one the
// memory held for the key daemon (held_memory.hpp). Nothing else is ever said on this socket; its
// end of file tells either side that the other is gone.
//
// The bell is one end of a socket pair, not an eventfd: an eventfd's file description, O_NONBLOCK
// included, would be shared with the peer, who could clear the flag, saturate the counter and so
// block our write. A send with MSG_DONTWAIT cannot be blocked by anybody (docs/decisions).
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <type_traits>

#include <sys/types.h>

#include "channel/mapping.hpp"

namespace culvert::channel {

enum class Welcome : std::uint32_t {
  ok = 0,
  uid_refused,  ///< neither root nor the service user
  busy,         ///< another key daemon is connected and alive
  no_memory,    ///< the server could not make the memory; its log says why
};

/// First bytes on the connection, server → client.
struct Greeting {
  std::uint64_t magic;
  std::uint32_t layout_version;
  Welcome welcome;
};
static_assert(sizeof(Greeting) == 16 && std::is_trivially_copyable_v<Greeting>);

/// What a client holds after the handshake.
struct Admission {
  Descriptor connection, memory, bell;
  Descriptor held;  ///< not valid: the server has none
};

/// A non-blocking listening socket at `path`, mode 0600, owned by `owner`; a dead server's file is
/// replaced, a living one's is an error.
std::expected<Descriptor, std::string> listen_at(const std::filesystem::path& path, uid_t owner);
/// Connects, without waiting for the Greeting: it makes the connection readable.
std::expected<Descriptor, std::string> knock(const std::filesystem::path& path);
/// Takes the Greeting from a readable connection. Never blocks.
std::expected<Admission, std::string> take_greeting(const std::filesystem::path& path,
                                                    Descriptor connection);
/// Both. Waits for the server at most two seconds: not for event loops.
std::expected<Admission, std::string> enter(const std::filesystem::path& path);

/// Sends the Greeting; `memory`, `bell` and, unless -1, `held` (only with Welcome::ok) are
/// duplicated to the peer. Non-blocking.
bool greet(int connection, Welcome welcome, int memory = -1, int bell = -1, int held = -1);

/// The uid behind a connection; nullopt-like (uid_t)-1 when the system does not tell.
uid_t peer_uid(int connection);
/// Whether the other end is gone, or spoke although it has nothing to say.
bool is_over(int connection);

/// Rings: wakes whoever waits on the other end. Never blocks.
void ring_bell(int bell);
/// Takes the pending rings, a bounded number. Never blocks.
void hear_bell(int bell);

}  // namespace culvert::channel
