// A peer that speaks IKEv1: deprecated (RFC 9395), not spoken here, but named for what it is and
// told so once, in its own words (RFC 2408 §5.2 allows INVALID-MAJOR-VERSION).
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

/// Exchange types of IKEv1 that begin a negotiation (RFC 2408 §3.1); others are never answered, so
/// that two refusals cannot answer each other.
constexpr std::uint8_t kMainMode = 2, kAggressiveMode = 4, kInformational = 5;
/// One answer and one line in the log a peer in this time.
constexpr std::chrono::seconds kInterval{60};
/// Peers remembered: beyond them nobody is answered until the oldest are a minute old.
constexpr std::size_t kMaxPeers = 256;

}  // namespace

void Core::on_version_1(const wire::ike::Header& header, const wire::Endpoint& local,
                        const wire::Endpoint& remote) {
  const auto mode = static_cast<std::uint8_t>(header.exchange);
  if (mode == kInformational) {
    // Perhaps the refusal of a peer that knows nothing else (RFC 2408 §5.2).
    IkeSa* ike = find_ike(header.initiator_spi);
    if (ike != nullptr && ike->state == IkeState::init_sent && ike->remote == remote) {
      ike->heard_version_1 = true;
    }
    return;
  }
  if ((mode != kMainMode && mode != kAggressiveMode) || header.responder_spi != 0) return;
  std::erase_if(version_1_peers_,
                [&](const auto& entry) { return now_ - entry.second >= kInterval; });
  if (version_1_peers_.contains(remote.address) || version_1_peers_.size() >= kMaxPeers) return;
  version_1_peers_[remote.address] = now_;
  const std::string detail = "ours: IKEv2; the peer at " + remote.to_string() + " offers IKEv1 (" +
                             (mode == kMainMode ? "main" : "aggressive") +
                             " mode), deprecated by RFC 9395";
  const auto candidates = connection_index_.between(local.address, remote.address);
  if (candidates.empty()) {
    fail_stranger(Failure::unsupported_version, detail, local, remote);
  } else {
    fail(candidates.front(), Failure::unsupported_version, detail, Level::warning, Attempt::knock);
  }
  send(local, remote,
       wire::ike::encode_version_1_refusal(header, static_cast<std::uint32_t>(draw_number())));
}

}  // namespace culvert::ike
