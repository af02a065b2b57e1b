// Signing and verifying. Which algorithm our key uses is decided here: the strongest that its kind
// and the peer's hashes allow.
#include "crypto/ike/signature.hpp"

#include <algorithm>

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "crypto/pki/openssl_x509.hpp"

namespace culvert::crypto::ike {
namespace {

using pki::KeyType;
using EcdsaSignature = openssl::Handle<ECDSA_SIG, ECDSA_SIG_free>;

/// RFC 7427 §3: one octet tells the AlgorithmIdentifier's length.
constexpr std::size_t kMaxAlgorithmBytes = 255;

const char* digest_name(SignatureHash hash) {
  switch (hash) {
    case SignatureHash::sha2_256:
      return "SHA256";
    case SignatureHash::sha2_384:
      return "SHA384";
    case SignatureHash::sha2_512:
      return "SHA512";
    case SignatureHash::identity:
      break;
  }
  return nullptr;
}
int salt_bytes(SignatureHash hash) {
  return hash == SignatureHash::sha2_256 ? 32 : hash == SignatureHash::sha2_384 ? 48 : 64;
}

std::unexpected<CryptoError> failed(std::string what) {
  ERR_clear_error();
  return std::unexpected(CryptoError{std::move(what)});
}

bool set_padding(EVP_PKEY_CTX* context, const SignatureAlgorithm& algorithm) {
  switch (algorithm.family) {
    case SignatureFamily::rsa_pkcs1:
      return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1;
    case SignatureFamily::rsa_pss:
      return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(context, algorithm.salt_bytes) == 1;
    case SignatureFamily::ecdsa:
    case SignatureFamily::ed25519:
    case SignatureFamily::ed448:
      return true;
  }
  return false;
}

bool fits(KeyType key, SignatureFamily family) {
  switch (family) {
    case SignatureFamily::rsa_pkcs1:
    case SignatureFamily::rsa_pss:
      return key == KeyType::rsa;
    case SignatureFamily::ecdsa:
      return key == KeyType::ecdsa_256 || key == KeyType::ecdsa_384 || key == KeyType::ecdsa_521;
    case SignatureFamily::ed25519:
      return key == KeyType::ed25519;
    case SignatureFamily::ed448:
      return key == KeyType::ed448;
  }
  return false;
}

Result<std::vector<std::uint8_t>> raw_sign(EVP_PKEY* key, const SignatureAlgorithm& algorithm,
                                           Bytes octets) {
  const openssl::DigestContext context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* parameters = nullptr;
  std::size_t size = 0;
  bool done = context != nullptr &&
              EVP_DigestSignInit_ex(context.get(), &parameters, digest_name(algorithm.hash),
                                    nullptr, nullptr, key, nullptr) == 1 &&
              set_padding(parameters, algorithm) &&
              EVP_DigestSign(context.get(), nullptr, &size, octets.data(), octets.size()) == 1;
  std::vector<std::uint8_t> signature(size);
  done = done &&
         EVP_DigestSign(context.get(), signature.data(), &size, octets.data(), octets.size()) == 1;
  if (!done) return failed("signing with " + algorithm.name() + " failed");
  signature.resize(size);
  return signature;
}

bool raw_verify(EVP_PKEY* key, const SignatureAlgorithm& algorithm, Bytes signature, Bytes octets) {
  const openssl::DigestContext context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* parameters = nullptr;
  const bool holds =
      context != nullptr &&
      EVP_DigestVerifyInit_ex(context.get(), &parameters, digest_name(algorithm.hash), nullptr,
                              nullptr, key, nullptr) == 1 &&
      set_padding(parameters, algorithm) &&
      EVP_DigestVerify(context.get(), signature.data(), signature.size(), octets.data(),
                       octets.size()) == 1;
  ERR_clear_error();
  return holds;
}

/// RFC 4754 §3: the hash and the octets of each half belong to the method.
struct EcdsaMethod {
  std::uint8_t method;
  KeyType key;
  SignatureHash hash;
  std::size_t half_bytes;
};
constexpr std::array kEcdsaMethods = std::to_array<EcdsaMethod>({
    {auth_method::kEcdsa256, KeyType::ecdsa_256, SignatureHash::sha2_256, 32},
    {auth_method::kEcdsa384, KeyType::ecdsa_384, SignatureHash::sha2_384, 48},
    {auth_method::kEcdsa521, KeyType::ecdsa_521, SignatureHash::sha2_512, 66},
});

/// RFC 4754 §7: r | s, each of the field's length; OpenSSL speaks DER.
Result<std::vector<std::uint8_t>> concatenated(Bytes der, std::size_t half_bytes) {
  const unsigned char* at = der.data();
  const EcdsaSignature signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  std::vector<std::uint8_t> both(2 * half_bytes);
  const auto half = static_cast<int>(half_bytes);
  if (signature == nullptr ||
      BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), both.data(), half) != half ||
      BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), both.data() + half_bytes, half) != half) {
    return failed("the signature does not convert");
  }
  return both;
}
std::vector<std::uint8_t> to_der(Bytes both) {
  const std::size_t half = both.size() / 2;
  const EcdsaSignature signature(ECDSA_SIG_new());
  openssl::Number r(BN_bin2bn(both.data(), static_cast<int>(half), nullptr));
  openssl::Number s(BN_bin2bn(both.data() + half, static_cast<int>(half), nullptr));
  if (signature == nullptr || r == nullptr || s == nullptr) return {};
  // Takes both over when it succeeds, and it does: neither is null.
  ECDSA_SIG_set0(signature.get(), r.release(), s.release());
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &der);
  std::vector<std::uint8_t> encoded;
  if (size > 0) encoded.assign(der, der + size);
  OPENSSL_free(der);
  return encoded;
}

/// The hash for our key among the peer's: the one as strong as the key first, then stronger ones.
std::optional<SignatureHash> choose_hash(KeyType key, std::span<const std::uint16_t> peer) {
  using enum SignatureHash;
  std::array<SignatureHash, 3> order{sha2_256, sha2_384, sha2_512};
  switch (key) {
    case KeyType::rsa:
    case KeyType::ecdsa_256:
      break;
    case KeyType::ecdsa_384:
      order = {sha2_384, sha2_512, sha2_256};
      break;
    case KeyType::ecdsa_521:
      order = {sha2_512, sha2_384, sha2_256};
      break;
    case KeyType::ed25519:
    case KeyType::ed448:
      order = {identity, identity, identity};
      break;
  }
  for (const SignatureHash hash : order) {
    if (std::ranges::find(peer, static_cast<std::uint16_t>(hash)) != peer.end()) return hash;
  }
  return std::nullopt;
}

SignatureFamily family_of(KeyType key) {
  switch (key) {
    case KeyType::rsa:
      // RFC 8247 §4.3 and RFC 7427 Appendix A prefer PSS where the peer can say what it verifies.
      return SignatureFamily::rsa_pss;
    case KeyType::ecdsa_256:
    case KeyType::ecdsa_384:
    case KeyType::ecdsa_521:
      return SignatureFamily::ecdsa;
    case KeyType::ed25519:
      return SignatureFamily::ed25519;
    case KeyType::ed448:
      return SignatureFamily::ed448;
  }
  return SignatureFamily::ecdsa;
}

Result<Signature> sign_with_method_14(const pki::PrivateKey& key, SignatureHash hash,
                                      Bytes octets) {
  SignatureAlgorithm algorithm{family_of(key.type()), hash, 0};
  if (algorithm.family == SignatureFamily::rsa_pss) algorithm.salt_bytes = salt_bytes(hash);
  const auto signature = raw_sign(key.handle(), algorithm, octets);
  if (!signature) return std::unexpected(signature.error());
  const auto id = encode_algorithm_identifier(algorithm);
  if (id.empty() || id.size() > kMaxAlgorithmBytes) {
    return failed(algorithm.name() + " has no AlgorithmIdentifier");
  }
  Signature proof{auth_method::kDigitalSignature, {}, algorithm.name()};
  proof.data.push_back(static_cast<std::uint8_t>(id.size()));
  proof.data.insert(proof.data.end(), id.begin(), id.end());
  proof.data.insert(proof.data.end(), signature->begin(), signature->end());
  return proof;
}

/// RFC 7296 §2.15 recommends SHA-1 for method 1; RFC 8247 §4.3 forbids it. PKCS#1 names the hash in
/// the signature, so that a peer that knows SHA-256 verifies it without having been asked.
Result<Signature> sign_without_negotiation(const pki::PrivateKey& key, Bytes octets) {
  if (key.type() == KeyType::rsa) {
    const SignatureAlgorithm algorithm{SignatureFamily::rsa_pkcs1, SignatureHash::sha2_256, 0};
    auto signature = raw_sign(key.handle(), algorithm, octets);
    if (!signature) return std::unexpected(signature.error());
    return Signature{auth_method::kRsa, *std::move(signature), algorithm.name()};
  }
  const auto row = std::ranges::find(kEcdsaMethods, key.type(), &EcdsaMethod::key);
  if (row == kEcdsaMethods.end()) {
    return failed("the peer does not support digital signatures (RFC 7427), without which " +
                  std::string(pki::name_of(key.type())) + " cannot be used");
  }
  const SignatureAlgorithm algorithm{SignatureFamily::ecdsa, row->hash, 0};
  const auto der = raw_sign(key.handle(), algorithm, octets);
  if (!der) return std::unexpected(der.error());
  auto both = concatenated(*der, row->half_bytes);
  if (!both) return std::unexpected(both.error());
  return Signature{row->method, *std::move(both), algorithm.name()};
}

Result<std::string> verify_method_14(const pki::Certificate& certificate, KeyType key, Bytes data,
                                     Bytes octets) {
  // RFC 7427 §3: length of the AlgorithmIdentifier, the AlgorithmIdentifier, the signature.
  const std::size_t id_bytes = data.empty() ? 0 : data[0];
  if (id_bytes == 0 || data.size() <= 1 + id_bytes) {
    return failed("the digital signature's AlgorithmIdentifier is truncated");
  }
  const auto algorithm = parse_algorithm_identifier(data.subspan(1, id_bytes));
  if (!algorithm) return std::unexpected(algorithm.error());
  if (!fits(key, algorithm->family)) {
    return failed("the signature claims " + algorithm->name() + ", the certificate's key is " +
                  std::string(pki::name_of(key)));
  }
  if (!raw_verify(certificate.public_key(), *algorithm, data.subspan(1 + id_bytes), octets)) {
    return failed("the signature (" + algorithm->name() + ") does not verify");
  }
  return algorithm->name();
}

Result<std::string> verify_rsa(const pki::Certificate& certificate, KeyType key, Bytes data,
                               Bytes octets) {
  if (key != KeyType::rsa) {
    return failed("the signature claims RSA, the certificate's key is " +
                  std::string(pki::name_of(key)));
  }
  for (const SignatureHash hash :
       {SignatureHash::sha2_256, SignatureHash::sha2_384, SignatureHash::sha2_512}) {
    const SignatureAlgorithm algorithm{SignatureFamily::rsa_pkcs1, hash, 0};
    if (raw_verify(certificate.public_key(), algorithm, data, octets)) return algorithm.name();
  }
  return failed(
      "the RSA signature does not verify with SHA-256, SHA-384 or SHA-512 (SHA-1 is not accepted: "
      "RFC 8247 §4.3)");
}

Result<std::string> verify_ecdsa(const pki::Certificate& certificate, KeyType key,
                                 const EcdsaMethod& row, Bytes data, Bytes octets) {
  if (key != row.key) {
    return failed("the signature claims " + std::string(pki::name_of(row.key)) +
                  ", the certificate's key is " + std::string(pki::name_of(key)));
  }
  const SignatureAlgorithm algorithm{SignatureFamily::ecdsa, row.hash, 0};
  // RFC 4754 §7: the length is the method's, neither more nor less.
  if (data.size() != 2 * row.half_bytes ||
      !raw_verify(certificate.public_key(), algorithm, to_der(data), octets)) {
    return failed("the signature (" + algorithm.name() + ") does not verify");
  }
  return algorithm.name();
}

}  // namespace

std::string auth_method_text(std::uint8_t method) {
  switch (method) {
    case auth_method::kRsa:
      return "RSA signature (method 1)";
    case auth_method::kSharedKey:
      return "pre-shared key (method 2)";
    case auth_method::kEcdsa256:
      return "ECDSA P-256 (method 9)";
    case auth_method::kEcdsa384:
      return "ECDSA P-384 (method 10)";
    case auth_method::kEcdsa521:
      return "ECDSA P-521 (method 11)";
    case auth_method::kDigitalSignature:
      return "digital signature (method 14)";
    default:  // NOLINT: a number from the wire
      return "method " + std::to_string(method);
  }
}

Result<Signature> sign(const pki::PrivateKey& key,
                       std::optional<std::span<const std::uint16_t>> peer_hashes, Bytes octets) {
  if (peer_hashes) {
    if (const auto hash = choose_hash(key.type(), *peer_hashes)) {
      return sign_with_method_14(key, *hash, octets);
    }
  }
  return sign_without_negotiation(key, octets);
}

Result<std::string> verify(const pki::Certificate& certificate, std::uint8_t method, Bytes data,
                           Bytes octets) {
  const auto key = certificate.key_type();
  if (!key) return failed("the certificate " + key.error().what);
  if (method == auth_method::kDigitalSignature) {
    return verify_method_14(certificate, *key, data, octets);
  }
  if (method == auth_method::kRsa) return verify_rsa(certificate, *key, data, octets);
  const auto row = std::ranges::find(kEcdsaMethods, method, &EcdsaMethod::method);
  if (row == kEcdsaMethods.end()) return failed(auth_method_text(method) + " is no signature");
  return verify_ecdsa(certificate, *key, *row, data, octets);
}

}  // namespace culvert::crypto::ike
