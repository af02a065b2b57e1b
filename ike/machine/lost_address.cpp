#include "ike/machine/lost_address.hpp"

#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {

/// Where an IKE SA can go whose address the configuration does not have; nullptr: it stays.
const wire::IpAddress* LostAddresses::other_address(const IkeSa& ike) {
  const Environment& environment = core_.environment_;
  if (!ike.mobike || !ike.usable() || !environment.local_addresses_for) return nullptr;
  // It may be on another interface than the one that leads to the peer.
  if (!environment.is_own_address || environment.is_own_address(ike.local.address)) return nullptr;
  ours_ = environment.local_addresses_for(ike.remote.address);
  // The data plane's SAs keep their family.
  const auto other = std::ranges::find(ours_, ike.local.address.family, &wire::IpAddress::family);
  return other == ours_.end() ? nullptr : &*other;
}

void LostAddresses::look_at(IkeSa& ike) {
  if (other_address(ike) == nullptr) return;
  if (!ask(ike)) leave(ike);
}

/// Tells the data plane of an SA what it has: it refuses what is no address of its own. False:
/// there is no SA to ask by, and the file alone says what is ours.
bool LostAddresses::ask(const IkeSa& ike) {
  const auto stands = std::ranges::find_if(ike.children, [&](channel::SaId id) {
    return core_.children_.at(id).unconfirmed_in.empty();
  });
  if (stands == ike.children.end()) return false;
  const auto question = core_.update_endpoints(*stands);
  if (question) questions_.emplace(*question, ike.local_spi);
  return question.has_value();
}

bool LostAddresses::take(const channel::Completion& answer) {
  const auto found = questions_.find(answer.request);
  if (found == questions_.end()) return false;
  IkeSa* const ike = core_.find_ike(found->second);
  questions_.erase(found);
  if (ike == nullptr || other_address(*ike) == nullptr) return true;
  if (answer.outcome == channel::Outcome::no_route) {
    leave(*ike);
    return true;
  }
  ask_again_later();
  // Else the SA that was asked by has gone meanwhile, and nothing is known.
  if (answer.outcome == channel::Outcome::ok) keep(*ike);
  return true;
}

void LostAddresses::ask_again_later() {
  if (std::exchange(looks_again_, true)) return;
  core_.timers_.arm(core_.now_ + core_.tuning_.lost_address_interval, TimerKind::lost_addresses, 0);
}

void LostAddresses::keep(const IkeSa& ike) {
  if (!kept_.insert(ike.local.address).second) return;
  core_.report(Level::warning, "address_kept",
               {{"address", ike.local.address.to_string()},
                {"connection", ike.connection->name},
                {"why", "the configuration file does not have it, the data plane does"},
                {"remedy", "reload culvert-dataplane: IKE SAs leave the address when it is gone"}});
}

void LostAddresses::look_again() {
  looks_again_ = false;
  std::vector<std::uint64_t> all;
  for (const auto& [spi, ike] : core_.ike_sas_) all.push_back(spi);
  for (const std::uint64_t spi : all) {
    if (IkeSa* ike = core_.find_ike(spi)) look_at(*ike);
  }
}

void LostAddresses::configuration_changed() {
  if (!core_.environment_.is_own_address) return;
  std::erase_if(kept_, core_.environment_.is_own_address);
}

/// Who decides moves (RFC 4555 §3.5); who does not says from another address where it is, and the
/// other side moves (§3.6).
void LostAddresses::leave(IkeSa& ike) {
  const wire::IpAddress* const other = other_address(ike);
  if (other == nullptr) return;
  kept_.erase(ike.local.address);
  const wire::Endpoint local{*other, ike.local.port};
  core_.report(Level::info, "address_lost",
               {{"connection", ike.connection->name},
                {"was", ike.local.to_string()},
                {"now", local.to_string()}});
  if (ike.moves) {
    // It counts whatever else there is to tell.
    ike.drop_queued(TaskKind::update_addresses);
    ike.queue.push_front(Task{.kind = TaskKind::update_addresses, .address_lost = true});
    core_.move_ike(ike, local, ike.remote);
    return core_.pump(ike);
  }
  // What we send has to come from an address of ours at once; the peer may move without a word.
  ike.local = local;
  core_.update_children(ike);
  core_.enqueue(ike, Task{.kind = TaskKind::update_addresses}, true);
}

/// What the peer sends goes nowhere. Where only it can begin anew it hears that this one is over,
/// if it has not moved at last.
void LostAddresses::give_up(IkeSa& ike, const Task& task) {
  if (!ike.usable()) return;
  if (task.attempts > 0) return core_.enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
  core_.fail(
      ike.connection, Failure::peer_unreachable,
      "the peer does not move to " + ike.local.to_string() + ", where we told it that we are",
      Level::warning, Attempt::ike_sa);
  if (!core_.address_of_peer(*ike.connection)) {
    const Instant when = core_.now_ + core_.tuning_.outdated_grace;
    core_.enqueue(ike, Task{.kind = TaskKind::await_move, .not_before = when, .attempts = 1});
    return;
  }
  ike.outdated = true;
  core_.renew_outdated(ike);
}

}  // namespace culvert::ike
