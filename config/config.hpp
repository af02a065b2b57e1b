// The gateway's configuration: YAML in, a typed, validated, immutable Config out.
// Every problem is a Diagnostic with file, line, column, what was found, what was expected and
// what to write instead.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/child_id.hpp"
#include "config/header_options.hpp"
#include "crypto/esp/engine_wish.hpp"
#include "crypto/pki/trust_store.hpp"
#include "crypto/secret.hpp"
#include "crypto/suite.hpp"
#include "wire/arp.hpp"
#include "wire/ip_address.hpp"
#include "wire/traffic_selector.hpp"
#include "wire/vlan.hpp"

namespace culvert::config {

/// A place in the configuration file, for messages that come later ("hq.yaml:14:5").
struct Location {
  std::uint32_t line = 0;    ///< 1-based
  std::uint32_t column = 0;  ///< 1-based
};

enum class IdleMode : std::uint8_t { busy, adaptive, interrupt };
enum class Mode : std::uint8_t { tunnel, transport };
enum class StartAction : std::uint8_t { none, trap, start };
enum class PolicyAction : std::uint8_t { bypass, discard };
enum class AuthMethod : std::uint8_t { psk, pubkey };
enum class Encapsulation : std::uint8_t {
  automatic,
  forced,
  never
};  ///< UDP 4500: auto | yes | no

/// IKE fragmentation (RFC 7383): yes | accept (take, never send) | no.
enum class Fragmentation : std::uint8_t { yes, accept, no };

/// MOBIKE (RFC 4555): accept (when the peer begins it) | yes (ask for it too) | no.
enum class Mobike : std::uint8_t { accept, yes, no };
/// IKE SAs without a first child (RFC 6023): allow (as responder) | prefer | force | never.
enum class Childless : std::uint8_t { allow, prefer, force, never };

struct Interface {
  std::string name;
  std::string device;  ///< PCI address or DPDK vdev string
  std::vector<wire::Prefix> addresses;
  std::uint16_t mtu = 1500;  ///< bytes of IP packet
  wire::vlan::Ids vlan;      ///< the tags its frames have; none: untagged
  Location location;
};
struct Route {
  wire::Prefix to;
  wire::IpAddress via;
  Location location;
  std::optional<std::string> interface = {};  ///< where `via` is; nullopt: `interface_of` knows
};
/// Whose MAC is written down: never asked for, never believed otherwise.
struct StaticNeighbor {
  std::string interface;
  wire::IpAddress address;
  wire::MacAddress mac{};
  Location location;
  std::size_t entry = 0;  ///< under neighbors, for messages
};
struct Limits {
  std::uint32_t sas = 65536;  ///< inbound + outbound slots each
  std::uint32_t policies = 16384;
  std::uint32_t flows = 65536;  ///< that a worker remembers, of each family
};
struct Dataplane {
  std::uint32_t workers = 1;
  std::vector<std::uint32_t> cores;  ///< pinned worker cores; empty: workers float
  std::vector<Interface> interfaces;
  std::vector<Route> routes;
  std::vector<StaticNeighbor> neighbors;
  Limits limits;
  IdleMode idle = IdleMode::adaptive;
  crypto::esp::EngineWish engine = crypto::esp::EngineWish::automatic;  ///< `crypto`
  std::optional<std::uint32_t> memory_mib;  ///< EAL memory; default: chosen from limits
  bool huge_pages_required = false;         ///< default: use them if there, go on without
};
struct Policy {
  PolicyAction action = PolicyAction::discard;
  wire::TrafficSelector source;
  wire::TrafficSelector destination;
  Location location;
};

/// An identity (RFC 7296 §3.5). `text` is as written, `encoded` the ID payload's data.
struct Identity {
  enum class Type : std::uint8_t { ipv4 = 1, fqdn = 2, email = 3, ipv6 = 5, dn = 9, key_id = 11 };
  Type type = Type::fqdn;
  std::string text;
  std::vector<std::uint8_t> encoded;
  /// The same type and octets; distinguished names compare by RFC 5280 §7.1.
  friend bool operator==(const Identity& a, const Identity& b);
};
/// Whether it is one of `pattern`: "*.example.org" names below that domain, "*@example.org" e-mail
/// addresses there, "%any" every identity.
[[nodiscard]] bool is_identity_of(std::string_view pattern, const Identity& identity);
[[nodiscard]] bool is_identity_pattern(std::string_view text);
/// "hq.example.org" FQDN, "ops@example.org" e-mail, "10.0.0.1" / "2001:db8::1" address,
/// "CN=hq, O=Example" distinguished name, "@#cafe01" key-id in hex.
std::optional<Identity> parse_identity(std::string_view text);

struct Peer {
  std::optional<wire::IpAddress> address;  ///< nullopt: %any (remote), or chosen by route (local)
  std::optional<Identity> id;              ///< nullopt: `id_pattern`, or else the address
  std::string id_pattern;                  ///< remote only: any identity of it (is_identity_of)
  AuthMethod auth = AuthMethod::psk;
  std::string certificate;  ///< path, ours only: our certificate, then intermediates
};
struct Child {
  std::string name;
  Mode mode = Mode::tunnel;
  std::vector<wire::TrafficSelector> local_ts;
  std::vector<wire::TrafficSelector> remote_ts;
  std::vector<crypto::Proposal> esp_proposals;
  StartAction start_action = StartAction::trap;
  std::chrono::seconds rekey_time{3600};  ///< 0: never
  std::chrono::seconds life_time{3960};   ///< hard; default rekey_time + 10 %
  std::uint64_t rekey_bytes = 0;          ///< 0: never
  std::uint64_t life_bytes = 0;
  std::uint64_t rekey_packets = 0;
  std::uint64_t life_packets = 0;
  bool rehearse_rekey = true;  ///< the first rekey of a child made in IKE_AUTH comes within seconds
  std::uint32_t replay_window = 1024;  ///< packets; 32..65536, power of two; 0 only for manual SAs
  HeaderOptions headers;
  ChildId id{};  ///< of the names; policy order is the order of the file
  Location location;
};
struct Connection {
  std::string name;
  Peer local;
  Peer remote;
  std::vector<crypto::Proposal> proposals;
  std::chrono::seconds rekey_time{14400};  ///< of the IKE SA; 0: never
  std::chrono::seconds dpd_delay{30};      ///< 0: no liveness checks
  Encapsulation encapsulation = Encapsulation::automatic;
  Fragmentation fragmentation = Fragmentation::yes;
  /// Bytes of the IP packet that an IKE message may fill before it is sent in fragments.
  std::uint32_t fragment_size = 1280;
  Mobike mobike = Mobike::accept;
  Childless childless = Childless::allow;
  /// From authentication to the next one, made before the old IKE SA goes; 0: never.
  std::chrono::seconds reauth_time{0};
  std::string ppk_id;         ///< of `post_quantum_keys`; empty: none (RFC 8784)
  bool ppk_required = false;  ///< no IKE SA without it
  std::vector<Child> children;
  Location location;
};
/// One direction of a manually keyed SA (RFC 4301 §4.5.1).
struct ManualSa {
  enum class Direction : std::uint8_t { in, out };
  std::string name;  ///< child name it is shown under
  Direction direction = Direction::out;
  std::uint32_t spi = 0;  ///< inbound: any ≥ 256; kept exactly
  Mode mode = Mode::tunnel;
  wire::IpAddress local;  ///< outer addresses
  wire::IpAddress remote;
  std::vector<wire::TrafficSelector> local_ts;
  std::vector<wire::TrafficSelector> remote_ts;
  crypto::EspSuite suite;
  std::string key_file;  ///< path as psk_file; hex: cipher key ‖ salt (‖ integrity key)
  bool esn = false;
  std::uint32_t replay_window = 1024;  ///< 0: no replay check
  std::uint64_t first_sequence = 1;    ///< out: sent first; in: expected first
  HeaderOptions headers;
  std::optional<std::uint16_t> udp_encap_local_port;  ///< 4500 when `encap: udp`
  std::optional<std::uint16_t> udp_encap_remote_port;
  ChildId id{};  ///< of the name: both directions have the same
  Location location;
};
struct Secret {
  std::vector<Identity> ids;  ///< empty: any peer
  std::string psk_file;       ///< path, the configuration's folder put before a relative one
  Location location;
  std::size_t entry = 0;  ///< under secrets, for messages
};
/// A post-quantum pre-shared key (RFC 8784), beside whatever authenticates.
struct PostQuantumKey {
  std::string id;         ///< PPK_ID, the same on both sides
  std::string file;       ///< as a psk_file
  std::size_t entry = 0;  ///< under secrets, for messages
  Location location;
};
struct PrivateKeyFile {
  std::string file;             ///< PEM; PKCS#8 may be encrypted
  std::string passphrase_file;  ///< empty: the key is not encrypted
  Location location;
};
/// Where the status of a peer's certificate comes from (RFC 6960).
enum class Ocsp : std::uint8_t {
  off,
  in_band,  ///< the peer is asked to send it along (RFC 4806)
  fetch,    ///< that, and its responder is asked
};
/// An entry of pki.crls that is fetched instead of read from a file.
[[nodiscard]] constexpr bool is_url(std::string_view entry) {
  return entry.find("://") != std::string_view::npos;
}
struct Pki {
  std::vector<std::string> authorities;    ///< whom we trust
  std::vector<std::string> intermediates;  ///< help to find a path to an authority
  std::vector<PrivateKeyFile> private_keys;
  std::vector<std::string> crls;  ///< files and URLs
  crypto::pki::RevocationPolicy revocation = crypto::pki::RevocationPolicy::if_available;
  bool check_extended_key_usage = true;  ///< RFC 4945 §5.1.3.12
  Ocsp ocsp = Ocsp::off;
  std::string ocsp_responder;  ///< URL; empty: the one that the certificate names
  /// That a list or a status counts beyond its next update.
  std::chrono::seconds revocation_grace{0};

  /// Whether something is to be fetched over HTTP.
  [[nodiscard]] bool fetches() const {
    return revocation != crypto::pki::RevocationPolicy::off &&
           (ocsp == Ocsp::fetch || std::ranges::any_of(crls, is_url));
  }
};
struct Metrics {
  std::optional<wire::Endpoint> listen;  ///< data plane; default 127.0.0.1:9464, off: `listen: off`
  std::optional<wire::Endpoint> ike_listen;  ///< key daemon; default: listen's port + 1
};

/// How well a secret with these ids fits a pair: 4 names both, 3 the peer alone, 2 us alone, 1
/// nobody (any pair), 0: it is not for this pair. A secret that names a pair is for no other: half
/// a match would pass the check and then fail the peer's authentication.
[[nodiscard]] int secret_rank(const std::vector<Identity>& ids, const Identity& local,
                              const Identity& remote);

struct Config {
  std::string file;  ///< as given, for messages
  std::string instance = "default";
  std::string user = "culvert";  ///< service user: culvert-ike runs as it, /run files belong to it
  Dataplane dataplane;
  std::vector<Policy> policies;
  PolicyAction default_policy = PolicyAction::discard;
  std::vector<Connection> connections;
  std::vector<ManualSa> manual_sas;
  std::vector<Secret> secrets;
  std::vector<PostQuantumKey> post_quantum_keys;
  Pki pki;
  Metrics metrics;

  [[nodiscard]] const Connection* find_connection(std::string_view name) const;
  /// The secret for a pair of identities by `secret_rank`, the first of equals; nullptr: none.
  [[nodiscard]] const Secret* find_secret(const Identity& local, const Identity& remote) const;
};

enum class Severity : std::uint8_t { warning, error };
struct Diagnostic {
  Severity severity = Severity::error;
  std::string file;
  Location location;
  std::string path;      ///< "connections[0].children[1].mode"
  std::string found;     ///< what stands there
  std::string expected;  ///< what may stand there
  std::string advice;    ///< what to write instead
  /// "hq.yaml:14:5: error: connections[0].children[1].mode: found "tunel", expected tunnel or
  /// transport; write "tunnel""
  [[nodiscard]] std::string to_string() const;
};

/// A daemon starts, or reloads, with what a check refuses although only one tunnel suffers: a
/// certificate of ours that has expired must not take the others down at a reboot.
enum class Purpose : std::uint8_t { check, run };
/// A configuration or the reasons why there is none. `config` is set only without errors.
struct LoadResult {
  std::optional<Config> config;
  std::vector<Diagnostic> diagnostics;  ///< in file order
  [[nodiscard]] bool ok() const { return config.has_value(); }
  /// For who has room for one sentence: "the file has errors: FILE:LINE:COLUMN: …". Empty when ok.
  [[nodiscard]] std::string why_not() const;
};

/// Reads, types and validates. Checks that touch other files (secrets, certificates: existence,
/// permissions) are made relative to the file's folder. Never throws.
LoadResult load_file(const std::filesystem::path& file, Purpose purpose = Purpose::check);
/// The same from memory; `check_files` off leaves other files alone (fuzzing, editors).
LoadResult load_text(std::string_view text, std::string_view file_name, bool check_files = false,
                     Purpose purpose = Purpose::check);

/// Reads a PSK file: text (one trailing newline cut), "0x…" hex or "0s…" base64. The error is a
/// sentence.
std::expected<crypto::SecretBytes, std::string> read_psk(const std::filesystem::path& file);
/// Reads a manual SA's key file (hex).
std::expected<crypto::SecretBytes, std::string> read_key(const std::filesystem::path& file);

/// /run/culvert/<instance>, or $CULVERT_RUN_DIR/<instance>.
std::filesystem::path run_directory(std::string_view instance);

}  // namespace culvert::config
