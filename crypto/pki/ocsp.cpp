#include "crypto/pki/ocsp.hpp"

#include <openssl/err.h>
#include <openssl/ocsp.h>

#include "crypto/pki/openssl_x509.hpp"

namespace culvert::crypto::pki {
namespace {

using openssl::Handle;
using OcspRequestHandle = Handle<OCSP_REQUEST, OCSP_REQUEST_free>;
using OcspBasic = Handle<OCSP_BASICRESP, OCSP_BASICRESP_free>;
using OcspId = Handle<OCSP_CERTID, OCSP_CERTID_free>;
using SignerStack = Handle<STACK_OF(X509), [](STACK_OF(X509) * stack) { sk_X509_free(stack); }>;
using AddressStack = Handle<STACK_OF(OPENSSL_STRING),
                            [](STACK_OF(OPENSSL_STRING) * stack) { X509_email_free(stack); }>;

/// Statuses in one response; ours ask for one, a peer's may tell of its whole path.
constexpr int kMostStatuses = 64;
constexpr std::size_t kMostAddressCharacters = 2048;

std::unexpected<PkiError> problem(std::string what) {
  ERR_clear_error();
  return std::unexpected(PkiError{std::move(what)});
}

/// RFC 8247 §4.3: no signature over MD5 or SHA-1.
bool signed_by_weak_hash(const OCSP_BASICRESP* basic) {
  const ASN1_OBJECT* object = nullptr;
  X509_ALGOR_get0(&object, nullptr, nullptr, OCSP_resp_get0_tbs_sigalg(basic));
  int digest = NID_undef;
  if (OBJ_find_sigid_algs(OBJ_obj2nid(object), &digest, nullptr) != 1) return false;
  return digest == NID_md5 || digest == NID_sha1 || digest == NID_md5_sha1;
}

/// The signer is the issuer, or somebody whom the issuer named for it (RFC 6960 §4.2.2.2).
bool speaks_for(const Certificate& issuer, OCSP_BASICRESP* basic, std::int64_t now) {
  const openssl::X509Store store(X509_STORE_new());
  const SignerStack signers(sk_X509_new_null());
  if (store == nullptr || signers == nullptr ||
      X509_STORE_add_cert(store.get(), issuer.handle()) != 1 ||
      sk_X509_push(signers.get(), issuer.handle()) <= 0) {
    return false;
  }
  // The issuer alone is the anchor, whoever signed it: the path to it was validated.
  X509_VERIFY_PARAM* parameters = X509_STORE_get0_param(store.get());
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
  X509_VERIFY_PARAM_set_time(parameters, now);
  X509_VERIFY_PARAM_set_auth_level(parameters, openssl::kSecurityLevel);
  // Without NOEXPLICIT a root could be trusted for OCSP of everybody by its auxiliary settings.
  const int verified = OCSP_basic_verify(basic, signers.get(), store.get(), OCSP_NOEXPLICIT);
  ERR_clear_error();
  return verified == 1;
}

/// Whether a CertID means that certificate, by the hash that it was made with (RFC 6960 §4.1.1).
bool names(const OCSP_CERTID* id, const Certificate& certificate, const Certificate& issuer) {
  ASN1_OBJECT* hash = nullptr;
  if (OCSP_id_get0_info(nullptr, &hash, nullptr, nullptr, const_cast<OCSP_CERTID*>(id)) != 1) {
    return false;
  }
  const EVP_MD* digest = EVP_get_digestbyobj(hash);
  if (digest == nullptr) return false;
  const OcspId ours(OCSP_cert_to_id(digest, certificate.handle(), issuer.handle()));
  return ours != nullptr && OCSP_id_cmp(ours.get(), id) == 0;
}

struct Dates {
  std::int64_t from = 0, until = 0;
};
/// RFC 6960 §4.2.2.1.
Result<Dates> dates_of(const ASN1_TIME* this_update, const ASN1_TIME* next_update,
                       const OcspRules& rules) {
  const auto from = openssl::unix_seconds(this_update);
  if (!from) return problem("has no date");
  if (*from > rules.now + kOcspSkew) return problem("is dated " + date_text(*from));
  const auto next = openssl::unix_seconds(next_update);
  if (next_update != nullptr && !next) return problem("has no date of its end");
  const std::int64_t until = next.value_or(*from + kOcspWithoutEnd);
  if (until + rules.grace.count() < rules.now) {
    return problem("expired on " + date_text(until));
  }
  return Dates{*from, until + rules.grace.count()};
}

}  // namespace

std::vector<std::string> ocsp_responders(const Certificate& certificate) {
  std::vector<std::string> all;
  const AddressStack found(X509_get1_ocsp(certificate.handle()));
  for (int index = 0; found != nullptr && index < sk_OPENSSL_STRING_num(found.get()); ++index) {
    std::string url = sk_OPENSSL_STRING_value(found.get(), index);
    if (url.starts_with("http://") && url.size() <= kMostAddressCharacters) {
      all.push_back(std::move(url));
    }
  }
  return all;
}

Result<std::vector<std::uint8_t>> ocsp_request(const Certificate& certificate,
                                               const Certificate& issuer) {
  const OcspRequestHandle request(OCSP_REQUEST_new());
  // RFC 5019 §2.1.1: SHA-1, which names the certificate and proves nothing.
  OcspId id(OCSP_cert_to_id(EVP_sha1(), certificate.handle(), issuer.handle()));
  if (request == nullptr || id == nullptr ||
      OCSP_request_add0_id(request.get(), id.get()) == nullptr) {
    return problem("cannot be asked about");
  }
  static_cast<void>(id.release());
  unsigned char* der = nullptr;
  const int size = i2d_OCSP_REQUEST(request.get(), &der);
  if (size <= 0) return problem("cannot be asked about");
  std::vector<std::uint8_t> bytes(der, der + size);
  OPENSSL_free(der);
  return bytes;
}

std::string ocsp_name(const Certificate& certificate, const Certificate& issuer) {
  const OcspId id(OCSP_cert_to_id(EVP_sha1(), certificate.handle(), issuer.handle()));
  unsigned char* der = nullptr;
  const int size = id == nullptr ? 0 : i2d_OCSP_CERTID(id.get(), &der);
  if (size <= 0) return {};
  std::string name(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return name;
}

Result<OcspResponse> OcspResponse::from_der(Bytes der) {
  if (der.size() > kMaxOcspBytes) {
    return problem("has " + std::to_string(der.size()) + " bytes, more than " +
                   std::to_string(kMaxOcspBytes));
  }
  const unsigned char* at = der.data();
  OCSP_RESPONSE* parsed = d2i_OCSP_RESPONSE(nullptr, &at, static_cast<long>(der.size()));
  OcspResponse response;
  response.response_ = std::shared_ptr<ocsp_response_st>(parsed, OCSP_RESPONSE_free);
  if (parsed == nullptr || at != der.data() + der.size()) return problem("is no OCSP response");
  response.der_.assign(der.begin(), der.end());
  return response;
}

Result<OcspStatus> OcspResponse::status_of(const Certificate& certificate,
                                           const Certificate& issuer,
                                           const OcspRules& rules) const {
  // 1. an answer at all  2. signed by whom it takes  3. about this certificate  4. current
  // 5. the status
  const int answered = OCSP_response_status(response_.get());
  if (answered != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
    return problem(std::string("is an error of the responder: ") +
                   OCSP_response_status_str(answered));
  }
  const OcspBasic basic(OCSP_response_get1_basic(response_.get()));
  if (basic == nullptr) return problem("is of another type than basic");
  const int statuses = OCSP_resp_count(basic.get());
  if (statuses > kMostStatuses) return problem("tells of too many certificates");
  if (signed_by_weak_hash(basic.get())) return problem("is signed over SHA-1 or MD5");
  if (!speaks_for(issuer, basic.get(), rules.now)) {
    return problem("is not signed by \"" + issuer.subject() + "\" or a responder that it named");
  }
  PkiError worst{"is for another certificate"};
  for (int index = 0; index < statuses; ++index) {
    OCSP_SINGLERESP* single = OCSP_resp_get0(basic.get(), index);
    if (!names(OCSP_SINGLERESP_get0_id(single), certificate, issuer)) continue;
    int reason = -1;
    ASN1_GENERALIZEDTIME *revoked_at = nullptr, *this_update = nullptr, *next_update = nullptr;
    const int status =
        OCSP_single_get0_status(single, &reason, &revoked_at, &this_update, &next_update);
    const auto dates = dates_of(this_update, next_update, rules);
    if (!dates) {
      worst = dates.error();
      continue;
    }
    if (status == V_OCSP_CERTSTATUS_GOOD) return OcspStatus{false, "", dates->until, dates->from};
    if (status != V_OCSP_CERTSTATUS_REVOKED) {
      worst = {"says that the responder does not know it"};
      continue;
    }
    std::string what = "revoked on " + date_text(openssl::unix_seconds(revoked_at).value_or(0));
    if (reason >= 0) what += std::string(" (") + OCSP_crl_reason_str(reason) + ")";
    return OcspStatus{true, std::move(what), dates->until, dates->from};
  }
  ERR_clear_error();
  return std::unexpected(worst);
}

}  // namespace culvert::crypto::pki
