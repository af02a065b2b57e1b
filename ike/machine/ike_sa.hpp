// An IKE SA: identities, keys, message window, the exchange on its way and those that wait.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ike/machine/child_sa.hpp"
#include "ike/machine/keys.hpp"
#include "ike/machine/machine.hpp"
#include "ike/machine/reassembly.hpp"
#include "ike/machine/window.hpp"
#include "wire/ike/message.hpp"
#include "wire/udp.hpp"

namespace culvert::ike {

/// Where IKE goes on beside a NAT, behind a marker (RFC 7296 §2.23).
inline constexpr std::uint16_t kNatPort = 4500;
/// A rekey that was refused for good is asked again this much later: the peer may be reconfigured.
inline constexpr std::chrono::seconds kRefusedRekeyDelay{60};
inline constexpr std::uint32_t kMaxTemporaryFailures = 20;

enum class TaskKind : std::uint8_t {
  init,
  auth,
  create_child,
  rekey_child,
  rekey_ike,
  delete_child,
  delete_ike,
  liveness,
  update_addresses,  ///< MOBIKE: we moved, or (who follows) have other addresses
  check_route,       ///< MOBIKE: the peer moved; is it there?
  await_move,        ///< MOBIKE, no exchange: the peer has been told of ours, and had time to move
};
/// An exchange we want to have on an IKE SA.
struct Task {
  TaskKind kind{};
  config::ChildId child_id{};
  channel::SaId child{};  ///< inbound SaId of the child to rekey or delete
  channel::Spi
      orphan{};  ///< delete_child: the peer made a child with this SPI that we could not use
  std::optional<crypto::Group> group{};  ///< the peer asked for this one (INVALID_KE_PAYLOAD)
  Instant not_before{};
  std::uint32_t attempts = 0;
  bool rehearsal = false;             ///< rekey_child: to see whether it would work
  bool address_lost = false;          ///< update_addresses: the one before is not ours any more
  bool single_pair = false;           ///< create_child: for the packet's addresses alone
  std::vector<CommandId> commands{};  ///< who waits for the end
};
/// The exchange on its way. At most one: our window is 1.
struct Exchange {
  Task task;
  Octets nonce;
  std::unique_ptr<crypto::ike::KeyExchange> key_exchange;
  channel::Spi inbound_spi{};
  std::uint64_t new_ike_spi = 0;
  /// RFC 7296 §2.8.1: what the peer made of the same SA meanwhile, and that exchange's lower nonce.
  channel::SaId rival_child{};
  std::uint64_t rival_ike = 0;
  Octets rival_nonce;
  /// What was asked for, where the configuration has changed since.
  std::optional<config::Child> asked;
  std::optional<std::vector<crypto::Proposal>> asked_ike;
  /// Outbound SPIs the peer deleted that we do not know: perhaps of the child being made.
  std::vector<std::uint32_t> deleted_early;
};

enum class IkeState : std::uint8_t {
  init_sent,  ///< initiator: IKE_SA_INIT on its way
  half_open,  ///< responder: answered IKE_SA_INIT
  auth_sent,  ///< initiator: IKE_AUTH on its way
  established,
  rekeyed,     ///< its children went to a successor; waits for the Delete
  superseded,  ///< the peer came back with another one; forgotten without a word
  deleting,    ///< our Delete is on its way
  closed,      ///< over; only repeats its last answer
};
/// The peer's part of IKE_AUTH, while its certificates' status is asked for.
struct HeldMessage {
  wire::ike::Header header;
  std::vector<wire::ike::Payload> payloads;
  wire::Endpoint local, remote;
  std::string awaits;
};
struct EspEndpoints {
  wire::Endpoint local, remote;
};

struct IkeSa {
  std::uint64_t local_spi = 0, remote_spi = 0;
  bool initiator = false;  ///< original initiator
  IkeState state = IkeState::init_sent;
  const config::Connection* connection = nullptr;
  std::vector<const config::Connection*> candidates;  ///< responder, before IKE_AUTH tells which
  struct {
    const config::Connection* connection = nullptr;
    std::uint64_t identity = 0;
  } filed;  ///< where PeerIndex has it
  wire::Endpoint local, remote;
  config::Identity local_id, remote_id;
  /// The peer's SIGNATURE_HASH_ALGORITHMS (RFC 7427 §4); nullopt: it sent none.
  std::optional<std::vector<std::uint16_t>> signature_hashes;
  bool statuses_requested = false;  ///< the peer asks for OCSP of ours (RFC 4806)
  std::string local_auth, remote_auth, remote_certificate;  ///< for status
  std::uint8_t local_method = 0;  ///< of our AUTH payload; 0: none was made
  std::int64_t remote_certificate_expires = 0;
  std::vector<wire::ike::Certificate> peer_certificates;  ///< that proved it, to ask again
  std::unique_ptr<HeldMessage> held;
  Instant held_until{};  ///< 0: nothing was held
  crypto::IkeSuite suite;
  IkeKeys keys;
  /// RFC 8784: both sides announced it; mixed into `keys`; and the keys before, until IKE_AUTH
  /// ends.
  bool post_quantum_offered = false, post_quantum = false;
  MixedKeys plain_keys;
  bool nat_local = false, nat_remote = false, nat_detection = false, encapsulate = false;
  bool nat_ignored = false;      ///< encap: no, and the peer's notifies show a NAT
  bool heard_version_1 = false;  ///< unauthenticated: believed only when nothing else comes
  /// IKE_SA_INIT's material until IKE_AUTH is over.
  Octets initiator_nonce, responder_nonce, initiator_message, responder_message, cookie;
  std::unique_ptr<crypto::ike::KeyExchange> key_exchange;
  crypto::Group group = crypto::Group::none;
  std::uint32_t init_restarts = 0;
  /// Responder: what its IKE_SA_INIT request is known by, to answer a repeated one.
  std::optional<std::pair<wire::Endpoint, std::uint64_t>> init_request;
  /// When it began and when it stood, as ranks among all such moments: a clock may stand still.
  std::uint64_t created_rank = 0;
  std::uint64_t begun_rank = 0, established_rank = 0;  ///< of its line: a rekey hands them on
  Octets lower_nonce;        ///< of the rekey that made it: decides collisions of rekeys
  Octets first_nonce;        ///< the lower one of the IKE_SA_INIT that its line began with
  bool begun_by_us = false;  ///< that IKE_SA_INIT was ours
  bool made_by_rekey = false;
  bool redundant = false;  ///< lost against a crossing IKE SA: takes no new work
  bool outdated = false;   ///< authenticated for what the configuration does not say any more
  std::uint32_t duplicate_waits = 0;
  std::uint64_t lost_to = 0;        ///< redundant: our SPI of the one that stays
  std::uint64_t successor_spi = 0;  ///< rekeyed: our SPI of the one that has its children
  bool unproven = false;            ///< stays instead of another, and has not answered since

  /// RFC 4555: agreed upon; `moves`: we initiated the first IKE SA and decide on addresses.
  bool mobike = false, moves = false;
  std::vector<wire::IpAddress> peer_addresses;  ///< beside `remote`
  /// Where ESP goes until the peer has been heard at `remote` (RFC 4555 §3.7); nullopt: it has.
  std::optional<wire::Endpoint> checked_remote;
  Octets seen_as;  ///< how the peer sees us: its NAT_DETECTION_DESTINATION_IP
  bool keepalive_armed = false;
  bool childless = false;       ///< the peer can do without a first child (RFC 6023)
  Instant reauthenticate_at{};  ///< 0: never
  bool fragmentation = false;   ///< both sides take fragments (RFC 7383 §2.3)
  Reassembly request_pieces, response_pieces;
  MessageWindow window;
  std::optional<Exchange> exchange;
  std::deque<Task> queue;
  std::vector<channel::SaId> children;
  channel::Spi last_replaced{};         ///< outbound SPI of the last child that our rekey ended
  std::vector<config::ChildId> wanted;  ///< children to establish once it stands
  Instant created{}, established{}, rekey_at{}, expire_at{}, liveness_at{}, last_heard{},
      last_sent{}, forget_at{};
  std::uint32_t liveness_queries = 0;  ///< answers of the data plane still to come
  bool traffic_seen = false;

  [[nodiscard]] std::uint64_t initiator_spi() const { return initiator ? local_spi : remote_spi; }
  [[nodiscard]] std::uint64_t responder_spi() const { return initiator ? remote_spi : local_spi; }
  /// Our SPI in the peer's next message, when it has proven who it is or we have begun: others let
  /// in would be a flood's.
  [[nodiscard]] std::uint64_t spi_to_be_let_in() const {
    if (!initiator && established_rank == 0) return 0;
    return successor_spi != 0 ? successor_spi : local_spi;
  }
  [[nodiscard]] bool usable() const { return state == IkeState::established && !redundant; }
  void drop_queued(TaskKind kind) {
    std::erase_if(queue, [&](const Task& task) { return task.kind == kind; });
  }
  [[nodiscard]] const wire::Endpoint& esp_remote() const {
    return checked_remote ? *checked_remote : remote;
  }
  /// The peer has said that it is elsewhere, and has not been heard there.
  [[nodiscard]] bool awaits_check() const { return esp_remote().address != remote.address; }
  /// Between what a child's ESP goes; without UDP no ports. "An IPsec endpoint that discovers a NAT
  /// between it and its correspondent … MUST send all subsequent traffic from port 4500" (RFC 7296
  /// §2.23), and the data plane takes it there alone. A peer that has kept IKE on our port 500 is
  /// seen at what a NAT has for its own, which leads no ESP to it: its 4500 may, and what comes
  /// from it says where it is.
  [[nodiscard]] EspEndpoints esp_endpoints(const ChildSa& child) const {
    EspEndpoints ends{{local.address, 0}, {esp_remote().address, 0}};
    if (!child.udp_encapsulation) return ends;
    const bool is_on_first_port = local.port == wire::udp::kIkePort;
    ends.local.port = wire::udp::kNatTraversalPort;
    ends.remote.port = is_on_first_port ? wire::udp::kNatTraversalPort : esp_remote().port;
    return ends;
  }
};

/// Inbound SPIs that what is under way has taken, and under which no SA stands: the peer has been
/// told, or may have been.
[[nodiscard]] inline std::vector<channel::Spi> spis_under_way(const IkeSa& ike) {
  std::vector<channel::Spi> spis;
  const auto add = [&](channel::Spi spi) {
    if (spi != channel::Spi{}) spis.push_back(spi);
  };
  if (ike.exchange) {
    add(ike.exchange->inbound_spi);
    add(ike.exchange->task.orphan);
  }
  for (const Task& task : ike.queue) add(task.orphan);
  return spis;
}

}  // namespace culvert::ike
