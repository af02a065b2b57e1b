// The key daemon's end of the channel. One thread.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "channel/mapping.hpp"
#include "channel/messages.hpp"

namespace culvert::channel {

struct ClientStatistics {
  std::uint64_t requests = 0, events = 0, invalid_events = 0, torn_indices = 0;
  std::uint64_t datagrams_in = 0, datagrams_out = 0, datagrams_lost = 0;
};

class Client {
 public:
  /// Connects to the data plane's channel.sock, checks the memfd's seals, size, magic and layout
  /// version. The error is a sentence for the log. Waits up to two seconds.
  static std::expected<std::unique_ptr<Client>, std::string> connect(
      const std::filesystem::path& socket);
  /// The same in two steps that never block: a connection, and, once it is readable, the client.
  static std::expected<Descriptor, std::string> begin(const std::filesystem::path& socket);
  static std::expected<std::unique_ptr<Client>, std::string> finish(
      const std::filesystem::path& socket, Descriptor connection);
  virtual ~Client() = default;

  /// The memory that the data plane holds for us (held_memory.hpp); not valid: it has none.
  [[nodiscard]] virtual const Descriptor& held() const = 0;
  [[nodiscard]] virtual int socket_descriptor() const = 0;  ///< readable: the data plane went away
  [[nodiscard]] virtual int event_descriptor() const = 0;   ///< readable: events or datagrams wait
  /// Clears the event descriptor; call before draining.
  virtual void acknowledge() = 0;
  [[nodiscard]] virtual bool alive() = 0;

  [[nodiscard]] virtual std::optional<Event> next_event() = 0;
  [[nodiscard]] virtual std::optional<Datagram> next_datagram() = 0;  ///< network → IKE
  /// False when the ring is full: try again after the next event.
  [[nodiscard]] virtual bool send(const Request& request) = 0;
  virtual bool send(const Datagram& datagram) = 0;  ///< IKE → network; false (counted) when full
  virtual void flush() = 0;
  [[nodiscard]] virtual const ClientStatistics& statistics() const = 0;
};

}  // namespace culvert::channel
