// Dummy packets (RFC 4303 §2.6): whose turn it is to send one, and what they look like. Pure: time
// comes in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <utility>

#include "channel/messages.hpp"
#include "config/header_options.hpp"
#include "runtime/event_loop.hpp"
#include "wire/cursor.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

using runtime::Instant;

/// An outbound SA that is to send some packets a second at least.
struct DummySource {
  channel::SaId sa{};
  Instant apart{};  ///< from turn to turn
  /// Of each dummy, as of an inner packet; 0: random; HeaderOptions::kPadToPath: as the path takes.
  std::uint16_t bytes = 0;
  /// The SA's sequence number when what it was given at its last turn has left. What is beyond at
  /// the next one it has sent by itself.
  std::uint64_t seen = 0;

  /// How many of `turns` the SA, now at `sequence`, has let pass without a packet of its own.
  [[nodiscard]] std::uint64_t missing(std::uint64_t turns, std::uint64_t sequence) const {
    const std::uint64_t own = sequence > seen ? sequence - seen : 0;
    return turns > own ? turns - own : 0;
  }
};

class DummySchedule {
 public:
  /// Of turns that a late call has missed, those further back are not made up for: what comes all
  /// at once hides nothing.
  static constexpr Instant kMostLate = std::chrono::milliseconds{40};

  explicit DummySchedule(std::uint32_t seed = std::random_device{}()) : dice_(seed) {}

  /// SAs that come at once do not send at once: the first turn is anywhere within `apart`. False:
  /// it is none of them, for they have `most_turns` a second already.
  [[nodiscard]] bool add(const DummySource& source, Instant now, std::uint64_t most_turns) {
    if (turns_a_second_ + rate_of(source) > most_turns) return false;
    turns_a_second_ += rate_of(source);
    std::uniform_int_distribution<Instant::rep> any(0, source.apart.count());
    turns_.emplace(now + Instant{any(dice_)}, source);
    return true;
  }
  /// The next turn; nullopt: nobody's.
  [[nodiscard]] std::optional<Instant> next() const {
    if (turns_.empty()) return std::nullopt;
    return turns_.begin()->first;
  }
  /// `serve(source, turns)` for those whose turn has come: so many have since the last call. False:
  /// the source is no more.
  template <typename Serve>
  void run(Instant now, Serve serve) {
    while (!turns_.empty() && turns_.begin()->first <= now) {
      auto due = turns_.extract(turns_.begin());
      DummySource& source = due.mapped();
      const Instant late = now - due.key();
      const Instant made_up_for = std::min(late, kMostLate);
      if (!serve(source, static_cast<std::uint64_t>(1 + made_up_for / source.apart))) {
        turns_a_second_ -= rate_of(source);
        continue;
      }
      due.key() += source.apart * (1 + late / source.apart);
      turns_.insert(std::move(due));
    }
  }
  /// From `least` to `most`, both included. Precondition: least <= most.
  [[nodiscard]] std::size_t random_size(std::size_t least, std::size_t most) {
    return std::uniform_int_distribution<std::size_t>(least, most)(dice_);
  }

 private:
  static std::uint64_t rate_of(const DummySource& source) {
    return static_cast<std::uint64_t>(Instant{std::chrono::seconds{1}} / source.apart);
  }

  std::multimap<Instant, DummySource> turns_;
  std::uint64_t turns_a_second_ = 0;  ///< of all sources
  std::mt19937 dice_;
};

/// Bytes of the header that `write_dummy` writes.
[[nodiscard]] std::size_t dummy_header_bytes(wire::Family family);
/// An IP packet without contents, from end to end of an SA: zeros behind the header. "the plaintext
/// portion of the payload … need not be well-formed" (RFC 4303 §2.6), but in transport mode the
/// header stays outside, and in tunnel mode the outer one is made from it. DF is set, as in nearly
/// all that hosts send. Precondition: room for the header.
void write_dummy(wire::MutableBytes packet, const wire::IpAddress& source,
                 const wire::IpAddress& destination);

}  // namespace culvert::dataplane::control
