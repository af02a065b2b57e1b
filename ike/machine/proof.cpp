// The AUTH payload (RFC 7296 §2.15): by a shared key, or by a signature with the certificates that
// belong to it (RFC 7427). Each side has its own method; both may differ.
#include <algorithm>

#include "crypto/ike/signature.hpp"
#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using config::AuthMethod;
using crypto::ike::auth_method_text;
using wire::ike::NotifyType;

constexpr std::string_view kSharedKeyName = "psk";

Refusal refusal(Failure failure, std::string detail) {
  return {NotifyType::authentication_failed, failure, std::move(detail), {}};
}

Refusal no_secret(const IkeSa& ike) {
  return refusal(Failure::no_shared_secret,
                 "ours: no secret for " + ike.local_id.text +
                     "; the peer's: " + (ike.remote_id.text.empty() ? "%any" : ike.remote_id.text));
}

/// What our AUTH covers, or the peer's.
crypto::ike::Result<Octets> covered_octets(const IkeSa& ike, bool ours, crypto::Bytes id_body) {
  const bool by_initiator = ike.initiator == ours;
  return auth_octets(ike.suite.prf, by_initiator ? ike.initiator_message : ike.responder_message,
                     by_initiator ? ike.responder_nonce : ike.initiator_nonce,
                     (ours ? ike.keys.prove_local : ike.keys.prove_remote).view(), id_body);
}

bool is_status(const wire::ike::Certificate& payload) {
  return payload.encoding == wire::ike::CertificateEncoding::ocsp_content;
}

std::vector<wire::ike::Certificate> certificates_in(const Payloads& payloads) {
  std::vector<wire::ike::Certificate> all;
  for (const auto& payload : payloads) {
    if (const auto* found = std::get_if<wire::ike::Certificate>(&payload)) all.push_back(*found);
  }
  return all;
}

bool uses_certificates(const config::Connection* connection) {
  return connection->local.auth == AuthMethod::pubkey ||
         connection->remote.auth == AuthMethod::pubkey;
}

}  // namespace

void Core::offer_signatures(Payloads& payloads,
                            const std::vector<const config::Connection*>& connections) const {
  if (!std::ranges::any_of(connections, uses_certificates)) return;
  // RFC 7427 §4: every hash that we verify, 16 bits each, in any order.
  Octets hashes(2 * crypto::ike::kSignatureHashes.size());
  wire::Writer writer(hashes);
  for (const auto hash : crypto::ike::kSignatureHashes) {
    writer.u16(static_cast<std::uint16_t>(hash));
  }
  payloads.emplace_back(make_notify(NotifyType::signature_hash_algorithms, std::move(hashes)));
}

void Core::request_certificates(Payloads& payloads,
                                const std::vector<const config::Connection*>& connections) const {
  const bool wanted = std::ranges::any_of(connections, [](const config::Connection* connection) {
    return connection->remote.auth == AuthMethod::pubkey;
  });
  if (!wanted || environment_.signatures == nullptr) return;
  payloads.emplace_back(wire::ike::CertificateRequest{
      wire::ike::CertificateEncoding::x509_signature, environment_.signatures->authority_hashes()});
  if (!environment_.signatures->wants_statuses()) return;
  // RFC 4806 §3.1: without a hash: the issuer or whom it named may have signed.
  payloads.emplace_back(
      wire::ike::CertificateRequest{wire::ike::CertificateEncoding::ocsp_content, {}});
}

std::expected<Payloads, Refusal> Core::our_proof(IkeSa& ike) {
  const Octets body = to_payload(ike.local_id, ike.initiator).body();
  const auto octets = covered_octets(ike, true, body);
  if (!octets) return std::unexpected(refusal(Failure::signature_failed, octets.error().what));
  Payloads payloads;
  if (ike.connection->local.auth == AuthMethod::psk) {
    const crypto::SecretBytes* secret = environment_.secrets->find(ike.local_id, ike.remote_id);
    if (secret == nullptr) return std::unexpected(no_secret(ike));
    const auto proof = shared_key_auth(ike.suite.prf, secret->view(), *octets);
    if (!proof) return std::unexpected(refusal(Failure::no_shared_secret, proof.error().what));
    payloads.emplace_back(wire::ike::Authentication{
        crypto::ike::auth_method::kSharedKey, Octets(proof->view().begin(), proof->view().end())});
    ike.local_auth = kSharedKeyName;
    ike.local_method = crypto::ike::auth_method::kSharedKey;
    return payloads;
  }
  if (environment_.signatures == nullptr) {
    return std::unexpected(refusal(Failure::signature_failed, "no private key is loaded"));
  }
  std::optional<std::span<const std::uint16_t>> hashes;
  if (ike.signature_hashes) hashes = *ike.signature_hashes;
  auto proof = environment_.signatures->sign(*ike.connection, hashes, *octets);
  if (!proof) {
    return std::unexpected(refusal(proof.error().failure,
                                   "ours: " + proof.error().detail + "; the peer's: it is " +
                                       (ike.remote_id.text.empty() ? "%any" : ike.remote_id.text) +
                                       (hashes ? "" : " and negotiates no signatures")));
  }
  // RFC 7296 §3.6: the first CERT holds the key that verifies AUTH.
  for (Octets& certificate : proof->certificates) {
    payloads.emplace_back(wire::ike::Certificate{wire::ike::CertificateEncoding::x509_signature,
                                                 std::move(certificate)});
  }
  if (ike.statuses_requested) {
    for (Octets& status : proof->statuses) {
      payloads.emplace_back(
          wire::ike::Certificate{wire::ike::CertificateEncoding::ocsp_content, std::move(status)});
    }
  }
  payloads.emplace_back(wire::ike::Authentication{proof->method, std::move(proof->data)});
  ike.local_auth = proof->algorithm;
  ike.local_method = proof->method;
  return payloads;
}

std::expected<void, Refusal> Core::verify_proof(IkeSa& ike, const wire::ike::Identification& id,
                                                const Payloads& payloads) {
  const auto& proof = *find_payload<wire::ike::Authentication>(payloads);
  const bool signature = proof.method != crypto::ike::auth_method::kSharedKey;
  const bool expects_signature = ike.connection->remote.auth == AuthMethod::pubkey;
  if (signature != expects_signature) {
    return std::unexpected(refusal(
        Failure::auth_method_mismatch,
        std::string("ours: remote.auth ") + (expects_signature ? "pubkey" : "psk") + "; the peer " +
            ike.remote_id.text + " proves itself by " + auth_method_text(proof.method)));
  }
  const auto octets = covered_octets(ike, false, id.body());
  if (!octets) return std::unexpected(refusal(Failure::signature_invalid, octets.error().what));
  return signature ? verify_signature(ike, payloads, proof, *octets)
                   : verify_shared_key(ike, proof, *octets);
}

std::expected<void, Refusal> Core::verify_shared_key(IkeSa& ike,
                                                     const wire::ike::Authentication& proof,
                                                     crypto::Bytes octets) {
  const crypto::SecretBytes* secret = environment_.secrets->find(ike.local_id, ike.remote_id);
  if (secret == nullptr) return std::unexpected(no_secret(ike));
  const auto expected = shared_key_auth(ike.suite.prf, secret->view(), octets);
  if (!expected || !crypto::equal_constant_time(expected->view(), proof.data)) {
    return std::unexpected(refusal(Failure::authentication_failed_local,
                                   "ours: " + ike.local_id.text + "; the peer's: " +
                                       ike.remote_id.text + ": the shared keys differ" +
                                       (ike.post_quantum ? ", or the post-quantum keys do" : "")));
  }
  ike.remote_auth = kSharedKeyName;
  return {};
}

std::expected<void, Refusal> Core::verify_signature(IkeSa& ike, const Payloads& payloads,
                                                    const wire::ike::Authentication& proof,
                                                    crypto::Bytes octets) {
  if (environment_.signatures == nullptr) {
    return std::unexpected(refusal(Failure::certificate_untrusted, "no authority is loaded"));
  }
  auto certificates = certificates_in(payloads);
  const auto verified = environment_.signatures->verify(
      {*ike.connection, ike.remote_id, certificates, proof.method, proof.data, octets,
       ike.held_until == Instant{} || now_ < ike.held_until});
  if (!verified) {
    Refusal refused =
        refusal(verified.error().failure, "ours: remote.id " + ike.remote_id.text + ", " +
                                              environment_.signatures->trust_text() +
                                              "; the peer's: " + verified.error().detail);
    refused.awaits = verified.error().awaits;
    return std::unexpected(std::move(refused));
  }
  ike.remote_auth = verified->algorithm;
  ike.remote_certificate = verified->certificate;
  ike.remote_certificate_expires = verified->expires;
  // Statuses pass; who it was stays.
  std::erase_if(certificates, is_status);
  ike.peer_certificates = std::move(certificates);
  for (const std::string& note : verified->notes) {
    report(
        Level::warning, "revocation_not_checked",
        {{"connection", ike.connection->name}, {"remote_id", ike.remote_id.text}, {"why", note}});
  }
  return {};
}

}  // namespace culvert::ike
