// AlgorithmIdentifiers of RFC 7427: the octet strings of its Appendix A, read by OpenSSL because
// RSASSA-PSS has parameters with defaults.
#include <algorithm>

#include <openssl/err.h>
#include <openssl/rsa.h>

#include "crypto/ike/signature.hpp"
#include "crypto/pki/openssl_x509.hpp"

namespace culvert::crypto::ike {
namespace {

using PssParameters = openssl::Handle<RSA_PSS_PARAMS, RSA_PSS_PARAMS_free>;

/// RFC 4055 §3.1: what an absent saltLength means.
constexpr int kDefaultSaltBytes = 20;

struct Row {
  int nid;
  SignatureFamily family;
  SignatureHash hash;
};
constexpr std::array kFixed = std::to_array<Row>({
    {NID_sha256WithRSAEncryption, SignatureFamily::rsa_pkcs1, SignatureHash::sha2_256},
    {NID_sha384WithRSAEncryption, SignatureFamily::rsa_pkcs1, SignatureHash::sha2_384},
    {NID_sha512WithRSAEncryption, SignatureFamily::rsa_pkcs1, SignatureHash::sha2_512},
    {NID_ecdsa_with_SHA256, SignatureFamily::ecdsa, SignatureHash::sha2_256},
    {NID_ecdsa_with_SHA384, SignatureFamily::ecdsa, SignatureHash::sha2_384},
    {NID_ecdsa_with_SHA512, SignatureFamily::ecdsa, SignatureHash::sha2_512},
    {NID_ED25519, SignatureFamily::ed25519, SignatureHash::identity},
    {NID_ED448, SignatureFamily::ed448, SignatureHash::identity},
});

std::optional<SignatureHash> hash_of(int nid) {
  switch (nid) {
    case NID_sha256:
      return SignatureHash::sha2_256;
    case NID_sha384:
      return SignatureHash::sha2_384;
    case NID_sha512:
      return SignatureHash::sha2_512;
    default:  // NOLINT: not an enum
      return std::nullopt;
  }
}
const EVP_MD* digest_of(SignatureHash hash) {
  switch (hash) {
    case SignatureHash::sha2_256:
      return EVP_sha256();
    case SignatureHash::sha2_384:
      return EVP_sha384();
    case SignatureHash::sha2_512:
      return EVP_sha512();
    case SignatureHash::identity:
      break;
  }
  return nullptr;
}

std::unexpected<CryptoError> algorithm_refused(std::string what) {
  ERR_clear_error();
  return std::unexpected(CryptoError{std::move(what)});
}

std::string oid_text(const ASN1_OBJECT* object) {
  char text[80] = "";
  OBJ_obj2txt(text, sizeof(text), object, 0);
  return text;
}

int nid_of(const X509_ALGOR* algorithm) {
  const ASN1_OBJECT* object = nullptr;
  X509_ALGOR_get0(&object, nullptr, nullptr, algorithm);
  return OBJ_obj2nid(object);
}

/// The hash under MGF1, RFC 4055 §2.2; NID_sha1 when absent.
int mask_hash_of(const RSA_PSS_PARAMS& parameters) {
  if (parameters.maskGenAlgorithm == nullptr) return NID_sha1;
  const ASN1_OBJECT* object = nullptr;
  int type = 0;
  const void* value = nullptr;
  X509_ALGOR_get0(&object, &type, &value, parameters.maskGenAlgorithm);
  if (OBJ_obj2nid(object) != NID_mgf1 || type != V_ASN1_SEQUENCE) return NID_undef;
  const auto* sequence = static_cast<const ASN1_STRING*>(value);
  const unsigned char* at = ASN1_STRING_get0_data(sequence);
  const openssl::AlgorithmId inner(d2i_X509_ALGOR(nullptr, &at, ASN1_STRING_length(sequence)));
  return inner == nullptr ? NID_undef : nid_of(inner.get());
}

Result<SignatureAlgorithm> parse_pss(int type, const void* value) {
  if (type != V_ASN1_SEQUENCE) {
    // RFC 8247 §4.3 forbids RSASSA-PSS with empty and with default parameters: they mean SHA-1.
    return algorithm_refused("RSASSA-PSS without parameters means SHA-1, which is not allowed");
  }
  const auto* sequence = static_cast<const ASN1_STRING*>(value);
  const unsigned char* at = ASN1_STRING_get0_data(sequence);
  const PssParameters parameters(d2i_RSA_PSS_PARAMS(nullptr, &at, ASN1_STRING_length(sequence)));
  if (parameters == nullptr ||
      at != ASN1_STRING_get0_data(sequence) + ASN1_STRING_length(sequence)) {
    return algorithm_refused("the parameters of RSASSA-PSS are malformed");
  }
  const int hash_nid =
      parameters->hashAlgorithm == nullptr ? NID_sha1 : nid_of(parameters->hashAlgorithm);
  const auto hash = hash_of(hash_nid);
  if (!hash) {
    return algorithm_refused(std::string("RSASSA-PSS with ") +
                             (hash_nid == NID_undef ? "an unknown hash" : OBJ_nid2sn(hash_nid)) +
                             " is not allowed; SHA-256, SHA-384 and SHA-512 are");
  }
  if (mask_hash_of(*parameters) != hash_nid) {
    return algorithm_refused(
        "RSASSA-PSS with another hash under its mask (RFC 4055 §3.1) is not supported");
  }
  const long salt = parameters->saltLength == nullptr ? kDefaultSaltBytes
                                                      : ASN1_INTEGER_get(parameters->saltLength);
  const bool trailer_fits =
      parameters->trailerField == nullptr || ASN1_INTEGER_get(parameters->trailerField) == 1;
  if (salt < 0 || salt > 512 || !trailer_fits) {
    return algorithm_refused("the salt length or trailer of RSASSA-PSS cannot be");
  }
  return SignatureAlgorithm{SignatureFamily::rsa_pss, *hash, static_cast<int>(salt)};
}

std::string_view name_of(SignatureHash hash) {
  switch (hash) {
    case SignatureHash::sha2_256:
      return "SHA-256";
    case SignatureHash::sha2_384:
      return "SHA-384";
    case SignatureHash::sha2_512:
      return "SHA-512";
    case SignatureHash::identity:
      return "identity";
  }
  return "unknown";
}

}  // namespace

std::string SignatureAlgorithm::name() const {
  const std::string with_hash = " with " + std::string(name_of(hash));
  switch (family) {
    case SignatureFamily::rsa_pkcs1:
      return "RSASSA-PKCS1-v1_5" + with_hash;
    case SignatureFamily::rsa_pss:
      return "RSASSA-PSS" + with_hash;
    case SignatureFamily::ecdsa:
      return "ECDSA" + with_hash;
    case SignatureFamily::ed25519:
      return "Ed25519";
    case SignatureFamily::ed448:
      return "Ed448";
  }
  return "unknown";
}

Result<SignatureAlgorithm> parse_algorithm_identifier(Bytes der) {
  const unsigned char* at = der.data();
  const openssl::AlgorithmId parsed(
      der.empty() ? nullptr : d2i_X509_ALGOR(nullptr, &at, static_cast<long>(der.size())));
  if (parsed == nullptr || at != der.data() + der.size()) {
    return algorithm_refused("the AlgorithmIdentifier is malformed");
  }
  const ASN1_OBJECT* object = nullptr;
  int type = 0;
  const void* value = nullptr;
  X509_ALGOR_get0(&object, &type, &value, parsed.get());
  const int nid = OBJ_obj2nid(object);
  if (nid == NID_rsassaPss) return parse_pss(type, value);
  const auto row = std::ranges::find(kFixed, nid, &Row::nid);
  if (row == kFixed.end()) {
    return algorithm_refused("the signature algorithm " + oid_text(object) + " is not allowed");
  }
  // RFC 7427 Appendix A: NULL for RSASSA-PKCS1-v1_5, nothing for ECDSA; RFC 8410 §3: nothing. An
  // absent NULL is tolerated (RFC 4055 §5).
  const bool parameters_fit =
      type == V_ASN1_UNDEF || (type == V_ASN1_NULL && row->family == SignatureFamily::rsa_pkcs1);
  if (!parameters_fit)
    return algorithm_refused(oid_text(object) + " has parameters that cannot be");
  return SignatureAlgorithm{row->family, row->hash, 0};
}

std::vector<std::uint8_t> encode_algorithm_identifier(const SignatureAlgorithm& algorithm) {
  const openssl::AlgorithmId id(X509_ALGOR_new());
  if (id == nullptr) return {};
  if (algorithm.family == SignatureFamily::rsa_pss) {
    const PssParameters parameters(RSA_PSS_PARAMS_new());
    const openssl::AlgorithmId mask(X509_ALGOR_new());
    if (parameters == nullptr || mask == nullptr) return {};
    // RFC 7427 Appendix A.4 writes the hashes with NULL parameters.
    const EVP_MD* digest = digest_of(algorithm.hash);
    const auto hash_nid = EVP_MD_get_type(digest);
    parameters->hashAlgorithm = X509_ALGOR_new();
    parameters->maskGenAlgorithm = X509_ALGOR_new();
    parameters->saltLength = ASN1_INTEGER_new();
    X509_ALGOR_set0(parameters->hashAlgorithm, OBJ_nid2obj(hash_nid), V_ASN1_NULL, nullptr);
    X509_ALGOR_set0(mask.get(), OBJ_nid2obj(hash_nid), V_ASN1_NULL, nullptr);
    ASN1_STRING* packed_mask = nullptr;
    ASN1_item_pack(mask.get(), ASN1_ITEM_rptr(X509_ALGOR), &packed_mask);
    X509_ALGOR_set0(parameters->maskGenAlgorithm, OBJ_nid2obj(NID_mgf1), V_ASN1_SEQUENCE,
                    packed_mask);
    ASN1_INTEGER_set(parameters->saltLength, algorithm.salt_bytes);
    ASN1_STRING* packed = nullptr;
    ASN1_item_pack(parameters.get(), ASN1_ITEM_rptr(RSA_PSS_PARAMS), &packed);
    X509_ALGOR_set0(id.get(), OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, packed);
  } else {
    const auto row = std::ranges::find_if(kFixed, [&](const Row& candidate) {
      return candidate.family == algorithm.family && candidate.hash == algorithm.hash;
    });
    if (row == kFixed.end()) return {};
    const bool null_parameters = row->family == SignatureFamily::rsa_pkcs1;
    X509_ALGOR_set0(id.get(), OBJ_nid2obj(row->nid), null_parameters ? V_ASN1_NULL : V_ASN1_UNDEF,
                    nullptr);
  }
  unsigned char* der = nullptr;
  const int size = i2d_X509_ALGOR(id.get(), &der);
  std::vector<std::uint8_t> encoded;
  if (size > 0) encoded.assign(der, der + size);
  OPENSSL_free(der);
  return encoded;
}

}  // namespace culvert::crypto::ike
