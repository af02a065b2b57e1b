// Outbound SAs by what a packet of theirs shows: SPI and destination. The peer chooses the SPI, and
// may choose the same one for all of its SAs: no step goes through those, nor through all of a
// table that grows. Pure; main thread.
#pragma once

#include <compare>
#include <cstdint>
#include <iterator>
#include <optional>
#include <set>

#include "channel/messages.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

class OutboundIndex {
 public:
  void add(std::uint32_t spi, const wire::IpAddress& remote, channel::SaId sa) {
    sas_.insert({spi, remote, sa});
  }
  void remove(std::uint32_t spi, const wire::IpAddress& remote, channel::SaId sa) {
    sas_.erase({spi, remote, sa});
  }
  /// Of several the one with the highest identifier, as a rule the newest: which of them a packet
  /// is of nobody but the peer can tell.
  [[nodiscard]] std::optional<channel::SaId> find(std::uint32_t spi,
                                                  const wire::IpAddress& remote) const {
    const auto behind = sas_.upper_bound({spi, remote, channel::SaId{~std::uint64_t{0}}});
    if (behind == sas_.begin()) return std::nullopt;
    const Entry& last = *std::prev(behind);
    if (last.spi != spi || last.remote != remote) return std::nullopt;
    return last.sa;
  }

 private:
  struct Entry {
    std::uint32_t spi = 0;
    wire::IpAddress remote;
    channel::SaId sa{};
    friend auto operator<=>(const Entry&, const Entry&) = default;
  };
  std::set<Entry> sas_;
};

}  // namespace culvert::dataplane::control
