// ICMP errors about protected traffic, as RFC 4301 §6.2 tells it, and which packets an SA was made
// for (§5.2, §7.2).
#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "dataplane/tables/drop_reason.hpp"
#include "tests/model/fragment_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/policy_model.hpp"

namespace culvert::model {

/// Whether it says so: it is whole, or its first fragment.
inline bool is_error(const ByteString& ip, const IpView& view) {
  const bool v4 = view.source.is_v4();
  if (view.protocol != (v4 ? 1 : 58) || view.later_fragment) return false;
  if (view.total_bytes < view.header_bytes + 8) return false;
  // RFC 792: unreachable, time exceeded, parameter problem. RFC 4443 §3: these, and too big.
  const std::uint8_t type = ip[view.header_bytes];
  return v4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
}

/// What an error quotes, with the length that it has there. nullopt: not enough of it for a header.
inline std::optional<ByteString> quoted_in(const ByteString& ip, const IpView& view) {
  const bool v4 = view.source.is_v4();
  ByteString quoted = slice(ip, view.header_bytes + 8, view.total_bytes - view.header_bytes - 8);
  const std::size_t least = v4 ? 20 : 40;
  if (quoted.size() < least || quoted[0] >> 4U != (v4 ? 4 : 6)) return std::nullopt;
  const std::size_t at = v4 ? 2 : 4, in_front = v4 ? 0 : 40;
  const std::size_t there = std::min<std::size_t>(get16(quoted, at), quoted.size() - in_front);
  quoted[at] = static_cast<std::uint8_t>(there >> 8U);
  quoted[at + 1] = static_cast<std::uint8_t>(there);
  return quoted;
}

/// The traffic that would answer the packet which an error is about: addresses and ports reversed.
inline std::optional<dataplane::FlowKey> answer_of_any(const ByteString& ip, const IpView& view) {
  const auto quoted = quoted_in(ip, view);
  const auto about = quoted ? view_ip(*quoted) : std::nullopt;
  // A fragment header that is cut off hides what is behind it.
  if (!about || about->protocol == 44) return std::nullopt;
  dataplane::FlowKey flow = flow_of(*quoted, *about);
  std::swap(flow.source, flow.destination);
  std::swap(flow.source_port, flow.destination_port);
  return flow;
}

/// The same of a whole error for who has sent what it quotes, as an error has to be.
inline std::optional<dataplane::FlowKey> answer_to_quoted(const ByteString& ip) {
  const auto view = view_ip(ip);
  if (!view || !is_error(ip, *view) || is_fragment(ip)) return std::nullopt;
  const auto flow = answer_of_any(ip, *view);
  if (!flow || flow->destination != view->destination) return std::nullopt;
  return flow;
}

/// §6.1.1: an error in clear that speaks of traffic which a policy protects, or does not say of
/// what.
inline bool speaks_of_protected(const ByteString& ip, const IpView& view,
                                const std::vector<dataplane::PolicyEntry>& policies) {
  if (!is_error(ip, view)) return false;
  const auto answer = answer_of_any(ip, view);
  if (!answer) return true;
  const auto hit = first_policy(policies, *answer, dataplane::PacketOrigin::clear);
  if (!hit) return false;
  const bool is_protected = policies[hit->index].action == dataplane::PolicyAction::protect;
  return hit->unclear || (hit->reverse && is_protected);
}

/// nullopt: the packet is one that the SA with these selectors was made for. `checks_errors`: it
/// takes none by the header alone.
inline std::optional<dataplane::DropReason> refused_inside(
    const std::vector<wire::TrafficSelector>& sources,
    const std::vector<wire::TrafficSelector>& destinations, bool checks_errors,
    const ByteString& ip) {
  const IpView view = view_ip(ip).value();
  if ((checks_errors && is_error(ip, view)) ||
      !any_pair_takes(sources, destinations, flow_of(ip, view))) {
    const auto answer = answer_to_quoted(ip);
    if (answer && any_pair_takes(sources, destinations, *answer)) return std::nullopt;
    return dataplane::DropReason::inner_selector_mismatch;
  }
  // §7.2: a "minimum offset check on IPv4 (non-initial) fragments" of an SA for OPAQUE ports.
  const auto is_opaque = [](const wire::TrafficSelector& selector) {
    return selector.port_first == 65535 && selector.port_last == 0;
  };
  const bool is_for_fragments =
      std::ranges::any_of(sources, is_opaque) || std::ranges::any_of(destinations, is_opaque);
  if (is_for_fragments && view.source.is_v4() && view.later_fragment &&
      (get16(ip, 6) & 0x1fffU) * 8 < 16) {
    return dataplane::DropReason::inner_fragment_offset;
  }
  return std::nullopt;
}

}  // namespace culvert::model
