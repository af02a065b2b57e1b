// IKEv2 messages as values (RFC 7296 §3). Parsing and building know nothing of state.
// A parsed payload owns its bytes; nothing half-parsed leaves this room.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "wire/cursor.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::wire::ike {

inline constexpr std::size_t kHeaderBytes = 28;
inline constexpr std::size_t kGenericHeaderBytes = 4;
inline constexpr std::size_t kFragmentNumberBytes = 4;  ///< RFC 7383 §2.5: number and total

enum class ExchangeType : std::uint8_t {
  ike_sa_init = 34,
  ike_auth = 35,
  create_child_sa = 36,
  informational = 37,
};
enum class PayloadType : std::uint8_t {
  none = 0,
  security_association = 33,
  key_exchange = 34,
  id_initiator = 35,
  id_responder = 36,
  certificate = 37,
  certificate_request = 38,
  authentication = 39,
  nonce = 40,
  notify = 41,
  delete_ = 42,
  vendor_id = 43,
  ts_initiator = 44,
  ts_responder = 45,
  encrypted = 46,
  configuration = 47,
  eap = 48,
  encrypted_fragment = 53,
};
enum class Protocol : std::uint8_t { none = 0, ike = 1, ah = 2, esp = 3 };
enum class TransformType : std::uint8_t {
  encryption = 1,
  prf = 2,
  integrity = 3,
  key_exchange = 4,
  esn = 5,
};
/// Notify message types we name (RFC 7296 §3.10.1); others pass through as numbers.
enum class NotifyType : std::uint16_t {
  unsupported_critical_payload = 1,
  invalid_ike_spi = 4,
  invalid_major_version = 5,
  invalid_syntax = 7,
  invalid_message_id = 9,
  invalid_spi = 11,
  no_proposal_chosen = 14,
  invalid_ke_payload = 17,
  authentication_failed = 24,
  single_pair_required = 34,
  no_additional_sas = 35,
  internal_address_failure = 36,
  failed_cp_required = 37,
  ts_unacceptable = 38,
  invalid_selectors = 39,
  unacceptable_addresses = 40,   ///< RFC 4555 §4.3
  unexpected_nat_detected = 41,  ///< RFC 4555 §4.3
  temporary_failure = 43,
  child_sa_not_found = 44,
  initial_contact = 16384,
  set_window_size = 16385,
  additional_ts_possible = 16386,
  ipcomp_supported = 16387,
  nat_detection_source_ip = 16388,
  nat_detection_destination_ip = 16389,
  cookie = 16390,
  use_transport_mode = 16391,
  http_cert_lookup_supported = 16392,
  rekey_sa = 16393,
  esp_tfc_padding_not_supported = 16394,
  non_first_fragments_also = 16395,
  mobike_supported = 16396,
  additional_ip4_address = 16397,
  additional_ip6_address = 16398,
  no_additional_addresses = 16399,
  update_sa_addresses = 16400,
  cookie2 = 16401,
  no_nats_allowed = 16402,
  childless_ikev2_supported = 16418,  ///< RFC 6023
  ikev2_fragmentation_supported = 16430,
  signature_hash_algorithms = 16431,
  use_ppk = 16435,  ///< RFC 8784
  ppk_identity = 16436,
  no_ppk_auth = 16437,
};
/// Error notifies are below 16384 (RFC 7296 §3.10.1).
[[nodiscard]] constexpr bool is_error(NotifyType type) {
  return static_cast<std::uint16_t>(type) < 16384;
}
std::string to_string(NotifyType type);
std::string_view to_string(ExchangeType type);
std::string to_string(PayloadType type);

struct Header {
  std::uint64_t initiator_spi = 0;
  std::uint64_t responder_spi = 0;
  PayloadType next_payload = PayloadType::none;
  std::uint8_t major_version = 2, minor_version = 0;
  ExchangeType exchange = ExchangeType::ike_sa_init;  ///< may hold a number that is not named
  bool from_initiator = false;  ///< I flag: sender is the original initiator of the IKE SA
  bool response = false;        ///< R flag
  bool higher_version = false;  ///< V flag
  std::uint32_t message_id = 0;
  std::uint32_t length = 0;  ///< whole message, bytes
};

struct Transform {
  TransformType type{};
  std::uint16_t id = 0;
  std::optional<std::uint16_t> key_bits;  ///< attribute 14
  bool unknown_attribute = false;         ///< had one we do not know: never to be chosen
  friend bool operator==(const Transform&, const Transform&) = default;
};
struct SaProposal {
  std::uint8_t number = 1;
  Protocol protocol = Protocol::ike;
  std::vector<std::uint8_t> spi;  ///< bytes: IKE 0 or 8, ESP and AH 4
  std::vector<Transform> transforms;
  friend bool operator==(const SaProposal&, const SaProposal&) = default;
};

struct SecurityAssociation {
  std::vector<SaProposal> proposals;
  friend bool operator==(const SecurityAssociation&, const SecurityAssociation&) = default;
};
struct KeyExchange {
  std::uint16_t group = 0;
  std::vector<std::uint8_t> data;
  friend bool operator==(const KeyExchange&, const KeyExchange&) = default;
};
struct Identification {
  bool initiator = false;  ///< IDi or IDr
  std::uint8_t type = 0;
  std::vector<std::uint8_t> data;
  std::array<std::uint8_t, 3> reserved{};  ///< sent as zero; as received, because AUTH covers them
  /// The payload body that AUTH covers: type, three reserved bytes, data (RFC 7296 §2.15).
  [[nodiscard]] std::vector<std::uint8_t> body() const;
  friend bool operator==(const Identification&, const Identification&) = default;
};
struct Authentication {
  std::uint8_t method = 0;  ///< 2: shared key MIC
  std::vector<std::uint8_t> data;
  friend bool operator==(const Authentication&, const Authentication&) = default;
};
struct Nonce {
  std::vector<std::uint8_t> data;  ///< 16..256 bytes
  friend bool operator==(const Nonce&, const Nonce&) = default;
};
struct Notify {
  Protocol protocol = Protocol::none;
  NotifyType type{};
  std::vector<std::uint8_t> spi;
  std::vector<std::uint8_t> data;
  friend bool operator==(const Notify&, const Notify&) = default;
};
struct Delete {
  Protocol protocol = Protocol::esp;
  std::vector<std::uint32_t> spis;  ///< host order; empty for IKE
  friend bool operator==(const Delete&, const Delete&) = default;
};
struct VendorId {
  std::vector<std::uint8_t> data;
  friend bool operator==(const VendorId&, const VendorId&) = default;
};
struct TrafficSelectors {
  bool initiator = false;  ///< TSi or TSr
  std::vector<TrafficSelector> selectors;
  bool skipped_unknown = false;  ///< a selector type we do not know was left out
  friend bool operator==(const TrafficSelectors&, const TrafficSelectors&) = default;
};
/// RFC 7296 §3.6: encodings we name; others pass through as numbers.
enum class CertificateEncoding : std::uint8_t {
  x509_signature = 4,  ///< one DER certificate
  crl = 7,
  hash_and_url = 12,
  ocsp_content = 14,  ///< RFC 4806
};
struct Certificate {
  CertificateEncoding encoding{};
  std::vector<std::uint8_t> data;
  friend bool operator==(const Certificate&, const Certificate&) = default;
};
/// RFC 7296 §3.7: `authorities` are SHA-1 hashes of trust anchors' keys, 20 octets each, for
/// x509_signature; it may be empty.
struct CertificateRequest {
  CertificateEncoding encoding{};
  std::vector<std::uint8_t> authorities;
  friend bool operator==(const CertificateRequest&, const CertificateRequest&) = default;
};
/// CP, EAP: carried opaque.
struct Opaque {
  PayloadType type{};
  std::vector<std::uint8_t> data;
  friend bool operator==(const Opaque&, const Opaque&) = default;
};
/// A payload type we do not know (RFC 7296 §2.5).
struct Unknown {
  PayloadType type{};
  bool critical = false;
  std::vector<std::uint8_t> data;
  friend bool operator==(const Unknown&, const Unknown&) = default;
};
/// SK. The sealed part stays where it is; `header_bytes` of the message are its associated data.
struct Encrypted {
  PayloadType first_inner = PayloadType::none;
  std::size_t associated_bytes = 0;  ///< from the message's start up to and incl. the SK header
  std::vector<std::uint8_t> sealed;  ///< IV, ciphertext, ICV
  friend bool operator==(const Encrypted&, const Encrypted&) = default;
};
/// SKF: one fragment of what an SK payload would hold (RFC 7383 §2.5). `number` counts from 1 to
/// `total`.
struct EncryptedFragment {
  PayloadType first_inner = PayloadType::none;  ///< none in all but the first fragment
  std::uint16_t number = 1, total = 1;
  std::size_t associated_bytes = 0;  ///< up to and incl. the fragment numbers
  std::vector<std::uint8_t> sealed;  ///< IV, ciphertext, ICV
  friend bool operator==(const EncryptedFragment&, const EncryptedFragment&) = default;
};

using Payload = std::variant<SecurityAssociation, KeyExchange, Identification, Authentication,
                             Nonce, Notify, Delete, VendorId, TrafficSelectors, Certificate,
                             CertificateRequest, Opaque, Unknown, Encrypted, EncryptedFragment>;
[[nodiscard]] PayloadType type_of(const Payload& payload);

struct Message {
  Header header;
  std::vector<Payload> payloads;
};

/// A failed parse also says whether RFC 7296 wants a particular answer.
struct MessageError {
  ParseError error;
  std::optional<Header> header;                    ///< when the header itself was readable
  NotifyType notify = NotifyType::invalid_syntax;  ///< invalid_major_version, invalid_syntax, …
};

[[nodiscard]] Parsed<Header> parse_header(Bytes message);
/// A whole datagram (without non-ESP marker): header and the payloads in clear, SK as `Encrypted`.
[[nodiscard]] std::expected<Message, MessageError> parse_message(Bytes message);
/// The payload chain inside SK; an SK in it is refused. Views nothing: every payload owns its
/// bytes.
[[nodiscard]] Parsed<std::vector<Payload>> parse_payloads(PayloadType first, Bytes chain);

/// The encoded chain; `first` gets the type of its first payload. Must not hold Encrypted. Empty
/// when it would be longer than a datagram.
[[nodiscard]] std::vector<std::uint8_t> encode_payloads(const std::vector<Payload>& payloads,
                                                        PayloadType& first);
/// A whole message in clear (IKE_SA_INIT and unauthenticated errors); length and next payload are
/// filled in. Empty when it would be longer than a datagram.
[[nodiscard]] std::vector<std::uint8_t> encode_message(const Header& header,
                                                       const std::vector<Payload>& payloads);
/// Header plus the SK generic header for `sealed_bytes` of sealed data: what the protector covers.
/// The caller appends the sealed bytes.
[[nodiscard]] std::vector<std::uint8_t> encode_encrypted_prefix(const Header& header,
                                                                PayloadType first_inner,
                                                                std::size_t sealed_bytes);

/// The same for one fragment: header, SKF generic header, fragment numbers (RFC 7383 §2.5).
[[nodiscard]] std::vector<std::uint8_t> encode_fragment_prefix(const Header& header,
                                                               const EncryptedFragment& fragment,
                                                               std::size_t sealed_bytes);

/// An IKEv1 Informational that says INVALID-MAJOR-VERSION, to who sent a message with `request`'s
/// cookies (RFC 2408 §3.14).
[[nodiscard]] std::vector<std::uint8_t> encode_version_1_refusal(const Header& request,
                                                                 std::uint32_t message_id);

/// Which payloads may stand in which exchange, and how often (RFC 7296 §1.2-1.4, §1.3.x): a table.
/// The error names the payload and the rule. Unknown non-critical payloads, VendorId and unknown
/// notifies are always permitted.
struct PresenceError {
  PayloadType type{};
  std::string_view problem;  ///< "missing", "more often than allowed", "not allowed here"
};
[[nodiscard]] std::expected<void, PresenceError> check_presence(
    ExchangeType exchange, bool response, const std::vector<Payload>& payloads);

}  // namespace culvert::wire::ike
