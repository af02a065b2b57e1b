// The NIST curves as IKE uses them (RFC 5903): public values are x ‖ y without a leading octet, the
// shared secret is the x coordinate.
#include <openssl/obj_mac.h>

#include "crypto/ike/key_exchange_groups.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

/// The group's curve, made once: that takes as long as a multiplication with P-256's base point.
/// nullptr for other groups and when OpenSSL fails. Only read, so any thread may.
const EC_GROUP* curve_of(Group group) {
  static const openssl::CurveGroup p256(EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1));
  static const openssl::CurveGroup p384(EC_GROUP_new_by_curve_name(NID_secp384r1));
  static const openssl::CurveGroup p521(EC_GROUP_new_by_curve_name(NID_secp521r1));
  switch (group) {
    case Group::ecp256:
      return p256.get();
    case Group::ecp384:
      return p384.get();
    case Group::ecp521:
      return p521.get();
    case Group::none:
    case Group::modp2048:
    case Group::modp3072:
    case Group::modp4096:
    case Group::modp6144:
    case Group::modp8192:
    case Group::x25519:
    case Group::x448:
      break;
  }
  return nullptr;
}

/// A private key, uniform over 1 … order-1, by drawing until the number falls in that range.
openssl::SecretNumber draw_private_key(const BIGNUM* order, Random& random) {
  const int bits = BN_num_bits(order);
  SecretBytes drawn((static_cast<std::size_t>(bits) + 7) / 8);
  openssl::SecretNumber key(BN_new());
  if (key == nullptr) return nullptr;
  do {
    random.fill(drawn.span());
    if (bits % 8 != 0) drawn.span().front() &= static_cast<std::uint8_t>((1U << (bits % 8)) - 1U);
    if (BN_bin2bn(drawn.view().data(), static_cast<int>(drawn.size()), key.get()) == nullptr) {
      return nullptr;
    }
  } while (BN_is_zero(key.get()) || BN_cmp(key.get(), order) >= 0);
  BN_set_flags(key.get(), BN_FLG_CONSTTIME);
  return key;
}

class Curve final : public KeyExchange {
 public:
  Curve(Group group, const EC_GROUP* curve, openssl::SecretNumber key)
      : group_(group),
        curve_(curve),
        key_(std::move(key)),
        coordinate_bytes_(find(group)->public_bytes / 2U) {}

  /// Computes the public point; false when OpenSSL fails.
  [[nodiscard]] bool compute_public_value() {
    const openssl::NumberContext scratch(BN_CTX_secure_new());
    const openssl::CurvePoint point(EC_POINT_new(curve_));
    public_value_.resize(2 * coordinate_bytes_);
    const MutableBytes out(public_value_);
    return scratch != nullptr && point != nullptr &&
           EC_POINT_mul(curve_, point.get(), key_.get(), nullptr, nullptr, scratch.get()) == 1 &&
           write_coordinates(point.get(), out.first(coordinate_bytes_), out.last(coordinate_bytes_),
                             scratch.get());
  }

  [[nodiscard]] Group group() const override { return group_; }
  [[nodiscard]] const std::vector<std::uint8_t>& public_value() const override {
    return public_value_;
  }

  [[nodiscard]] Result<SecretBytes> shared_secret(Bytes peer_public) const override {
    if (peer_public.size() != public_value_.size()) {
      return std::unexpected(CryptoError{"the peer's public value has the wrong length"});
    }
    const openssl::NumberContext scratch(BN_CTX_secure_new());
    const openssl::CurvePoint shared(EC_POINT_new(curve_));
    if (scratch == nullptr || shared == nullptr) {
      return std::unexpected(library_failure("elliptic curve arithmetic"));
    }
    const openssl::CurvePoint peer = read_point(peer_public, scratch.get());
    if (peer == nullptr) {
      return std::unexpected(CryptoError{"the peer's public value is not on the curve (RFC 6989)"});
    }
    SecretBytes x(coordinate_bytes_);
    SecretBytes y(coordinate_bytes_);
    // The order is prime and the cofactor 1, so a point of the curve times 1 … order-1 is never the
    // point at infinity.
    if (EC_POINT_mul(curve_, shared.get(), nullptr, peer.get(), key_.get(), scratch.get()) != 1 ||
        !write_coordinates(shared.get(), x.span(), y.span(), scratch.get())) {
      return std::unexpected(library_failure("elliptic curve arithmetic"));
    }
    return x;
  }

  [[nodiscard]] SecretBytes private_key() const override {
    const int bits = BN_num_bits(EC_GROUP_get0_order(curve_));
    SecretBytes bytes((static_cast<std::size_t>(bits) + 7) / 8);
    const int width = static_cast<int>(bytes.size());
    if (BN_bn2binpad(key_.get(), bytes.span().data(), width) != width) return {};
    return bytes;
  }

 private:
  /// RFC 6989 §2.3: both coordinates below p, and the point on the curve. nullptr otherwise.
  [[nodiscard]] openssl::CurvePoint read_point(Bytes value, BN_CTX* scratch) const {
    const int width = static_cast<int>(coordinate_bytes_);
    const openssl::Number x(BN_bin2bn(value.data(), width, nullptr));
    const openssl::Number y(BN_bin2bn(value.data() + coordinate_bytes_, width, nullptr));
    openssl::CurvePoint point(EC_POINT_new(curve_));
    const BIGNUM* field = EC_GROUP_get0_field(curve_);
    const bool valid =
        x != nullptr && y != nullptr && point != nullptr && BN_cmp(x.get(), field) < 0 &&
        BN_cmp(y.get(), field) < 0 &&
        EC_POINT_set_affine_coordinates(curve_, point.get(), x.get(), y.get(), scratch) == 1 &&
        EC_POINT_is_on_curve(curve_, point.get(), scratch) == 1;
    if (valid) return point;
    (void)library_failure("a point off the curve");  // leaves its error queue clean
    return nullptr;
  }

  [[nodiscard]] bool write_coordinates(const EC_POINT* point, MutableBytes x_out,
                                       MutableBytes y_out, BN_CTX* scratch) const {
    const openssl::SecretNumber x(BN_new());
    const openssl::SecretNumber y(BN_new());
    const int width = static_cast<int>(coordinate_bytes_);
    return x != nullptr && y != nullptr &&
           EC_POINT_get_affine_coordinates(curve_, point, x.get(), y.get(), scratch) == 1 &&
           BN_bn2binpad(x.get(), x_out.data(), width) == width &&
           BN_bn2binpad(y.get(), y_out.data(), width) == width;
  }

  Group group_;
  const EC_GROUP* curve_;
  openssl::SecretNumber key_;
  std::size_t coordinate_bytes_;
  std::vector<std::uint8_t> public_value_;
};

}  // namespace

Result<std::unique_ptr<KeyExchange>> generate_curve(Group group, Random& random) {
  const EC_GROUP* const curve = curve_of(group);
  if (curve == nullptr) return std::unexpected(library_failure("elliptic curve"));
  openssl::SecretNumber key = draw_private_key(EC_GROUP_get0_order(curve), random);
  if (key == nullptr) return std::unexpected(library_failure("big numbers"));
  auto exchange = std::make_unique<Curve>(group, curve, std::move(key));
  if (!exchange->compute_public_value()) {
    return std::unexpected(library_failure("elliptic curve arithmetic"));
  }
  return exchange;
}

}  // namespace culvert::crypto::ike
