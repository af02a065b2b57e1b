// Rate limits: one bucket, and one bucket a source in a table of fixed size. Pure: time comes in.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>

#include "runtime/event_loop.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

using runtime::Instant;

/// Events a second on average, and how many may come at once.
struct Rate {
  double per_second = 0;
  double burst = 0;
};

class TokenBucket {
 public:
  TokenBucket(Rate rate, Instant now) : tokens_(rate.burst), last_(now) {}
  /// Whether one more event is within the rate; takes it if so.
  [[nodiscard]] bool take(Rate rate, Instant now) {
    const double elapsed = std::chrono::duration<double>(now - last_).count();
    tokens_ = std::min(rate.burst, tokens_ + std::max(0.0, elapsed) * rate.per_second);
    last_ = now;
    if (tokens_ < 1.0) return false;
    tokens_ -= 1.0;
    return true;
  }
  /// Whether `take` would.
  [[nodiscard]] bool has(Rate rate, Instant now) const {
    const double elapsed = std::chrono::duration<double>(now - last_).count();
    return std::min(rate.burst, tokens_ + std::max(0.0, elapsed) * rate.per_second) >= 1.0;
  }
  /// A full bucket says nothing that a new one would not: it can be forgotten.
  [[nodiscard]] bool is_full(Rate rate, Instant now) const {
    const double elapsed = std::chrono::duration<double>(now - last_).count();
    return tokens_ + elapsed * rate.per_second >= rate.burst;
  }

 private:
  double tokens_;
  Instant last_;
};

struct AddressHash {
  std::size_t operator()(const wire::IpAddress& address) const {
    // FNV-1a: the table is small and bounded, and its worst case costs only newcomers' time.
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const std::uint8_t byte : address.bytes) hash = (hash ^ byte) * 0x100000001b3ULL;
    return hash;
  }
};

/// Polices by source. When its table is full of sources that were active lately, new sources share
/// one bucket: an attacker with many addresses slows other newcomers, never the configured peers.
template <typename Source, typename Hash = std::hash<Source>>
class Policer {
 public:
  /// `capacity`: sources that are remembered beside the peers.
  Policer(Rate rate, std::size_t capacity, Instant now)
      : rate_(rate), capacity_(capacity), overflow_(rate, now) {}

  /// A configured peer's address: its bucket is never forgotten, nor counted against the capacity.
  void keep(const Source& peer, Instant now) {
    const auto found = buckets_.try_emplace(peer, Bucket{TokenBucket(rate_, now), false}).first;
    if (!found->second.kept) ++capacity_;
    found->second.kept = true;
  }
  /// None is a configured peer any more.
  void keep_none() {
    for (auto& [source, bucket] : buckets_) capacity_ -= std::exchange(bucket.kept, false) ? 1 : 0;
  }

  [[nodiscard]] bool keeps(const Source& source) const {
    const auto found = buckets_.find(source);
    return found != buckets_.end() && found->second.kept;
  }

  [[nodiscard]] bool admit(const Source& source, Instant now) {
    auto found = buckets_.find(source);
    if (found == buckets_.end()) {
      if (buckets_.size() >= capacity_ && now >= next_sweep_) sweep(now);
      if (buckets_.size() >= capacity_) return overflow_.take(rate_, now);
      found = buckets_.emplace(source, Bucket{TokenBucket(rate_, now), false}).first;
    }
    return found->second.tokens.take(rate_, now);
  }
  /// False: `admit` would not, as it stands.
  [[nodiscard]] bool may_admit(const Source& source, Instant now) const {
    const auto found = buckets_.find(source);
    if (found != buckets_.end()) return found->second.tokens.has(rate_, now);
    return buckets_.size() < capacity_ || now >= next_sweep_ || overflow_.has(rate_, now);
  }
  [[nodiscard]] std::size_t sources() const { return buckets_.size(); }

 private:
  struct Bucket {
    TokenBucket tokens;
    bool kept;
  };
  /// Forgets idle sources; at most once a second, since it walks the whole table.
  void sweep(Instant now) {
    next_sweep_ = now + std::chrono::seconds{1};
    std::erase_if(buckets_, [&](const auto& item) {
      return !item.second.kept && item.second.tokens.is_full(rate_, now);
    });
  }

  Rate rate_;
  std::size_t capacity_;
  TokenBucket overflow_;
  Instant next_sweep_{};
  std::unordered_map<Source, Bucket, Hash> buckets_;
};

using SourcePolicer = Policer<wire::IpAddress, AddressHash>;

}  // namespace culvert::dataplane::control
