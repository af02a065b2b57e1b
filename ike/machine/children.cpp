// Children towards the data plane: their SAs, installed and retired.
#include <algorithm>
#include <cassert>

#include "ike/machine/core.hpp"

namespace culvert::ike {

using wire::ike::NotifyType;

channel::RequestId Core::request(channel::Request& request) {
  request.id = channel::RequestId{next_request_++};
  actions_->push_back(DataplaneRequest{request});
  return request.id;
}

ChildSa& Core::add_child(IkeSa& ike, ChildSa child) {
  child.inbound_sa = channel::SaId{next_sa_++};
  child.outbound_sa = channel::SaId{next_sa_++};
  child.ike_spi = ike.local_spi;
  child.udp_encapsulation = ike.encapsulate;
  child.created = now_;
  const config::Child& config = child_config(child.child_id);
  if (config.rekey_time.count() > 0) {
    // Half of the jitter range for who is nearer: both ends must not rekey in the same instant.
    const Instant soft = jittered(config.rekey_time, tuning_.rekey_jitter);
    child.soft_seconds = static_cast<std::uint64_t>(
        std::max<std::int64_t>(1, std::chrono::floor<std::chrono::seconds>(soft).count()));
  }
  child.hard_seconds =
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, config.life_time.count()));
  touch(ike);
  ike.children.push_back(child.inbound_sa);
  inbound_of_outbound_[child.outbound_sa] = child.inbound_sa;
  return children_.add(std::move(child));
}

std::expected<void, Refusal> Core::install(IkeSa& ike, ChildSa& child, const ChildKeys& keys,
                                           bool we_initiated) {
  const crypto::Bytes forward = keys.initiator_to_responder.view();
  const crypto::Bytes backward = keys.responder_to_initiator.view();
  if (forward.size() > channel::kMaxKeyBytes) {
    return std::unexpected(Refusal{NotifyType::no_proposal_chosen,
                                   Failure::dataplane_refused,
                                   child.suite.name() + ": keys too long",
                                   {}});
  }
  child.unconfirmed_in = crypto::SecretBytes(we_initiated ? backward : forward);
  child.unconfirmed_out = crypto::SecretBytes(we_initiated ? forward : backward);
  // Inbound first: nothing may leave that the peer answers on an SA that is not there.
  install_half(ike, child, channel::Direction::in, we_initiated ? backward : forward);
  install_half(ike, child, channel::Direction::out, we_initiated ? forward : backward);
  return {};
}

void Core::install_half(const IkeSa& ike, const ChildSa& child, channel::Direction direction,
                        crypto::Bytes key) {
  const config::Child& config = child_config(child.child_id);
  const bool inbound = direction == channel::Direction::in;
  channel::InstallSa sa;
  sa.sa = inbound ? child.inbound_sa : child.outbound_sa;
  sa.direction = direction;
  sa.mode = child.transport ? channel::SaMode::transport : channel::SaMode::tunnel;
  sa.esn = child.esn;
  sa.udp_encapsulation = child.udp_encapsulation;
  sa.child_id = child.child_id;
  sa.spi = inbound ? child.inbound_spi : child.outbound_spi;
  sa.replay_window = inbound ? config.replay_window : 0;
  sa.suite = child.suite;
  const EspEndpoints ends = ike.esp_endpoints(child);
  sa.local = ends.local;
  sa.remote = ends.remote;
  sa.lifetime = {child.soft_seconds, child.hard_seconds,   config.rekey_bytes,
                 config.life_bytes,  config.rekey_packets, config.life_packets};
  sa.local_selectors = selector_set(child.local_selectors);
  sa.remote_selectors = selector_set(child.remote_selectors);
  const bool fits = sa.key.assign(key);
  assert(fits);
  static_cast<void>(fits);
  channel::Request message;
  message.type = channel::RequestType::install_sa;
  message.body.install_sa = sa;
  installations_[request(message)] = {.kind = channel::RequestType::install_sa,
                                      .sa = sa.sa,
                                      .inbound_spi = inbound ? sa.spi : channel::Spi{},
                                      .child_id = child.child_id};
  sa.key.wipe();
  message.body.install_sa.key.wipe();
}

void Core::retire(channel::SaId id, bool with_grace) {
  if (!children_.contains(id)) return;
  const ChildSa child = children_.take(id);
  touched_.insert(child.ike_spi);
  if (!shutting_down_) {
    release_outbound(child);
    if (with_grace) {
      delete_sa_later(child.inbound_sa, child.child_id, now_ + tuning_.old_sa_grace);
      delete_sa_later(child.outbound_sa, child.child_id, now_ + tuning_.old_sa_grace);
    } else {
      delete_sa(child.inbound_sa);
      delete_sa(child.outbound_sa);
    }
  }
  if (IkeSa* ike = find_ike(child.ike_spi)) std::erase(ike->children, id);
  inbound_of_outbound_.erase(child.outbound_sa);
  if (child.lease_left) environment_.spis->give_back(child.inbound_spi);
}

void Core::delete_sa(channel::SaId sa) {
  channel::Request message;
  message.type = channel::RequestType::delete_sa;
  message.body.delete_sa = {sa};
  request(message);
}
void Core::delete_policy(channel::PolicyId policy) {
  channel::Request message;
  message.type = channel::RequestType::delete_policy;
  message.body.delete_policy = {policy};
  request(message);
}
void Core::delete_sa_later(channel::SaId sa, config::ChildId child_id, Instant when) {
  retired_.emplace(sa, child_id);
  timers_.arm(when, TimerKind::delete_sa, static_cast<std::uint64_t>(sa));
}

/// What waits for its grace to end goes now: nothing of the connection is to carry traffic.
void Core::end_graces(const config::Connection& connection) {
  std::erase_if(retired_, [&](const auto& entry) {
    if (connection_index_.connection_of_child(entry.second) != &connection) return false;
    delete_sa(entry.first);
    return true;
  });
}

/// What an earlier life of the key daemon left for this child: its policies now, its SAs at `when`.
void Core::retire_adopted(config::ChildId child_id, Instant when) {
  for (const channel::PolicyId policy : bindings_.take_adopted(child_id)) delete_policy(policy);
  std::erase_if(adopted_, [&](const auto& entry) {
    if (entry.second.child_id != child_id) return false;
    delete_sa_later(entry.first, child_id, when);
    return true;
  });
}

ChildSa* Core::find_child(channel::SaId inbound) {
  ChildSa* child = children_.find(inbound);
  if (child != nullptr) touched_.insert(child->ike_spi);
  return child;
}
ChildSa* Core::find_child_by_outbound(const IkeSa& ike, std::uint32_t spi) {
  for (const channel::SaId id : ike.children) {
    ChildSa* child = find_child(id);
    if (child != nullptr && child->outbound_spi == channel::Spi{spi}) return child;
  }
  return nullptr;
}
ChildSa* Core::child_of_sa(channel::SaId either_half) {
  const auto outbound = inbound_of_outbound_.find(either_half);
  return find_child(outbound != inbound_of_outbound_.end() ? outbound->second : either_half);
}

bool Core::is_live(const ChildSa& child) const {
  if (child.redundant || child.outdated) return false;
  if (child.state != ChildState::installed && child.state != ChildState::rekeying) return false;
  const IkeSa* ike = find_ike(child.ike_spi);
  // One that came again under a removed connection's name has the same children: not up by these.
  return ike != nullptr && ike->usable() && !is_ghost(*ike->connection);
}
/// Of this IKE SA, also when it lost against another: what both sides would make once more.
const ChildSa* Core::standing_on(const IkeSa& ike, config::ChildId child_id) const {
  for (const channel::SaId id : ike.children) {
    const ChildSa& child = children_.at(id);
    const bool stands = child.state == ChildState::installed || child.state == ChildState::rekeying;
    if (child.child_id == child_id && stands && !child.redundant && !child.outdated) return &child;
  }
  return nullptr;
}
/// The configuration has changed, and what it asks for now stands: this one is about to go.
bool Core::has_new_form(const ChildSa& child) const {
  return child.outdated && live_child(child.child_id) != nullptr;
}
const ChildSa* Core::live_child(config::ChildId child_id) const {
  const auto all = children_.of(child_id);
  const auto live = std::ranges::find_if(all, [&](const ChildSa* one) { return is_live(*one); });
  return live == all.end() ? nullptr : *live;
}

void Core::installation_failed(const Installation& half, channel::Outcome outcome) {
  ChildSa* child = child_of_sa(half.sa);
  if (half.inbound_spi != channel::Spi{} && outcome != channel::Outcome::spi_not_leased) {
    if (child == nullptr) {
      environment_.spis->give_back(half.inbound_spi);
    } else {
      child->lease_left = true;
    }
  }
  // One that has lost a collision meanwhile goes already.
  if (child == nullptr || child->state == ChildState::deleting) return;
  not_installed(*child, "SPI " + spi_text(child->inbound_spi) + ": " +
                            std::string(channel::to_string(outcome)));
}

/// The data plane refused what the child needs. The peer believes in it: it has to go there too.
/// What it was to replace goes on where it still stands, and it is asked for again.
void Core::not_installed(ChildSa& child, const std::string& why) {
  IkeSa* ike = find_ike(child.ike_spi);
  if (ike == nullptr) return;
  const std::string detail = child_config(child.child_id).name + ", " + why;
  fail(ike->connection, Failure::dataplane_refused, detail, Level::error, child.child_id);
  child_is_not_coming(child.child_id, detail);
  child.redundant = true;
  take_back_replaced(child);
  keep_outdated(child.child_id);
  release_outbound(child);
  activate_waiting(child);
  enqueue(*ike, Task{.kind = TaskKind::delete_child, .child = child.inbound_sa}, true);
  plan_retry(state_of(*ike->connection), true);
}

}  // namespace culvert::ike
