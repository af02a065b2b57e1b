#include "dataplane/control/path_mtu.hpp"

#include <algorithm>

namespace culvert::dataplane::control {

std::expected<std::uint16_t, TooBigRefusal> PathMtus::judge(const TooBigMessage& message,
                                                            const QuotedSa& sa) {
  // RFC 8201 §4: "If a node receives a Packet Too Big message reporting a next-hop MTU that is less
  // than the IPv6 minimum link MTU, it must discard it."
  if (!sa.remote.address.is_v4() && message.mtu < kLeastIpv6) {
    return std::unexpected(TooBigRefusal::below_minimum);
  }
  if (message.local != sa.local || message.remote != sa.remote.address) {
    return std::unexpected(TooBigRefusal::addresses_differ);
  }
  // RFC 4301 §8.2.1: an unauthenticated message must not be believed blindly. One that quotes a
  // number we sent lately came from the path.
  if (!is_recent(message.sequence, sa.sequence)) {
    return std::unexpected(TooBigRefusal::sequence_not_recent);
  }
  const std::uint16_t mtu =
      sa.remote.address.is_v4() ? std::max(message.mtu, kLeastIpv4) : message.mtu;
  // RFC 8201 §4: "a node MUST NOT increase its estimate … in response to a Packet Too Big".
  if (message.packet_bytes <= message.mtu || mtu >= sa.path_mtu) {
    return std::unexpected(TooBigRefusal::not_smaller);
  }
  return mtu;
}

std::expected<LearntMtu, TooBigRefusal> PathMtus::learn(const TooBigMessage& message,
                                                        const QuotedSa& sa, Instant now) {
  const auto mtu = judge(message, sa);
  if (!mtu) return std::unexpected(mtu.error());
  LearntMtu result;
  if (peers_.size() >= kPeers && !peers_.contains(sa.remote)) result.over = evict();
  const auto [at, is_new] = peers_.try_emplace(sa.remote);
  Learnt& learnt = at->second;
  if (!is_new) by_end_.erase({learnt.until, sa.remote});
  // What was learnt before may be over, and its SAs not all told yet. RFC 8201 §4 again: a second
  // SA to the peer may be told of a larger one by another router.
  learnt.mtu = !is_new && learnt.until <= now ? *mtu : std::min(learnt.mtu, *mtu);
  // RFC 8201 §4: within five minutes of a message about the path nothing larger is tried, whatever
  // size that message named.
  learnt.until = now + kLifetime;
  by_end_.emplace(learnt.until, sa.remote);
  learnt.sas.insert(sa.sa);
  result.mtu = learnt.mtu;
  return result;
}

bool PathMtus::is_recent(std::uint32_t quoted, std::uint64_t sent) {
  const std::uint32_t age = static_cast<std::uint32_t>(sent) - quoted;
  return age < kRecentPackets && age < sent;
}

std::vector<channel::SaId> PathMtus::evict() {
  const auto first = peers_.find(by_end_.begin()->second);
  std::vector<channel::SaId> over(first->second.sas.begin(), first->second.sas.end());
  by_end_.erase(by_end_.begin());
  peers_.erase(first);
  return over;
}

std::optional<std::uint16_t> PathMtus::of(const wire::Endpoint& remote, Instant now) const {
  const auto found = peers_.find(remote);
  if (found == peers_.end() || found->second.until <= now) return std::nullopt;
  return found->second.mtu;
}

void PathMtus::joined(const wire::Endpoint& remote, channel::SaId sa) {
  const auto found = peers_.find(remote);
  if (found != peers_.end()) found->second.sas.insert(sa);
}

void PathMtus::left(const wire::Endpoint& remote, channel::SaId sa) {
  const auto found = peers_.find(remote);
  if (found != peers_.end()) found->second.sas.erase(sa);
}

std::vector<channel::SaId> PathMtus::expire(Instant now) {
  std::vector<channel::SaId> over;
  while (!by_end_.empty() && by_end_.begin()->first <= now && over.size() < kExpiredAtOnce) {
    const auto first = peers_.find(by_end_.begin()->second);
    std::set<channel::SaId>& sas = first->second.sas;
    while (!sas.empty() && over.size() < kExpiredAtOnce) {
      over.push_back(sas.extract(sas.begin()).value());
    }
    if (!sas.empty()) break;
    by_end_.erase(by_end_.begin());
    peers_.erase(first);
  }
  return over;
}

}  // namespace culvert::dataplane::control
