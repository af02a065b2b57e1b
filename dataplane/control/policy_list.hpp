// The SPD's content and order: explicit policies as written, then each child's negotiated policies
// in front of its trap, then manual SAs (docs/decisions/0001). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "config/config.hpp"
#include "dataplane/control/child_directory.hpp"
#include "dataplane/tables/spd.hpp"

namespace culvert::dataplane::control {

/// A policy the key daemon installed.
struct NegotiatedPolicy {
  channel::SaId outbound_sa{};
  ChildId child_id{};
  SlotIndex outbound = kNoSlot;
  std::vector<wire::TrafficSelector> local, remote;
  std::uint64_t age_rank = 0;  ///< grows with each installation
};
using NegotiatedPolicies = std::map<channel::PolicyId, NegotiatedPolicy>;

/// An outbound manual SA's policy.
struct ManualPolicy {
  ChildId child_id{};
  SlotIndex outbound = kNoSlot;
  std::vector<wire::TrafficSelector> local, remote;
};

/// As it stands in the list: the newest of its child comes first. One of a child that is not
/// configured any more stands behind all that is, until the key daemon takes it away.
PolicyEntry negotiated_entry(channel::PolicyId id, const NegotiatedPolicy& policy,
                             const ChildDirectory& children);

/// `children`: of `config`.
std::vector<PolicyEntry> ordered_policies(const config::Config& config,
                                          const ChildDirectory& children,
                                          const NegotiatedPolicies& negotiated,
                                          const std::vector<ManualPolicy>& manual);

[[nodiscard]] std::vector<wire::TrafficSelector> selectors_of(const channel::SelectorSet& set);

}  // namespace culvert::dataplane::control
