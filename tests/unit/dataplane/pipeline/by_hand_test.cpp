// Every suite through a worker against packets that OpenSSL makes by the RFCs' words: what is
// sealed is that packet byte for byte, and what OpenSSL sealed comes out.
#include "tests/unit/dataplane/pipeline/by_hand.hpp"

#include <set>

#include <catch2/catch.hpp>

#include "crypto/esp/transform.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;
using crypto::test::seal_by_openssl;

namespace {

constexpr std::size_t kPayloads = 40;

/// RFC 3602 §2.4, RFC 4303 §2.4.
std::size_t block_of(const crypto::EspSuite& suite) {
  return suite.encryption == crypto::Encryption::aes_cbc ? 16 : 4;
}
std::size_t iv_bytes_of(const crypto::EspSuite& suite) {
  if (suite.encryption == crypto::Encryption::null) return 0;
  return suite.encryption == crypto::Encryption::aes_cbc ? 16 : 8;
}

/// A client's packets as they are behind this gateway, of every remainder of the blocks.
std::vector<Packet> inner_packets(bool is_v6) {
  std::vector<Packet> packets;
  for (std::size_t payload = 0; payload < kPayloads; ++payload) {
    PacketOptions options = from_client(is_v6, payload);
    options.ttl = 63;
    packets.push_back(ip_packet(options));
  }
  return packets;
}
std::vector<Packet> frames_before(const std::vector<Packet>& inner) {
  std::vector<Packet> frames;
  for (const Packet& ip : inner) frames.push_back(frame(hops_before(ip, 1)));
  return frames;
}

struct SuiteShape {
  bool inner_v6, outer_v6, has_esn;
};

/// SAs of every suite, one after another, of one shape.
template <typename Check>
void with_every_suite(const SuiteShape& shape, Check check) {
  std::uint32_t spi = 0x1000;
  for (const auto& [suite, form] : crypto::esp::kTransforms) {
    SaOptions options = with_families(shape.outer_v6, shape.inner_v6);
    options.suite = suite;
    options.esn = shape.has_esn;
    INFO(suite.name() << (shape.has_esn ? ", ESN" : ""));
    check(options, ++spi);
  }
}

/// Numbers whose low half goes over, where that can be.
std::uint64_t first_number(const SuiteShape& shape) {
  return shape.has_esn ? 0x7'ffff'fff0 : 0xffff'ff00;
}

}  // namespace

TEST_CASE("by hand: what a worker seals by any suite is what OpenSSL makes of its inner packet") {
  const auto shape = GENERATE(values<SuiteShape>({{false, false, false},
                                                  {false, false, true},
                                                  {true, true, true},
                                                  {true, false, false},
                                                  {false, true, true}}));
  Gateway left;
  const std::vector<Packet> inner = inner_packets(shape.inner_v6);
  bool is_first = true;
  with_every_suite(shape, [&](const SaOptions& options, std::uint32_t spi) {
    const auto sa = outbound_sa(options, spi);
    const SlotIndex slot = left.install(sa, {.headers = {}, .first_sequence = first_number(shape)});
    if (std::exchange(is_first, false)) {
      left.protect(options.local_selectors[0], options.remote_selectors[0], slot);
    } else {
      REQUIRE(left.tables().spd->rebind(channel::PolicyId{1}, slot));
    }
    const std::uint64_t start = left.tables().sad->outbound(slot)->iv_start;
    const Result sealed = left.receive(kLan, frames_before(inner));
    REQUIRE(sealed.wan.size() == inner.size());
    std::set<Packet> ivs;
    for (std::size_t i = 0; i < inner.size(); ++i) {
      const Packet esp = esp_of(sealed.wan[i]);
      const std::uint64_t number = first_number(shape) + i;
      const std::size_t iv_bytes = iv_bytes_of(*options.suite);
      const Packet iv(esp.begin() + 8, esp.begin() + 8 + static_cast<std::ptrdiff_t>(iv_bytes));
      if (iv_bytes == 8) REQUIRE(load_u64(iv.data()) == (start << 32U) + number);
      ivs.insert(iv);
      REQUIRE(esp == seal_by_openssl(by_hand(sa, number), iv,
                                     with_padding(inner[i], block_of(*options.suite),
                                                  shape.inner_v6 ? 41 : 4)));
    }
    CHECK(ivs.size() == (iv_bytes_of(*options.suite) == 0 ? 1 : inner.size()));
  });
}

TEST_CASE("by hand: what OpenSSL sealed by any suite comes out of a worker as it was") {
  const auto shape = GENERATE(values<SuiteShape>({{false, false, false},
                                                  {false, false, true},
                                                  {true, true, true},
                                                  {true, false, true},
                                                  {false, true, false}}));
  Gateway right(mirrored());
  const std::vector<Packet> inner = inner_packets(shape.inner_v6);
  with_every_suite(shape, [&](const SaOptions& options, std::uint32_t spi) {
    const auto sa = inbound_sa(options, spi);
    right.install(sa, {.headers = {}, .first_sequence = first_number(shape)});
    // Packets without known flows are overtaken by none.
    right.tables().reclaimer->outdate();
    std::vector<Packet> frames;
    for (std::size_t i = 0; i < inner.size(); ++i) {
      const Packet iv(iv_bytes_of(*options.suite), static_cast<std::uint8_t>(0xc0 + i));
      const Packet esp = seal_by_openssl(
          by_hand(sa, first_number(shape) + i), iv,
          with_padding(inner[i], block_of(*options.suite), shape.inner_v6 ? 41 : 4));
      frames.push_back(esp_frame(options.outer_local, options.outer_remote, esp));
    }
    const Result opened = right.receive(kWan, frames);
    REQUIRE(opened.drops.empty());
    REQUIRE(opened.lan.size() == inner.size());
    for (std::size_t i = 0; i < inner.size(); ++i) {
      REQUIRE(hops_before(ip_of(opened.lan[i]), 1) == inner[i]);
    }
  });
}
