// Why a negotiation failed, or did not end as configured: one enum, one table. Logs, the
// command and docs read it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace culvert::ike {

enum class Failure : std::uint8_t {
  peer_unreachable,  ///< retransmissions exhausted
  no_ike_proposal_chosen,
  no_child_proposal_chosen,
  invalid_ke_group,
  unknown_peer_address,  ///< a message from an address no connection expects
  no_shared_secret,
  authentication_failed_local,   ///< the peer's AUTH does not verify, by a shared key
  authentication_failed_remote,  ///< the peer says ours does not, by a shared key
  identity_mismatch,
  traffic_selectors_unacceptable,
  single_pair_required,  ///< and no packet says which pair
  mode_mismatch,         ///< transport / tunnel
  invalid_syntax,
  unsupported_critical_payload,
  unsupported_version,
  temporary_failure,
  child_sa_not_found,
  no_additional_sas,
  dataplane_refused,  ///< the data plane could not install an SA or a policy
  no_spi_available,
  no_local_address,
  peer_deleted,
  peer_vanished,  ///< liveness checks unanswered
  lifetime_expired,
  auth_method_mismatch,   ///< one side wants a pre-shared key, the other a signature
  certificate_missing,    ///< the peer sent none, or we have none to send
  certificate_untrusted,  ///< no path to an authority of ours
  certificate_not_valid,  ///< expired or not valid yet
  certificate_revoked,
  revocation_unknown,      ///< policy strict, and nothing says whether it is revoked
  certificate_unsuitable,  ///< key, usage, constraints
  identity_not_certified,  ///< the identity stands nowhere in the certificate
  signature_invalid,
  signature_failed,            ///< we could not sign
  pfs_mismatch,                ///< a child's own key exchange, which IKE_AUTH cannot show
  nat_traversal_mismatch,      ///< one side does without what the path or the other side needs
  no_auth_request,             ///< IKE_SA_INIT was answered, and nothing followed
  selectors_narrowed,          ///< up, with less than configured
  post_quantum_mismatch,       ///< a PPK that only one side has, and somebody requires
  ocsp_response_unusable,      ///< policy strict, and what OCSP says does not count
  revocation_unreachable,      ///< policy strict, and neither list nor responder was reached
  certificate_refused_remote,  ///< the peer says our AUTH does not verify, by a certificate
  signature_hash_mismatch,     ///< RSA without RFC 7427: SHA-1 on one side, SHA-2 on the other
};

struct FailureInfo {
  Failure failure;
  std::string_view name;           ///< snake_case, stable
  std::string_view rfc;            ///< "RFC 7296 §2.7"
  std::string_view meaning;        ///< one sentence in the operator's words
  std::string_view remedy;         ///< what to do
  bool is_authentication = false;  ///< somebody did not prove who he is, or we to him
};
const FailureInfo& info(Failure failure);
std::span<const FailureInfo> all_failures();

}  // namespace culvert::ike
