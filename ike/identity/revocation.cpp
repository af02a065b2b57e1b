// What is known of revocations when a peer's path is judged: the lists of the trust store, and what
// OCSP says.
#include <algorithm>

#include "ike/identity/certificates.hpp"

namespace culvert::ike {
namespace {

using crypto::pki::Certificate;
using crypto::pki::OcspResponse;
using crypto::pki::StatusAnswer;

/// Responses that a peer may send in one IKE_AUTH: one for each certificate of a long path.
constexpr std::size_t kMostPeerStatuses = 10;

}  // namespace

PeerStatuses::PeerStatuses(std::span<const wire::ike::Certificate> sent) {
  for (const wire::ike::Certificate& payload : sent) {
    if (payload.encoding != wire::ike::CertificateEncoding::ocsp_content) continue;
    if (responses_.size() == kMostPeerStatuses) break;
    auto parsed = OcspResponse::from_der(payload.data);
    if (parsed) {
      responses_.push_back({*std::move(parsed), false});
    } else {
      problem_ = parsed.error().what;
    }
  }
}

/// RFC 4806 §3.2: which response is for which certificate only their CertID says.
std::string PeerStatuses::teach(StatusCache& cache, const Certificate& certificate,
                                const Certificate& issuer, std::int64_t now) {
  std::string problem = problem_;
  for (Sent& one : responses_) {
    if (one.used) continue;
    const auto learnt = cache.learn(one.response, certificate, issuer, now);
    one.used = learnt.has_value();
    if (!learnt) problem = learnt.error().what;
  }
  return problem;
}

crypto::pki::ValidationRules Certificates::rules_at(std::int64_t now, PeerStatuses& sent) const {
  crypto::pki::ValidationRules rules{
      now, rules_.revocation, rules_.check_extended_key_usage, rules_.revocation_grace, {}};
  if (rules_.ocsp == config::Ocsp::off) return rules;
  rules.status = [this, now, &sent](const Certificate& certificate, const Certificate& issuer,
                                    bool) -> StatusAnswer {
    const std::string problem = sent.teach(*statuses_, certificate, issuer, now);
    StatusAnswer answer = statuses_->status_of(certificate, issuer, now);
    if (answer.word != StatusAnswer::Word::nothing || problem.empty()) return answer;
    return {StatusAnswer::Word::unusable, "the OCSP response that the peer sent for \"" +
                                              certificate.subject() + "\" " + problem};
  };
  return rules;
}

std::vector<std::vector<std::uint8_t>> Certificates::own_statuses(const Own& own) const {
  std::vector<std::vector<std::uint8_t>> all;
  const std::int64_t now = calendar_();
  for (const Certificate& certificate : own.chain) {
    const Certificate* issuer = trust_.find_issuer(certificate, own.chain);
    if (issuer == nullptr) continue;
    const auto* response = statuses_->response_for(certificate, *issuer, now);
    if (response != nullptr) all.push_back(*response);
  }
  return all;
}

std::string Certificates::trust_text() const {
  std::string text;
  for (const Certificate& authority : trust_.authorities()) {
    text += (text.empty() ? "" : ", ") + ("\"" + authority.subject() + "\"");
  }
  using crypto::pki::RevocationPolicy;
  const std::string policy = rules_.revocation == RevocationPolicy::strict ? "strict"
                             : rules_.revocation == RevocationPolicy::off  ? "off"
                                                                           : "if-available";
  text = "authorities " + (text.empty() ? std::string("none") : text) + ", revocation " + policy;
  if (rules_.ocsp == config::Ocsp::off) return text;
  return text + ", ocsp " + (rules_.ocsp == config::Ocsp::fetch ? "fetch" : "in-band");
}

}  // namespace culvert::ike
