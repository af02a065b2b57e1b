// The table of negotiation failures; everything that names one reads it from here.
#include "ike/machine/failure.hpp"

#include <array>
#include <cassert>

namespace culvert::ike {
namespace {

using enum Failure;

constexpr bool kAuthentication = true;  // of FailureInfo

constexpr std::array kFailures = std::to_array<FailureInfo>({
    {peer_unreachable, "peer_unreachable", "RFC 7296 §2.1",
     "The peer did not answer any of the retransmissions.",
     "Check that UDP 500 and 4500 reach the peer and that its key daemon runs."},
    {no_ike_proposal_chosen, "no_ike_proposal_chosen", "RFC 7296 §3.3.6",
     "No IKE proposal is acceptable to both sides.",
     "Give connections[].proposals one proposal that the peer has too."},
    {no_child_proposal_chosen, "no_child_proposal_chosen", "RFC 7296 §3.3.6",
     "No ESP proposal is acceptable to both sides.",
     "Compare esp_proposals, including the key exchange group (PFS), with the peer's."},
    {invalid_ke_group, "invalid_ke_group", "RFC 7296 §1.2",
     "The peer insists on a key exchange group that we do not offer.",
     "Add the group that the peer names to the proposal."},
    {unknown_peer_address, "unknown_peer_address", "RFC 7296 §2.6",
     "A peer wrote from an address that no connection expects.",
     "Set remote.address of the connection to it, or leave remote.address away."},
    {no_shared_secret, "no_shared_secret", "RFC 7296 §2.15",
     "There is no pre-shared key for the two identities.",
     "Add an entry with both ids under secrets.", kAuthentication},
    {authentication_failed_local, "authentication_failed_local", "RFC 7296 §2.15",
     "The peer's proof does not verify with our pre-shared key.",
     "Compare the pre-shared key on both sides.", kAuthentication},
    {authentication_failed_remote, "authentication_failed_remote", "RFC 7296 §2.21.2",
     "The peer refused our pre-shared key or our identity.",
     "Compare the pre-shared key and the identities on both sides, and see that the peer expects a "
     "key of us, not a certificate; its log says which.",
     kAuthentication},
    {identity_mismatch, "identity_mismatch", "RFC 7296 §3.5",
     "The peer presents an identity that the connection does not expect.",
     "Set remote.id to what the peer presents, or correct the peer's id.", kAuthentication},
    {traffic_selectors_unacceptable, "traffic_selectors_unacceptable", "RFC 7296 §2.9",
     "The traffic selectors of both sides have nothing in common.",
     "Our local_ts must meet the peer's remote_ts, and the other way round."},
    {single_pair_required, "single_pair_required", "RFC 7296 §2.9",
     "The peer takes one pair of addresses for each child SA.",
     "Set start_action: trap for this child; each pair is then asked for by its first packet."},
    {mode_mismatch, "mode_mismatch", "RFC 7296 §1.3.1",
     "One side wants transport mode and the other tunnel mode.",
     "Set the same mode on both sides."},
    {invalid_syntax, "invalid_syntax", "RFC 7296 §2.21", "A message breaks the protocol's rules.",
     "Capture the exchange; one implementation has a fault."},
    {unsupported_critical_payload, "unsupported_critical_payload", "RFC 7296 §2.5",
     "A payload marked critical is not known to the receiver.",
     "Turn the extension off on the side that sends it."},
    {unsupported_version, "unsupported_version", "RFC 7296 §2.5",
     "The peer speaks another major version of IKE.", "Configure the peer for IKEv2."},
    {temporary_failure, "temporary_failure", "RFC 7296 §2.25",
     "The peer is busy with a conflicting exchange.", "Nothing: it is tried again by itself."},
    {child_sa_not_found, "child_sa_not_found", "RFC 7296 §2.25",
     "The peer does not have the child SA that we want to rekey.",
     "Nothing: the child is established anew."},
    {no_additional_sas, "no_additional_sas", "RFC 7296 §1.3",
     "One side accepts no more child SAs, or no more pairs of selectors, on this IKE SA.",
     "Look at the limits of the side that the detail names, or put the children into connections "
     "of "
     "their own."},
    {dataplane_refused, "dataplane_refused", "RFC 4301 §4.4.2",
     "The data plane could not install the SA or its policy.",
     "Read the outcome in the detail: limits, routes or the suite; invalid_field: its "
     "configuration is another one, reload it; over_budget: policy_refused in its log says why."},
    {no_spi_available, "no_spi_available", "RFC 4303 §2.1",
     "There is no inbound SPI left to give to the peer.", "Raise dataplane.limits.sas."},
    {no_local_address, "no_local_address", "RFC 7296 §2.11",
     "No local address is known from which to reach the peer.",
     "Set local.address, or add a route to the peer."},
    {peer_deleted, "peer_deleted", "RFC 7296 §1.4.1", "The peer deleted the SA.",
     "Look at the peer's log if it was not meant to."},
    {peer_vanished, "peer_vanished", "RFC 7296 §2.4",
     "The peer no longer answers on an established IKE SA.",
     "Check the path and the peer's key daemon."},
    {lifetime_expired, "lifetime_expired", "RFC 7296 §2.8",
     "The SA reached its hard lifetime before it was replaced.",
     "Look for failed rekeys before it."},
    {auth_method_mismatch, "auth_method_mismatch", "RFC 7296 §2.15",
     "One side authenticates with a pre-shared key where the other expects a certificate.",
     "Set remote.auth to what the peer uses, or change the peer's auth.", kAuthentication},
    {certificate_missing, "certificate_missing", "RFC 7296 §3.6",
     "A side that signs sent no certificate.",
     "Let the peer send its certificate (strongSwan: send_cert = always), with the intermediates.",
     kAuthentication},
    {certificate_untrusted, "certificate_untrusted", "RFC 5280 §6.1",
     "No path leads from the peer's certificate to one of our authorities.",
     "Add the peer's authority to pki.authorities and missing intermediates to pki.intermediates, "
     "or have the peer's certificate issued by an authority of ours.",
     kAuthentication},
    {certificate_not_valid, "certificate_not_valid", "RFC 5280 §4.1.2.5",
     "A certificate of the peer's path has expired or is not valid yet.",
     "Renew the certificate; if it should be valid, compare the clocks.", kAuthentication},
    {certificate_revoked, "certificate_revoked", "RFC 5280 §6.3",
     "The peer's certificate or one of its issuers was revoked.",
     "Have a new certificate issued for the peer.", kAuthentication},
    {revocation_unknown, "revocation_unknown", "RFC 5280 §6.3",
     "Whether the peer's certificate is revoked cannot be known, and the policy is strict.",
     "Add a current revocation list of the issuer to pki.crls, set pki.ocsp: fetch, or set "
     "pki.revocation: if-available.",
     kAuthentication},
    {certificate_unsuitable, "certificate_unsuitable", "RFC 4945 §5.1.3",
     "The peer's certificate is not fit to authenticate IKE.",
     "Issue it anew without the property that the detail names.", kAuthentication},
    {identity_not_certified, "identity_not_certified", "RFC 4945 §3.1",
     "The peer's certificate does not contain the identity that it presents.",
     "Set the peer's id to a name in its certificate, or issue it with that subjectAltName.",
     kAuthentication},
    {signature_invalid, "signature_invalid", "RFC 7427 §3",
     "The peer's signature does not verify with its certificate.",
     "Check that the peer signs with the key of the certificate it sends.", kAuthentication},
    {signature_failed, "signature_failed", "RFC 7427 §4", "We could not sign our proof.",
     "Give the connection a certificate whose key the peer can verify; the detail says why.",
     kAuthentication},
    {pfs_mismatch, "pfs_mismatch", "RFC 7296 §1.3.3",
     "The sides do not agree on a key exchange for each child (PFS), which IKE_AUTH cannot show: "
     "rekeying fails.",
     "Give esp_proposals the same group on both sides, or none on either."},
    {nat_traversal_mismatch, "nat_traversal_mismatch", "RFC 7296 §2.23",
     "ESP in UDP is wanted on one side, or needed for a NAT on the way, and the other does "
     "without.",
     "Set encap: auto on the side that has it turned off, or let the peer do NAT traversal."},
    {no_auth_request, "no_auth_request", "RFC 7296 §1.2",
     "The peer began a negotiation and never authenticated.",
     "Let UDP 4500 and large datagrams pass between both, and read the peer's log: it may refuse "
     "our answer."},
    {selectors_narrowed, "selectors_narrowed", "RFC 7296 §2.9",
     "The child is up for fewer addresses, protocols or ports than configured.",
     "If the rest is to pass too, give both sides the same selectors."},
    {post_quantum_mismatch, "post_quantum_mismatch", "RFC 8784 §3",
     "A post-quantum pre-shared key is required, and the sides do not have the same.",
     "Give both sides the same ppk_id and key, or set ppk_required: no.", kAuthentication},
    {ocsp_response_unusable, "ocsp_response_unusable", "RFC 6960 §3.2",
     "The OCSP response for the peer's certificate does not count, and the policy is strict.",
     "Mend the responder as the detail says, or add a current revocation list to pki.crls.",
     kAuthentication},
    {revocation_unreachable, "revocation_unreachable", "RFC 6960 §2.3",
     "Nobody who could say whether the peer's certificate is revoked was reached, and the policy "
     "is "
     "strict.",
     "Let this host reach the URL in the detail, or set pki.revocation: if-available.",
     kAuthentication},
    {certificate_refused_remote, "certificate_refused_remote", "RFC 7296 §2.21.2",
     "The peer refused our certificate, our signature or our identity.",
     "Read the peer's log: it has to trust the authority of our certificate, find it in force, and "
     "expect local.id and a certificate of us, not a pre-shared key.",
     kAuthentication},
    {signature_hash_mismatch, "signature_hash_mismatch", "RFC 8247 §4.3",
     "An RSA signature without RFC 7427 was refused: many peers know only SHA-1 for it, which is "
     "neither made nor accepted here.",
     "Turn on signature authentication (RFC 7427) at the peer, or use ECDSA certificates or a "
     "pre-shared key, unless the peer's log names another reason.",
     kAuthentication},
});

consteval bool in_order() {
  for (std::size_t i = 0; i < kFailures.size(); ++i) {
    if (static_cast<std::size_t>(kFailures[i].failure) != i) return false;
  }
  return static_cast<std::size_t>(signature_hash_mismatch) + 1 == kFailures.size();
}
static_assert(in_order(), "the table is indexed by the enum");

}  // namespace

const FailureInfo& info(Failure failure) {
  const auto index = static_cast<std::size_t>(failure);
  assert(index < kFailures.size());
  return kFailures[index];
}
std::span<const FailureInfo> all_failures() { return kFailures; }

}  // namespace culvert::ike
