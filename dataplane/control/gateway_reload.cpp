// Another configuration for the gateway that runs: all of it, or nothing.
#include <set>

#include "dataplane/control/change_over.hpp"
#include "dataplane/control/reload.hpp"
#include "dataplane/control/running_gateway.hpp"
#include "runtime/log.hpp"
#include "runtime/notify.hpp"

namespace culvert::dataplane::control {
namespace {

using Failure = std::unexpected<std::string>;

}  // namespace

/// What may fail, all of it or nothing. Nothing has changed when one of the first three fails, and
/// is put back when a later one does: 1. ports have numbers; 2. manual SAs have keys and room;
/// 3. devices take what is wanted; 4. workers know the ports; 5. routes have room, and lead where
/// they led; 6. manual SAs, which no policy names yet.
std::expected<void, std::string> RunningGateway::change_tables(const config::Config& wanted,
                                                               Instant now) {
  manual_sas_->remove_replaced();  // of a reload just before
  auto next = interfaces_->plan(wanted.dataplane, now);
  if (!next) return Failure(next.error());
  const Topology before = topology_;
  // Manual SAs go by the addresses and routes of the new configuration.
  topology_ = Topology(wanted.dataplane, next->ports());
  auto plan = manual_sas_->plan(wanted);
  if (!plan) {
    topology_ = before;
    return Failure(plan.error());
  }
  const auto raised = interfaces_->fit_devices(*next, wanted.dataplane);
  if (!raised) {
    topology_ = before;
    return Failure(raised.error());
  }
  interfaces_->publish(*next, wanted.dataplane);
  Done done = forwarding_->reserve(topology_);
  if (done) done = manual_sas_->apply(wanted, *std::move(plan), now);
  if (done) {
    interfaces_->adopt(std::move(*next));
  } else {
    topology_ = before;
    interfaces_->refuse(*next, config_.dataplane, now);
    forwarding_->give_up();
    policies_->publish();  // what workers found of flows meanwhile is looked for again
    Interfaces::take_back(*raised);
    forwarding_->ports_changed();
  }
  return done;
}

/// What cannot: SAs of children that are gone carry on until the key daemon, which may read the
/// file a moment later, takes them away.
void RunningGateway::take_configuration(config::Config wanted) {
  config_ = std::move(wanted);
  std::set<ChildId> borne = associations_->borne();
  for (const auto& [id, policy] : policies_->negotiated()) borne.insert(policy.child_id);
  children_.take(config_, borne);
  associations_->children_changed();
  change_over(*forwarding_, *policies_, *hardware_->tables->reclaimer,
              [this] { manual_sas_->begin_numbers(); });
  manual_sas_->log_begun();
  forwarding_->ports_changed();
}

void RunningGateway::reload(config::LoadResult loaded, const std::string& version) {
  for (const config::Diagnostic& diagnostic : loaded.diagnostics) {
    runtime::log(diagnostic.severity == config::Severity::error ? runtime::Level::error
                                                                : runtime::Level::warning,
                 "reload_diagnostic", {{"message", diagnostic.to_string()}});
  }
  const auto finish = [&](std::string_view event, runtime::Level level, std::string_view why) {
    reporter_->reload_ended(event == "reloaded");
    runtime::log(level, event, {{"reason", why}});
    runtime::notify_ready(std::string(event) + ": " + std::string(why));
  };
  if (!loaded.ok()) {
    return finish("reload_refused", runtime::Level::error,
                  loaded.why_not() + "; the running configuration stays");
  }
  const auto reasons = needs_restart(config_, *loaded.config, devices_);
  if (!reasons.empty()) {
    std::string all;
    for (const std::string& reason : reasons) all += (all.empty() ? "" : "; ") + reason;
    return finish("reload_refused", runtime::Level::error,
                  all + ": a restart is needed; the running configuration stays");
  }
  const Topology before = topology_;
  if (auto done = change_tables(*loaded.config, runtime::now()); !done) {
    return finish("reload_refused", runtime::Level::error,
                  done.error() + "; the running configuration stays");
  }
  take_configuration(std::move(*loaded.config));
  const bool has_new_ports = steering_->change(steered_interfaces());
  if (has_new_ports || !topology_.has_addresses_of(before)) associations_->steer_again();
  neighbors_->topology_changed(runtime::now());
  neighbors_->announce(before);
  know_peers(runtime::now());
  reporter_->configuration_changed(version);
  finish("reloaded", runtime::Level::info,
         "interfaces, addresses, routes, policies, children and manual SAs are in force");
}

}  // namespace culvert::dataplane::control
