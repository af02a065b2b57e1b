#include <catch2/catch.hpp>

#include "crypto/ike/ike_crypto.hpp"
#include "vectors.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::ike;
using culvert::crypto::test::Buffer;
using culvert::crypto::test::copy;
using culvert::crypto::test::from_hex;

TEST_CASE("random: the same seed replays the same bytes however they are asked for", "[random]") {
  Buffer whole(100);
  make_seeded_random(7)->fill(whole);
  Buffer pieces(100);
  const auto random = make_seeded_random(7);
  for (std::size_t at = 0, part = 1; at < pieces.size(); at += part, ++part) {
    part = std::min(part, pieces.size() - at);
    random->fill(MutableBytes(pieces).subspan(at, part));
  }
  CHECK(whole == pieces);
  Buffer other(100);
  make_seeded_random(8)->fill(other);
  CHECK(whole != other);
}

TEST_CASE("random: the system's generator does not repeat itself", "[random]") {
  const auto random = make_system_random();
  Buffer first(32);
  Buffer second(32);
  random->fill(first);
  random->fill(second);
  CHECK(first != second);
  CHECK(first != Buffer(32, 0));
}

TEST_CASE("digest: SHA-1 and SHA-256 of \"abc\" (FIPS 180-2 appendices A.1 and B.1)", "[digest]") {
  const Buffer a{'a'};
  const Buffer bc{'b', 'c'};
  const std::array<Bytes, 3> pieces{Bytes(a), Bytes(), Bytes(bc)};
  CHECK(copy(sha1(pieces)) == from_hex("a9993e364706816aba3e25717850c26c9cd0d89d"));
  CHECK(copy(sha256(pieces)) ==
        from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}
