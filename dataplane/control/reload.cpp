#include "dataplane/control/reload.hpp"

#include <algorithm>
#include <iterator>

#include "config/dataplane_changes.hpp"
#include "dataplane/control/child_directory.hpp"

namespace culvert::dataplane::control {
namespace {

bool same_manual_sa(const config::ManualSa& a, const config::ManualSa& b) {
  return a.name == b.name && a.direction == b.direction && a.spi == b.spi && a.mode == b.mode &&
         a.local == b.local && a.remote == b.remote && a.local_ts == b.local_ts &&
         a.remote_ts == b.remote_ts && a.suite == b.suite && a.key_file == b.key_file &&
         a.esn == b.esn && a.replay_window == b.replay_window &&
         a.udp_encap_local_port == b.udp_encap_local_port &&
         a.udp_encap_remote_port == b.udp_encap_remote_port && a.headers == b.headers &&
         a.first_sequence == b.first_sequence;
}

/// SAs and policies name their child by number: the numbers of existing children must stay.
void compare_children(const config::Config& running, const config::Config& wanted,
                      std::vector<std::string>& reasons) {
  const ChildDirectory before(running);
  const ChildDirectory after(wanted, before.negotiable());
  const bool kept = std::equal(
      before.names().begin(), before.names().begin() + before.negotiable(), after.names().begin(),
      [](const ChildName& was, const ChildName& is) { return was == is || is == ChildName{}; });
  if (!kept) {
    reasons.emplace_back("children were renamed, reordered, or removed in front of others");
  }
  if (!std::ranges::equal(running.manual_sas, wanted.manual_sas, same_manual_sa)) {
    reasons.emplace_back("manual_sas changed");
  } else if (!running.manual_sas.empty() &&
             ChildDirectory(wanted).negotiable() != before.negotiable()) {
    reasons.emplace_back("children were added or removed in front of manual_sas");
  }
}

}  // namespace

std::vector<std::string> needs_restart(const config::Config& running, const config::Config& wanted,
                                       std::span<const std::string> devices) {
  std::vector<std::string> reasons;
  if (running.instance != wanted.instance) reasons.emplace_back("instance changed");
  if (running.user != wanted.user) reasons.emplace_back("user changed");
  std::ranges::move(config::restart_reasons(running.dataplane, wanted.dataplane, devices),
                    std::back_inserter(reasons));
  if (running.default_policy != wanted.default_policy) {
    reasons.emplace_back("default_policy changed");
  }
  if (running.metrics.listen != wanted.metrics.listen) {
    reasons.emplace_back("metrics.listen changed");
  }
  compare_children(running, wanted, reasons);
  return reasons;
}

}  // namespace culvert::dataplane::control
