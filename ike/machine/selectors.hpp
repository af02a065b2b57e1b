// Traffic selectors of a child on the IKE SA that negotiates it: what the configuration means
// there, the packet that asks for the child, and transport mode's addresses behind NATs (RFC 7296
// §2.9, §2.23.1). Pure.
#pragma once

#include <optional>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "ike/machine/ike_sa.hpp"

namespace culvert::ike {

/// Our side and the peer's.
struct SelectorPair {
  std::vector<wire::TrafficSelector> local, remote;
  friend bool operator==(const SelectorPair&, const SelectorPair&) = default;
};

/// A child as responder: what is agreed on, and how the answer names it.
struct Narrowed {
  const config::Child* child = nullptr;
  SelectorPair selectors, answer{};
};

/// What the configuration means on this IKE SA. A side without selectors is the peer's address;
/// in transport mode a selector that holds the IKE SA's address is that address: "The TSi entries
/// MUST have exactly one IP address, and that MUST match the source address of the IKE SA"
/// (RFC 7296 §2.23.1).
[[nodiscard]] SelectorPair configured_selectors(const config::Child& child, const IkeSa& ike);

/// Transport mode, as the peer named them → as we see them: its address behind a NAT is the one its
/// packets come from, and ours behind a NAT is our own (RFC 7296 §2.23.1).
[[nodiscard]] SelectorPair seen_here(SelectorPair named, const IkeSa& ike);
/// The other way round, for our answer to `named`: what was narrowed, by the peer's addresses.
[[nodiscard]] SelectorPair named_by_peer(SelectorPair narrowed, const SelectorPair& named,
                                         const IkeSa& ike);

/// The packet's own selectors, as far as `configured` goes; nullopt: it is not for this child.
[[nodiscard]] std::optional<SelectorPair> selectors_of_packet(const channel::Acquire& packet,
                                                              const SelectorPair& configured);
/// What is configured between the packet's two addresses; empty sides: nothing.
[[nodiscard]] SelectorPair pair_of_packet(const channel::Acquire& packet,
                                          const SelectorPair& configured);
/// One address on each side.
[[nodiscard]] bool is_single_pair(const SelectorPair& selectors);
/// Both sides are covered (wire::covers).
[[nodiscard]] bool covers(const SelectorPair& outer, const SelectorPair& inner);
/// "10.1.0.0/24 === 10.2.0.0/24"
[[nodiscard]] std::string text_of(const SelectorPair& selectors);
/// As they go to the data plane.
[[nodiscard]] channel::SelectorSet selector_set(
    const std::vector<wire::TrafficSelector>& selectors);

}  // namespace culvert::ike
