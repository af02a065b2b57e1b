#include <catch2/catch.hpp>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "crypto/ike/ike_crypto.hpp"
#include "crypto/openssl_handles.hpp"
#include "vectors.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::ike;
using culvert::crypto::test::Buffer;
using culvert::crypto::test::copy;
using culvert::crypto::test::from_hex;
using culvert::crypto::test::read_vectors;
using culvert::crypto::test::ScriptedRandom;

namespace {

std::unique_ptr<KeyExchange> generate(Group group, Random& random) {
  auto exchange = generate_key_exchange(group, random);
  REQUIRE(exchange.has_value());
  return std::move(*exchange);
}

std::unique_ptr<KeyExchange> generate(Group group, std::uint64_t seed) {
  const auto random = make_seeded_random(seed);
  return generate(group, *random);
}

Buffer shared(const KeyExchange& ours, Bytes peer) {
  const auto secret = ours.shared_secret(peer);
  REQUIRE(secret.has_value());
  return copy(secret->view());
}

void check_refused(const KeyExchange& ours, const Buffer& peer, const char* what) {
  const auto secret = ours.shared_secret(peer);
  INFO(find(ours.group())->name << ": " << what);
  REQUIRE_FALSE(secret.has_value());
  CHECK_FALSE(secret.error().what.empty());
}

Group group_named(std::string_view name) {
  for (const GroupInfo& row : groups()) {
    if (row.name == name) return row.id;
  }
  FAIL("no group " << name);
  return Group::none;
}

Buffer big_endian(const BIGNUM* number, std::size_t width) {
  Buffer out(width);
  REQUIRE(BN_bn2binpad(number, out.data(), static_cast<int>(width)) == static_cast<int>(width));
  return out;
}

openssl::Number prime(Group group) {
  switch (group) {
    case Group::modp2048:
      return openssl::Number(BN_get_rfc3526_prime_2048(nullptr));
    case Group::modp3072:
      return openssl::Number(BN_get_rfc3526_prime_3072(nullptr));
    case Group::modp4096:
      return openssl::Number(BN_get_rfc3526_prime_4096(nullptr));
    case Group::modp6144:
      return openssl::Number(BN_get_rfc3526_prime_6144(nullptr));
    case Group::modp8192:
      return openssl::Number(BN_get_rfc3526_prime_8192(nullptr));
    default:
      FAIL("not a MODP group");
      return nullptr;
  }
}

constexpr Group kModp[] = {Group::modp2048, Group::modp3072, Group::modp4096, Group::modp6144,
                           Group::modp8192};
constexpr Group kCurves[] = {Group::ecp256, Group::ecp384, Group::ecp521};

/// OpenSSL's own key objects, which our code does not use: the other side of an exchange.
class OpensslPeer {
 public:
  OpensslPeer(const char* algorithm, const char* group) : algorithm_(algorithm) {
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, algorithm, nullptr));
    const OSSL_PARAM settings[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, const_cast<char*>(group), 0),
        OSSL_PARAM_construct_end()};
    REQUIRE(EVP_PKEY_keygen_init(context.get()) == 1);
    REQUIRE(EVP_PKEY_CTX_set_params(context.get(), settings) == 1);
    EVP_PKEY* key = nullptr;
    REQUIRE(EVP_PKEY_generate(context.get(), &key) == 1);
    key_.reset(key);
  }

  [[nodiscard]] Buffer public_value() const {
    unsigned char* encoded = nullptr;
    const std::size_t size = EVP_PKEY_get1_encoded_public_key(key_.get(), &encoded);
    REQUIRE(size > 0);
    // A curve's point has a leading octet (04) that IKE leaves out.
    const std::size_t skip = std::string_view(algorithm_) == "EC" ? 1 : 0;
    Buffer out(encoded + skip, encoded + size);
    OPENSSL_free(encoded);
    return out;
  }

  [[nodiscard]] Buffer derive(const Buffer& peer_public) const {
    Buffer encoded = peer_public;
    if (std::string_view(algorithm_) == "EC") encoded.insert(encoded.begin(), 0x04);
    const openssl::Key peer(EVP_PKEY_new());
    REQUIRE(EVP_PKEY_copy_parameters(peer.get(), key_.get()) == 1);
    REQUIRE(EVP_PKEY_set1_encoded_public_key(peer.get(), encoded.data(), encoded.size()) == 1);
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key_.get(), nullptr));
    unsigned int pad = 1;
    const OSSL_PARAM padded[] = {OSSL_PARAM_construct_uint(OSSL_EXCHANGE_PARAM_PAD, &pad),
                                 OSSL_PARAM_construct_end()};
    REQUIRE(EVP_PKEY_derive_init_ex(context.get(),
                                    std::string_view(algorithm_) == "DH" ? padded : nullptr) == 1);
    REQUIRE(EVP_PKEY_derive_set_peer(context.get(), peer.get()) == 1);
    std::size_t size = 0;
    REQUIRE(EVP_PKEY_derive(context.get(), nullptr, &size) == 1);
    Buffer secret(size);
    REQUIRE(EVP_PKEY_derive(context.get(), secret.data(), &size) == 1);
    secret.resize(size);
    return secret;
  }

 private:
  const char* algorithm_;
  openssl::Key key_;
};

}  // namespace

TEST_CASE("key exchange: the NIST curves agree with RFC 5903 §8, X25519 and X448 with RFC 7748 §6",
          "[key_exchange]") {
  for (const char* file : {"ecp_groups.txt", "x25519.txt", "x448.txt"}) {
    for (const auto& vector : read_vectors(file)) {
      INFO(vector.text("group"));
      const Group group = group_named(vector.text("group"));
      ScriptedRandom initiator_key(vector.bytes("initiator_private"));
      ScriptedRandom responder_key(vector.bytes("responder_private"));
      const auto initiator = generate(group, initiator_key);
      const auto responder = generate(group, responder_key);
      CHECK(initiator->public_value() == vector.bytes("initiator_public"));
      CHECK(responder->public_value() == vector.bytes("responder_public"));
      CHECK(shared(*initiator, responder->public_value()) == vector.bytes("shared"));
      CHECK(shared(*responder, initiator->public_value()) == vector.bytes("shared"));
    }
  }
}

TEST_CASE("key exchange: both sides arrive at one secret in every group", "[key_exchange]") {
  for (const GroupInfo& group : groups()) {
    INFO(group.name);
    const auto initiator = generate(group.id, 1);
    const auto responder = generate(group.id, 2);
    CHECK(initiator->group() == group.id);
    CHECK(initiator->public_value().size() == group.public_bytes);
    CHECK(initiator->public_value() != responder->public_value());
    CHECK(shared(*initiator, responder->public_value()) ==
          shared(*responder, initiator->public_value()));
  }
}

TEST_CASE("key exchange: the same randomness replays the same exchange", "[key_exchange]") {
  for (const GroupInfo& group : groups()) {
    INFO(group.name);
    CHECK(generate(group.id, 5)->public_value() == generate(group.id, 5)->public_value());
    CHECK(generate(group.id, 5)->public_value() != generate(group.id, 6)->public_value());
  }
}

TEST_CASE("key exchange: MODP and the curves agree with OpenSSL's own keys", "[key_exchange]") {
  const struct {
    Group group;
    const char* algorithm;
    const char* name;
  } peers[] = {{Group::modp2048, "DH", "modp_2048"}, {Group::modp3072, "DH", "modp_3072"},
               {Group::modp4096, "DH", "modp_4096"}, {Group::modp6144, "DH", "modp_6144"},
               {Group::modp8192, "DH", "modp_8192"}, {Group::ecp256, "EC", "P-256"},
               {Group::ecp384, "EC", "P-384"},       {Group::ecp521, "EC", "P-521"}};
  for (const auto& [group, algorithm, name] : peers) {
    INFO(name);
    const auto ours = generate(group, 77);
    const OpensslPeer theirs(algorithm, name);
    CHECK(shared(*ours, theirs.public_value()) == theirs.derive(ours->public_value()));
  }
}

TEST_CASE("key exchange: a MODP secret keeps its leading zeros (RFC 7296 §2.14)",
          "[key_exchange]") {
  // With the peer's value 2^8 = 256 the secret is our public value to the eighth power; about one
  // in 256 exchanges begins with a zero octet. Each must still have the prime's length.
  bool saw_leading_zero = false;
  Buffer peer(256, 0);
  peer[254] = 1;
  for (std::uint64_t seed = 0; seed < 3000 && !saw_leading_zero; ++seed) {
    const Buffer secret = shared(*generate(Group::modp2048, seed), peer);
    REQUIRE(secret.size() == 256);
    saw_leading_zero = secret[0] == 0;
  }
  CHECK(saw_leading_zero);
}

TEST_CASE("key exchange: values of the wrong length are refused in every group", "[key_exchange]") {
  for (const GroupInfo& group : groups()) {
    const auto ours = generate(group.id, 1);
    Buffer peer = generate(group.id, 2)->public_value();
    check_refused(*ours, {}, "nothing");
    peer.push_back(0);
    check_refused(*ours, peer, "one byte too many");
    peer.resize(group.public_bytes - 1U);
    check_refused(*ours, peer, "one byte too few");
    peer.insert(peer.begin(), {0x04, 0x00});
    check_refused(*ours, peer, "with SEC 1's leading octet");
  }
}

TEST_CASE("key exchange: MODP values 0, 1, p-1 and beyond are refused (RFC 6989 §2.1)",
          "[key_exchange]") {
  for (const Group group : kModp) {
    const auto ours = generate(group, 1);
    const std::size_t width = find(group)->public_bytes;
    Buffer value(width, 0);
    check_refused(*ours, value, "0");
    value.back() = 1;
    check_refused(*ours, value, "1");
    const openssl::Number number = prime(group);
    check_refused(*ours, big_endian(number.get(), width), "p");
    REQUIRE(BN_sub_word(number.get(), 1) == 1);
    check_refused(*ours, big_endian(number.get(), width), "p-1");
    REQUIRE(BN_sub_word(number.get(), 1) == 1);
    CHECK(ours->shared_secret(big_endian(number.get(), width)).has_value());  // p-2 is in range
    REQUIRE(BN_add_word(number.get(), 3) == 1);
    check_refused(*ours, big_endian(number.get(), width), "p+1");
    check_refused(*ours, Buffer(width, 0xFF), "all ones");
    value.back() = 2;
    CHECK(ours->shared_secret(value).has_value());
  }
}

TEST_CASE("key exchange: points off the curve are refused (RFC 6989 §2.3)", "[key_exchange]") {
  for (const Group group : kCurves) {
    const auto ours = generate(group, 1);
    const Buffer valid = generate(group, 2)->public_value();
    const std::size_t half = valid.size() / 2;
    check_refused(*ours, Buffer(valid.size(), 0), "0, 0");
    check_refused(*ours, Buffer(valid.size(), 0xFF), "all ones");
    for (const std::size_t at : {std::size_t{10}, half - 1, half + 10, valid.size() - 1}) {
      Buffer flipped = valid;
      flipped[at] ^= 1;
      check_refused(*ours, flipped, "one bit of a coordinate flipped");
    }
    Buffer swapped(valid.begin() + static_cast<std::ptrdiff_t>(half), valid.end());
    swapped.insert(swapped.end(), valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(half));
    check_refused(*ours, swapped, "y, x");
  }
}

TEST_CASE("key exchange: a coordinate written with p added is refused", "[key_exchange]") {
  // P-521's coordinates have 521 bits in 66 bytes, so x + p fits and means the same point modulo p.
  const auto ours = generate(Group::ecp521, 1);
  Buffer value = generate(Group::ecp521, 2)->public_value();
  const openssl::Number x(BN_bin2bn(value.data(), 66, nullptr));
  const openssl::CurveGroup curve(EC_GROUP_new_by_curve_name(NID_secp521r1));
  REQUIRE(BN_add(x.get(), x.get(), EC_GROUP_get0_field(curve.get())) == 1);
  const Buffer shifted = big_endian(x.get(), 66);
  std::copy(shifted.begin(), shifted.end(), value.begin());
  check_refused(*ours, value, "x + p");
}

TEST_CASE("key exchange: X25519 values of small order are refused (RFC 8031 §2.1)",
          "[key_exchange]") {
  const auto ours = generate(Group::x25519, 1);
  for (const char* small_order :
       {"0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    check_refused(*ours, from_hex(small_order), small_order);
  }
}

TEST_CASE("key exchange: a refused peer leaves our key usable", "[key_exchange]") {
  for (const GroupInfo& group : groups()) {
    INFO(group.name);
    const auto ours = generate(group.id, 1);
    const auto theirs = generate(group.id, 2);
    check_refused(*ours, Buffer(group.public_bytes, 0), "all zero");
    CHECK(shared(*ours, theirs->public_value()) == shared(*theirs, ours->public_value()));
  }
}

TEST_CASE("key exchange: private keys of a curve are drawn again when out of range",
          "[key_exchange]") {
  // All ones lies above the order of P-256 and zero below its range; the third draw is RFC 5903's.
  const auto vector = read_vectors("ecp_groups.txt").front();
  REQUIRE(vector.text("group") == "ecp256");
  Buffer script(32, 0xFF);
  script.insert(script.end(), 32, 0x00);
  const Buffer key = vector.bytes("initiator_private");
  script.insert(script.end(), key.begin(), key.end());
  ScriptedRandom random(script);
  CHECK(generate(Group::ecp256, random)->public_value() == vector.bytes("initiator_public"));
}

TEST_CASE("key exchange: groups that are not in the table are refused", "[key_exchange]") {
  const auto random = make_seeded_random(1);
  CHECK_FALSE(generate_key_exchange(Group::none, *random).has_value());
  CHECK_FALSE(generate_key_exchange(static_cast<Group>(2), *random).has_value());
  CHECK_FALSE(generate_key_exchange(static_cast<Group>(22), *random).has_value());
}

TEST_CASE("key exchange: a key that was recorded is the same key again", "[key_exchange]") {
  for (const GroupInfo& row : groups()) {
    if (row.id == Group::none) continue;
    INFO(row.name);
    const auto ours = generate(row.id, 11);
    const auto theirs = generate(row.id, 12);
    const SecretBytes recorded = ours->private_key();
    REQUIRE_FALSE(recorded.empty());

    auto again = restore_key_exchange(row.id, recorded.view());
    REQUIRE(again.has_value());
    CHECK((*again)->public_value() == ours->public_value());
    CHECK(shared(**again, theirs->public_value()) == shared(*ours, theirs->public_value()));
  }
}

TEST_CASE("key exchange: what is no private key of the group is refused", "[key_exchange]") {
  for (const GroupInfo& row : groups()) {
    if (row.id == Group::none) continue;
    INFO(row.name);
    const SecretBytes key = generate(row.id, 11)->private_key();
    CHECK_FALSE(restore_key_exchange(row.id, key.view().first(key.size() - 1)).has_value());
    CHECK_FALSE(restore_key_exchange(row.id, {}).has_value());
  }
  // Beyond the curve's order.
  CHECK_FALSE(restore_key_exchange(Group::ecp256, Buffer(32, 0xff)).has_value());
  CHECK_FALSE(restore_key_exchange(Group::ecp256, Buffer(32, 0x00)).has_value());
}
