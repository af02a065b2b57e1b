#include "config/dataplane_changes.hpp"

#include <algorithm>

namespace culvert::config {
namespace {

/// The same queues, buffers and tags: addresses are entries of the routing table.
bool same_interface(const Interface& a, const Interface& b) {
  return a.name == b.name && a.device == b.device && a.mtu == b.mtu && a.vlan == b.vlan;
}

}  // namespace

std::vector<std::string> restart_reasons(const Dataplane& running, const Dataplane& wanted) {
  std::vector<std::string> reasons;
  if (!std::ranges::equal(running.interfaces, wanted.interfaces, same_interface)) {
    reasons.emplace_back("dataplane.interfaces changed, not their addresses alone");
  }
  if (running.workers != wanted.workers || running.cores != wanted.cores) {
    reasons.emplace_back("dataplane.workers changed");
  }
  const Limits &had = running.limits, &has = wanted.limits;
  if (had.sas != has.sas || had.policies != has.policies || had.flows != has.flows) {
    reasons.emplace_back("dataplane.limits changed");
  }
  if (running.idle != wanted.idle || running.memory_mib != wanted.memory_mib ||
      running.huge_pages_required != wanted.huge_pages_required) {
    reasons.emplace_back("dataplane.idle, memory or huge_pages changed");
  }
  return reasons;
}

}  // namespace culvert::config
