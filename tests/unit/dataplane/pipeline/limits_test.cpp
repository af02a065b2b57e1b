// What counts against the limits of an SA in packets and bytes (RFC 4301 §4.4.2.1).
#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/forged.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using enum DropReason;

/// Another SA in the place of the receiver's.
void limit_inbound(Pair& pair, const channel::Lifetime& lifetime) {
  pair.right.tables().sad->remove(pair.in_id);
  pair.right.tables().reclaimer->poll();
  pair.options.lifetime = lifetime;
  const auto in = inbound_sa(pair.options);
  pair.in_id = in.sa;
  pair.right.install(in);
}

void expect_only(const Result& result, DropReason reason) {
  INFO("expected " << info(reason).name);
  CHECK(result.drops == std::map<DropReason, std::uint64_t>{{reason, 1}});
}

struct Kind {
  Packet text;
  DropReason reason;
  std::uint64_t bytes;
};
/// What an authentic packet may have inside and be dropped for.
std::vector<Kind> kinds() {
  const Packet inner = ip_packet({});
  Packet bad_padding = with_trailer(ip_packet({.payload = Packet(35, 1)}), 4);
  bad_padding[bad_padding.size() - 3] ^= 0x80;
  Packet beyond = with_trailer(inner, 4);
  beyond[beyond.size() - 2] = 255;
  return {
      {with_trailer(Packet(22, 7), 59), dummy_packet, 22},
      {bad_padding, esp_padding_invalid, 55},
      {beyond, esp_padding_invalid, beyond.size() - 2},
      {with_trailer(inner, 6), esp_next_header_invalid, inner.size()},
      {with_trailer(Packet(40, 0), 4), inner_header_invalid, 40},
      {with_trailer(ip_packet({.source = "10.1.1.9"}), 4), inner_selector_mismatch, inner.size()},
  };
}

}  // namespace

TEST_CASE("limits: whatever was authentic counts, and not one packet more passes") {
  for (const Kind& kind : kinds()) {
    INFO(info(kind.reason).name);
    Pair pair;
    limit_inbound(pair, {.hard_packets = 2});
    for (int n = 0; n < 2; ++n) {
      expect_only(pair.right.receive(kWan, forged(pair, kind.text)), kind.reason);
    }
    CHECK(pair.traffic().packets == 2);
    CHECK(pair.traffic().bytes == 2 * kind.bytes);
    CHECK(pair.traffic().last_packet_tsc != 0);
    expect_only(pair.right.receive(kWan, forged(pair, kind.text)), sa_expired);
    expect_only(pair.right.receive(kWan, pair.sealed()), sa_expired);
    CHECK(pair.traffic().packets == 2);
  }
}

TEST_CASE("limits: a packet that congestion was marked on in vain counts") {
  Pair pair;
  limit_inbound(pair, {.hard_packets = 1});
  Packet packet = pair.sealed();
  packet[15] = 3;
  fix_checksum(packet);
  expect_only(pair.right.receive(kWan, packet), congestion_marked);
  expect_only(pair.right.receive(kWan, pair.sealed()), sa_expired);
}

TEST_CASE("limits: bytes are counted to the last one, whatever they were") {
  Packet padded = ip_packet({});
  padded.resize(padded.size() + 40, 0);
  Pair pair;
  limit_inbound(pair, {.hard_bytes = 22 + 55 + padded.size()});
  expect_only(pair.right.receive(kWan, forged(pair, kinds()[0].text)), dummy_packet);
  expect_only(pair.right.receive(kWan, forged(pair, kinds()[1].text)), esp_padding_invalid);
  CHECK(pair.right.receive(kWan, forged(pair, with_trailer(padded, 4))).lan.size() == 1);
  expect_only(pair.right.receive(kWan, forged(pair, with_trailer({}, 59))), dummy_packet);
  expect_only(pair.right.receive(kWan, forged(pair, with_trailer({7}, 59))), sa_expired);
}

TEST_CASE("limits: both ends count the same bytes, padding that hides sizes included") {
  SaOptions options;
  config::HeaderOptions headers;
  SECTION("tunnel") {}
  SECTION("tunnel with padding") { headers.tfc_padding = 300; }
  SECTION("tunnel of blocks") {
    options.suite =
        crypto::EspSuite{crypto::Encryption::aes_cbc, 128, crypto::Integrity::hmac_sha2_256_128};
  }
  SECTION("transport, in UDP") {
    options.mode = channel::SaMode::transport;
    options.udp = true;
    options.local_selectors = {"198.51.100.1/32"};
    options.remote_selectors = {"198.51.100.2/32"};
  }
  Pair pair(headers, options);
  for (std::size_t payload = 0; payload < 5; ++payload) {
    const bool is_tunnel = options.mode == channel::SaMode::tunnel;
    const PacketOptions packet = is_tunnel
                                     ? PacketOptions{.payload = Packet(37 + payload, 1)}
                                     : PacketOptions{.source = "198.51.100.1",
                                                     .destination = "198.51.100.2",
                                                     .payload = udp(1, 2, Packet(payload, 1))};
    const Result sealed =
        is_tunnel ? pair.left.receive(kLan, frame(ip_packet(packet)))
                  : pair.left.inject(ip_packet(packet), {InjectKind::outbound_local, kWan, false});
    CHECK(pair.right.receive(kWan, sealed.wan.at(0)).drops.empty());
  }
  Sad& sad = *pair.left.tables().sad;
  const SaTraffic sent = sad.traffic(*sad.find(pair.out_id));
  CHECK(sent.packets == 5);
  CHECK(pair.traffic().packets == 5);
  CHECK(pair.traffic().bytes == sent.bytes);
  if (headers.tfc_padding != 0) CHECK(sent.bytes == 5 * 300);
}
