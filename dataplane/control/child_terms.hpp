// What the configuration lets the key daemon negotiate for a child. It is the authority over what
// is protected how, whoever speaks for the peer: an SA that is wider would reach the networks of
// other tunnels (RFC 4301 §4.4.2.1). Pure.
#pragma once

#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"

namespace culvert::dataplane::control {

struct ChildTerms {
  config::Mode mode = config::Mode::tunnel;
  std::vector<wire::TrafficSelector> local_ts, remote_ts;
  std::vector<crypto::Proposal> esp_proposals;
  friend bool operator==(const ChildTerms&, const ChildTerms&) = default;
};
[[nodiscard]] ChildTerms terms_of(const config::Child& child);

/// Whether it is of the child's mode, one of its suites, within its selectors, and inbound has a
/// window. A side without selectors is that end's address alone; where ESP goes in UDP, some one
/// address, for an end behind a NAT has another than its packets (RFC 7296 §2.23.1).
[[nodiscard]] bool allows(const ChildTerms& terms, const channel::InstallSa& request);

}  // namespace culvert::dataplane::control
