// Packets in fragments of which the first was let pass by a policy that asks for ports: what comes
// of them later has no ports, and is let pass by the same policy (RFC 4301 §7.4). Nothing is held.
// Worker-local; fixed memory, bounded time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "dataplane/worker/reassembly.hpp"

namespace culvert::dataplane {

/// Why a first fragment was let pass: the policy that its flow met, and under which generation.
struct FragmentBypass {
  FlowKey flow;
  SpdSnapshot::Match policy;
  std::uint64_t generation = 0;
};

class BypassedPackets {
 public:
  static constexpr std::size_t kPackets = 256;  ///< known at once: one more, and the oldest is not

  /// `lifetime`: in the units of `now`. The shorter, the less can a sender that counts through all
  /// identifications (RFC 4963) have one packet's fragments taken for another's.
  explicit BypassedPackets(std::uint64_t lifetime) : lifetime_(lifetime) {}

  /// A first fragment was let pass.
  void remember(const FragmentPlace& first, const FragmentBypass& bypass, std::uint64_t now);
  /// The policy that lets a later fragment pass, unless it reaches back into the first.
  /// `holds(bypass)`: whether what was found then is so by the policies of today, or is made so;
  /// else the packet is forgotten. Call it once a fragment: with its last byte the packet is over.
  template <typename Holds>
  [[nodiscard]] std::optional<SpdSnapshot::Match> find(const FragmentPlace& later,
                                                       std::uint64_t now, const Holds& holds) {
    const std::size_t index = index_behind_first(later, now);
    if (index == kPackets) return std::nullopt;
    if (!holds(packets_[index].bypass)) {
      names_[index] = 0;
      return std::nullopt;
    }
    return pass(index, later);
  }
  /// Whether there was ever one.
  [[nodiscard]] bool has_any() const { return has_any_; }
  /// Another packet of the same name begins.
  void forget(const FragmentPlace& first);

 private:
  struct Packet {
    FragmentPlace first;
    FragmentBypass bypass;
    std::uint64_t deadline = 0;
    std::uint32_t have = 0;   ///< bytes of data that have passed
    std::uint32_t total = 0;  ///< 0: the last fragment has not come
  };
  /// The index of the packet that the fragment is of; kPackets: of none.
  [[nodiscard]] std::size_t index_of(const FragmentPlace& fragment) const;
  /// The same of one whose time is not over and whose first the fragment does not reach into.
  [[nodiscard]] std::size_t index_behind_first(const FragmentPlace& later, std::uint64_t now);
  SpdSnapshot::Match pass(std::size_t index, const FragmentPlace& later);

  const std::uint64_t lifetime_;
  /// Beside the packets: what is looked through for each fragment. 0: there is none.
  std::array<std::uint32_t, kPackets> names_{};
  std::array<Packet, kPackets> packets_;
  std::size_t next_ = 0;  ///< the oldest
  bool has_any_ = false;
};

}  // namespace culvert::dataplane
