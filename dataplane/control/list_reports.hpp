// What is reported of one SA and one policy. Main thread.
#pragma once

#include "dataplane/control/acquires.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/child_directory.hpp"
#include "dataplane/control/report.hpp"
#include "dataplane/tables/tables.hpp"

namespace culvert::dataplane::control {

/// What they are made from; all outlive whoever has it.
struct ListSources {
  Tables& tables;
  Associations& associations;
  const ChildDirectory& children;
  const Acquires* acquires = nullptr;  ///< nullptr: no packet asks for a child
};

[[nodiscard]] SaReport sa_report(const SaRecord& record, const ListSources& sources, Instant now);
[[nodiscard]] PolicyReport policy_report(const PolicyEntry& entry, const ListSources& sources);
/// What stands behind the last policy. What it lets pass is not counted.
[[nodiscard]] PolicyReport default_policy_report(const Tables& tables);

[[nodiscard]] std::string_view action_name(config::PolicyAction action);

}  // namespace culvert::dataplane::control
