// What the data plane and the key daemon say to each other: fixed-size, trivially copyable
// messages. Integers in host order (both ends are one machine), addresses in network order.
// Neither side trusts the other's memory: a message is copied out of the ring, then validated
// (`validate`), then acted upon.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string_view>
#include <type_traits>

#include "config/child_id.hpp"
#include "crypto/secret.hpp"
#include "crypto/suite.hpp"
#include "wire/ip_address.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::channel {

/// Identifies a request; the completion carries it back. Chosen by the requester, never 0.
enum class RequestId : std::uint64_t {};
/// Names an SA (one direction) for its life. Chosen by whoever installs it; unique over restarts of
/// the key daemon because it starts from a random 64-bit value.
enum class SaId : std::uint64_t {};
/// Names with this upper half are those of manual SAs, which the data plane gives by itself. One
/// from the key daemon is refused: it could stand in a manual SA's way.
inline constexpr std::uint32_t kManualSaIds = 0x6d616e75;
[[nodiscard]] constexpr bool is_manual_id(SaId sa) {
  return static_cast<std::uint64_t>(sa) >> 32U == kManualSaIds;
}
/// Names an installed (negotiated) policy.
enum class PolicyId : std::uint64_t {};
/// An ESP SPI, host order. Inbound SPIs are leased from the data plane.
enum class Spi : std::uint32_t {};

/// What the configuration names, the same on both sides whatever else their files say.
using config::ChildId;

enum class Direction : std::uint8_t { in = 0, out = 1 };
enum class SaMode : std::uint8_t { tunnel = 0, transport = 1 };

inline constexpr std::size_t kMaxSelectors = 16;  ///< a side, per SA
inline constexpr std::size_t kMaxKeyBytes =
    104;  ///< cipher key 32 + salt 4 + integrity key 64, rounded
inline constexpr std::uint32_t kMaxReplayWindow = 65536;  ///< packets (RFC 4303 §3.4.3 asks for 64)
inline constexpr std::uint32_t kMinReplayWindow = 32;   ///< packets (RFC 4303 §3.4.3); 0: no check
inline constexpr std::uint32_t kFirstFreeSpi = 256;     ///< 0..255 are reserved (RFC 4303 §2.1)
inline constexpr std::size_t kMaxLeasedSpis = 64;       ///< per LeaseSpis
inline constexpr std::size_t kMaxDatagramBytes = 8064;  ///< IKE datagram without marker

struct SelectorSet {
  std::uint32_t count = 0;
  std::array<wire::TrafficSelector, kMaxSelectors> items{};
};
/// 0: no limit. Soft raises an event, hard means not one packet more (RFC 4301 §4.4.2.1).
struct Lifetime {
  std::uint64_t soft_seconds = 0, hard_seconds = 0;
  std::uint64_t soft_bytes = 0, hard_bytes = 0;
  std::uint64_t soft_packets = 0, hard_packets = 0;
};

// ---- requests: key daemon → data plane --------------------------------------------------------

struct InstallSa {
  SaId sa{};
  ChildId child_id{};  ///< whose: counters and policies hang on it
  Direction direction = Direction::in;
  SaMode mode = SaMode::tunnel;
  bool esn = false;
  bool udp_encapsulation = false;   ///< RFC 3948, with the endpoints' ports
  Spi spi{};                        ///< inbound: leased; outbound: the peer's
  std::uint32_t replay_window = 0;  ///< inbound, packets
  crypto::EspSuite suite;
  wire::Endpoint local;  ///< outer; ports only with udp_encapsulation
  wire::Endpoint remote;
  Lifetime lifetime;
  SelectorSet local_selectors;
  SelectorSet remote_selectors;
  crypto::InlineSecret<kMaxKeyBytes> key;  ///< cipher key ‖ salt ‖ integrity key
};
/// Outbound traffic that the selectors match goes to `outbound` (which must be installed).
/// Placed in front of the trap policy of its child, which the data plane must know.
struct InstallPolicy {
  PolicyId policy{};
  ChildId child_id{};
  SaId outbound{};
  SelectorSet local_selectors;
  SelectorSet remote_selectors;
};
/// One pointer store: the policy's traffic goes to another SA from now on.
struct SwitchOutbound {
  PolicyId policy{};
  SaId outbound{};
};
struct DeletePolicy {
  PolicyId policy{};
};
/// Stops the SA; its slot is wiped and reused after a grace period of the tables. Its traffic
/// totals stay with the child.
struct DeleteSa {
  SaId sa{};
};
/// MOBIKE or NAT: the outer addresses change, nothing else. Of several at once the last one holds.
struct UpdateEndpoints {
  SaId sa{};
  wire::Endpoint local;
  wire::Endpoint remote;
};
/// Asks for `count` (≤ kMaxLeasedSpis) inbound SPIs; the completion holds them. What is leased and
/// not installed when the key daemon disconnects returns at the next one's first LeaseSpis.
struct LeaseSpis {
  std::uint32_t count = 0;
};
/// Inbound SPIs that an earlier key daemon had leased and that a peer has been told of: they stay
/// leased, to this one. The completion holds those that do. Before the first LeaseSpis of a
/// connection: with that the rest returns.
struct KeepSpis {
  std::uint32_t count = 0;
  std::array<Spi, kMaxLeasedSpis> spis{};
};
/// Asks for an SA's traffic; the completion holds it (liveness checks, RFC 7296 §2.4).
struct QuerySa {
  SaId sa{};
};
/// Which SAs and policies are there? Answered by SnapshotSa/SnapshotPolicy events, each once, then
/// the completion. That takes as long as the key daemon takes to read them; other events may come
/// in between. Requests behind it are handled after it: none of them changes what it tells of.
struct TakeSnapshot {};

// ---- completions and events: data plane → key daemon ------------------------------------------

enum class Outcome : std::uint32_t {
  ok = 0,
  unknown_request,  ///< message type or layout not understood
  invalid_field,    ///< a value out of range; nothing was changed
  unknown_sa,
  unknown_policy,
  duplicate,  ///< SaId, PolicyId or SPI already in use
  spi_not_leased,
  unsupported_suite,
  no_room,      ///< limits.sas or limits.policies reached; what goes makes room for what comes
  no_route,     ///< no local interface or route towards the peer
  over_budget,  ///< all searches would pay too much for this policy
};
/// "spi_not_leased"; "unknown" for a value out of range.
std::string_view to_string(Outcome outcome);

struct SaTraffic {
  std::uint64_t packets = 0, bytes = 0;
  std::uint64_t idle_milliseconds = 0;  ///< since the last authenticated packet; ~0: never one
};
struct Completion {
  RequestId request{};
  Outcome outcome = Outcome::ok;
  std::uint32_t spi_count = 0;  ///< LeaseSpis, KeepSpis
  std::array<Spi, kMaxLeasedSpis> spis{};
  SaTraffic traffic;  ///< QuerySa
};
/// A packet met a child's trap policy and there is no SA. One per child until answered.
struct Acquire {
  ChildId child_id{};
  wire::IpAddress source, destination;
  std::uint8_t protocol = 0;
  std::uint16_t source_port = 0, destination_port = 0;
};
enum class ExpiryCause : std::uint8_t { time, bytes, packets, sequence };
struct SoftExpire {
  SaId sa{};
  ExpiryCause cause{};
};
struct HardExpire {  ///< the SA no longer passes packets; IKE deletes it
  SaId sa{};
  ExpiryCause cause{};
};
/// ESP arrived for an SPI that is not there. Rate limited; unauthenticated: a hint, no more.
struct UnknownSpi {
  Spi spi{};
  wire::Endpoint from, to;
};
/// An authenticated packet came from another address or port than the SA's remote.
struct PeerMoved {
  SaId sa{};
  wire::Endpoint seen;
};
struct SnapshotSa {  ///< an installed SA, without its key
  SaId sa{};
  ChildId child_id{};
  Direction direction{};
  Spi spi{};
  wire::Endpoint local, remote;
  bool udp_encapsulation = false;
};
struct SnapshotPolicy {
  PolicyId policy{};
  ChildId child_id{};
  SaId outbound{};
};

// ---- frames -------------------------------------------------------------------------------------

enum class RequestType : std::uint32_t {
  none = 0,
  install_sa,
  install_policy,
  switch_outbound,
  delete_policy,
  delete_sa,
  update_endpoints,
  lease_spis,
  query_sa,
  take_snapshot,
  keep_spis,
};
union RequestBody {
  InstallSa install_sa;
  InstallPolicy install_policy;
  SwitchOutbound switch_outbound;
  DeletePolicy delete_policy;
  DeleteSa delete_sa;
  UpdateEndpoints update_endpoints;
  LeaseSpis lease_spis;
  QuerySa query_sa;
  TakeSnapshot take_snapshot;
  KeepSpis keep_spis;
  RequestBody() : take_snapshot{} {}
};
/// A slot of the request ring.
struct Request {
  RequestType type = RequestType::none;
  std::uint32_t unused = 0;  ///< where padding would carry what was on the stack
  RequestId id{};
  RequestBody body;
};

enum class EventType : std::uint32_t {
  none = 0,
  completion,
  acquire,
  soft_expire,
  hard_expire,
  unknown_spi,
  peer_moved,
  snapshot_sa,
  snapshot_policy,
};
union EventBody {
  Completion completion;
  Acquire acquire;
  SoftExpire soft_expire;
  HardExpire hard_expire;
  UnknownSpi unknown_spi;
  PeerMoved peer_moved;
  SnapshotSa snapshot_sa;
  SnapshotPolicy snapshot_policy;
  EventBody() : soft_expire{} {}
};
/// A slot of the event ring.
struct Event {
  EventType type = EventType::none;
  std::uint32_t unused = 0;  ///< as in a Request
  EventBody body;
};

/// A slot of either datagram ring: an IKE message without its non-ESP marker. Port 4500 on the
/// local side says the marker was or will be there (RFC 3948 §2.2). `keepalive`: send the one-byte
/// NAT keepalive instead (RFC 3948 §2.3).
struct Datagram {
  wire::Endpoint local, remote;
  bool keepalive = false;
  std::uint32_t length = 0;  ///< bytes
  /// To the network: what its recipient will name (RFC 7296 §3.1), so that it is let in before
  /// those who name no IKE SA. 0: it may be anybody, or the data plane knows already.
  std::uint64_t ike_spi = 0;
  std::array<std::uint8_t, kMaxDatagramBytes> bytes{};
};

/// Names as in the enums, for logs; "unknown" for a value out of range.
std::string_view to_string(RequestType type);
std::string_view to_string(EventType type);
std::string_view to_string(ExpiryCause cause);

/// How many bytes at the start of a message mean something: what crosses; the rest stays behind.
[[nodiscard]] std::size_t meaningful_bytes(const Request& request);
[[nodiscard]] std::size_t meaningful_bytes(const Event& event);
[[nodiscard]] std::size_t meaningful_bytes(const Datagram& datagram);

static_assert(std::is_trivially_copyable_v<Request>);
static_assert(offsetof(Request, id) == 8 && offsetof(Event, body) == 8, "no padding in front");
static_assert(std::is_trivially_copyable_v<Event>);
static_assert(std::is_trivially_copyable_v<Datagram>);

/// What is wrong with a message, in words for the log.
struct Invalid {
  std::string_view field;
  std::string_view problem;
};
/// Every enum in range, counts within arrays, families consistent, lengths possible. Called on a
/// private copy.
[[nodiscard]] std::expected<void, Invalid> validate(const Request& request);
[[nodiscard]] std::expected<void, Invalid> validate(const Event& event);
[[nodiscard]] std::expected<void, Invalid> validate(const Datagram& datagram);

}  // namespace culvert::channel
