#include "tests/simulator/data_plane.hpp"

#include <algorithm>

namespace culvert::simulation {

using channel::Outcome;
using channel::RequestType;

channel::Completion DataPlane::execute(const channel::Request& request, Instant now) {
  channel::Completion completion;
  completion.request = request.id;
  if (const auto valid = channel::validate(request); !valid) {
    completion.outcome = refuse(Outcome::invalid_field, std::string(valid.error().field) + ": " +
                                                            std::string(valid.error().problem));
    return completion;
  }
  completion.outcome = apply(request, now);
  completion.traffic.idle_milliseconds = idle_milliseconds;
  return completion;
}

Outcome DataPlane::refuse(Outcome outcome, const std::string& why) {
  violations.push_back(std::string(channel::to_string(outcome)) + ": " + why);
  return outcome;
}

Outcome DataPlane::install(const channel::InstallSa& sa, Instant now) {
  if (next_install != Outcome::ok) return std::exchange(next_install, Outcome::ok);
  if (refuse_install == sa.direction) {
    refuse_install.reset();
    return Outcome::no_room;
  }
  if (sas.contains(sa.sa)) return refuse(Outcome::duplicate, "InstallSa: the name is in use");
  const auto key = sa.key.view();
  if (sa.direction == channel::Direction::in) {
    if (leased.erase(sa.spi) == 0) return refuse(Outcome::spi_not_leased, "InstallSa inbound");
  } else if (!outbound_keys_used.insert({key.begin(), key.end()}).second) {
    violations.push_back("an outbound key is used a second time");
  }
  sas[sa.sa] = {sa, now, false, false};
  return Outcome::ok;
}

Outcome DataPlane::apply(const channel::Request& request, Instant now) {
  switch (request.type) {
    case RequestType::install_sa:
      return install(request.body.install_sa, now);
    case RequestType::install_policy: {
      const auto& policy = request.body.install_policy;
      if (next_policy != Outcome::ok) return std::exchange(next_policy, Outcome::ok);
      if (policies.contains(policy.policy)) return refuse(Outcome::duplicate, "InstallPolicy");
      const auto* sa = find(policy.outbound);
      if (sa == nullptr || sa->sa.direction != channel::Direction::out) {
        return refuse(Outcome::unknown_sa, "InstallPolicy");
      }
      if (policies.size() >= most_policies) return Outcome::no_room;
      policies[policy.policy] = {policy, policy.outbound};
      policy_order.push_back(policy.policy);
      return Outcome::ok;
    }
    case RequestType::switch_outbound: {
      const auto& change = request.body.switch_outbound;
      if (next_switch != Outcome::ok) return std::exchange(next_switch, Outcome::ok);
      const auto policy = policies.find(change.policy);
      if (policy == policies.end()) return refuse(Outcome::unknown_policy, "SwitchOutbound");
      const auto* sa = find(change.outbound);
      if (sa == nullptr || sa->sa.direction != channel::Direction::out) {
        // After a refused InstallSa this is what a real data plane says too.
        return Outcome::unknown_sa;
      }
      policy->second.outbound = change.outbound;
      return Outcome::ok;
    }
    case RequestType::delete_policy:
      if (policies.erase(request.body.delete_policy.policy) == 0) {
        return refuse(Outcome::unknown_policy, "DeletePolicy");
      }
      std::erase(policy_order, request.body.delete_policy.policy);
      return Outcome::ok;
    case RequestType::delete_sa: {
      const channel::SaId id = request.body.delete_sa.sa;
      if (sas.erase(id) == 0) return refuse(Outcome::unknown_sa, "DeleteSa");
      for (const auto& [name, policy] : policies) {
        if (policy.outbound == id) violations.push_back("DeleteSa: a policy still sends on it");
      }
      return Outcome::ok;
    }
    case RequestType::update_endpoints: {
      const auto& update = request.body.update_endpoints;
      const auto sa = sas.find(update.sa);
      if (sa == sas.end()) return refuse(Outcome::unknown_sa, "UpdateEndpoints");
      if (gone_addresses.contains(update.local.address)) return Outcome::no_route;
      sa->second.sa.local = update.local;
      sa->second.sa.remote = update.remote;
      return Outcome::ok;
    }
    case RequestType::query_sa:
      return find(request.body.query_sa.sa) != nullptr ? Outcome::ok
                                                       : refuse(Outcome::unknown_sa, "QuerySa");
    case RequestType::none:
    case RequestType::lease_spis:
    case RequestType::take_snapshot:
    case RequestType::keep_spis:
      return refuse(Outcome::unknown_request, "not the machine's to ask");
  }
  return Outcome::unknown_request;
}

std::optional<Instant> DataPlane::next_expiry() const {
  std::optional<Instant> next;
  const auto consider = [&](Instant installed, std::uint64_t seconds, bool raised) {
    if (seconds == 0 || raised) return;
    const Instant when = installed + std::chrono::seconds(seconds);
    if (!next || when < *next) next = when;
  };
  for (const auto& [id, sa] : sas) {
    consider(sa.installed, sa.sa.lifetime.soft_seconds, sa.soft_raised);
    consider(sa.installed, sa.sa.lifetime.hard_seconds, sa.hard_raised);
  }
  return next;
}

std::vector<channel::Event> DataPlane::expire(Instant now) {
  std::vector<channel::Event> events;
  const auto due = [&](const InstalledSa& sa, std::uint64_t seconds) {
    return seconds != 0 && sa.installed + std::chrono::seconds(seconds) <= now;
  };
  for (auto& [id, sa] : sas) {
    channel::Event event;
    if (!sa.soft_raised && due(sa, sa.sa.lifetime.soft_seconds)) {
      sa.soft_raised = true;
      event.type = channel::EventType::soft_expire;
      event.body.soft_expire = {id, channel::ExpiryCause::time};
      events.push_back(event);
    }
    if (!sa.hard_raised && due(sa, sa.sa.lifetime.hard_seconds)) {
      sa.hard_raised = true;
      event.type = channel::EventType::hard_expire;
      event.body.hard_expire = {id, channel::ExpiryCause::time};
      events.push_back(event);
    }
  }
  return events;
}

std::optional<channel::Spi> DataPlane::take() {
  if (spis_exhausted) return std::nullopt;
  const channel::Spi spi{next_spi_++};
  leased.insert(spi);
  return spi;
}
void DataPlane::give_back(channel::Spi spi) {
  if (leased.erase(spi) == 0) violations.push_back("an SPI is given back that was not leased");
}
void DataPlane::restart() {
  sas.clear();
  policies.clear();
  policy_order.clear();
  leased.clear();
}

const DataPlane::InstalledSa* DataPlane::find(channel::SaId sa) const {
  const auto found = sas.find(sa);
  return found == sas.end() ? nullptr : &found->second;
}
const DataPlane::InstalledSa* DataPlane::inbound(channel::Spi spi) const {
  for (const auto& [id, sa] : sas) {
    if (sa.sa.direction == channel::Direction::in && sa.sa.spi == spi) return &sa;
  }
  return nullptr;
}
const DataPlane::InstalledSa* DataPlane::outbound_of(config::ChildId child_id) const {
  for (auto id = policy_order.rbegin(); id != policy_order.rend(); ++id) {
    const InstalledPolicy& policy = policies.at(*id);
    if (policy.policy.child_id == child_id) return find(policy.outbound);
  }
  return nullptr;
}

bool DataPlane::sends_with(channel::Spi spi) const {
  return std::ranges::any_of(policies, [&](const auto& entry) {
    const InstalledSa* sa = find(entry.second.outbound);
    return sa != nullptr && sa->sa.spi == spi;
  });
}

std::vector<channel::SnapshotSa> DataPlane::snapshot_sas() const {
  std::vector<channel::SnapshotSa> all;
  for (const auto& [id, sa] : sas) {
    all.push_back({id, sa.sa.child_id, sa.sa.direction, sa.sa.spi, sa.sa.local, sa.sa.remote,
                   sa.sa.udp_encapsulation});
  }
  return all;
}
std::vector<channel::SnapshotPolicy> DataPlane::snapshot_policies() const {
  std::vector<channel::SnapshotPolicy> all;
  for (const auto& [id, policy] : policies) {
    all.push_back({id, policy.policy.child_id, policy.outbound});
  }
  return all;
}

}  // namespace culvert::simulation
