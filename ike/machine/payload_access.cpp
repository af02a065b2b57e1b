// Small readings of payload lists, and values in the operator's words.
#include <algorithm>
#include <cstdio>

#include "crypto/ike/signature.hpp"
#include "crypto/pki/distinguished_name.hpp"
#include "ike/machine/core.hpp"

namespace culvert::ike {

using wire::ike::NotifyType;

const wire::ike::Notify* find_notify(const Payloads& payloads, NotifyType type) {
  for (const auto& payload : payloads) {
    const auto* notify = std::get_if<wire::ike::Notify>(&payload);
    if (notify != nullptr && notify->type == type) return notify;
  }
  return nullptr;
}

bool ends_ike_sa(const Payloads& payloads) {
  const bool deleted = std::ranges::any_of(payloads, [](const auto& payload) {
    const auto* request = std::get_if<wire::ike::Delete>(&payload);
    return request != nullptr && request->protocol == wire::ike::Protocol::ike;
  });
  return deleted || find_notify(payloads, NotifyType::authentication_failed) != nullptr;
}

const wire::ike::Notify* find_error(const Payloads& payloads) {
  for (const auto& payload : payloads) {
    const auto* notify = std::get_if<wire::ike::Notify>(&payload);
    if (notify != nullptr && wire::ike::is_error(notify->type)) return notify;
  }
  return nullptr;
}

const wire::ike::TrafficSelectors* find_selectors(const Payloads& payloads, bool initiator) {
  for (const auto& payload : payloads) {
    const auto* selectors = std::get_if<wire::ike::TrafficSelectors>(&payload);
    if (selectors != nullptr && selectors->initiator == initiator) return selectors;
  }
  return nullptr;
}

wire::ike::Notify make_notify(NotifyType type, Octets data) {
  return {wire::ike::Protocol::none, type, {}, std::move(data)};
}

config::Identity identity_of(const config::Peer& peer, const wire::IpAddress& address) {
  if (peer.id) return *peer.id;
  config::Identity identity;
  identity.type = address.is_v4() ? config::Identity::Type::ipv4 : config::Identity::Type::ipv6;
  identity.text = address.to_string();
  identity.encoded.assign(address.view().begin(), address.view().end());
  return identity;
}

wire::ike::Identification to_payload(const config::Identity& identity, bool initiator) {
  return {initiator, static_cast<std::uint8_t>(identity.type), identity.encoded, {}};
}

config::Identity identity_from(const wire::ike::Identification& id) {
  config::Identity identity;
  identity.type = static_cast<config::Identity::Type>(id.type);
  identity.encoded = id.data;
  const auto address_bytes = id.data.size();
  if (identity.type == config::Identity::Type::ipv4 && address_bytes == 4) {
    identity.text = wire::IpAddress::v4(wire::Bytes(id.data)).to_string();
  } else if (identity.type == config::Identity::Type::ipv6 && address_bytes == 16) {
    identity.text = wire::IpAddress::v6(wire::Bytes(id.data)).to_string();
  } else if (identity.type == config::Identity::Type::dn) {
    identity.text = crypto::pki::distinguished_name_text(id.data);
  } else if (identity.type == config::Identity::Type::key_id) {
    identity.text = "@#";
    for (const std::uint8_t octet : id.data) {
      char hex[3];
      std::snprintf(hex, sizeof(hex), "%02x", static_cast<unsigned>(octet));
      identity.text += hex;
    }
  } else {
    // Goes to logs and terminals: nothing unprintable.
    for (const std::uint8_t octet : id.data) {
      identity.text += octet >= 0x20 && octet < 0x7f ? static_cast<char>(octet) : '?';
    }
  }
  return identity;
}

bool requests_statuses(const Payloads& payloads) {
  return std::ranges::any_of(payloads, [](const wire::ike::Payload& payload) {
    const auto* request = std::get_if<wire::ike::CertificateRequest>(&payload);
    return request != nullptr && request->encoding == wire::ike::CertificateEncoding::ocsp_content;
  });
}

std::string identity_text(const config::Identity& identity) {
  switch (identity.type) {
    case config::Identity::Type::ipv4:
    case config::Identity::Type::ipv6:
      return identity.text + " (address)";
    case config::Identity::Type::fqdn:
      return identity.text + " (FQDN)";
    case config::Identity::Type::email:
      return identity.text + " (e-mail)";
    case config::Identity::Type::dn:
      return identity.text + " (distinguished name)";
    case config::Identity::Type::key_id:
      return identity.text + " (key-id)";
  }
  // The peer may send any type.
  return identity.text + " (type " + std::to_string(static_cast<unsigned>(identity.type)) + ")";
}

std::optional<std::vector<std::uint16_t>> signature_hashes_of(const Payloads& payloads) {
  const auto* notify = find_notify(payloads, NotifyType::signature_hash_algorithms);
  if (notify == nullptr) return std::nullopt;
  std::vector<std::uint16_t> hashes;
  wire::Reader reader(notify->data);
  while (const auto hash = reader.u16("hash algorithm")) hashes.push_back(*hash);
  return hashes;
}

std::string spi_text(std::uint64_t spi) {
  char text[19];
  std::snprintf(text, sizeof(text), "0x%016llx", static_cast<unsigned long long>(spi));
  return text;
}
std::string spi_text(channel::Spi spi) {
  char text[11];
  std::snprintf(text, sizeof(text), "0x%08x", static_cast<unsigned>(spi));
  return text;
}

Octets lower_of(crypto::Bytes a, crypto::Bytes b) {
  const crypto::Bytes lower = std::ranges::lexicographical_compare(a, b) ? a : b;
  return {lower.begin(), lower.end()};
}

std::optional<crypto::Group> demanded_group(const Payloads& payloads) {
  const auto* notify = find_notify(payloads, NotifyType::invalid_ke_payload);
  if (notify == nullptr) return std::nullopt;
  const auto group = wire::Reader(notify->data).u16("group");
  if (!group || crypto::find(crypto::Group{*group}) == nullptr) return std::nullopt;
  return crypto::Group{*group};
}

std::string demanded_group_text(const Payloads& payloads) {
  const auto* notify = find_notify(payloads, NotifyType::invalid_ke_payload);
  const auto number = notify == nullptr ? wire::Parsed<std::uint16_t>(std::uint16_t{0})
                                        : wire::Reader(notify->data).u16("group");
  const std::uint16_t id = number ? *number : std::uint16_t{0};
  const auto* row = crypto::find(crypto::Group{id});
  return "group " + std::to_string(id) +
         (row != nullptr ? " (" + std::string(row->name) + ")" : "");
}

std::string text_of(const std::vector<wire::TrafficSelector>& selectors) {
  return wire::to_string(selectors);
}

std::string terms_text(const config::Child& child) {
  return child.name + ": ours: " + describe(child.esp_proposals) + ", " +
         (child.mode == config::Mode::transport ? "transport" : "tunnel") + ", " +
         text_of(child.local_ts) +
         " === " + (child.remote_ts.empty() ? "the peer's address" : text_of(child.remote_ts));
}

Failure refused_proof(std::uint8_t our_method) {
  namespace auth_method = crypto::ike::auth_method;
  if (our_method == 0 || our_method == auth_method::kSharedKey) {
    return Failure::authentication_failed_remote;
  }
  return our_method == auth_method::kRsa ? Failure::signature_hash_mismatch
                                         : Failure::certificate_refused_remote;
}

Failure failure_of(NotifyType type, bool about_child) {
  switch (type) {
    case NotifyType::no_proposal_chosen:
      return about_child ? Failure::no_child_proposal_chosen : Failure::no_ike_proposal_chosen;
    case NotifyType::invalid_ke_payload:
      return Failure::invalid_ke_group;
    case NotifyType::authentication_failed:
      return Failure::authentication_failed_remote;
    case NotifyType::ts_unacceptable:
    case NotifyType::invalid_selectors:
      return Failure::traffic_selectors_unacceptable;
    case NotifyType::single_pair_required:
      return Failure::single_pair_required;
    case NotifyType::temporary_failure:
      return Failure::temporary_failure;
    case NotifyType::child_sa_not_found:
      return Failure::child_sa_not_found;
    case NotifyType::no_additional_sas:
    case NotifyType::internal_address_failure:
    case NotifyType::failed_cp_required:
      return Failure::no_additional_sas;
    case NotifyType::invalid_major_version:
      return Failure::unsupported_version;
    case NotifyType::unsupported_critical_payload:
      return Failure::unsupported_critical_payload;
    // NOLINTNEXTLINE: every other error is one of syntax to us
    case NotifyType::invalid_ike_spi:
    case NotifyType::invalid_syntax:
    case NotifyType::invalid_message_id:
    case NotifyType::invalid_spi:
    case NotifyType::initial_contact:
    case NotifyType::set_window_size:
    case NotifyType::additional_ts_possible:
    case NotifyType::ipcomp_supported:
    case NotifyType::nat_detection_source_ip:
    case NotifyType::nat_detection_destination_ip:
    case NotifyType::cookie:
    case NotifyType::use_transport_mode:
    case NotifyType::http_cert_lookup_supported:
    case NotifyType::rekey_sa:
    case NotifyType::esp_tfc_padding_not_supported:
    case NotifyType::non_first_fragments_also:
    case NotifyType::mobike_supported:
    case NotifyType::unacceptable_addresses:
    case NotifyType::unexpected_nat_detected:
    case NotifyType::additional_ip4_address:
    case NotifyType::additional_ip6_address:
    case NotifyType::no_additional_addresses:
    case NotifyType::update_sa_addresses:
    case NotifyType::cookie2:
    case NotifyType::no_nats_allowed:
    case NotifyType::childless_ikev2_supported:
    case NotifyType::ikev2_fragmentation_supported:
    case NotifyType::signature_hash_algorithms:
    case NotifyType::use_ppk:
    case NotifyType::ppk_identity:
    case NotifyType::no_ppk_auth:
      return Failure::invalid_syntax;
  }
  return Failure::invalid_syntax;
}

/// Configured, or where what we adopted says it was.
std::optional<wire::IpAddress> Core::address_of_peer(const config::Connection& connection) const {
  if (connection.remote.address) return connection.remote.address;
  for (const auto& [id, sa] : adopted_) {
    if (connection_index_.connection_of_child(sa.child_id) != &connection) continue;
    // Behind a NAT it cannot be reached on port 500.
    if (!sa.udp_encapsulation) return sa.remote.address;
  }
  return std::nullopt;
}

}  // namespace culvert::ike
