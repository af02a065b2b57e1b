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

crypto::pki::ValidationRules Certificates::rules_at(std::int64_t now, Inquiry& inquiry) const {
  crypto::pki::ValidationRules rules{
      now, rules_.revocation, rules_.check_extended_key_usage, rules_.revocation_grace, {}};
  if (rules_.ocsp == config::Ocsp::off && !rules_.fetches()) return rules;
  rules.status = [this, now, &inquiry](const Certificate& certificate, const Certificate& issuer,
                                       bool needed) {
    return status_of(certificate, issuer, needed, now, inquiry);
  };
  return rules;
}

/// 1. what the peer sent  2. what is known  3. what the responder says  4. what the lists that are
/// fetched will say.
StatusAnswer Certificates::status_of(const Certificate& certificate, const Certificate& issuer,
                                     bool needed, std::int64_t now, Inquiry& inquiry) const {
  using Word = StatusAnswer::Word;
  StatusAnswer answer;
  std::string problem;
  if (rules_.ocsp != config::Ocsp::off) {
    problem = inquiry.sent.teach(*statuses_, certificate, issuer, now);
    answer = statuses_->status_of(certificate, issuer, now);
  }
  const bool known = answer.word != Word::nothing;
  if (!known && !needed) return answer;
  auto asked = fetches_->ask(certificate, issuer, now);
  if (asked.next_at != 0 && (inquiry.ask_again == 0 || asked.next_at < inquiry.ask_again)) {
    inquiry.ask_again = asked.next_at;
  }
  if (known) return answer;
  if (asked.awaits.empty() && asked.answer.what.empty()) {
    asked = fetches_->first_missing_list();
  }
  if (!asked.awaits.empty()) inquiry.awaits = asked.awaits;
  if (!asked.answer.what.empty()) return asked.answer;
  if (problem.empty()) return answer;
  return {Word::unusable,
          "the OCSP response that the peer sent for \"" + certificate.subject() + "\" " + problem};
}

void Certificates::inherit(Certificates& former) {
  statuses_ = std::move(former.statuses_);
  statuses_->set_grace(rules_.revocation_grace);
  fetches_->inherit(*former.fetches_);
  collect_lists();
}

void Certificates::tick_fetches() {
  const std::int64_t now = calendar_();
  fetches_->tick(now);
  if (rules_.ocsp == config::Ocsp::fetch) {
    for (const Own& own : own_) {
      const Certificate& certificate = own.chain.front();
      const Certificate* issuer = trust_.find_issuer(certificate, own.chain);
      if (issuer != nullptr) static_cast<void>(fetches_->ask(certificate, *issuer, now));
    }
  }
}

std::vector<RevocationFetches::Fetch> Certificates::due_fetches() { return fetches_->due(); }

RevocationFetches::Outcome Certificates::fetched(std::uint64_t id,
                                                 const RevocationFetches::Result& result) {
  auto outcome = fetches_->finished(id, result, calendar_(), *statuses_, trust_);
  if (outcome.list && outcome.ok) collect_lists();
  return outcome;
}

void Certificates::collect_lists() {
  std::vector<crypto::pki::RevocationList> all = fetches_->lists();
  for (const RevocationFile& file : revocation_files_) {
    all.insert(all.end(), file.lists.begin(), file.lists.end());
  }
  trust_.replace_revocation_lists(std::move(all));
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
