#include "ike/machine/held_auth.hpp"

#include <utility>

#include "ike/machine/core.hpp"

namespace culvert::ike {

void HeldAuth::hold(IkeSa& ike, HeldMessage message) {
  // The responder mixes its keys anew when it is asked again (RFC 8784 §3).
  if (!ike.initiator && ike.post_quantum) Core::unmix_keys(ike);
  ike.held = std::make_unique<HeldMessage>(std::move(message));
  if (ike.held_until != Instant{}) return;
  ike.held_until = core_.now_ + core_.tuning_.status_wait;
  core_.timers_.arm(ike.held_until, TimerKind::held, ike.local_spi);
}

void HeldAuth::resume(IkeSa& ike) {
  if (ike.held == nullptr) return;
  const std::unique_ptr<HeldMessage> held = std::move(ike.held);
  if (ike.state == IkeState::half_open) {
    core_.answer_auth(ike, held->header, held->payloads, held->local, held->remote);
  } else if (ike.state == IkeState::auth_sent && ike.exchange) {
    core_.finish_auth(ike, held->payloads);
  }
}

void HeldAuth::resume_those_awaiting(std::string_view name) {
  std::vector<std::uint64_t> waiting;
  for (const auto& [spi, ike] : core_.ike_sas_) {
    if (ike->held != nullptr && ike->held->awaits == name) waiting.push_back(spi);
  }
  for (const std::uint64_t spi : waiting) {
    if (IkeSa* ike = core_.find_ike(spi)) resume(*ike);
  }
}

void Core::on_status(std::string_view name, Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  HeldAuth(*this).resume_those_awaiting(name);
}

}  // namespace culvert::ike
