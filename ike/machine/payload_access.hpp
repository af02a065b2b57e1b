// Small readings of payload lists, and values in the operator's words.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "ike/machine/failure.hpp"
#include "ike/machine/keys.hpp"
#include "wire/ike/message.hpp"

namespace culvert::ike {

using Payloads = std::vector<wire::ike::Payload>;

/// RFC 7296 §2.10: at least half the key of the PRF and 16 octets; 32 suits every PRF we have.
inline constexpr std::size_t kNonceBytes = 32;

/// The first payload of a type; nullptr when there is none.
template <typename T>
[[nodiscard]] const T* find_payload(const Payloads& payloads) {
  for (const auto& payload : payloads) {
    if (const T* found = std::get_if<T>(&payload)) return found;
  }
  return nullptr;
}
[[nodiscard]] const wire::ike::Notify* find_notify(const Payloads& payloads,
                                                   wire::ike::NotifyType type);
[[nodiscard]] const wire::ike::Notify* find_error(const Payloads& payloads);
/// Of a request: a Delete of the IKE SA (RFC 7296 §1.4.1), or the initiator does not believe us
/// (§2.21.2).
[[nodiscard]] bool ends_ike_sa(const Payloads& payloads);
[[nodiscard]] const wire::ike::TrafficSelectors* find_selectors(const Payloads& payloads,
                                                                bool initiator);
[[nodiscard]] wire::ike::Notify make_notify(wire::ike::NotifyType type, Octets data = {});
[[nodiscard]] config::Identity identity_of(const config::Peer& peer,
                                           const wire::IpAddress& address);
[[nodiscard]] wire::ike::Identification to_payload(const config::Identity& identity,
                                                   bool initiator);
/// The peer's SIGNATURE_HASH_ALGORITHMS (RFC 7427 §4); nullopt: there are none.
[[nodiscard]] std::optional<std::vector<std::uint16_t>> signature_hashes_of(
    const Payloads& payloads);
/// RFC 4806 §3.1: the peer asks for the status of our certificates.
[[nodiscard]] bool requests_statuses(const Payloads& payloads);
/// With its type: an FQDN and a key-id may look alike.
[[nodiscard]] std::string identity_text(const config::Identity& identity);
/// The identity of a payload, readable.
[[nodiscard]] config::Identity identity_from(const wire::ike::Identification& id);
[[nodiscard]] std::string spi_text(std::uint64_t spi);
[[nodiscard]] std::string spi_text(channel::Spi spi);
/// RFC 7296 §2.8.1: nonces compare octet by octet.
[[nodiscard]] Octets lower_of(crypto::Bytes a, crypto::Bytes b);
/// The group of an INVALID_KE_PAYLOAD notify.
[[nodiscard]] std::optional<crypto::Group> demanded_group(const Payloads& payloads);
/// The same in words, also of a group that we do not know.
[[nodiscard]] std::string demanded_group_text(const Payloads& payloads);
[[nodiscard]] std::string text_of(const std::vector<wire::TrafficSelector>& selectors);
/// All that a child is configured to have: "office: ours: aes256gcm16, tunnel, … === …"
[[nodiscard]] std::string terms_text(const config::Child& child);
/// What a peer's error notify means for our operator.
[[nodiscard]] Failure failure_of(wire::ike::NotifyType type, bool about_child);
/// The same of AUTHENTICATION_FAILED: what there is to compare goes by the method of our AUTH.
[[nodiscard]] Failure refused_proof(std::uint8_t our_method);

}  // namespace culvert::ike
