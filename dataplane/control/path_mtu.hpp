// The path MTU of each peer, learnt from ICMP that a live SA vouches for (RFC 4301 §8.2, RFC 1191,
// RFC 8201). Pure: what was learnt, for how long, and for which SAs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "channel/messages.hpp"
#include "dataplane/control/token_bucket.hpp"
#include "dataplane/control/too_big.hpp"

namespace culvert::dataplane::control {

/// What is known of the SA that a message quotes.
struct QuotedSa {
  channel::SaId sa{};
  wire::IpAddress local;
  wire::Endpoint remote;       ///< path_to
  std::uint64_t sequence = 0;  ///< last one sent
  std::uint16_t path_mtu = 0;  ///< what holds for it now
};

/// Why a message changed nothing.
enum class TooBigRefusal : std::uint8_t {
  below_minimum,        ///< less than every IPv6 link carries
  addresses_differ,     ///< quotes another SA's addresses
  sequence_not_recent,  ///< quotes a packet that we did not send lately
  not_smaller,          ///< the quoted packet fits, or what holds is smaller already
};

struct LearntMtu {
  std::uint16_t mtu = 0;            ///< what holds for the SA, and for its peer's later ones
  std::vector<channel::SaId> over;  ///< SAs of a peer that gave way: they take the link's again
};

/// Where an SA sends to: the port without UDP encapsulation is 0.
[[nodiscard]] inline wire::Endpoint path_to(const channel::InstallSa& spec) {
  return {spec.remote.address, spec.udp_encapsulation ? spec.remote.port : std::uint16_t{0}};
}

/// A path is known by its destination, and what is known of it is the least that was learnt on any
/// way there (RFC 8201 §5.2). Behind a NAT's address there are many, told apart by port: one peer,
/// who can quote his own packets, is not believed of another's path. Each SA is listed under the
/// peer that it sends to, or nowhere.
class PathMtus {
 public:
  /// How long a smaller MTU is kept before the larger one is tried again (RFC 1191 §6.3, RFC 8201
  /// §5.2: "the recommended setting … is ten minutes").
  static constexpr Instant kLifetime = std::chrono::minutes(10);
  /// How far back a quoted sequence number may lie: packets that were under way. What an attacker
  /// off the path has to guess beside the SPI.
  static constexpr std::uint32_t kRecentPackets = 65536;
  /// IPv4: no less is learnt than what every host takes whole (RFC 791 §3.1), for a smaller link
  /// may be true. IPv6: a message that says less than what every link carries (RFC 8200 §5) is
  /// none.
  static constexpr std::uint16_t kLeastIpv4 = 576, kLeastIpv6 = 1280;
  /// Peers remembered; the one that would expire first gives way.
  static constexpr std::size_t kPeers = 65536;
  /// SAs that one call of `expire` names: some hundreds of microseconds of the main thread's time.
  static constexpr std::size_t kExpiredAtOnce = 4096;

  /// Whether a quoted number, its low half, is of a packet under way; `sent`: the SA's last one.
  [[nodiscard]] static bool is_recent(std::uint32_t quoted, std::uint64_t sent);
  /// What a message says of the SA's path, when it is believed and says something new.
  [[nodiscard]] static std::expected<std::uint16_t, TooBigRefusal> judge(
      const TooBigMessage& message, const QuotedSa& sa);
  /// What holds from now on: never more than before while the peer is remembered.
  std::expected<LearntMtu, TooBigRefusal> learn(const TooBigMessage& message, const QuotedSa& sa,
                                                Instant now);
  /// What an SA that comes to this peer begins with; nullopt: the link's.
  [[nodiscard]] std::optional<std::uint16_t> of(const wire::Endpoint& remote, Instant now) const;
  /// An SA began with `of`: it is new, or has moved to this peer.
  void joined(const wire::Endpoint& remote, channel::SaId sa);
  /// It has gone from this peer: what becomes of that path is nothing to it.
  void left(const wire::Endpoint& remote, channel::SaId sa);
  /// SAs whose smaller MTU is over: they take the link's again. A bounded number; the next call has
  /// the rest. What is not over yet is not looked at.
  [[nodiscard]] std::vector<channel::SaId> expire(Instant now);

  [[nodiscard]] std::size_t peers() const { return peers_.size(); }

 private:
  struct Learnt {
    std::uint16_t mtu = UINT16_MAX;
    Instant until{};
    std::set<channel::SaId> sas;
  };
  /// The peer that would expire first is forgotten; its SAs.
  std::vector<channel::SaId> evict();

  std::map<wire::Endpoint, Learnt> peers_;
  std::set<std::pair<Instant, wire::Endpoint>> by_end_;  ///< each of them
};

}  // namespace culvert::dataplane::control
