#include "ike/identity/certificates.hpp"

#include <algorithm>
#include <ctime>

#include "config/certificates.hpp"
#include "crypto/ike/signature.hpp"

namespace culvert::ike {
namespace {

using crypto::pki::Certificate;
using crypto::pki::RejectionReason;

/// Certificates that a peer may send in one IKE_AUTH: longer paths than any real one.
constexpr std::size_t kMostPeerCertificates = 10;

Failure failure_of(RejectionReason reason) {
  switch (reason) {
    case RejectionReason::untrusted:
      return Failure::certificate_untrusted;
    case RejectionReason::not_valid_now:
      return Failure::certificate_not_valid;
    case RejectionReason::revoked:
      return Failure::certificate_revoked;
    case RejectionReason::revocation_unknown:
      return Failure::revocation_unknown;
    case RejectionReason::status_unusable:
      return Failure::ocsp_response_unusable;
    case RejectionReason::status_unreachable:
      return Failure::revocation_unreachable;
    case RejectionReason::unsuitable:
      return Failure::certificate_unsuitable;
  }
  return Failure::certificate_unsuitable;
}

/// What a fetch that is under way may still decide.
bool is_open(RejectionReason reason) {
  return reason == RejectionReason::revocation_unknown ||
         reason == RejectionReason::status_unusable ||
         reason == RejectionReason::status_unreachable;
}

/// The peer's X.509 certificates; other encodings of RFC 7296 §3.6 are no certificates to us.
std::expected<std::vector<Certificate>, SignatureSource::Problem> certificates_of(
    const config::Identity& identity, std::span<const wire::ike::Certificate> sent,
    std::uint8_t method) {
  std::vector<Certificate> all;
  for (const wire::ike::Certificate& payload : sent) {
    if (payload.encoding != wire::ike::CertificateEncoding::x509_signature) continue;
    if (all.size() == kMostPeerCertificates) break;
    auto parsed = Certificate::from_der(payload.data);
    if (!parsed) {
      return std::unexpected(SignatureSource::Problem{
          Failure::certificate_unsuitable, "certificate " + std::to_string(all.size() + 1) +
                                               " of " + identity.text + " " + parsed.error().what});
    }
    all.push_back(std::move(*parsed));
  }
  if (!all.empty()) return all;
  return std::unexpected(SignatureSource::Problem{
      Failure::certificate_missing,
      identity.text + " signs with " + crypto::ike::auth_method_text(method) + " and sent " +
          (sent.empty() ? std::string("no certificate")
                        : "no X.509 certificate (encoding " +
                              std::to_string(static_cast<unsigned>(sent.front().encoding)) + ")")});
}

}  // namespace

Certificates::Certificates(const config::Pki& rules, Calendar calendar)
    : rules_(rules),
      calendar_(std::move(calendar)),
      statuses_(std::make_unique<StatusCache>()),
      fetches_(std::make_unique<RevocationFetches>(rules)) {
  statuses_->set_grace(rules.revocation_grace);
}

Certificates::Calendar Certificates::system_calendar() {
  return [] { return static_cast<std::int64_t>(std::time(nullptr)); };
}

void Certificates::add_own(std::string path, std::vector<Certificate> chain) {
  own_.push_back({std::move(path), std::move(chain)});
}

void Certificates::note_loaded(const std::string& file, std::string kind,
                               const Certificate& certificate) {
  loaded_.push_back({file, std::move(kind), certificate.subject(), certificate.not_after()});
}

const crypto::pki::PrivateKey* Certificates::key_of(const Certificate& certificate) const {
  const auto found =
      std::ranges::find_if(keys_, [&](const auto& key) { return key.belongs_to(certificate); });
  return found == keys_.end() ? nullptr : &*found;
}

std::expected<SignatureSource::Proof, SignatureSource::Problem> Certificates::sign(
    const config::Connection& connection, std::optional<std::span<const std::uint16_t>> peer_hashes,
    wire::Bytes octets) const {
  const auto own = std::ranges::find(own_, connection.local.certificate, &Own::path);
  if (own == own_.end() || own->chain.empty()) {
    return std::unexpected(Problem{Failure::certificate_missing,
                                   "local.certificate of " + connection.name + " is not loaded"});
  }
  const Certificate& certificate = own->chain.front();
  const crypto::pki::PrivateKey* key = key_of(certificate);
  if (key == nullptr) {
    return std::unexpected(
        Problem{Failure::signature_failed, "no private key for \"" + certificate.subject() + "\""});
  }
  auto signature = crypto::ike::sign(*key, peer_hashes, octets);
  if (!signature) {
    return std::unexpected(Problem{Failure::signature_failed, signature.error().what});
  }
  Proof proof{signature->method, std::move(signature->data), {}, std::move(signature->algorithm)};
  for (const Certificate& one : own->chain) {
    // The anchor itself tells the peer nothing: it has it, or does not trust it.
    if (one.is_self_issued() && one.is_authority()) continue;
    proof.certificates.push_back(one.der());
  }
  proof.statuses = own_statuses(*own);
  return proof;
}

std::expected<SignatureSource::Verified, SignatureSource::Problem> Certificates::verify(
    const Claim& claim) const {
  // 1. the certificates  2. the signature, by the first one's key  3. its path to an authority
  // 4. the identity. The signature comes first: what is said about a certificate then is said about
  // somebody who holds its key.
  const auto certificates = certificates_of(claim.identity, claim.certificates, claim.method);
  if (!certificates) return std::unexpected(certificates.error());
  const Certificate& end_entity = certificates->front();
  const auto algorithm = crypto::ike::verify(end_entity, claim.method, claim.data, claim.octets);
  if (!algorithm) {
    const bool without_hash = claim.method == crypto::ike::auth_method::kRsa &&
                              end_entity.key_type() == crypto::pki::KeyType::rsa;
    return std::unexpected(
        Problem{without_hash ? Failure::signature_hash_mismatch : Failure::signature_invalid,
                claim.identity.text + " with the certificate \"" + end_entity.subject() +
                    "\": " + algorithm.error().what});
  }
  Inquiry inquiry(claim.certificates);
  const auto path = trust_.validate(end_entity, std::span(*certificates).subspan(1),
                                    rules_at(calendar_(), inquiry));
  const bool known = path ? path->notes.empty() : !is_open(path.error().reason);
  if (!known && claim.may_wait && !inquiry.awaits.empty()) {
    return std::unexpected(Problem{Failure::revocation_unknown,
                                   claim.identity.text + ": revocation is being asked for",
                                   std::move(inquiry.awaits)});
  }
  if (!path) {
    return std::unexpected(
        Problem{failure_of(path.error().reason), claim.identity.text + ": " + path.error().what});
  }
  // RFC 4945 §3.1: the ID payload must match the certificate, or anybody whom the authority knows
  // could take any identity.
  if (!config::certifies(end_entity, claim.identity)) {
    return std::unexpected(Problem{Failure::identity_not_certified,
                                   "the peer presents " + claim.identity.text +
                                       "; its certificate has: " + end_entity.names_text()});
  }
  return Verified{*algorithm, end_entity.subject(), end_entity.not_after(), path->notes};
}

std::expected<std::chrono::seconds, SignatureSource::Problem> Certificates::still_valid(
    const config::Identity& identity, std::span<const wire::ike::Certificate> sent) const {
  const auto certificates = certificates_of(identity, sent, 0);
  if (!certificates) return std::unexpected(certificates.error());
  const std::int64_t now = calendar_();
  Inquiry inquiry{{}};
  const auto path = trust_.validate(certificates->front(), std::span(*certificates).subspan(1),
                                    rules_at(now, inquiry));
  if (!path) {
    return std::unexpected(
        Problem{failure_of(path.error().reason), identity.text + ": " + path.error().what});
  }
  std::int64_t last = certificates->front().not_after();
  for (const Certificate& one : path->certificates) last = std::min(last, one.not_after());
  // Asking again is what renews a status before it ends.
  if (inquiry.ask_again > now) last = std::min(last, inquiry.ask_again);
  return std::chrono::seconds(last - now);
}

std::vector<std::uint8_t> Certificates::authority_hashes() const {
  std::vector<std::uint8_t> hashes;
  for (const Certificate& authority : trust_.authorities()) {
    const auto hash = authority.key_hash();
    hashes.insert(hashes.end(), hash.begin(), hash.end());
  }
  return hashes;
}

}  // namespace culvert::ike
