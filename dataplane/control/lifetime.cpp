#include "dataplane/control/lifetime.hpp"

namespace culvert::dataplane::control {
namespace {

using channel::ExpiryCause;

// A 32-bit sequence number must not cycle (RFC 4303 §3.3.3): rekeying starts at 15/16 of it, which
// leaves 268 million packets, 18 s at 14.88 Mpps.
constexpr std::uint64_t kSequenceSoft = 0xf0000000ULL;
constexpr std::uint64_t kSequenceHard = 0xffffffffULL;

/// An operator's limit may be "forever" in so many seconds that nanoseconds overflow.
constexpr std::uint64_t kMaxSeconds = 100ULL * 365 * 24 * 3600;

Instant seconds_of(std::uint64_t seconds) {
  return std::chrono::seconds{seconds > kMaxSeconds ? kMaxSeconds : seconds};
}

std::optional<ExpiryCause> reached(Instant age, const Usage& usage, std::uint64_t seconds,
                                   std::uint64_t bytes, std::uint64_t packets) {
  if (seconds != 0 && age >= seconds_of(seconds)) return ExpiryCause::time;
  if (bytes != 0 && usage.bytes >= bytes) return ExpiryCause::bytes;
  if (packets != 0 && usage.packets >= packets) return ExpiryCause::packets;
  return std::nullopt;
}

}  // namespace

std::uint64_t cycles_later(std::uint64_t cycles, Instant later, std::uint64_t hertz) {
  if (later <= Instant::zero()) return cycles;
  const auto whole = std::chrono::floor<std::chrono::seconds>(later);
  const auto seconds = static_cast<std::uint64_t>(whole.count());
  const auto rest = static_cast<std::uint64_t>((later - whole).count());
  // Of less than a second: 64 bits are enough for 18 GHz.
  const std::uint64_t of_rest = rest * hertz / std::nano::den;
  const std::uint64_t room = kNeverEnds - cycles;
  if (seconds >= room / hertz) return kNeverEnds;  // the last second of it is for the rest
  return cycles + seconds * hertz + of_rest;
}

std::optional<Instant> LifetimeWatch::time_left(Instant now) const {
  if (limits_.hard_seconds == 0) return std::nullopt;
  return installed_ + seconds_of(limits_.hard_seconds) - now;
}

std::optional<ExpiryCause> LifetimeWatch::reached_hard(const Usage& usage, Instant now) const {
  if (const auto cause = reached(now - installed_, usage, limits_.hard_seconds, limits_.hard_bytes,
                                 limits_.hard_packets)) {
    return cause;
  }
  if (!esn_ && usage.sequence >= kSequenceHard) return ExpiryCause::sequence;
  return std::nullopt;
}

std::optional<ExpiryCause> LifetimeWatch::reached_soft(const Usage& usage, Instant now) const {
  if (const auto cause = reached(now - installed_, usage, limits_.soft_seconds, limits_.soft_bytes,
                                 limits_.soft_packets)) {
    return cause;
  }
  if (!esn_ && usage.sequence >= kSequenceSoft) return ExpiryCause::sequence;
  return std::nullopt;
}

std::optional<Expiry> LifetimeWatch::due(const Usage& usage, Instant now) const {
  if (hard_announced_) return std::nullopt;
  if (const auto cause = reached_hard(usage, now)) return Expiry{ExpiryLevel::hard, *cause};
  if (soft_announced_) return std::nullopt;
  if (const auto cause = reached_soft(usage, now)) return Expiry{ExpiryLevel::soft, *cause};
  return std::nullopt;
}

void LifetimeWatch::announced(ExpiryLevel level) {
  soft_announced_ = true;  // what is over needs no warning any more
  if (level == ExpiryLevel::hard) hard_announced_ = true;
}

}  // namespace culvert::dataplane::control
