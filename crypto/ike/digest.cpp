#include <cstdlib>

#include "crypto/ike/ike_crypto.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

/// Hashes the pieces as one string. A digest can fail only where memory or OpenSSL itself is gone;
/// the callers' results have no room for an error, so the process ends rather than go on with an
/// all-zero hash.
template <std::size_t kBytes>
std::array<std::uint8_t, kBytes> hash(const EVP_MD* digest, std::span<const Bytes> data) {
  const openssl::DigestContext context(EVP_MD_CTX_new());
  bool done = digest != nullptr && context != nullptr &&
              EVP_DigestInit_ex2(context.get(), digest, nullptr) == 1;
  for (const Bytes piece : data) {
    done = done && EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1;
  }
  std::array<std::uint8_t, kBytes> out{};
  done = done && EVP_DigestFinal_ex(context.get(), out.data(), nullptr) == 1;
  if (!done) std::abort();
  return out;
}

}  // namespace

std::array<std::uint8_t, 20> sha1(std::span<const Bytes> data) {
  static const openssl::Digest digest(EVP_MD_fetch(nullptr, "SHA1", nullptr));
  return hash<20>(digest.get(), data);
}

std::array<std::uint8_t, 32> sha256(std::span<const Bytes> data) {
  static const openssl::Digest digest(EVP_MD_fetch(nullptr, "SHA256", nullptr));
  return hash<32>(digest.get(), data);
}

}  // namespace culvert::crypto::ike
