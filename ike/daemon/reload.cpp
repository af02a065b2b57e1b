#include "ike/daemon/reload.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "config/config_version.hpp"
#include "config/dataplane_changes.hpp"
#include "ike/daemon/daemon.hpp"
#include "runtime/log.hpp"
#include "runtime/notify.hpp"

namespace culvert::ike {
std::vector<std::string> needs_restart(const config::Config& running, const config::Config& wanted,
                                       std::span<const std::string> devices) {
  std::vector<std::string> reasons;
  if (running.instance != wanted.instance) reasons.emplace_back("instance changed");
  if (running.user != wanted.user) reasons.emplace_back("user changed");
  std::ranges::move(config::restart_reasons(running.dataplane, wanted.dataplane, devices),
                    std::back_inserter(reasons));
  if (running.metrics.ike_listen != wanted.metrics.ike_listen) {
    reasons.emplace_back("metrics.ike_listen changed");
  }
  if (wanted.pki.fetches() && !running.pki.fetches()) {
    // What fetches was started before the keys were read.
    reasons.emplace_back("pki began to fetch lists or statuses");
  }
  return reasons;
}

void Daemon::reload() {
  runtime::notify_reloading();
  auto loaded = config::load_file(configuration_->file, config::Purpose::run);
  for (const config::Diagnostic& diagnostic : loaded.diagnostics) {
    runtime::log(diagnostic.severity == config::Severity::error ? runtime::Level::error
                                                                : runtime::Level::warning,
                 "config_diagnostic", {{"what", diagnostic.to_string()}});
  }
  const std::string refused = loaded.ok() ? apply(*std::move(loaded.config)) : loaded.why_not();
  last_reload_ok_ = refused.empty();
  if (!refused.empty()) {
    runtime::log(runtime::Level::error, "reload_refused",
                 {{"file", configuration_->file},
                  {"why", refused},
                  {"effect", "the running configuration stays"}});
  }
  runtime::notify_ready(refused.empty() ? "negotiating keys" : "reload_refused: " + refused);
}

/// The reason why it was not applied; empty when it was.
std::string Daemon::apply(config::Config wanted) {
  const auto reasons = needs_restart(*configuration_, wanted, devices_);
  if (!reasons.empty()) {
    std::string all;
    for (const std::string& reason : reasons) all += (all.empty() ? "" : "; ") + reason;
    return all + ": restart both daemons";
  }
  auto keys = PreSharedKeys::load(wanted);
  if (!keys) return keys.error();
  auto certificates = Certificates::load(wanted);
  if (!certificates) return certificates.error();
  auto configuration = std::make_unique<config::Config>(std::move(wanted));
  (*certificates)->inherit(certificates_);
  // In place: the machine asks the same source.
  certificates_ = std::move(**certificates);
  // What the machine asks of our addresses meanwhile is about the new ones.
  configuration_ = configuration.get();
  machine_->reconfigure(*configuration, **keys, runtime::now(), actions_);
  machine_->recheck_certificates(runtime::now(), actions_);
  // Nothing of the machine points to the old ones any more.
  reloaded_configuration_ = std::move(configuration);
  keys_ = std::move(*keys);
  config_version_ = config::config_version(configuration_->file);
  runtime::log(runtime::Level::info, "reloaded", {{"file", configuration_->file}});
  carry_out();
  return {};
}

}  // namespace culvert::ike
