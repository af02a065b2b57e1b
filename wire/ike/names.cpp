// Names of exchanges, payloads and notifies, as RFC 7296 spells them; for logs.
#include <algorithm>
#include <array>
#include <utility>

#include "wire/ike/message.hpp"

namespace culvert::wire::ike {
namespace {

constexpr std::array kNotifyNames = std::to_array<std::pair<NotifyType, std::string_view>>({
    {NotifyType::unsupported_critical_payload, "UNSUPPORTED_CRITICAL_PAYLOAD"},
    {NotifyType::invalid_ike_spi, "INVALID_IKE_SPI"},
    {NotifyType::invalid_major_version, "INVALID_MAJOR_VERSION"},
    {NotifyType::invalid_syntax, "INVALID_SYNTAX"},
    {NotifyType::invalid_message_id, "INVALID_MESSAGE_ID"},
    {NotifyType::invalid_spi, "INVALID_SPI"},
    {NotifyType::no_proposal_chosen, "NO_PROPOSAL_CHOSEN"},
    {NotifyType::invalid_ke_payload, "INVALID_KE_PAYLOAD"},
    {NotifyType::authentication_failed, "AUTHENTICATION_FAILED"},
    {NotifyType::single_pair_required, "SINGLE_PAIR_REQUIRED"},
    {NotifyType::no_additional_sas, "NO_ADDITIONAL_SAS"},
    {NotifyType::internal_address_failure, "INTERNAL_ADDRESS_FAILURE"},
    {NotifyType::failed_cp_required, "FAILED_CP_REQUIRED"},
    {NotifyType::ts_unacceptable, "TS_UNACCEPTABLE"},
    {NotifyType::invalid_selectors, "INVALID_SELECTORS"},
    {NotifyType::unacceptable_addresses, "UNACCEPTABLE_ADDRESSES"},
    {NotifyType::unexpected_nat_detected, "UNEXPECTED_NAT_DETECTED"},
    {NotifyType::temporary_failure, "TEMPORARY_FAILURE"},
    {NotifyType::child_sa_not_found, "CHILD_SA_NOT_FOUND"},
    {NotifyType::initial_contact, "INITIAL_CONTACT"},
    {NotifyType::set_window_size, "SET_WINDOW_SIZE"},
    {NotifyType::additional_ts_possible, "ADDITIONAL_TS_POSSIBLE"},
    {NotifyType::ipcomp_supported, "IPCOMP_SUPPORTED"},
    {NotifyType::nat_detection_source_ip, "NAT_DETECTION_SOURCE_IP"},
    {NotifyType::nat_detection_destination_ip, "NAT_DETECTION_DESTINATION_IP"},
    {NotifyType::cookie, "COOKIE"},
    {NotifyType::use_transport_mode, "USE_TRANSPORT_MODE"},
    {NotifyType::http_cert_lookup_supported, "HTTP_CERT_LOOKUP_SUPPORTED"},
    {NotifyType::rekey_sa, "REKEY_SA"},
    {NotifyType::esp_tfc_padding_not_supported, "ESP_TFC_PADDING_NOT_SUPPORTED"},
    {NotifyType::non_first_fragments_also, "NON_FIRST_FRAGMENTS_ALSO"},
    {NotifyType::mobike_supported, "MOBIKE_SUPPORTED"},
    {NotifyType::additional_ip4_address, "ADDITIONAL_IP4_ADDRESS"},
    {NotifyType::additional_ip6_address, "ADDITIONAL_IP6_ADDRESS"},
    {NotifyType::no_additional_addresses, "NO_ADDITIONAL_ADDRESSES"},
    {NotifyType::update_sa_addresses, "UPDATE_SA_ADDRESSES"},
    {NotifyType::cookie2, "COOKIE2"},
    {NotifyType::no_nats_allowed, "NO_NATS_ALLOWED"},
    {NotifyType::childless_ikev2_supported, "CHILDLESS_IKEV2_SUPPORTED"},
    {NotifyType::ikev2_fragmentation_supported, "IKEV2_FRAGMENTATION_SUPPORTED"},
    {NotifyType::signature_hash_algorithms, "SIGNATURE_HASH_ALGORITHMS"},
    {NotifyType::use_ppk, "USE_PPK"},
    {NotifyType::ppk_identity, "PPK_IDENTITY"},
    {NotifyType::no_ppk_auth, "NO_PPK_AUTH"},
});

constexpr std::array kPayloadNames = std::to_array<std::pair<PayloadType, std::string_view>>({
    {PayloadType::none, "none"},
    {PayloadType::security_association, "SA"},
    {PayloadType::key_exchange, "KE"},
    {PayloadType::id_initiator, "IDi"},
    {PayloadType::id_responder, "IDr"},
    {PayloadType::certificate, "CERT"},
    {PayloadType::certificate_request, "CERTREQ"},
    {PayloadType::authentication, "AUTH"},
    {PayloadType::nonce, "Nonce"},
    {PayloadType::notify, "N"},
    {PayloadType::delete_, "D"},
    {PayloadType::vendor_id, "V"},
    {PayloadType::ts_initiator, "TSi"},
    {PayloadType::ts_responder, "TSr"},
    {PayloadType::encrypted, "SK"},
    {PayloadType::configuration, "CP"},
    {PayloadType::eap, "EAP"},
    {PayloadType::encrypted_fragment, "SKF"},
});

template <typename Table, typename Key>
std::string name_or_number(const Table& table, Key key) {
  const auto row = std::ranges::find(table, key, [](const auto& entry) { return entry.first; });
  if (row != table.end()) return std::string(row->second);
  return std::to_string(static_cast<unsigned>(std::to_underlying(key)));
}

}  // namespace

std::string to_string(NotifyType type) { return name_or_number(kNotifyNames, type); }

std::string to_string(PayloadType type) { return name_or_number(kPayloadNames, type); }

std::string_view to_string(ExchangeType type) {
  switch (type) {
    case ExchangeType::ike_sa_init:
      return "IKE_SA_INIT";
    case ExchangeType::ike_auth:
      return "IKE_AUTH";
    case ExchangeType::create_child_sa:
      return "CREATE_CHILD_SA";
    case ExchangeType::informational:
      return "INFORMATIONAL";
  }
  return "unknown exchange";
}

}  // namespace culvert::wire::ike
