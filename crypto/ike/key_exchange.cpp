#include <algorithm>

#include <openssl/err.h>

#include "crypto/ike/key_exchange_groups.hpp"

namespace culvert::crypto::ike {

CryptoError library_failure(const char* what) {
  ERR_clear_error();
  return CryptoError{std::string("OpenSSL failed: ") + what};
}

namespace {

/// Gives what was drawn in an earlier life, once. A maker that draws again did not like it, and
/// finds an end with what follows.
class Recorded final : public Random {
 public:
  explicit Recorded(Bytes bytes) : bytes_(bytes) {}
  void fill(MutableBytes out) override {
    accepted_ = fills_++ == 0 && out.size() == bytes_.size();
    if (accepted_) {
      std::ranges::copy(bytes_, out.begin());
    } else {
      std::ranges::fill(out, std::uint8_t{1});
    }
  }
  [[nodiscard]] bool accepted() const { return accepted_; }

 private:
  Bytes bytes_;
  std::uint32_t fills_ = 0;
  bool accepted_ = false;
};

}  // namespace

Result<std::unique_ptr<KeyExchange>> restore_key_exchange(Group group, Bytes private_key) {
  Recorded recorded(private_key);
  auto made = generate_key_exchange(group, recorded);
  if (made && !recorded.accepted()) {
    return std::unexpected(CryptoError{"not a private key of this group"});
  }
  return made;
}

Result<std::unique_ptr<KeyExchange>> generate_key_exchange(Group group, Random& random) {
  switch (group) {
    case Group::modp2048:
    case Group::modp3072:
    case Group::modp4096:
    case Group::modp6144:
    case Group::modp8192:
      return generate_modp(group, random);
    case Group::ecp256:
    case Group::ecp384:
    case Group::ecp521:
      return generate_curve(group, random);
    case Group::x25519:
    case Group::x448:
      return generate_montgomery(group, random);
    case Group::none:
      break;
  }
  return std::unexpected(CryptoError{"no such key exchange group"});
}

}  // namespace culvert::crypto::ike
