// What status and metrics read: copies, no references into the state.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

/// Somebody who has not proved himself was refused: of interest this long, as a stranger is. A peer
/// that goes on trying is refused again by then.
constexpr std::chrono::seconds kKnockIsNews{300};

std::string name_of(IkeState state, const IkeSa& ike) {
  switch (state) {
    case IkeState::init_sent:
    case IkeState::half_open:
      return "init";
    case IkeState::auth_sent:
      return "auth";
    case IkeState::established:
      return ike.exchange && ike.exchange->task.kind == TaskKind::rekey_ike ? "rekeying"
             : ike.redundant                                                ? "deleting"
                                                                            : "established";
    case IkeState::rekeyed:
    case IkeState::superseded:
    case IkeState::deleting:
    case IkeState::closed:
      return "deleting";
  }
  return "unknown";
}
std::string name_of(ChildState state) {
  switch (state) {
    case ChildState::installed:
      return "installed";
    case ChildState::rekeying:
      return "rekeying";
    case ChildState::replaced:
      return "rekeyed";
    case ChildState::deleting:
      return "deleting";
  }
  return "unknown";
}
std::chrono::seconds seconds_until(Instant when, Instant now) {
  return std::chrono::duration_cast<std::chrono::seconds>(std::max(when - now, Instant{}));
}

ChildStatus status_of(const ChildSa& child, const config::Child& config, Instant now) {
  ChildStatus status;
  status.name = config.name;
  status.child_id = child.child_id;
  status.state = child.redundant ? "deleting" : name_of(child.state);
  status.inbound = child.inbound_spi;
  status.outbound = child.outbound_spi;
  status.inbound_sa = child.inbound_sa;
  status.outbound_sa = child.outbound_sa;
  status.suite = child.suite;
  status.esn = child.esn;
  if (const auto* group = crypto::find(child.pfs_group)) status.pfs_group = group->name;
  status.udp_encapsulation = child.udp_encapsulation;
  status.local_selectors = child.local_selectors;
  status.remote_selectors = child.remote_selectors;
  status.notice = child.notice;
  status.notice_detail = child.notice_detail;
  status.age = seconds_until(now, child.created);
  if (child.soft_seconds > 0) {
    status.rekey_in = seconds_until(child.created + std::chrono::seconds(child.soft_seconds), now);
  }
  if (child.hard_seconds > 0) {
    status.expires_in =
        seconds_until(child.created + std::chrono::seconds(child.hard_seconds), now);
  }
  return status;
}

/// Whether an IKE SA has begun to bring the child up, or will when it stands.
bool is_bringing_up(const IkeSa& ike, config::ChildId child_id) {
  const auto creates = [&](const Task& task) {
    return task.kind == TaskKind::create_child && task.child_id == child_id;
  };
  const bool begins = ike.state == IkeState::init_sent || ike.state == IkeState::auth_sent;
  if (begins) return std::ranges::find(ike.wanted, child_id) != ike.wanted.end();
  if (ike.exchange && creates(ike.exchange->task)) return true;
  return std::ranges::any_of(ike.queue, creates);
}

}  // namespace

std::vector<IkeSaStatus> Core::ike_sas(Instant now) const {
  std::vector<IkeSaStatus> all;
  for (const auto& [spi, ike] : ike_sas_) {
    if (ike->state == IkeState::closed) continue;
    IkeSaStatus status;
    status.connection = ike->connection->name;
    status.state = name_of(ike->state, *ike);
    status.initiator = ike->initiator;
    status.initiator_spi = ike->initiator_spi();
    status.responder_spi = ike->responder_spi();
    status.local = ike->local;
    status.remote = ike->remote;
    status.local_id = ike->local_id.text;
    status.remote_id = ike->remote_id.text;
    status.local_auth = ike->local_auth;
    status.remote_auth = ike->remote_auth;
    status.remote_certificate = ike->remote_certificate;
    status.remote_certificate_expires = ike->remote_certificate_expires;
    status.suite = ike->suite;
    status.nat_local = ike->nat_local;
    status.nat_remote = ike->nat_remote;
    status.fragmentation = ike->fragmentation;
    status.mobike = ike->mobike;
    status.post_quantum = ike->post_quantum;
    status.age = seconds_until(now, ike->created);
    if (ike->rekey_at != Instant{}) status.rekey_in = seconds_until(ike->rekey_at, now);
    for (const channel::SaId id : ike->children) {
      const ChildSa& child = children_.at(id);
      status.children.push_back(status_of(child, child_config(child.child_id), now));
    }
    all.push_back(std::move(status));
  }
  return all;
}

/// Whether the failure that is remembered is still to be told where children are up.
bool Core::fails_while_up(const ConnectionState& state, Instant now) const {
  const auto& [child, attempt] = state.concern;
  if (child) return live_child(*child) != nullptr;
  if (attempt == Attempt::none) return false;
  if (attempt == Attempt::knock && now - state.failed_at > kKnockIsNews) return false;
  return std::ranges::any_of(peers_.of(*state.connection), [&](const IkeSa* ike) {
    return std::ranges::any_of(ike->children, [&](channel::SaId id) {
      const ChildSa& one = children_.at(id);
      return one.state == ChildState::installed || one.state == ChildState::rekeying;
    });
  });
}

std::vector<ConnectionStatus> Core::connections(Instant now) const {
  std::vector<ConnectionStatus> all;
  for (const ConnectionState& state : connections_) {
    if (state.ghost) continue;
    ConnectionStatus status{state.connection->name, state.last_failure, state.last_failure_detail,
                            std::nullopt};
    if (state.retry_at != Instant{}) status.retry_in = seconds_until(state.retry_at, now);
    if (state.concern.child) status.last_failure_child = child_config(*state.concern.child).name;
    if (state.last_failure) {
      status.fails_while_up = fails_while_up(state, now);
      status.last_failure_age = seconds_until(now, state.failed_at);
    }
    const bool begins_soon = state.retry_at != Instant{} && !state.last_failure;
    for (const config::Child& child : state.connection->children) {
      ChildPlan plan{.name = child.name};
      plan.is_terminated = state.held_down || state.held_children.contains(child.id);
      plan.is_coming = live_child(child.id) == nullptr &&
                       ((begins_soon && wants_up(state, child)) ||
                        std::ranges::any_of(peers_.of(*state.connection), [&](const IkeSa* ike) {
                          return is_bringing_up(*ike, child.id);
                        }));
      if (const auto count = state.rekeys.find(child.id); count != state.rekeys.end()) {
        plan.rekeys_ok = count->second.ok;
        plan.rekeys_failed = count->second.failed;
      }
      status.children.push_back(std::move(plan));
    }
    all.push_back(std::move(status));
  }
  return all;
}

std::optional<StrangerStatus> Core::last_stranger(Instant now) const {
  auto stranger = last_stranger_;
  if (stranger) stranger->age = seconds_until(now, last_stranger_at_);
  return stranger;
}

MachineCounters Core::counters() const {
  MachineCounters counters = counters_;
  counters.half_open = half_open_.size();
  return counters;
}

}  // namespace culvert::ike
