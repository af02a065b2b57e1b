// A new configuration for a machine that runs: what did not change is left alone, what changed is
// negotiated anew beside what it replaces, what is gone is deleted. Never an outage.
#include <algorithm>

#include "ike/machine/core.hpp"
#include "ike/machine/record_codec.hpp"

namespace culvert::ike {
namespace {

bool same_peer(const config::Peer& a, const config::Peer& b) {
  return a.address == b.address && a.id == b.id && a.id_pattern == b.id_pattern &&
         a.auth == b.auth && a.certificate == b.certificate;
}
/// Whether the IKE SA that stands is what the new configuration would make, suites and times aside.
bool same_authentication(const config::Connection& a, const config::Connection& b) {
  return same_peer(a.local, b.local) && same_peer(a.remote, b.remote) &&
         a.encapsulation == b.encapsulation && a.mobike == b.mobike;
}
/// Whether the traffic and its protection stay; if not, the child is made anew beside the old one.
bool same_protection(const config::Child& a, const config::Child& b) {
  return a.name == b.name && a.mode == b.mode && a.local_ts == b.local_ts &&
         a.remote_ts == b.remote_ts && a.esp_proposals == b.esp_proposals;
}
/// What every SA of a child carries with it; a rekey brings the new values.
bool same_limits(const config::Child& a, const config::Child& b) {
  return a.rekey_time == b.rekey_time && a.life_time == b.life_time &&
         a.rekey_bytes == b.rekey_bytes && a.life_bytes == b.life_bytes &&
         a.rekey_packets == b.rekey_packets && a.life_packets == b.life_packets &&
         a.replay_window == b.replay_window;
}

bool permits(const crypto::Proposal& proposal, const crypto::IkeSuite& suite) {
  const auto has = [](const auto& list, const auto& value) {
    return std::ranges::find(list, value) != list.end();
  };
  return has(proposal.encryption, crypto::Proposal::Cipher{suite.encryption, suite.key_bits}) &&
         (suite.integrity == crypto::Integrity::none || has(proposal.integrity, suite.integrity)) &&
         has(proposal.prf, suite.prf) && has(proposal.groups, suite.group);
}

/// Whether what is on its way says what would be said now.
bool same_negotiation(const config::Connection& a, const config::Connection& b) {
  return same_authentication(a, b) && a.proposals == b.proposals &&
         std::ranges::equal(a.children, b.children, same_protection);
}

}  // namespace

void Core::reconfigure(const config::Config& config, const SecretSource& secrets, Instant now,
                       std::vector<Action>& actions) {
  // 1. connections by name  2. whose IKE SAs are whose  3. those that stand, with their children
  // 4. those that do not stand yet: what they were begun for may come up on one that does
  // 5. what shall be up
  begin(now, actions);
  environment_.secrets = &secrets;
  take_connections(config);
  retire_orphans();
  std::vector<std::uint64_t> all;
  for (const auto& [spi, ike] : ike_sas_) {
    take_connection(*ike);
    all.push_back(spi);
  }
  std::ranges::stable_partition(
      all, [&](std::uint64_t spi) { return find_ike(spi)->state == IkeState::established; });
  for (const std::uint64_t spi : all) {
    if (IkeSa* ike = find_ike(spi)) reconfigure_ike(*ike);
  }
  for (ConnectionState& state : connections_) {
    if (!state.ghost) retry_connection(state);
  }
  report(Level::info, "reconfigured", {{"connections", std::to_string(config.connections.size())}});
}

/// What a connection remembers goes over to the one of the same name. One that is gone stays, as a
/// ghost, as long as IKE SAs of it are there to be ended.
void Core::take_connections(const config::Config& config) {
  std::vector<ConnectionState> before = std::exchange(connections_, {});
  previous_connections_.clear();
  for (const config::Connection& connection : config.connections) {
    ConnectionState state;
    state.backoff = tuning_.initiate_backoff_first;
    if (const config::Connection* known = connection_index_.find(connection.name)) {
      previous_connections_[connection.name] = *known;
      ConnectionState& old = before[*connection_index_.place_of(*known)];
      state = std::exchange(old, {});
      // What failed was asked for in other words.
      const Attempt failed = state.concern.attempt;
      if (failed != Attempt::none && failed != Attempt::standing &&
          fingerprint(*known) != fingerprint(connection)) {
        clear_failure(state);
      }
    }
    state.connection = &connection;
    state.fingerprint.reset();
    const auto gone = [&](config::ChildId child_id) {
      return std::ranges::find(connection.children, child_id, &config::Child::id) ==
             connection.children.end();
    };
    // What an IKE SA that is on its way out has of them is still shown, and ended.
    if (const auto known = previous_connections_.find(connection.name);
        known != previous_connections_.end()) {
      for (const config::Child& child : known->second.children) {
        if (gone(child.id)) ghost_children_.insert_or_assign(child.id, child);
      }
    }
    std::erase_if(state.keep, gone);
    std::erase_if(state.held_children, gone);
    std::erase_if(state.rekeys, [&](const auto& count) { return gone(count.first); });
    if (state.concern.child && gone(*state.concern.child)) clear_failure(state);
    connections_.push_back(std::move(state));
  }
  for (ConnectionState& state : before) {
    if (state.connection == nullptr) continue;
    touch(state);  // its record goes
    make_ghost(std::move(state));
  }
  connection_index_.rebuild(connections_);
  for (const ConnectionState& state : connections_) {
    touch(state);
  }
  for (std::size_t place = 0; place < connections_.size(); ++place) {
    // Timers know a connection by its place.
    if (connections_[place].retry_at != Instant{}) {
      timers_.arm(connections_[place].retry_at, TimerKind::retry_connection, place);
    }
  }
  environment_.config = &config;
  lost_addresses_.configuration_changed();
}

/// What an earlier life left of children that are not configured any more, and what asked for them.
void Core::retire_orphans() {
  const auto is_gone = [&](config::ChildId child) {
    return connection_index_.find_child(child) == nullptr;
  };
  std::set<config::ChildId> orphans;
  for (const auto& [id, sa] : adopted_) {
    if (is_gone(sa.child_id)) orphans.insert(sa.child_id);
  }
  for (const config::ChildId child : orphans) retire_adopted(child, now_);
  std::erase_if(trapped_, [&](const auto& entry) { return is_gone(entry.first); });
}

void Core::make_ghost(ConnectionState state) {
  std::vector<IkeSa*> its;
  std::ranges::copy(peers_.of(*state.connection), std::back_inserter(its));
  if (its.empty()) return;
  for (const config::Child& child : state.connection->children) {
    child_is_not_coming(child.id, "removed from the configuration");
  }
  for (const config::Child& child : state.connection->children) {
    ghost_children_.insert_or_assign(child.id, child);
  }
  auto ghost = std::make_unique<config::Connection>(*state.connection);
  for (IkeSa* ike : its) {
    ike->connection = ghost.get();
    peers_.file(*ike);
  }
  state.connection = ghost.get();
  state.ghost = std::move(ghost);
  state.held_down = true;
  state.keep.clear();
  state.retry_at = {};
  connections_.push_back(std::move(state));
}

/// An IKE SA belongs to the connection of its name; where there is none any more, to the ghost.
void Core::take_connection(IkeSa& ike) {
  ike.candidates.clear();  // of the configuration before
  const auto place = connection_index_.place_of(*ike.connection);
  if (place && connections_[*place].ghost) return;
  ike.connection = connection_index_.find(ike.connection->name);
  peers_.file(ike);
  // Before anything is begun in new words.
  if (ike.exchange)
    keep_what_was_asked(*ike.exchange, previous_connections_.at(ike.connection->name));
  std::erase_if(ike.wanted, [&](config::ChildId child_id) {
    return connection_index_.connection_of_child(child_id) != ike.connection;
  });
}

void Core::reconfigure_ike(IkeSa& ike) {
  if (state_of(*ike.connection).ghost) {
    end_removed(ike);
    return;
  }
  const config::Connection& before = previous_connections_.at(ike.connection->name);
  if (ike.state == IkeState::half_open) {
    ike.candidates = connection_index_.between(ike.local.address, ike.remote.address);
    if (ike.candidates.empty()) remove_unfinished(ike);
    return;
  }
  if (ike.state == IkeState::init_sent || ike.state == IkeState::auth_sent) {
    if (same_negotiation(before, *ike.connection)) return;
    // Nothing is agreed upon yet: begun anew in the words of the new configuration.
    const std::vector<config::ChildId> wanted = ike.wanted;
    remove_unfinished(ike);
    for (const config::ChildId child_id : wanted) ensure(child_id);
    return;
  }
  if (ike.state != IkeState::established) return;
  if (!same_authentication(before, *ike.connection)) {
    ike.outdated = true;
    renew_outdated(ike);
    return;
  }
  lost_addresses_.look_at(ike);
  reconfigure_children(ike, before);
  renew_suite(ike);
  if (before.rekey_time != ike.connection->rekey_time ||
      before.dpd_delay != ike.connection->dpd_delay) {
    arm_lifetime(ike);
  }
  if (before.reauth_time != ike.connection->reauth_time) {
    ike.reauthenticate_at = {};
    arm_reauthentication(ike);
  }
}

/// By a rekey, where the configuration has it no more.
void Core::renew_suite(IkeSa& ike) {
  if (ike.redundant || ike.outdated) return;
  const auto& proposals = ike.connection->proposals;
  const bool stays = std::ranges::any_of(
      proposals, [&](const crypto::Proposal& proposal) { return permits(proposal, ike.suite); });
  if (!stays) enqueue(ike, Task{.kind = TaskKind::rekey_ike});
}

void Core::end_removed(IkeSa& ike) {
  if (ike.state == IkeState::established) {
    enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
  } else if (ike.state == IkeState::init_sent || ike.state == IkeState::auth_sent ||
             ike.state == IkeState::half_open) {
    remove_unfinished(ike);
  }
}

void Core::remove_unfinished(IkeSa& ike) {
  const std::uint64_t spi = ike.local_spi;
  tell_responder(ike);
  close(ike, false, "the configuration changed");
  remove(spi);
}

/// What is on its way is judged by what was asked for.
void Core::keep_what_was_asked(Exchange& exchange, const config::Connection& before) {
  if (exchange.task.kind == TaskKind::rekey_ike && !exchange.asked_ike) {
    exchange.asked_ike = before.proposals;
  }
  if (exchange.task.kind != TaskKind::create_child && exchange.task.kind != TaskKind::rekey_child) {
    return;
  }
  const auto old = std::ranges::find(before.children, exchange.task.child_id, &config::Child::id);
  const config::Child* wanted = connection_index_.find_child(exchange.task.child_id);
  if (exchange.asked || old == before.children.end() || wanted == nullptr) return;
  if (!same_protection(*old, *wanted)) exchange.asked = *old;
}

/// Goes on until its new form is in use: see retire_outdated.
void Core::outdate(ChildSa& child) {
  child.outdated = children_.any_outdated = true;
  state_of(*find_ike(child.ike_spi)->connection).keep.insert(child.child_id);
  ensure(child.child_id);
}

void Core::reconfigure_children(IkeSa& ike, const config::Connection& before) {
  for (const channel::SaId id : std::vector<channel::SaId>(ike.children)) {
    ChildSa& child = children_.at(id);
    if (child.state == ChildState::deleting || child.state == ChildState::replaced) continue;
    const auto old = std::ranges::find(before.children, child.child_id, &config::Child::id);
    const config::Child* wanted = connection_index_.find_child(child.child_id);
    if (old == before.children.end()) continue;
    if (wanted == nullptr ||
        connection_index_.connection_of_child(child.child_id) != ike.connection) {
      ghost_children_.insert_or_assign(child.child_id, *old);
      enqueue(ike, Task{.kind = TaskKind::delete_child, .child = id}, true);
    } else if (!same_protection(*old, *wanted)) {
      outdate(child);
    } else if (!same_limits(*old, *wanted)) {
      enqueue(ike, Task{.kind = TaskKind::rekey_child, .child_id = child.child_id, .child = id});
    }
  }
  for (const config::Child& old : before.children) {
    if (connection_index_.find_child(old.id) == nullptr) {
      ghost_children_.insert_or_assign(old.id, old);
      retire_adopted(old.id, now_);
    }
  }
}

/// What an IKE SA was authenticated for has changed. Where we can begin, a new one is made beside
/// it; else the peer has to, which may read the same change a moment later: when it has not come by
/// then it hears that this one is over.
void Core::renew_outdated(IkeSa& ike) {
  ike.reauthenticate_at = now_;
  if (!address_of_peer(*ike.connection)) ike.reauthenticate_at += tuning_.outdated_grace;
  timers_.arm(ike.reauthenticate_at, TimerKind::reauthenticate, ike.local_spi);
}

/// A child of the new configuration stands: what it was made in place of may go.
void Core::retire_outdated(config::ChildId child_id) {
  if (!children_.any_outdated) return;
  children_.any_outdated =
      std::ranges::any_of(children_, [](const auto& entry) { return entry.second.outdated; });
  std::vector<const ChildSa*> outdated;
  for (const ChildSa* child : children_.of(child_id)) {
    const bool ends = child->state == ChildState::deleting || child->state == ChildState::replaced;
    if (child->outdated && !ends) outdated.push_back(child);
  }
  for (const ChildSa* child : outdated) {
    IkeSa* ike = find_ike(child->ike_spi);
    if (ike == nullptr || ike->state != IkeState::established) continue;
    // Not enqueue(): whoever calls may be about to begin an exchange on the same IKE SA.
    const Instant when = now_ + tuning_.responder_switch_delay;
    touch(*ike);
    timers_.arm(when, TimerKind::start_tasks, ike->local_spi);
    ike->queue.push_back(
        Task{.kind = TaskKind::delete_child, .child = child->inbound_sa, .not_before = when});
  }
}

/// The child of the new configuration does not stand after all: see retire_outdated.
void Core::keep_outdated(config::ChildId child_id) {
  if (!children_.any_outdated) return;
  for (const ChildSa* child : children_.of(child_id)) {
    IkeSa* ike = find_ike(child->ike_spi);
    if (!child->outdated || has_new_form(*child) || ike == nullptr) continue;
    touch(*ike);
    std::erase_if(ike->queue, [&](const Task& task) {
      return task.kind == TaskKind::delete_child && task.child == child->inbound_sa &&
             task.not_before > now_;
    });
  }
}

}  // namespace culvert::ike
