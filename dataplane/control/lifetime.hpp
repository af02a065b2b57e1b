// When an SA has lived long enough (RFC 4301 §4.4.2.1). Pure: age and traffic come in.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "channel/messages.hpp"
#include "dataplane/tables/sad.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::dataplane::control {

using runtime::Instant;

enum class ExpiryLevel : std::uint8_t { soft, hard };
struct Expiry {
  ExpiryLevel level{};
  channel::ExpiryCause cause{};
  friend bool operator==(const Expiry&, const Expiry&) = default;
};

/// Traffic of one SA, as the tables count it.
struct Usage {
  std::uint64_t packets = 0, bytes = 0;
  std::uint64_t sequence = 0;  ///< last number used or received
};

/// A counter that has `hertz` cycles a second and stands at `cycles`: where it stands `later`.
/// kNeverEnds: beyond its 64 bits.
[[nodiscard]] std::uint64_t cycles_later(std::uint64_t cycles, Instant later, std::uint64_t hertz);

/// An SA's limits and which of them were announced already: each level is due once.
class LifetimeWatch {
 public:
  LifetimeWatch(const channel::Lifetime& limits, bool esn, Instant installed)
      : limits_(limits), esn_(esn), installed_(installed) {}

  /// What is due now and was not announced, the hard level first.
  [[nodiscard]] std::optional<Expiry> due(const Usage& usage, Instant now) const;
  /// How long it lives yet by its hard limit in time; not above zero: not any more. nullopt: it has
  /// no such limit.
  [[nodiscard]] std::optional<Instant> time_left(Instant now) const;
  /// The key daemon was told.
  void announced(ExpiryLevel level);
  /// The key daemon is the `listener`th that there has been. A new one has been told nothing.
  void set_listener(std::uint32_t listener) {
    if (std::exchange(listener_, listener) != listener) soft_announced_ = hard_announced_ = false;
  }
  [[nodiscard]] bool hard_announced() const { return hard_announced_; }
  [[nodiscard]] Instant installed() const { return installed_; }
  [[nodiscard]] const channel::Lifetime& limits() const { return limits_; }

 private:
  [[nodiscard]] std::optional<channel::ExpiryCause> reached_hard(const Usage& usage,
                                                                 Instant now) const;
  [[nodiscard]] std::optional<channel::ExpiryCause> reached_soft(const Usage& usage,
                                                                 Instant now) const;

  channel::Lifetime limits_;
  bool esn_;
  Instant installed_;
  bool soft_announced_ = false;
  bool hard_announced_ = false;
  std::uint32_t listener_ = 0;  ///< whom what was announced was announced to
};

}  // namespace culvert::dataplane::control
