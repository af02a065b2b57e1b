#include "ike/daemon/reload.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "config/config_version.hpp"
#include "config/dataplane_changes.hpp"
#include "config/not_loaded.hpp"
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

/// What takes long, the more the larger the file is, beside the loop: the machine and what it asks
/// are not touched. The path is that of the start, whatever was applied since.
std::expected<void, std::string> Daemon::prepare_reload() {
  const auto load = [this, file = configuration_->file] {
    for_reload_.file = config::load_file(file, config::Purpose::run);
    for_reload_.version = config::config_version(file);
    if (!for_reload_.file.ok()) return;
    for_reload_.keys = PreSharedKeys::load(*for_reload_.file.config);
    for_reload_.certificates = Certificates::load(*for_reload_.file.config);
  };
  const auto begins = [this] {
    runtime::notify_reloading();
    runtime::log(runtime::Level::info, "reload_begun", {{"file", configuration_->file}});
  };
  auto task = runtime::SideTask::create(
      loop_, load, [this](const runtime::SideTask::Ended& ended) { loaded(ended); }, begins);
  if (!task) return std::unexpected(task.error());
  reloading_ = std::move(*task);
  return {};
}

void Daemon::loaded(const runtime::SideTask::Ended& ended) {
  ForReload wanted = std::exchange(for_reload_, {});
  if (!ended) wanted.file = config::not_loaded(configuration_->file, ended.error());
  for (const config::Diagnostic& diagnostic : wanted.file.diagnostics) {
    runtime::log(diagnostic.severity == config::Severity::error ? runtime::Level::error
                                                                : runtime::Level::warning,
                 "config_diagnostic", {{"what", diagnostic.to_string()}});
  }
  const std::string refused = wanted.file.ok() ? apply(std::move(wanted)) : wanted.file.why_not();
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
std::string Daemon::apply(ForReload wanted) {
  auto& [file, version, keys, certificates] = wanted;
  const auto reasons = needs_restart(*configuration_, *file.config, devices_);
  if (!reasons.empty()) {
    std::string all;
    for (const std::string& reason : reasons) all += (all.empty() ? "" : "; ") + reason;
    return all + ": restart both daemons";
  }
  if (!keys) return keys.error();
  if (!certificates) return certificates.error();
  auto configuration = std::make_unique<config::Config>(*std::move(file.config));
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
  config_version_ = std::move(version);
  runtime::log(runtime::Level::info, "reloaded", {{"file", configuration_->file}});
  carry_out();
  return {};
}

}  // namespace culvert::ike
