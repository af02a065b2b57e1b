// What outlives the process: the records of what changed, and a machine that goes on from them.
// Everything a peer can have seen is on record before it sees it, so a resumed IKE SA has nothing
// to explain: it repeats its open request, and answers a repeated one as before. Where record and
// data plane differ, the record says what is wanted: the data plane may not have been told yet.
#include <algorithm>
#include <array>

#include "ike/machine/core.hpp"
#include "ike/machine/record_codec.hpp"

namespace culvert::ike {

void Core::take_records(bool all, Records& records) {
  if (all) {
    for (const auto& [spi, ike] : ike_sas_) touched_.insert(spi);
    for (const ConnectionState& state : connections_) {
      touch(state);
    }
  }
  for (const std::uint64_t spi : touched_) {
    Record record{{RecordKind::ike_sa, spi}, {}};
    if (const IkeSa* ike = std::as_const(*this).find_ike(spi)) {
      std::vector<const ChildSa*> children;
      children.reserve(ike->children.size());
      for (const channel::SaId id : ike->children) children.push_back(&children_.at(id));
      ConnectionState& state = state_of(*ike->connection);
      if (!state.fingerprint) state.fingerprint = fingerprint(*ike->connection);
      record.content = encode(*ike, *state.fingerprint, children);
    }
    records.push_back(std::move(record));
  }
  for (const config::ConnectionId id : touched_connections_) {
    Record record{{RecordKind::connection, static_cast<std::uint64_t>(id)}, {}};
    // One that is gone, or only there to be ended, leaves no word.
    if (const config::Connection* connection = connection_index_.find(id)) {
      const ConnectionState& state = state_of(*connection);
      if (state.held_down || !state.held_children.empty()) {
        record.content =
            encode(RecordedConnection{connection->name, state.held_down, state.held_children});
      }
    }
    records.push_back(std::move(record));
  }
  touched_.clear();
  touched_connections_.clear();
}

/// One resumption, step by step.
class Resumption {
 public:
  Resumption(Core& core, const std::vector<channel::SnapshotSa>& sas,
             const std::vector<channel::SnapshotPolicy>& policies,
             const std::set<channel::Spi>& held)
      : core_(core), held_(held) {
    for (const channel::SnapshotSa& sa : sas) unclaimed_sas_[sa.sa] = sa;
    for (const channel::SnapshotPolicy& policy : policies) unclaimed_[policy.policy] = policy;
  }

  ResumeReport run(const Records& records) {
    // 1. what operators said  2. IKE SAs and children  3. the data plane made to agree  4. what is
    // there beyond the records  5. time goes on
    for (const Record& record : records) {
      if (record.name.kind == RecordKind::connection) recall(record);
    }
    for (const Record& record : records) {
      if (record.name.kind != RecordKind::connection) place(record);
    }
    for (auto& [spi, ike] : core_.ike_sas_) reconcile(*ike);
    give_back_unused();
    for (auto& [spi, ike] : core_.ike_sas_) reconcile_policies(*ike);
    take_unclaimed();
    report_.resumed = static_cast<std::uint64_t>(std::ranges::count_if(
        core_.ike_sas_, [](const auto& entry) { return entry.second->state != IkeState::closed; }));
    std::vector<std::uint64_t> all;
    all.reserve(core_.ike_sas_.size());
    for (const auto& [spi, ike] : core_.ike_sas_) all.push_back(spi);
    for (const std::uint64_t spi : all) go_on(*core_.find_ike(spi));
    see_to_connections();
    return report_;
  }

 private:
  void recall(const Record& record) {
    const auto recorded = decode_connection(record);
    const config::ConnectionId id{record.name.id};
    const bool parses = recorded && config::connection_id(recorded->name) == id;
    const config::Connection* connection = parses ? core_.connection_index_.find(id) : nullptr;
    if (connection == nullptr) {
      ++report_.refused[parses ? NotResumed::configuration_changed : NotResumed::malformed];
      core_.touched_connections_.insert(id);
      return;
    }
    ConnectionState& state = core_.state_of(*connection);
    state.held_down = recorded->held_down;
    for (const config::ChildId child_id : recorded->held_children) {
      if (belongs(child_id, *state.connection)) state.held_children.insert(child_id);
    }
  }

  [[nodiscard]] bool belongs(config::ChildId child_id, const config::Connection& connection) const {
    return core_.connection_index_.connection_of_child(child_id) == &connection;
  }

  void place(const Record& record) {
    auto recorded = decode_ike_sa(record);
    const auto refused = recorded ? why_not(*recorded) : std::optional(NotResumed::malformed);
    core_.touched_.insert(record.name.id);  // written anew, or removed
    if (refused) {
      ++report_.refused[*refused];
      const bool is_gone =
          recorded && core_.connection_index_.find(recorded->connection) == nullptr;
      core_.report(Level::warning, "record_refused",
                   {{"reason", std::string(info(*refused).name)},
                    {"connection", recorded ? recorded->connection : std::string()},
                    {"effect", is_gone ? "its SAs are taken out: the configuration does not have it"
                                       : "established anew beside the SAs that stand"}});
      return;
    }
    IkeSa& ike = *recorded->ike;
    for (ChildSa& child : recorded->children) {
      core_.inbound_of_outbound_[child.outbound_sa] = child.inbound_sa;
      core_.children_.add(std::move(child));
    }
    if (ike.state == IkeState::half_open) core_.half_open_.insert(ike.local_spi);
    if (ike.init_request) core_.init_requests_[*ike.init_request] = ike.local_spi;
    core_.next_rank_ = std::max({core_.next_rank_, ike.created_rank + 1, ike.established_rank + 1});
    core_.peers_.file(ike);
    core_.ike_sas_[ike.local_spi] = std::move(recorded->ike);
  }

  /// Fills in the connections. What the machine relies on is checked here once.
  [[nodiscard]] std::optional<NotResumed> why_not(RecordedIkeSa& recorded) const {
    IkeSa& ike = *recorded.ike;
    const ConnectionIndex& configured = core_.connection_index_;
    ike.connection = configured.find(recorded.connection);
    if (ike.connection == nullptr || fingerprint(*ike.connection) != recorded.connection_is) {
      return NotResumed::configuration_changed;
    }
    for (const std::string& name : recorded.candidates) {
      const config::Connection* candidate = configured.find(name);
      if (candidate == nullptr) return NotResumed::configuration_changed;
      ike.candidates.push_back(candidate);
    }
    if (ike.state == IkeState::half_open && ike.candidates.empty()) return NotResumed::malformed;
    const auto ours = [&](config::ChildId child_id) { return belongs(child_id, *ike.connection); };
    if (!std::ranges::all_of(ike.wanted, ours)) return NotResumed::malformed;
    for (const ChildSa& child : recorded.children) {
      const bool named_twice = core_.children_.contains(child.inbound_sa) ||
                               core_.inbound_of_outbound_.contains(child.outbound_sa);
      if (!ours(child.child_id) || named_twice) return NotResumed::malformed;
    }
    std::vector<const Task*> tasks;
    tasks.reserve(ike.queue.size() + 1);
    for (const Task& task : ike.queue) tasks.push_back(&task);
    if (ike.exchange) tasks.push_back(&ike.exchange->task);
    for (const Task* task : tasks) {
      const bool names_child = task->kind == TaskKind::create_child ||
                               task->kind == TaskKind::rekey_child || task->kind == TaskKind::auth;
      if (names_child && !ours(task->child_id)) return NotResumed::malformed;
    }
    return spis_are_ours(recorded, tasks) ? std::nullopt : std::optional(NotResumed::spi_not_held);
  }

  [[nodiscard]] bool spis_are_ours(const RecordedIkeSa& recorded,
                                   const std::vector<const Task*>& tasks) const {
    const auto ours = [&](channel::Spi spi) {
      return spi == channel::Spi{} || held_.contains(spi);
    };
    if (recorded.ike->exchange && !ours(recorded.ike->exchange->inbound_spi)) return false;
    if (!std::ranges::all_of(tasks, [&](const Task* task) { return ours(task->orphan); })) {
      return false;
    }
    return std::ranges::all_of(recorded.children, [&](const ChildSa& child) {
      return child.unconfirmed_in.empty() || unclaimed_sas_.contains(child.inbound_sa) ||
             ours(child.inbound_spi);
    });
  }

  /// SPIs of records that were refused are nobody's.
  void give_back_unused() {
    std::set<channel::Spi> used;
    for (const auto& [spi, ike] : core_.ike_sas_) {
      for (const channel::Spi inbound : spis_under_way(*ike)) used.insert(inbound);
      for (const channel::SaId id : ike->children) {
        const ChildSa& child = core_.children_.at(id);
        if (!child.unconfirmed_in.empty()) used.insert(child.inbound_spi);
      }
    }
    for (const channel::Spi spi : held_) {
      if (!used.contains(spi)) core_.environment_.spis->give_back(spi);
    }
  }

  /// Each half of each child: there, or still to be installed, or lost.
  void reconcile(IkeSa& ike) {
    for (const channel::SaId id : ike.children) {
      ChildSa& child = core_.children_.at(id);
      const bool in = reconcile_half(ike, child, channel::Direction::in);
      const bool out = reconcile_half(ike, child, channel::Direction::out);
      if (in && out) continue;
      const bool ending = child.redundant || child.state == ChildState::deleting;
      if (!ending) lost_.push_back(id);
    }
  }

  [[nodiscard]] bool reconcile_half(IkeSa& ike, ChildSa& child, channel::Direction direction) {
    const bool inbound = direction == channel::Direction::in;
    const channel::SaId id = inbound ? child.inbound_sa : child.outbound_sa;
    crypto::SecretBytes& key = inbound ? child.unconfirmed_in : child.unconfirmed_out;
    const auto found = unclaimed_sas_.find(id);
    const bool is_it = found != unclaimed_sas_.end() && found->second.direction == direction &&
                       found->second.spi == (inbound ? child.inbound_spi : child.outbound_spi) &&
                       found->second.child_id == child.child_id;
    if (is_it) {
      key = {};
      if (has_moved(ike, child, found->second)) moved_.push_back(id);
      unclaimed_sas_.erase(found);
      return true;
    }
    if (key.empty()) return false;
    core_.install_half(ike, child, direction, key.view());
    return true;
  }

  /// The record knows other addresses, and nobody is waited for any more (RFC 4555 §3.7).
  [[nodiscard]] static bool has_moved(const IkeSa& ike, const ChildSa& child,
                                      const channel::SnapshotSa& sa) {
    const auto checks = [](const Task& task) {
      return task.kind == TaskKind::check_route || task.kind == TaskKind::update_addresses ||
             task.kind == TaskKind::await_move;
    };
    if (ike.exchange && checks(ike.exchange->task)) return false;
    if (std::ranges::any_of(ike.queue, checks)) return false;
    const auto [local, remote] = ike.esp_endpoints(child);
    return sa.local != local || sa.remote != remote;
  }

  void reconcile_policies(IkeSa& ike) {
    for (const channel::SaId id : ike.children) {
      ChildSa& child = core_.children_.at(id);
      if (child.policy == channel::PolicyId{}) continue;
      const auto found = unclaimed_.find(child.policy);
      const bool lost = std::ranges::find(lost_, id) != lost_.end();
      if (found == unclaimed_.end() && lost) {
        child.policy = {};
        continue;
      }
      // Until it is there what is there carries the traffic.
      if (found != unclaimed_.end()) sending_.insert(child.child_id);
      core_.bindings_.add({child.policy, child.child_id, child.outbound_sa, false,
                           child.local_selectors, child.remote_selectors});
      if (found == unclaimed_.end()) {
        core_.install_policy(child);
      } else if (found->second.outbound != child.outbound_sa && !lost) {
        core_.switch_outbound(child);
      }
      if (found != unclaimed_.end()) unclaimed_.erase(found);
    }
  }

  /// SAs and policies beyond the records. Where a recorded child sends or nothing is to be up they
  /// are what a life before had given up; else they are what is left of a connection, and carry its
  /// traffic until it stands again.
  void take_unclaimed() {
    for (const auto& [id, policy] : unclaimed_) {
      if (!is_wanted(policy.child_id)) {
        core_.delete_policy(id);
        continue;
      }
      PolicyBinding binding;
      binding.policy = id;
      binding.child_id = policy.child_id;
      binding.outbound = policy.outbound;
      binding.adopted = true;
      core_.bindings_.add(std::move(binding));
    }
    for (const auto& [id, sa] : unclaimed_sas_) {
      if (!is_wanted(sa.child_id)) {
        core_.delete_sa_later(id, sa.child_id, core_.now_ + core_.tuning_.adopted_sa_grace);
        continue;
      }
      core_.adopted_[id] = sa;
      const auto* connection = core_.connection_index_.connection_of_child(sa.child_id);
      core_.state_of(*connection).keep.insert(sa.child_id);
      bereft_.insert(connection);
    }
  }

  [[nodiscard]] bool is_wanted(config::ChildId child_id) {
    const auto* connection = core_.connection_index_.connection_of_child(child_id);
    if (connection == nullptr || sending_.contains(child_id)) return false;
    const ConnectionState& state = core_.state_of(*connection);
    return !state.held_down && !state.held_children.contains(child_id);
  }

  /// Every timer that the record knows of; an open request goes out again at once.
  void go_on(IkeSa& ike) {
    const auto arm = [&](Instant when, TimerKind kind) {
      if (when != Instant{}) core_.timers_.arm(when, kind, ike.local_spi);
    };
    if (ike.window.pending) {
      // Tries count from here: a crash now and then is no silence of the peer.
      ike.window.pending->tries = ike.window.pending->rounds = 1;
      ike.window.pending->delay = core_.tuning_.retransmit_first;
      ike.window.pending->next = core_.now_;
      arm(core_.now_, TimerKind::retransmit);
    }
    if (ike.state == IkeState::half_open) {
      arm(ike.created + core_.tuning_.half_open_timeout, TimerKind::half_open);
    }
    arm(ike.rekey_at, TimerKind::rekey_ike);
    arm(ike.expire_at, TimerKind::expire_ike);
    arm(ike.reauthenticate_at, TimerKind::reauthenticate);
    arm(ike.liveness_at, TimerKind::liveness);
    arm(ike.forget_at, TimerKind::forget);
    for (Task& task : ike.queue) {
      // The peer may have moved while nobody heard it.
      if (task.kind == TaskKind::await_move) {
        task.not_before = std::max(task.not_before, core_.now_ + core_.tuning_.move_patience);
      }
      arm(std::max(task.not_before, core_.now_), TimerKind::start_tasks);
    }
    if (ike.redundant && ike.state == IkeState::established) {
      arm(core_.now_ + core_.duplicate_delay(ike), TimerKind::delete_duplicate);
    }
    for (const channel::SaId id : ike.children) {
      ChildSa& child = core_.children_.at(id);
      const auto subject = static_cast<std::uint64_t>(id);
      if (child.switch_at != Instant{}) {
        // Its request may have come again while we were away: it gets the time to send it once
        // more.
        child.switch_at =
            std::max(child.switch_at, core_.now_ + core_.tuning_.resumed_switch_delay);
        core_.timers_.arm(child.switch_at, TimerKind::switch_outbound, subject);
      }
      if (child.rehearse_at != Instant{}) {
        core_.timers_.arm(child.rehearse_at, TimerKind::rehearse, subject);
      }
      // What stands was up, also where its IKE SA lost against one that has no such child yet.
      const bool stands = !child.redundant && (child.state == ChildState::installed ||
                                               child.state == ChildState::rekeying);
      if (stands && ike.state != IkeState::deleting) {
        core_.state_of(*ike.connection).keep.insert(child.child_id);
      }
    }
    if (ike.state != IkeState::established) return;
    core_.arm_keepalive(ike);
    core_.recheck(ike);
  }

  void see_to_connections() {
    for (const channel::SaId id : moved_) core_.update_endpoints(id);
    // The file may have changed while nobody read it.
    core_.lost_addresses_.look_again();
    for (const channel::SaId id : lost_) {
      // The peer believes in it: it has to go there too, and another takes its place.
      ChildSa* child = core_.find_child(id);
      if (child == nullptr) continue;
      IkeSa& ike = *core_.find_ike(child->ike_spi);
      core_.report(Level::warning, "child_lost",
                   {{"connection", ike.connection->name},
                    {"child", core_.child_config(child->child_id).name},
                    {"spi_in", spi_text(child->inbound_spi)}});
      child->redundant = true;
      core_.take_back_replaced(*child);
      core_.enqueue(ike, Task{.kind = TaskKind::delete_child, .child = id}, true);
    }
    for (ConnectionState& state : core_.connections_) {
      const bool has_ike_sa = !core_.peers_.of(*state.connection).empty();
      if (bereft_.contains(state.connection) && !has_ike_sa) {
        core_.retry_connection(state);
      } else {
        core_.ensure_soon(state);
      }
    }
  }

  Core& core_;
  const std::set<channel::Spi>& held_;
  std::map<channel::SaId, channel::SnapshotSa> unclaimed_sas_;
  std::map<channel::PolicyId, channel::SnapshotPolicy> unclaimed_;
  std::set<config::ChildId> sending_;  ///< children that a recorded policy sends on, which is there
  std::vector<channel::SaId> lost_, moved_;
  std::set<const config::Connection*> bereft_;  ///< whose SAs nobody controls
  ResumeReport report_;
};

ResumeReport Core::resume(const Records& records, const std::vector<channel::SnapshotSa>& sas,
                          const std::vector<channel::SnapshotPolicy>& policies,
                          const std::set<channel::Spi>& held, Instant now,
                          std::vector<Action>& actions) {
  begin(now, actions);
  ResumeReport report = Resumption(*this, sas, policies, held).run(records);
  Fields fields{{"ike_sas", std::to_string(report.resumed)}};
  for (const auto& [reason, count] : report.refused) {
    fields.emplace_back("refused_" + std::string(info(reason).name), std::to_string(count));
  }
  this->report(Level::info, "ike_sas_resumed", std::move(fields));
  return report;
}

}  // namespace culvert::ike
