// The IKEv2 state machine (RFC 7296): driven by datagrams, time, commands and the data plane's
// events; answers with actions. Pure: no sockets, no clock, no files, no threads of its own, so
// that thousands of lossy exchanges run in a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "crypto/ike/ike_crypto.hpp"
#include "ike/machine/failure.hpp"
#include "ike/machine/record.hpp"
#include "wire/cursor.hpp"
#include "wire/ike/message.hpp"
#include "wire/ip_address.hpp"

namespace culvert::ike {

/// Monotonic time as the owner's clock has it; only differences mean anything.
using Instant = std::chrono::nanoseconds;

// ---- actions: what the owner carries out, in order --------------------------------------------

/// An IKE message (without non-ESP marker) or a NAT keepalive. The owner sends it only after every
/// request emitted before it has completed: an inbound SA exists before the peer learns its SPI.
struct SendDatagram {
  wire::Endpoint local, remote;
  std::vector<std::uint8_t> bytes;
  bool keepalive = false;
  std::uint64_t ike_spi = 0;  ///< as of channel::Datagram
};
/// A request to the data plane. `Machine::on_completion` wants its outcome. An SA's key does not
/// outlive it, nor the copies that a growing container makes of it.
struct DataplaneRequest {
  explicit DataplaneRequest(const channel::Request& its_request) : request(its_request) {}
  DataplaneRequest(const DataplaneRequest&) = default;
  DataplaneRequest& operator=(const DataplaneRequest&) = default;
  ~DataplaneRequest() {
    if (request.type == channel::RequestType::install_sa) request.body.install_sa.key.wipe();
  }
  channel::Request request;
};
enum class Level : std::uint8_t { debug, info, warning, error };
/// Something an operator may want to read. Field values never hold key material.
struct Report {
  Level level = Level::info;
  std::string event;  ///< snake_case, stable: "ike_sa_established", "child_rekeyed", …
  std::vector<std::pair<std::string, std::string>> fields;
};
/// A command given with `CommandId` has ended; the control socket answers its caller.
enum class CommandId : std::uint64_t {};
struct CommandDone {
  CommandId command{};
  bool ok = false;
  std::string message;  ///< on failure: what, what we have, what the peer offered, what to change
};
using Action = std::variant<SendDatagram, DataplaneRequest, Report, CommandDone>;

// ---- inputs -------------------------------------------------------------------------------------

enum class CommandVerb : std::uint8_t {
  initiate,     ///< name (find_named): connection or child
  terminate,    ///< name: connection (IKE SA and children) or child
  rekey_child,  ///< name: child, or connection that has one
  rekey_ike,    ///< name: connection
};
struct Command {
  CommandId id{};
  CommandVerb verb{};
  std::string name;
};

/// Where inbound SPIs come from: the owner keeps a stock leased from the data plane.
class SpiSource {
 public:
  virtual ~SpiSource() = default;
  virtual std::optional<channel::Spi> take() = 0;
  virtual void give_back(channel::Spi spi) = 0;  ///< never installed
};

/// The pre-shared key for a pair of identities; nullptr when there is none.
class SecretSource {
 public:
  virtual ~SecretSource() = default;
  [[nodiscard]] virtual const crypto::SecretBytes* find(const config::Identity& local,
                                                        const config::Identity& remote) const = 0;
  /// The post-quantum pre-shared key of that name (RFC 8784); nullptr when there is none.
  [[nodiscard]] virtual const crypto::SecretBytes* find_post_quantum(std::string_view) const {
    return nullptr;
  }
};

/// Proofs by signature (RFC 7296 §2.15, RFC 7427). The owner holds the keys, certificates and
/// authorities and knows the calendar; the machine says what is to be signed and by whom.
class SignatureSource {
 public:
  struct Problem {
    Failure failure{};
    std::string detail;  ///< both sides' values
    /// Not empty: what is missing is on its way (see on_status); asked again, it may be there.
    std::string awaits{};
  };
  struct Proof {
    std::uint8_t method = 0;
    std::vector<std::uint8_t> data;                       ///< of the AUTH payload
    std::vector<std::vector<std::uint8_t>> certificates;  ///< DER, ours first
    std::string algorithm;
    /// What OCSP says of ours, for a peer that asks (RFC 4806).
    std::vector<std::vector<std::uint8_t>> statuses{};
  };
  /// What the peer presented.
  struct Claim {
    const config::Connection& connection;
    const config::Identity& identity;
    std::span<const wire::ike::Certificate> certificates;
    std::uint8_t method = 0;
    wire::Bytes data;       ///< of the AUTH payload
    wire::Bytes octets;     ///< that the peer must have signed
    bool may_wait = false;  ///< for what is on its way; otherwise judged by what is known
  };
  struct Verified {
    std::string algorithm;
    std::string certificate;         ///< its subject
    std::int64_t expires = 0;        ///< its last second, Unix time
    std::vector<std::string> notes;  ///< what was let pass, for a warning
  };
  virtual ~SignatureSource() = default;
  /// `peer_hashes`: of its SIGNATURE_HASH_ALGORITHMS; nullopt when it sent none.
  [[nodiscard]] virtual std::expected<Proof, Problem> sign(
      const config::Connection& connection,
      std::optional<std::span<const std::uint16_t>> peer_hashes, wire::Bytes octets) const = 0;
  [[nodiscard]] virtual std::expected<Verified, Problem> verify(const Claim& claim) const = 0;
  /// Whether what authenticated a peer then would do so now: dates, revocation, authorities. The
  /// signature is not asked again. Seconds until the first certificate of its path expires.
  [[nodiscard]] virtual std::expected<std::chrono::seconds, Problem> still_valid(
      const config::Identity&, std::span<const wire::ike::Certificate>) const {
    return std::chrono::seconds::max();
  }
  /// What our CERTREQ names (RFC 7296 §3.7): SHA-1 hashes of our authorities' keys.
  [[nodiscard]] virtual std::vector<std::uint8_t> authority_hashes() const = 0;
  /// Whether peers are asked for the status of their certificates (RFC 4806).
  [[nodiscard]] virtual bool wants_statuses() const { return false; }
  /// What we judge by: "authorities: …, revocation: strict".
  [[nodiscard]] virtual std::string trust_text() const { return "authorities as configured"; }
};

struct Environment {
  const config::Config* config = nullptr;  ///< outlives the machine
  crypto::ike::Random* random = nullptr;
  SpiSource* spis = nullptr;
  const SecretSource* secrets = nullptr;
  const SignatureSource* signatures = nullptr;  ///< nullptr: no connection uses certificates
  /// The address of ours that routes to `remote`, for connections whose local address is not given.
  std::function<std::optional<wire::IpAddress>(const wire::IpAddress& remote)> local_address_for;
  /// Whether any interface has the address.
  std::function<bool(const wire::IpAddress& address)> is_own_address;
  /// All addresses of the interface that leads to `remote`, for MOBIKE; may be empty.
  std::function<std::vector<wire::IpAddress>(const wire::IpAddress& remote)> local_addresses_for;
};

/// Limits and times, one place; tests shorten them.
struct Tuning {
  std::chrono::milliseconds retransmit_first{500};
  double retransmit_factor = 1.8;
  std::uint32_t retransmit_tries = 6;
  std::chrono::milliseconds retransmit_cap{12000};
  std::uint32_t half_open_cookie_threshold = 32;  ///< RFC 7296 §2.6
  std::uint32_t half_open_limit = 4096;
  std::chrono::seconds half_open_timeout{30};
  /// That IKE_AUTH waits for the status of the peer's certificates.
  std::chrono::milliseconds status_wait{5000};
  std::chrono::seconds keepalive_interval{20};      ///< RFC 3948 §4
  std::chrono::seconds reauthentication_retry{60};  ///< a new IKE SA that did not come up
  std::chrono::milliseconds old_sa_grace{5000};     ///< a replaced inbound SA lives on this long
  /// What an earlier life left, beside its successor: a peer that answered for that may send on the
  /// old one until it hears of us, and begins to wait again when it is killed meanwhile.
  std::chrono::milliseconds adopted_sa_grace{90000};
  /// From our IKE_AUTH answer, where another SA carries the traffic, to the question whether it
  /// arrived.
  std::chrono::milliseconds proof_delay{1000};
  /// From our answer for a child to our sending on it, beside what may be of an earlier life of the
  /// peer. Longer than a key daemon is away that was killed on that answer.
  std::chrono::milliseconds responder_switch_delay{4000};
  /// The same after a rekey: its initiator's Delete of the old SA says at once that it has the new
  /// one. Without a Delete the answer may have been lost: longer than a request waits to be sent
  /// again, and than either end takes to restart. Until then the old SA carries the traffic.
  std::chrono::milliseconds rekey_switch_delay{30000};
  /// From a restart on at least: longer than the longest pause between two tries of a request.
  std::chrono::milliseconds resumed_switch_delay{15000};
  /// From our switch to the Delete of the SA we replaced: what is on its way arrives first.
  std::chrono::milliseconds replaced_sa_linger{250};
  std::chrono::seconds initiate_backoff_first{1};  ///< start_action: start retries for ever
  std::chrono::seconds initiate_backoff_cap{60};
  /// From a child made in IKE_AUTH to its first rekey, the rehearsal; up to two fifths less.
  std::chrono::milliseconds rehearsal_delay{5000};
  /// Of a responder: later than its peer's, retransmissions included.
  std::chrono::milliseconds responder_rehearsal_delay{15000};
  /// An IKE SA of before a change of the configuration, where only the peer can make the new one.
  std::chrono::seconds outdated_grace{60};
  /// From the peer's answer to our word that an address of ours is gone to its move, several tries
  /// of a request included.
  std::chrono::seconds move_patience{10};
  /// Between two questions whether the data plane still has an address that the file does not have.
  std::chrono::seconds lost_address_interval{10};
  double rekey_jitter = 0.1;  ///< fraction of rekey_time, subtracted
};

// ---- what status and metrics read ---------------------------------------------------------------

struct ChildStatus {
  std::string name;
  config::ChildId child_id{};
  std::string state;  ///< "installed", "rekeying", "rekeyed", "deleting"
  channel::Spi inbound{}, outbound{};
  channel::SaId inbound_sa{}, outbound_sa{};
  crypto::EspSuite suite;
  bool esn = false;
  std::string pfs_group;  ///< empty: none
  bool udp_encapsulation = false;
  std::vector<wire::TrafficSelector> local_selectors, remote_selectors;
  std::chrono::seconds age{};
  std::optional<std::chrono::seconds> rekey_in, expires_in;  ///< nullopt: never, for its age
  std::optional<Failure> notice;                             ///< up, but not as configured
  std::string notice_detail;                                 ///< both sides' values
};
struct IkeSaStatus {
  std::string connection;
  std::string state;       ///< "init", "auth", "established", "rekeying", "deleting"
  bool initiator = false;  ///< we are the original initiator
  std::uint64_t initiator_spi = 0, responder_spi = 0;
  wire::Endpoint local, remote;
  std::string local_id, remote_id;
  /// "psk" or the signature's algorithm; empty before IKE_AUTH.
  std::string local_auth, remote_auth;
  std::string remote_certificate;               ///< subject; empty with a pre-shared key
  std::int64_t remote_certificate_expires = 0;  ///< Unix time; 0: none
  crypto::IkeSuite suite;
  bool nat_local = false, nat_remote = false;
  bool fragmentation = false;  ///< agreed upon (RFC 7383)
  bool mobike = false;         ///< agreed upon (RFC 4555)
  bool post_quantum = false;   ///< a PPK is mixed into its keys (RFC 8784)
  std::chrono::seconds age{};
  std::optional<std::chrono::seconds> rekey_in;  ///< nullopt: never, or it is not established
  std::vector<ChildStatus> children;
};
/// What is to become of a configured child, whether it is up or not.
struct ChildPlan {
  std::string name;
  bool is_coming = false;      ///< it is being negotiated, or will be in a moment
  bool is_terminated = false;  ///< by command, until another command or the peer brings it up
  std::uint64_t rekeys_ok = 0, rekeys_failed = 0;
};
struct ConnectionStatus {
  std::string name;
  std::optional<Failure> last_failure;
  std::string last_failure_detail;  ///< both sides' values
  std::optional<std::chrono::seconds> retry_in;
  std::string last_failure_child{};  ///< name; empty: it concerns the whole connection
  bool fails_while_up = false;       ///< traffic passes, and yet something is wrong
  std::chrono::seconds last_failure_age{};
  std::vector<ChildPlan> children{};  ///< in the order of the file
};
/// Somebody whom no connection expects.
struct StrangerStatus {
  Failure failure{};
  std::string detail;
  std::chrono::seconds age{};
};
struct MachineCounters {
  std::uint64_t half_open = 0, retransmits_sent = 0, retransmits_answered = 0, cookies_sent = 0;
  std::uint64_t invalid_messages = 0, authentication_failures = 0;
  /// RFC 7383. Discarded: replayed, not verified, of an older division, or not agreed upon.
  std::uint64_t fragments_sent = 0, fragments_received = 0, fragments_discarded = 0;
  std::map<Failure, std::uint64_t> authentication_failures_by_reason;  ///< the same, split
  /// [exchange - 34][0 initiated, 1 answered][0 ok, 1 failed]
  std::uint64_t exchanges[4][2][2] = {};
  std::uint64_t child_rekeys_ok = 0, child_rekeys_failed = 0;
  std::uint64_t ike_rekeys_ok = 0, ike_rekeys_failed = 0;
};

class Machine {
 public:
  static std::unique_ptr<Machine> create(const Environment& environment, const Tuning& tuning);
  virtual ~Machine() = default;

  /// Each call appends to `actions`, in the order in which they must be carried out.
  virtual void start(Instant now, std::vector<Action>& actions) = 0;  ///< start_action: start
  virtual void on_datagram(const wire::Endpoint& local, const wire::Endpoint& remote,
                           wire::Bytes message, Instant now, std::vector<Action>& actions) = 0;
  virtual void on_command(const Command& command, Instant now, std::vector<Action>& actions) = 0;
  /// Acquire, expiry, unknown SPI, peer moved, snapshots. Completions go to on_completion.
  virtual void on_event(const channel::Event& event, Instant now, std::vector<Action>& actions) = 0;
  virtual void on_completion(const channel::Completion& completion, Instant now,
                             std::vector<Action>& actions) = 0;
  /// Runs everything that is due at `now`.
  virtual void on_timer(Instant now, std::vector<Action>& actions) = 0;
  /// When on_timer wants to be called next; nullopt: no timer is set.
  [[nodiscard]] virtual std::optional<Instant> next_deadline() const = 0;

  /// The data plane holds these from before we started (a snapshot): SAs nobody controls yet. They
  /// keep passing traffic until the same child is established anew, then are deleted
  /// after old_sa_grace.
  virtual void adopt(const std::vector<channel::SnapshotSa>& sas,
                     const std::vector<channel::SnapshotPolicy>& policies, Instant now,
                     std::vector<Action>& actions) = 0;
  /// What changed since the last call, for the checkpoint (`all`: everything there is). It must be
  /// on record before the actions that came with it are carried out.
  virtual void take_records(bool all, Records& records) = 0;
  /// Instead of `adopt` and `start`, on a machine that was just made: goes on from the records of
  /// an earlier life. `held`: the inbound SPIs that are still ours (`spis_of`). Records that cannot
  /// be used are refused one by one; what the data plane holds beyond them is adopted.
  virtual ResumeReport resume(const Records& records, const std::vector<channel::SnapshotSa>& sas,
                              const std::vector<channel::SnapshotPolicy>& policies,
                              const std::set<channel::Spi>& held, Instant now,
                              std::vector<Action>& actions) = 0;
  /// The data plane restarted: its tables are empty. Every child is established anew.
  virtual void on_dataplane_lost(Instant now, std::vector<Action>& actions) = 0;
  /// A new configuration takes the place of the old one, which may go afterwards. Children keep
  /// their numbers: new ones come at the end, and only the last ones may be gone.
  virtual void reconfigure(const config::Config& config, const SecretSource& secrets, Instant now,
                           std::vector<Action>& actions) = 0;
  /// Authorities or revocation lists changed: IKE SAs whose peer would not be believed any more
  /// end.
  virtual void recheck_certificates(Instant now, std::vector<Action>& actions) = 0;
  /// What SignatureSource called `awaits` has come, or will not.
  virtual void on_status(std::string_view name, Instant now, std::vector<Action>& actions) = 0;
  /// Deletes all IKE SAs politely (SIGTERM with `terminate: true`); SAs in the data plane stay
  /// unless told otherwise.
  virtual void shut_down(Instant now, std::vector<Action>& actions) = 0;

  [[nodiscard]] virtual std::vector<IkeSaStatus> ike_sas(Instant now) const = 0;
  [[nodiscard]] virtual std::vector<ConnectionStatus> connections(Instant now) const = 0;
  /// The last one that was reported; strangers are reported once in a while.
  [[nodiscard]] virtual std::optional<StrangerStatus> last_stranger(Instant now) const = 0;
  [[nodiscard]] virtual MachineCounters counters() const = 0;
};

}  // namespace culvert::ike
