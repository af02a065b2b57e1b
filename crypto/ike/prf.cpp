#include <algorithm>

#include <openssl/err.h>

#include "crypto/ike/hmac.hpp"
#include "crypto/ike/ike_crypto.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

/// prf+ counts its blocks in one octet, from 1 (RFC 7296 §2.13).
constexpr std::size_t kMaxPrfPlusBlocks = 255;

/// SHA-384's and SHA-512's; SHA-256 has half of it.
constexpr std::size_t kMostBlockBytes = 128;

struct HashParameters {
  const EVP_MD* digest;  ///< nullptr when OpenSSL lacks it
  std::size_t block_bytes;
  std::size_t output_bytes;
};

/// Each digest is looked up once, not by name at each HMAC.
HashParameters parameters(Hash hash) {
  static const openssl::Digest sha256(EVP_MD_fetch(nullptr, "SHA256", nullptr));
  static const openssl::Digest sha384(EVP_MD_fetch(nullptr, "SHA384", nullptr));
  static const openssl::Digest sha512(EVP_MD_fetch(nullptr, "SHA512", nullptr));
  switch (hash) {
    case Hash::sha2_256:
      break;
    case Hash::sha2_384:
      return {sha384.get(), 128, 48};
    case Hash::sha2_512:
      return {sha512.get(), 128, 64};
  }
  return {sha256.get(), 64, 32};
}

bool digest(EVP_MD_CTX* context, const EVP_MD* algorithm, std::span<const Bytes> pieces,
            MutableBytes out) {
  bool done = EVP_DigestInit_ex2(context, algorithm, nullptr) == 1;
  for (const Bytes piece : pieces) {
    done = done && EVP_DigestUpdate(context, piece.data(), piece.size()) == 1;
  }
  return done && EVP_DigestFinal_ex(context, out.data(), nullptr) == 1;
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

// RFC 2104 by hand, since OpenSSL's own looks its digest up by name at each call and keeps three
// contexts of it: together more than hashing a prf's input.
Result<SecretBytes> hmac(Hash hash, Bytes key, std::span<const Bytes> data) {
  const auto [algorithm, block_bytes, output_bytes] = parameters(hash);
  const openssl::DigestContext context(EVP_MD_CTX_new());
  InlineSecret<kMostBlockBytes> pad;  // K, zeros behind it, then XORed with ipad and with opad
  SecretBytes out(output_bytes);
  bool done = algorithm != nullptr && context != nullptr;
  if (key.size() <= block_bytes) {
    std::ranges::copy(key, pad.bytes.begin());
  } else {
    done = done && digest(context.get(), algorithm, {&key, 1}, pad.bytes);
  }
  const Bytes block = Bytes(pad.bytes).first(block_bytes);
  constexpr std::uint8_t kInner = 0x36, kOuter = 0x5c;
  for (std::uint8_t& octet : pad.bytes) octet ^= kInner;
  done = done && EVP_DigestInit_ex2(context.get(), algorithm, nullptr) == 1 &&
         EVP_DigestUpdate(context.get(), block.data(), block.size()) == 1;
  for (const Bytes piece : data) {
    done = done && EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1;
  }
  done = done && EVP_DigestFinal_ex(context.get(), out.span().data(), nullptr) == 1;
  for (std::uint8_t& octet : pad.bytes) octet ^= kInner ^ kOuter;
  const std::array<Bytes, 2> outer{block, out.view()};
  done = done && digest(context.get(), algorithm, outer, out.span());
  pad.wipe();
  if (!done) {
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
