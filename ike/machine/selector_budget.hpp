// How many selectors a peer may negotiate on one IKE SA beyond what the configuration names. Each
// pair of them is a rule of the data plane, whose searches all tunnels pay for
// (docs/decisions/0017). Pure.
#pragma once

#include <optional>
#include <string>

#include "ike/machine/child_table.hpp"
#include "ike/machine/ike_sa.hpp"
#include "ike/machine/selectors.hpp"

namespace culvert::ike {

/// What stands against one more child of these selectors, in words; nullopt: nothing. Children with
/// the same selectors count once, as they share a policy: a rekey always has room.
[[nodiscard]] std::optional<std::string> why_no_room(const IkeSa& ike, const ChildTable& children,
                                                     config::ChildId child_id,
                                                     const SelectorPair& selectors);

}  // namespace culvert::ike
