#include "dataplane/control/child_terms.hpp"

#include <algorithm>

#include "config/limits.hpp"
#include "dataplane/control/policy_list.hpp"

namespace culvert::dataplane::control {
namespace {

bool names(const crypto::Proposal& proposal, const crypto::EspSuite& suite) {
  const auto is_it = [&](const crypto::Proposal::Cipher& cipher) {
    return cipher.id == suite.encryption && cipher.key_bits == suite.key_bits;
  };
  if (std::ranges::none_of(proposal.encryption, is_it)) return false;
  if (proposal.integrity.empty()) return suite.integrity == crypto::Integrity::none;
  return std::ranges::find(proposal.integrity, suite.integrity) != proposal.integrity.end();
}

bool is_within(const channel::SelectorSet& negotiated,
               const std::vector<wire::TrafficSelector>& configured, const wire::Endpoint& end,
               bool may_be_another) {
  const auto selectors = selectors_of(negotiated);
  if (!configured.empty()) return wire::covers(configured, selectors);
  const auto is_of_end = [&](const wire::TrafficSelector& one) {
    const bool is_the_same = one.first == selectors.front().first;
    return one.first == one.last && (may_be_another ? is_the_same : one.first == end.address);
  };
  return !selectors.empty() && std::ranges::all_of(selectors, is_of_end);
}

}  // namespace

ChildTerms terms_of(const config::Child& child) {
  return {child.mode, child.local_ts, child.remote_ts, child.esp_proposals};
}

bool allows(const ChildTerms& terms, const channel::InstallSa& request) {
  const bool is_transport = request.mode == channel::SaMode::transport;
  if (is_transport != (terms.mode == config::Mode::transport)) return false;
  const bool is_inbound = request.direction == channel::Direction::in;
  if (is_inbound && request.replay_window < config::limits::kReplayWindowMin) return false;
  const auto has_suite = [&](const crypto::Proposal& one) { return names(one, request.suite); };
  return std::ranges::any_of(terms.esp_proposals, has_suite) &&
         is_within(request.local_selectors, terms.local_ts, request.local,
                   request.udp_encapsulation) &&
         is_within(request.remote_selectors, terms.remote_ts, request.remote,
                   request.udp_encapsulation);
}

}  // namespace culvert::dataplane::control
