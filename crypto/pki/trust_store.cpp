#include "crypto/pki/trust_store.hpp"

#include <algorithm>
#include <map>

#include <openssl/err.h>

#include "crypto/pki/openssl_x509.hpp"

namespace culvert::crypto::pki {
namespace {

using CertificateStack =
    openssl::Handle<STACK_OF(X509), [](STACK_OF(X509) * stack) { sk_X509_free(stack); }>;

/// Certificates between the end entity and the authority. Real paths have one or two.
constexpr int kMaxDepth = 8;

/// What the callback decides and remembers while OpenSSL walks along a path.
struct Walk {
  const ValidationRules* rules = nullptr;
  const X509_CRL* forged =
      nullptr;  ///< a list whose signature does not hold: its entries do not count
  std::map<int, std::string> unlisted;  ///< by depth: why no list vouches for a certificate
};
int walk_index() {
  static const int index = X509_STORE_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

std::string subject_of(const X509* certificate) {
  return certificate == nullptr
             ? "the certificate"
             : "\"" + openssl::text_of(X509_get_subject_name(certificate)) + "\"";
}
std::string issuer_of(const X509* certificate) {
  return certificate == nullptr ? "its issuer"
                                : "\"" + openssl::text_of(X509_get_issuer_name(certificate)) + "\"";
}

bool about_a_list(int error) {
  switch (error) {
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
    case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
    case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
    case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
    case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
      return true;
    default:  // NOLINT: OpenSSL's numbers
      return false;
  }
}

std::string list_problem(int error, const X509* certificate) {
  const std::string what = error == X509_V_ERR_UNABLE_TO_GET_CRL
                               ? "no revocation list of " + issuer_of(certificate)
                           : error == X509_V_ERR_CRL_HAS_EXPIRED
                               ? "the revocation list of " + issuer_of(certificate) + " has expired"
                               : "the revocation list of " + issuer_of(certificate) + ": " +
                                     X509_verify_cert_error_string(error);
  return what + ", so whether " + subject_of(certificate) + " is revoked is not known";
}

/// An expired list counts for the time of grace.
bool in_grace(int error, const X509_CRL* list, const ValidationRules& rules) {
  if (error != X509_V_ERR_CRL_HAS_EXPIRED || list == nullptr) return false;
  const auto end = openssl::unix_seconds(X509_CRL_get0_nextUpdate(list));
  return end && *end + rules.grace.count() >= rules.now;
}

/// OpenSSL asks for each problem whether to go on.
int judge(int holds, X509_STORE_CTX* context) {
  if (holds == 1) return 1;
  auto& walk = *static_cast<Walk*>(X509_STORE_CTX_get_ex_data(context, walk_index()));
  const int error = X509_STORE_CTX_get_error(context);
  const X509_CRL* list = X509_STORE_CTX_get0_current_crl(context);
  if (error == X509_V_ERR_CERT_REVOKED && list != nullptr && list == walk.forged) return 1;
  if (!about_a_list(error)) return 0;
  if (error == X509_V_ERR_CRL_SIGNATURE_FAILURE) walk.forged = list;
  if (in_grace(error, list, *walk.rules)) return 1;
  // What follows from it is decided when the path is known: a status may vouch instead.
  walk.unlisted.try_emplace(X509_STORE_CTX_get_error_depth(context),
                            list_problem(error, X509_STORE_CTX_get_current_cert(context)));
  return 1;
}

std::string validity_of(const X509* x509) {
  if (x509 == nullptr) return "";
  unsigned char* der = nullptr;
  const int size = i2d_X509(x509, &der);
  if (size <= 0) return "";
  const auto certificate = Certificate::from_der({der, static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  return certificate
             ? date_text(certificate->not_before()) + " to " + date_text(certificate->not_after())
             : "";
}

Rejection rejection_of(X509_STORE_CTX* context, const Certificate& end_entity,
                       const std::vector<Certificate>& authorities, std::int64_t now) {
  const int error = X509_STORE_CTX_get_error(context);
  const X509* at = X509_STORE_CTX_get_current_cert(context);
  const std::string subject = subject_of(at);
  switch (error) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: {
      std::string ours;
      for (const Certificate& authority : authorities) {
        ours += (ours.empty() ? "\"" : ", \"") + authority.subject() + "\"";
      }
      return {RejectionReason::untrusted,
              "the peer's certificate \"" + end_entity.subject() + "\" leads to " + issuer_of(at) +
                  "; our authorities: " + (ours.empty() ? "none" : ours)};
    }
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return {RejectionReason::not_valid_now,
              subject +
                  (error == X509_V_ERR_CERT_HAS_EXPIRED ? " has expired" : " is not valid yet") +
                  ": valid from " + validity_of(at) + ", now is " + date_text(now)};
    case X509_V_ERR_CERT_REVOKED:
      return {RejectionReason::revoked, subject + " was revoked by its issuer " + issuer_of(at)};
    default:  // NOLINT: OpenSSL's numbers
      break;
  }
  return {RejectionReason::unsuitable, subject + ": " + X509_verify_cert_error_string(error)};
}

std::expected<void, Rejection> check_end_entity(const Certificate& certificate,
                                                const ValidationRules& rules) {
  const std::string subject = "\"" + certificate.subject() + "\"";
  const auto unsuitable = [](std::string what) {
    return std::unexpected(Rejection{RejectionReason::unsuitable, std::move(what)});
  };
  if (const auto key = certificate.key_type(); !key)
    return unsuitable(subject + " " + key.error().what);
  if (!certificate.may_sign()) {
    return unsuitable(subject +
                      " has a keyUsage without digitalSignature and nonRepudiation (RFC 4945 "
                      "§5.1.3.2)");
  }
  if (rules.check_extended_key_usage && !certificate.may_serve_ike()) {
    return unsuitable(subject +
                      " has an extendedKeyUsage without ipsecIKE and anyExtendedKeyUsage (RFC 4945 "
                      "§5.1.3.12); pki.extended_key_usage: ignore accepts it");
  }
  return {};
}

bool push(STACK_OF(X509) * stack, const Certificate& certificate) {
  return sk_X509_push(stack, certificate.handle()) > 0;
}

bool asks_lists(const ValidationRules& rules, bool any_list) {
  return rules.revocation == RevocationPolicy::strict ||
         (rules.revocation == RevocationPolicy::if_available && any_list);
}

void set_rules(X509_STORE_CTX* context, const ValidationRules& rules, bool any_list) {
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context);
  // An authority that is listed is an anchor, also when somebody above has signed it.
  unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;
  if (asks_lists(rules, any_list)) flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
  X509_VERIFY_PARAM_set_flags(parameters, flags);
  X509_VERIFY_PARAM_set_time(parameters, rules.now);
  X509_VERIFY_PARAM_set_depth(parameters, kMaxDepth);
  X509_VERIFY_PARAM_set_auth_level(parameters, openssl::kSecurityLevel);
}

std::vector<Certificate> certificates_of(X509_STORE_CTX* context) {
  std::vector<Certificate> all;
  STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(context);
  for (int index = 0; index < sk_X509_num(chain); ++index) {
    unsigned char* der = nullptr;
    const int size = i2d_X509(sk_X509_value(chain, index), &der);
    if (size > 0) {
      if (auto one = Certificate::from_der({der, static_cast<std::size_t>(size)})) {
        all.push_back(std::move(*one));
      }
    }
    OPENSSL_free(der);
  }
  return all;
}

RejectionReason reason_of(StatusAnswer::Word word) {
  switch (word) {
    case StatusAnswer::Word::revoked:
      return RejectionReason::revoked;
    case StatusAnswer::Word::unusable:
      return RejectionReason::status_unusable;
    case StatusAnswer::Word::unreachable:
      return RejectionReason::status_unreachable;
    case StatusAnswer::Word::nothing:
    case StatusAnswer::Word::good:
      break;
  }
  return RejectionReason::revocation_unknown;
}

/// Whether one of them is revoked, by what is known beside the lists; and where neither says
/// anything, what the policy makes of it.
std::expected<void, Rejection> check_status(ValidPath& path, const Walk& walk, bool asked_lists) {
  const ValidationRules& rules = *walk.rules;
  if (rules.revocation == RevocationPolicy::off) return {};
  // RFC 5280 §6.1: the anchor is trusted by configuration; nobody above it could revoke it.
  const std::size_t count = std::max<std::size_t>(path.certificates.size(), 2) - 1;
  for (std::size_t index = 0; index < count && index < path.certificates.size(); ++index) {
    const Certificate& one = path.certificates[index];
    const auto unlisted = walk.unlisted.find(static_cast<int>(index));
    const bool listed = asked_lists && unlisted == walk.unlisted.end();
    StatusAnswer answer;
    if (rules.status && index + 1 < path.certificates.size()) {
      answer = rules.status(one, path.certificates[index + 1], !listed);
    }
    if (answer.word == StatusAnswer::Word::revoked) {
      return std::unexpected(Rejection{RejectionReason::revoked, answer.what});
    }
    if (listed || answer.word == StatusAnswer::Word::good) continue;
    std::string what = unlisted != walk.unlisted.end()
                           ? unlisted->second
                           : "no revocation list is configured, so whether \"" + one.subject() +
                                 "\" is revoked is not known";
    if (!answer.what.empty()) what.insert(0, answer.what + "; ");
    if (rules.revocation == RevocationPolicy::strict) {
      return std::unexpected(Rejection{reason_of(answer.word), what});
    }
    path.notes.push_back(std::move(what));
  }
  return {};
}

}  // namespace

const Certificate* TrustStore::find_issuer(const Certificate& certificate,
                                           std::span<const Certificate> beside) const {
  for (const std::span<const Certificate> some :
       {beside, std::span<const Certificate>(authorities_),
        std::span<const Certificate>(intermediates_)}) {
    const auto found = std::ranges::find_if(some, [&](const Certificate& one) {
      return !(one == certificate) &&
             X509_check_issued(one.handle(), certificate.handle()) == X509_V_OK &&
             X509_verify(certificate.handle(), one.public_key()) == 1;
    });
    if (found != some.end()) return &*found;
  }
  ERR_clear_error();
  return nullptr;
}

bool TrustStore::has_signed(const RevocationList& list) const {
  const auto signer = [&](const Certificate& one) {
    return X509_NAME_cmp(X509_CRL_get_issuer(list.handle()), X509_get_subject_name(one.handle())) ==
               0 &&
           X509_CRL_verify(list.handle(), one.public_key()) == 1;
  };
  const bool found =
      std::ranges::any_of(authorities_, signer) || std::ranges::any_of(intermediates_, signer);
  ERR_clear_error();
  return found;
}

std::expected<ValidPath, Rejection> TrustStore::validate(const Certificate& end_entity,
                                                         std::span<const Certificate> theirs,
                                                         const ValidationRules& rules) const {
  // 1. anchors and lists  2. helpers  3. the walk  4. what IKE wants of the end entity
  // 5. revocation
  const openssl::X509Store store(X509_STORE_new());
  const openssl::X509StoreContext context(X509_STORE_CTX_new());
  const CertificateStack untrusted(sk_X509_new_null());
  const Rejection out_of_memory{RejectionReason::unsuitable, "path validation could not begin"};
  if (store == nullptr || context == nullptr || untrusted == nullptr) {
    return std::unexpected(out_of_memory);
  }
  bool ready = true;
  for (const Certificate& authority : authorities_) {
    ready = ready && X509_STORE_add_cert(store.get(), authority.handle()) == 1;
  }
  for (const RevocationList& list : lists_) {
    ready = ready && X509_STORE_add_crl(store.get(), list.handle()) == 1;
  }
  for (const Certificate& helper : theirs) ready = ready && push(untrusted.get(), helper);
  for (const Certificate& helper : intermediates_) ready = ready && push(untrusted.get(), helper);
  Walk walk{&rules, nullptr, {}};
  if (!ready ||
      X509_STORE_CTX_init(context.get(), store.get(), end_entity.handle(), untrusted.get()) != 1 ||
      X509_STORE_CTX_set_ex_data(context.get(), walk_index(), &walk) != 1) {
    return std::unexpected(out_of_memory);
  }
  set_rules(context.get(), rules, !lists_.empty());
  X509_STORE_CTX_set_verify_cb(context.get(), judge);
  const int holds = X509_verify_cert(context.get());
  ERR_clear_error();
  if (holds != 1) {
    return std::unexpected(rejection_of(context.get(), end_entity, authorities_, rules.now));
  }
  if (const auto fits = check_end_entity(end_entity, rules); !fits) {
    return std::unexpected(fits.error());
  }
  ValidPath path{certificates_of(context.get()), {}};
  if (auto known = check_status(path, walk, asks_lists(rules, !lists_.empty())); !known) {
    return std::unexpected(known.error());
  }
  return path;
}

}  // namespace culvert::crypto::pki
