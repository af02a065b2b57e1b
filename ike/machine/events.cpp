// What the data plane tells us: acquire, expiry, moved peers, completions, snapshots, its own end.
#include <algorithm>
#include <vector>

#include "ike/machine/core.hpp"

namespace culvert::ike {

void Core::on_event(const channel::Event& event, Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  switch (event.type) {
    case channel::EventType::acquire: {
      const config::ChildId child_id = event.body.acquire.child_id;
      const config::Connection* connection = connection_index_.connection_of_child(child_id);
      if (connection == nullptr || shutting_down_) return;
      ConnectionState& state = state_of(*connection);
      // A failure is not repeated packet by packet; one child's holds no other back.
      const bool is_concerned = !state.concern.child || *state.concern.child == child_id;
      if (state.retry_at != Instant{} && state.last_failure && is_concerned) return;
      if (!event.body.acquire.destination.is_unspecified()) {
        trapped_[child_id] = event.body.acquire;
      }
      ensure(child_id);
      return;
    }
    case channel::EventType::soft_expire: {
      ChildSa* child = child_of_sa(event.body.soft_expire.sa);
      if (child == nullptr || child->state != ChildState::installed || !is_live(*child)) return;
      child->state = ChildState::rekeying;
      enqueue(*find_ike(child->ike_spi), Task{.kind = TaskKind::rekey_child,
                                              .child_id = child->child_id,
                                              .child = child->inbound_sa});
      return;
    }
    case channel::EventType::hard_expire: {
      const channel::SaId sa = event.body.hard_expire.sa;
      if (const auto adopted = adopted_.find(sa); adopted != adopted_.end()) {
        const config::ChildId child_id = adopted->second.child_id;
        adopted_.erase(adopted);
        while (const PolicyBinding* bound = bindings_.find(sa)) {
          delete_policy(bound->policy);
          bindings_.erase(bound->policy);
        }
        delete_sa(sa);
        const bool left = std::ranges::any_of(
            adopted_, [&](const auto& entry) { return entry.second.child_id == child_id; });
        if (!left) retire_adopted(child_id, now_);
        return;
      }
      ChildSa* child = child_of_sa(sa);
      if (child == nullptr || child->state == ChildState::deleting) return;
      IkeSa& ike = *find_ike(child->ike_spi);
      if (child->state != ChildState::replaced && !child->redundant) {
        fail(ike.connection, Failure::lifetime_expired,
             child_config(child->child_id).name + ", SPI " + spi_text(child->inbound_spi));
      }
      const config::ChildId child_id = child->child_id;
      enqueue(ike, Task{.kind = TaskKind::delete_child, .child = child->inbound_sa}, true);
      if (const ConnectionState& state = state_of(*ike.connection);
          wants_up(state, child_config(child_id))) {
        ensure_soon(state_of(*ike.connection));
      }
      return;
    }
    case channel::EventType::peer_moved: {
      ChildSa* child = child_of_sa(event.body.peer_moved.sa);
      IkeSa* ike = child != nullptr ? find_ike(child->ike_spi) : nullptr;
      if (ike == nullptr || !ike->encapsulate || !ike->nat_remote || ike->nat_local) return;
      const wire::Endpoint& seen = event.body.peer_moved.seen;
      constexpr std::uint16_t kEspPort = wire::udp::kNatTraversalPort;
      if (ike->remote == seen && ike->local.port == kEspPort) return;
      // RFC 7296 §2.23: only the peer's own traffic, authenticated, moves it. What a NAT has for
      // the peer's ESP leads to it from port 4500: IKE that was on port 500 goes there too.
      touch(*ike);
      ike->remote = seen;
      ike->local.port = kEspPort;
      if (!ike->checked_remote) {
        endpoints_changed(*ike);
        return;
      }
      // RFC 4555 §3.7: it is being asked whether it is there, and is somewhere else again.
      const TaskKind check = ike->moves ? TaskKind::update_addresses : TaskKind::check_route;
      if (std::ranges::find(ike->queue, check, &Task::kind) == ike->queue.end()) {
        enqueue(*ike, Task{.kind = check}, true);
      }
      return;
    }
    case channel::EventType::unknown_spi:
      // Unauthenticated: it may make no more than a line in the log.
      report(Level::debug, "unknown_spi",
             {{"spi", spi_text(event.body.unknown_spi.spi)},
              {"from", event.body.unknown_spi.from.to_string()}});
      return;
    case channel::EventType::none:
    case channel::EventType::completion:
    case channel::EventType::snapshot_sa:
    case channel::EventType::snapshot_policy:
      return;
  }
}

void Core::on_completion(const channel::Completion& completion, Instant now,
                         std::vector<Action>& actions) {
  begin(now, actions);
  if (const auto found = installations_.find(completion.request); found != installations_.end()) {
    const Installation asked = found->second;
    installations_.erase(found);
    if (asked.kind != channel::RequestType::install_sa) {
      policy_answered(asked, completion.outcome);
      return;
    }
    if (ChildSa* child = child_of_sa(asked.sa)) {
      (asked.sa == child->inbound_sa ? child->unconfirmed_in : child->unconfirmed_out) = {};
    }
    if (completion.outcome != channel::Outcome::ok) installation_failed(asked, completion.outcome);
    return;
  }
  if (const auto found = liveness_requests_.find(completion.request);
      found != liveness_requests_.end()) {
    IkeSa* ike = find_ike(found->second);
    liveness_requests_.erase(found);
    if (ike == nullptr || ike->state != IkeState::established || ike->liveness_queries == 0) return;
    const Instant idle = std::chrono::milliseconds(
        std::min<std::uint64_t>(completion.traffic.idle_milliseconds, 1'000'000'000));
    if (completion.outcome == channel::Outcome::ok) {
      ike->traffic_seen |= idle < ike->connection->dpd_delay;
      ike->last_heard = std::max(ike->last_heard, now_ - idle);
    }
    if (--ike->liveness_queries > 0 || ike->traffic_seen || ike->exchange) return;
    enqueue(*ike, Task{.kind = TaskKind::liveness});
    return;
  }
  if (lost_addresses_.take(completion)) return;
  if (completion.outcome != channel::Outcome::ok) {
    report(Level::warning, "dataplane_refused",
           {{"request", std::to_string(static_cast<std::uint64_t>(completion.request))},
            {"outcome", std::string(channel::to_string(completion.outcome))}});
  }
}

void Core::adopt(const std::vector<channel::SnapshotSa>& sas,
                 const std::vector<channel::SnapshotPolicy>& policies, Instant now,
                 std::vector<Action>& actions) {
  begin(now, actions);
  std::set<config::ChildId> orphans;
  for (const channel::SnapshotSa& sa : sas) {
    const config::Connection* connection = connection_index_.connection_of_child(sa.child_id);
    if (connection == nullptr) {
      // Its child is not configured any more.
      delete_sa_later(sa.sa, sa.child_id, now_ + tuning_.old_sa_grace);
      orphans.insert(sa.child_id);
      continue;
    }
    adopted_[sa.sa] = sa;
    state_of(*connection).keep.insert(sa.child_id);
  }
  for (const channel::SnapshotPolicy& policy : policies) {
    if (connection_index_.connection_of_child(policy.child_id) == nullptr) {
      delete_policy(policy.policy);
      continue;
    }
    PolicyBinding binding;
    binding.policy = policy.policy;
    binding.child_id = policy.child_id;
    binding.outbound = policy.outbound;
    binding.adopted = true;
    bindings_.add(std::move(binding));
  }
  if (!adopted_.empty()) {
    report(Level::info, "sas_adopted", {{"count", std::to_string(adopted_.size())}});
  }
  // Established anew beside the old ones: the IKE SAs that controlled them are gone.
  for (ConnectionState& state : connections_) retry_connection(state);
}

void Core::on_dataplane_lost(Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  for (const auto& [id, child] : children_) {
    if (!is_live(child)) continue;
    const config::Connection* connection = connection_index_.connection_of_child(child.child_id);
    if (connection != nullptr) state_of(*connection).keep.insert(child.child_id);
  }
  bindings_.clear();
  adopted_.clear();
  retired_.clear();
  installations_.clear();
  liveness_requests_.clear();
  lost_addresses_.dataplane_lost();
  children_.clear();
  inbound_of_outbound_.clear();
  std::vector<std::uint64_t> forgotten;
  for (auto& [spi, ike] : ike_sas_) {
    touch(*ike);
    ike->children.clear();
    // So are the leases.
    if (ike->exchange) ike->exchange->inbound_spi = ike->exchange->task.orphan = {};
    std::erase_if(ike->queue, [](const Task& task) { return task.orphan != channel::Spi{}; });
    // Where only the peer can begin it has to hear that there is nothing left.
    const bool tell = ike->usable() && !address_of_peer(*ike->connection);
    if (!tell) forgotten.push_back(spi);
  }
  for (const std::uint64_t spi : forgotten) {
    close(*find_ike(spi), false, "the data plane restarted");
    remove(spi);
  }
  for (auto& [spi, ike] : ike_sas_) enqueue(*ike, Task{.kind = TaskKind::delete_ike}, true);
  report(Level::warning, "dataplane_lost", {});
  for (ConnectionState& state : connections_) retry_connection(state);
}

}  // namespace culvert::ike
