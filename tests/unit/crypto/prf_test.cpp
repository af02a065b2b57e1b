#include <catch2/catch.hpp>
#include <openssl/evp.h>

#include "crypto/ike/ike_crypto.hpp"
#include "vectors.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::ike;
using culvert::crypto::test::Buffer;
using culvert::crypto::test::copy;
using culvert::crypto::test::from_hex;
using culvert::crypto::test::read_vectors;

namespace {

struct PrfCase {
  Prf id;
  const char* hash;
};
constexpr PrfCase kPrfs[] = {
    {Prf::hmac_sha2_256, "sha256"}, {Prf::hmac_sha2_384, "sha384"}, {Prf::hmac_sha2_512, "sha512"}};

Buffer prf_of(Prf id, Bytes key, std::vector<Bytes> pieces) {
  const auto result = prf(id, key, pieces);
  REQUIRE(result.has_value());
  return copy(result->view());
}

/// prf+ written down as RFC 7296 §2.13 has it, on OpenSSL's one-shot HMAC.
Buffer model_prf_plus(const char* hash, const Buffer& key, const Buffer& seed, std::size_t length) {
  Buffer all;
  Buffer previous;
  for (std::uint8_t n = 1; all.size() < length; ++n) {
    Buffer input = previous;
    input.insert(input.end(), seed.begin(), seed.end());
    input.push_back(n);
    previous.assign(EVP_MAX_MD_SIZE, 0);
    std::size_t written = 0;
    REQUIRE(EVP_Q_mac(nullptr, "HMAC", nullptr, hash, nullptr, key.data(), key.size(), input.data(),
                      input.size(), previous.data(), previous.size(), &written) != nullptr);
    previous.resize(written);
    all.insert(all.end(), previous.begin(), previous.end());
  }
  all.resize(length);
  return all;
}

}  // namespace

TEST_CASE("prf: HMAC-SHA2 agrees with RFC 4231, whole and in pieces", "[prf]") {
  for (const auto& vector : read_vectors("hmac_sha2.txt")) {
    const Buffer key = vector.bytes("key");
    const Buffer data = vector.bytes("data");
    for (const PrfCase& wanted : kPrfs) {
      INFO("case " << vector.text("case") << " " << wanted.hash);
      CHECK(prf_of(wanted.id, key, {data}) == vector.bytes(wanted.hash));
      const Bytes whole(data);
      CHECK(prf_of(wanted.id, key, {whole.first(3), Bytes(), whole.subspan(3)}) ==
            vector.bytes(wanted.hash));
    }
  }
}

TEST_CASE("prf: an empty key is not the key of the call before", "[prf]") {
  const Buffer data{1, 2, 3};
  (void)prf_of(Prf::hmac_sha2_256, Buffer(32, 0x77), {data});
  // HMAC pads a key with zeros (RFC 2104 §2), so no key and a short zero key are the same.
  CHECK(prf_of(Prf::hmac_sha2_256, {}, {data}) == prf_of(Prf::hmac_sha2_256, Buffer(8, 0), {data}));
}

TEST_CASE("prf+: agrees with the vectors of RFC 5869, whose expansion it is", "[prf]") {
  for (const auto& vector : read_vectors("prf_plus.txt")) {
    const Buffer wanted = vector.bytes("output");
    const auto got =
        prf_plus(Prf::hmac_sha2_256, vector.bytes("key"), vector.bytes("seed"), wanted.size());
    INFO("case " << vector.text("case"));
    REQUIRE(got.has_value());
    CHECK(copy(got->view()) == wanted);
  }
}

TEST_CASE("prf+: agrees with a model for every PRF at lengths around the blocks' ends", "[prf]") {
  const Buffer key(48, 0x42);
  const Buffer seed(100, 0x17);
  for (const PrfCase& wanted : kPrfs) {
    const std::size_t block = find(wanted.id)->output_bytes;
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{1}, block - 1, block, block + 1, 7 * block, 255 * block}) {
      INFO(wanted.hash << ", " << length << " bytes");
      const auto got = prf_plus(wanted.id, key, seed, length);
      REQUIRE(got.has_value());
      CHECK(copy(got->view()) == model_prf_plus(wanted.hash, key, seed, length));
    }
  }
}

TEST_CASE("prf+: refuses more than 255 blocks (RFC 7296 §2.13)", "[prf]") {
  CHECK_FALSE(prf_plus(Prf::hmac_sha2_256, Buffer(32, 1), Buffer(8, 1), 255 * 32 + 1).has_value());
}

TEST_CASE("prf: a PRF that is not in the table is refused", "[prf]") {
  CHECK_FALSE(prf(Prf::none, Buffer(32, 1), {}).has_value());
  CHECK_FALSE(prf(static_cast<Prf>(2), Buffer(32, 1), {}).has_value());  // HMAC-SHA-1
  CHECK_FALSE(prf_plus(Prf::none, Buffer(32, 1), Buffer(8, 1), 32).has_value());
}
