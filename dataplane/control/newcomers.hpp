// Who may begin an IKE SA. A flood comes from forged sources, each another one; an initiator sends
// its request again until it is answered (RFC 7296 §2.1), and so comes back. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/control/token_bucket.hpp"

namespace culvert::dataplane::control {

/// Addresses that were seen before, in memory of fixed size: the latest of those that share a place
/// is known, an older one is forgotten.
class SeenSources {
 public:
  /// `secret`: nobody outside can say which addresses share a place.
  SeenSources(std::size_t places, std::uint64_t secret) : places_(places), secret_(secret) {}
  /// Whether it was seen lately; from now on it was.
  [[nodiscard]] bool see(const wire::IpAddress& source);

 private:
  std::vector<std::uint16_t> places_;
  std::uint64_t secret_;
};

class Newcomers {
 public:
  /// What the key daemon answers beside its work: a cookie costs it some ten microseconds, a whole
  /// handshake about a millisecond.
  static constexpr Rate kUnknown{2000, 500};
  /// A handshake's second request beside its first one, with a cookie.
  static constexpr Rate kReturning{4000, 1000};
  static constexpr Rate kPerSource{400, 800};
  static constexpr std::size_t kSources = 8192;
  /// Two megabytes. Of a flood of 100 000 a second 19 in 20 are still known half a second later,
  /// when an initiator comes again, and 6 in 7 after the 1.6 seconds that its third repetition
  /// waits.
  static constexpr std::size_t kPlaces = std::size_t{1} << 20U;

  Newcomers(std::uint64_t secret, Instant now)
      : seen_(kPlaces, secret),
        per_source_(kPerSource, kSources, now),
        unknown_(kUnknown, now),
        returning_(kReturning, now) {}

  /// A configured peer's address: its share is its own.
  void know_peer(const wire::IpAddress& peer, Instant now) { per_source_.keep(peer, now); }
  void know_no_peer() { per_source_.keep_none(); }
  [[nodiscard]] bool is_peer(const wire::IpAddress& source) const {
    return per_source_.keeps(source);
  }
  [[nodiscard]] bool admit(const wire::IpAddress& source, Instant now);

 private:
  SeenSources seen_;
  SourcePolicer per_source_;  ///< of those that come again: forged ones take no place in it
  TokenBucket unknown_, returning_;
};

}  // namespace culvert::dataplane::control
