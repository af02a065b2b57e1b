// What the keys of manual SAs have been used for since the start. An SA that is taken out of the
// configuration and put back has the key that it had: its numbers go on behind those of before
// (RFC 4303 §3.4.3), and its IVs are none that the key has seen since then (RFC 4106 §3.1). Pure;
// main thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>

#include "channel/messages.hpp"
#include "crypto/ike/ike_crypto.hpp"

namespace culvert::dataplane::control {

class ManualKeys {
 public:
  /// What a key is known by here: SHA-256 over a salt of this process and the key.
  using Digest = std::array<std::uint8_t, 32>;
  /// Sequence numbers are an SA's: of a key, a direction and an SPI.
  struct Use {
    Digest key{};
    channel::Direction direction{};
    channel::Spi spi{};
    friend auto operator<=>(const Use&, const Use&) = default;
  };

  /// `most`: uses that are remembered, some 150 bytes each.
  ManualKeys(crypto::ike::Random& random, std::size_t most);

  [[nodiscard]] Digest digest(crypto::Bytes key) const;
  /// Numbers up to this one were sent, or received and verified.
  void used(const Use& use, std::uint64_t number);
  /// nullptr: not since the start.
  [[nodiscard]] const std::uint64_t* highest(const Use& use) const;
  /// Where the IVs of another outbound SA under this key begin (OutboundSa::iv_start), whose first
  /// number is `first_sequence`: behind those of all before it, whatever their SPIs. Precondition:
  /// there are places left.
  [[nodiscard]] std::uint32_t take_iv_start(const Digest& key, std::uint64_t first_sequence);
  /// Outbound SAs that may begin under this key yet.
  [[nodiscard]] std::uint32_t places_left(const Digest& key) const;
  /// Whether so many SAs more can be remembered when they go.
  [[nodiscard]] bool has_room(std::size_t sas) const { return highest_.size() + sas <= most_; }

 private:
  crypto::ike::Random& random_;
  std::size_t most_;
  Digest salt_{};
  std::map<Use, std::uint64_t> highest_;
  struct Places {
    std::uint32_t first = 0, taken = 0;
  };
  std::map<Digest, Places> iv_places_;
};

}  // namespace culvert::dataplane::control
