#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include "crypto/ike/hmac.hpp"
#include "crypto/ike/ike_crypto.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

/// prf+ counts its blocks in one octet, from 1 (RFC 7296 §2.13).
constexpr std::size_t kMaxPrfPlusBlocks = 255;

struct HashParameters {
  const char* name;
  std::size_t output_bytes;
};

constexpr HashParameters parameters(Hash hash) {
  switch (hash) {
    case Hash::sha2_256:
      return {"SHA256", 32};
    case Hash::sha2_384:
      return {"SHA384", 48};
    case Hash::sha2_512:
      return {"SHA512", 64};
  }
  return {"SHA256", 32};
}

Result<Hash> hash_of(Prf id) {
  switch (id) {
    case Prf::hmac_sha2_256:
      return Hash::sha2_256;
    case Prf::hmac_sha2_384:
      return Hash::sha2_384;
    case Prf::hmac_sha2_512:
      return Hash::sha2_512;
    case Prf::none:
      break;
  }
  return std::unexpected(CryptoError{"no such PRF"});
}

}  // namespace

Result<SecretBytes> hmac(Hash hash, Bytes key, std::span<const Bytes> data) {
  static const openssl::Mac algorithm(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
  // OpenSSL reads a null key as "keep the former one"; an empty key must still point somewhere.
  static constexpr std::uint8_t kEmptyKey = 0;
  const auto [name, output_bytes] = parameters(hash);
  const OSSL_PARAM settings[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(name), 0),
      OSSL_PARAM_construct_end()};

  const openssl::MacContext context(EVP_MAC_CTX_new(algorithm.get()));
  bool done =
      context != nullptr &&
      EVP_MAC_init(context.get(), key.empty() ? &kEmptyKey : key.data(), key.size(), settings) == 1;
  for (const Bytes piece : data) {
    if (piece.empty()) continue;
    done = done && EVP_MAC_update(context.get(), piece.data(), piece.size()) == 1;
  }
  SecretBytes out(output_bytes);
  std::size_t written = 0;
  done = done && EVP_MAC_final(context.get(), out.span().data(), &written, out.size()) == 1;
  if (!done || written != output_bytes) {
    ERR_clear_error();
    return std::unexpected(CryptoError{"HMAC failed"});
  }
  return out;
}

Result<SecretBytes> prf(Prf id, Bytes key, std::span<const Bytes> data) {
  const Result<Hash> hash = hash_of(id);
  if (!hash) return std::unexpected(hash.error());
  return hmac(*hash, key, data);
}

Result<SecretBytes> prf_plus(Prf id, Bytes key, Bytes seed, std::size_t length) {
  const Result<Hash> hash = hash_of(id);
  if (!hash) return std::unexpected(hash.error());
  const std::size_t block_bytes = parameters(*hash).output_bytes;
  if (length > kMaxPrfPlusBlocks * block_bytes) {
    return std::unexpected(CryptoError{"prf+ cannot yield so many bytes (RFC 7296 §2.13)"});
  }

  SecretBytes out(length);
  SecretBytes block;  // T1 = prf (K, S | 0x01), Tn = prf (K, Tn-1 | S | n)
  for (std::size_t filled = 0, counter = 1; filled < length; ++counter) {
    const auto count = static_cast<std::uint8_t>(counter);
    const std::array<Bytes, 3> input{block.view(), seed, Bytes(&count, 1)};
    Result<SecretBytes> next = hmac(*hash, key, input);
    if (!next) return std::unexpected(next.error());
    block = std::move(*next);
    const std::size_t part = std::min(block_bytes, length - filled);
    std::memcpy(out.span().data() + filled, block.view().data(), part);
    filled += part;
  }
  return out;
}

}  // namespace culvert::crypto::ike
