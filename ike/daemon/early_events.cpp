#include "ike/daemon/early_events.hpp"

#include "config/limits.hpp"

namespace culvert::ike {
namespace {

constexpr std::size_t kMostSas = 2ULL * config::limits::kSas;  // in and out
constexpr std::size_t kMostExpiries = 2 * kMostSas;            // soft and hard
/// One acquire for each of a thousand children and some hints: the next packets bring them again.
constexpr std::size_t kMostOthers = 4096;

}  // namespace

void EarlyEvents::add(const channel::Event& event) {
  const auto keep = [&](auto& all, std::size_t most, auto one) {
    if (all.size() < most) {
      all.push_back(one);
    } else {
      ++refused_;
    }
  };
  switch (event.type) {
    case channel::EventType::snapshot_sa:
      return keep(sas_, kMostSas, event.body.snapshot_sa);
    case channel::EventType::snapshot_policy:
      return keep(policies_, config::limits::kPolicies, event.body.snapshot_policy);
    case channel::EventType::soft_expire:
      return keep(expiries_, kMostExpiries,
                  Expiry{event.body.soft_expire.sa, event.body.soft_expire.cause, false});
    case channel::EventType::hard_expire:
      return keep(expiries_, kMostExpiries,
                  Expiry{event.body.hard_expire.sa, event.body.hard_expire.cause, true});
    case channel::EventType::acquire:
    case channel::EventType::unknown_spi:
    case channel::EventType::peer_moved:
      if (others_.size() < kMostOthers) others_.push_back(event);
      return;
    case channel::EventType::none:
    case channel::EventType::completion:
      return;
  }
}

void EarlyEvents::hand_over(const std::function<void(const channel::Event&)>& take) const {
  for (const Expiry& expiry : expiries_) {
    channel::Event event;
    if (expiry.is_hard) {
      event.type = channel::EventType::hard_expire;
      event.body.hard_expire = {expiry.sa, expiry.cause};
    } else {
      event.type = channel::EventType::soft_expire;
      event.body.soft_expire = {expiry.sa, expiry.cause};
    }
    take(event);
  }
  for (const channel::Event& event : others_) take(event);
}

}  // namespace culvert::ike
