// The data plane's end of the channel: owns the memory, accepts one key daemon at a time.
// Main thread only. Nothing a peer writes can make a call here block, crash or run over.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <sys/types.h>

#include "channel/messages.hpp"

namespace culvert::channel {

struct ServerStatistics {
  std::uint64_t connects = 0, refused_uid = 0;
  std::uint64_t refused_busy = 0;  ///< a second key daemon while the first is alive
  std::uint64_t requests = 0, invalid_requests = 0, torn_indices = 0;
  std::uint64_t datagrams_in = 0, datagrams_out = 0, invalid_datagrams = 0;
  std::uint64_t events_lost = 0, datagrams_lost = 0;  ///< ring full
};

class Server {
 public:
  struct Options {
    std::filesystem::path socket;  ///< channel.sock
    uid_t allowed_uid = 0;         ///< beside root
    /// Memory held for the key daemon from one life to the next, whole pages; 0: none.
    std::size_t held_bytes = 0;
  };
  static std::expected<std::unique_ptr<Server>, std::string> create(const Options& options);
  virtual ~Server() = default;

  /// Descriptors to wait on (listening socket, connection, wake-up eventfd); may change after
  /// `poll`.
  [[nodiscard]] virtual std::span<const int> descriptors() const = 0;
  /// Accepts, notices disconnects. Returns true when a key daemon connected or went away; once,
  /// when one went away and another is connected: the descriptors may have the same numbers all the
  /// same.
  virtual bool poll() = 0;
  [[nodiscard]] virtual bool connected() const = 0;
  /// Why there is no held memory although it was asked for; empty: there is, or it was not.
  [[nodiscard]] virtual const std::string& held_problem() const = 0;

  /// The next valid request; invalid ones are counted, answered `invalid_field` (`unknown_request`
  /// for an unknown type) where they have an id,
  /// and skipped. The caller wipes an InstallSa's key. The slot in the ring is wiped before it
  /// returns.
  [[nodiscard]] virtual std::optional<Request> next_request() = 0;
  [[nodiscard]] virtual std::optional<Datagram> next_datagram() = 0;  ///< IKE → network
  /// False (and counted) when nobody is connected or the ring is full. Places are kept free for the
  /// completions of all requests taken, so a completion is not lost to a snapshot or to a client
  /// that reads late: `next_request` holds back until they are read.
  virtual bool send(const Event& event) = 0;
  /// How many more events that are no completions the key daemon's ring takes; 0 without a key
  /// daemon.
  [[nodiscard]] virtual std::size_t event_room() = 0;
  virtual bool send(const Datagram& datagram) = 0;  ///< network → IKE
  /// How many more datagrams the key daemon's ring takes; 0 without a key daemon.
  [[nodiscard]] virtual std::size_t datagram_room() = 0;
  /// Wakes the other side once if anything was sent since the last call.
  virtual void flush() = 0;
  [[nodiscard]] virtual const ServerStatistics& statistics() const = 0;
};

}  // namespace culvert::channel
