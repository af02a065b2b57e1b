// Packets in fragments of which the first was let pass by a policy that asks for ports: what comes
// of them later has no ports, and is let pass by the same policy (RFC 4301 §7.4). Nothing is held.
// Worker-local; fixed memory, bounded time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "dataplane/worker/reassembly.hpp"

namespace culvert::dataplane {

class BypassedPackets {
 public:
  static constexpr std::size_t kPackets = 256;  ///< known at once: one more, and the oldest is not

  /// `lifetime`: in the units of `now`. The shorter, the less can a sender that counts through all
  /// identifications (RFC 4963) have one packet's fragments taken for another's.
  explicit BypassedPackets(std::uint64_t lifetime) : lifetime_(lifetime) {}

  /// A first fragment was let pass by `policy`, found under `generation` of the policies.
  void remember(const FragmentPlace& first, const SpdSnapshot::Match& policy,
                std::uint32_t generation, std::uint64_t now);
  /// The policy that lets a later fragment pass, unless the policies have changed since, or it
  /// reaches back into the first. Call it once a fragment: with its last byte the packet is over.
  [[nodiscard]] std::optional<SpdSnapshot::Match> find(const FragmentPlace& later,
                                                       std::uint32_t generation, std::uint64_t now);
  /// Another packet of the same name begins.
  void forget(const FragmentPlace& first);

 private:
  struct Packet {
    FragmentPlace first;
    SpdSnapshot::Match policy;
    std::uint64_t deadline = 0;
    std::uint32_t generation = 0;
    std::uint32_t have = 0;   ///< bytes of data that have passed
    std::uint32_t total = 0;  ///< 0: the last fragment has not come
  };
  /// The index of the packet that the fragment is of; kPackets: of none.
  [[nodiscard]] std::size_t index_of(const FragmentPlace& fragment) const;

  const std::uint64_t lifetime_;
  /// Beside the packets: what is looked through for each fragment. 0: there is none.
  std::array<std::uint32_t, kPackets> names_{};
  std::array<Packet, kPackets> packets_;
  std::size_t next_ = 0;  ///< the oldest
};

}  // namespace culvert::dataplane
