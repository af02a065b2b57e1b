// Published packets and ciphertexts through a whole worker: what others wrote down comes out of it
// byte for byte. Where a packet was published without an ICV, OpenSSL makes one.
#include <catch2/catch.hpp>

#include "tests/unit/crypto/vectors.hpp"
#include "tests/unit/dataplane/pipeline/by_hand.hpp"
#include "tests/unit/dataplane/pipeline/kept_frame.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;
using crypto::Encryption;
using crypto::EspSuite;
using crypto::Integrity;
using crypto::test::from_hex;
using crypto::test::operator+;
using crypto::test::read_vectors;
using crypto::test::seal_by_openssl;
using crypto::test::Vector;

namespace {

constexpr std::uint8_t kIpv4 = 4, kUdp = 17;
constexpr const char *kPeer = "198.51.100.1", *kRight = "198.51.100.2";

Packet part(const Packet& of, std::size_t first, std::size_t bytes) {
  REQUIRE(first + bytes <= of.size());
  const auto begin = of.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(bytes)};
}
Packet from(const Packet& of, std::size_t first) { return part(of, first, of.size() - first); }

std::uint16_t bits_of(const Packet& key) { return static_cast<std::uint16_t>(key.size() * 8); }

std::string address_at(const Packet& ip, std::size_t at) {
  return wire::IpAddress::v4(wire::load_u32(&ip[at])).to_string();
}

/// SPI and number of an AEAD's vector, by its associated data.
struct VectorHeader {
  std::uint32_t spi;
  std::uint64_t sequence;
  bool has_esn;
  Packet wire;
};
VectorHeader header_of(const Vector& vector) {
  const Packet aad = vector.bytes("aad");
  const bool has_esn = aad.size() == 12;
  const std::uint64_t sequence = has_esn ? load_u64(&aad[4]) : wire::load_u32(&aad[4]);
  return {wire::load_u32(aad.data()), sequence, has_esn,
          part(aad, 0, 4) + part(aad, aad.size() - 4, 4)};
}

SaOptions between_hosts(const std::string& here, const std::string& there) {
  SaOptions options;
  options.mode = channel::SaMode::transport;
  options.outer_local = here;
  options.outer_remote = there;
  options.local_selectors = {here + "/32"};
  options.remote_selectors = {there + "/32"};
  return options;
}

/// The inbound SA that a published packet is for.
void install(Gateway& gateway, const SaOptions& options, std::uint32_t spi, const Packet& key,
             std::uint64_t first_sequence) {
  auto sa = inbound_sa(options, spi);
  set_key(sa, key);
  gateway.install(sa, {.headers = {}, .first_sequence = first_sequence});
}

/// A vector's packet, sent to us in transport mode, is decrypted to its text, and to nothing when a
/// bit of it is another.
void check_opened(const Vector& vector, Encryption encryption, const Packet& sealed,
                  const Packet& text) {
  const Packet key = vector.bytes("key"), nonce = vector.bytes("nonce");
  const VectorHeader header = header_of(vector);
  SaOptions options = between_hosts(kPeer, kRight);
  options.esn = header.has_esn;
  options.suite = EspSuite{encryption, bits_of(key), Integrity::none};
  Gateway right(mirrored());
  install(right, options, header.spi, key + part(nonce, 0, 4), header.sequence);
  const Packet whole =
      esp_frame(kPeer, kRight, header.wire + from(nonce, 4) + sealed + vector.bytes("icv"));
  INFO(options.suite->name() << ", SPI " << header.spi << ", number " << header.sequence);

  Packet tampered = whole;
  tampered.back() ^= 1;
  CHECK(right.receive(kWan, tampered).dropped(DropReason::icv_mismatch) == 1);

  const KeptFrame kept(kWan, whole);
  const Result opened = right.receive(kWan, std::vector<Packet>{});
  CHECK(kept.bytes(14 + 20 + 8 + 8, text.size()) == text);
  // It is for us, and said to be ICMP, of a type that there is not, or without any.
  const DropReason end = text.size() - text[text.size() - 2] - 2U < 8 ? DropReason::truncated_packet
                                                                      : DropReason::icmp_ignored;
  CHECK(opened.drops == std::map<DropReason, std::uint64_t>{{end, 1}});
}

Packet exclusive_or(Packet one, const Packet& other) {
  REQUIRE(one.size() <= other.size());
  for (std::size_t i = 0; i < one.size(); ++i) one[i] ^= other[i];
  return one;
}

}  // namespace

TEST_CASE("published: packets of AES-GCM and AES-GMAC are opened (draft-mcgrew-gcm-test-01)") {
  std::size_t opened = 0;
  for (const Vector& vector : read_vectors("aes_gcm_esp.txt")) {
    if (header_of(vector).spi == 0) continue;  // reserved: no SA has it (RFC 4303 §2.1)
    check_opened(vector, Encryption::aes_gcm_16, vector.bytes("ciphertext"),
                 vector.bytes("plaintext"));
    ++opened;
  }
  CHECK(opened == 13);
  for (const Vector& vector : read_vectors("aes_gmac_esp.txt")) {
    check_opened(vector, Encryption::null_aes_gmac, vector.bytes("text"), vector.bytes("text"));
  }
}

TEST_CASE("published: the packet of ChaCha20-Poly1305 is opened and forwarded (RFC 7634 §A)") {
  const Vector vector = read_vectors("chacha20_poly1305_esp.txt").at(0);
  const Packet nonce = vector.bytes("nonce"), text = vector.bytes("plaintext");
  const VectorHeader header = header_of(vector);
  const Packet inner = part(text, 0, 84);
  Addresses addresses = mirrored();
  addresses.lan = "192.0.2.1/24";
  addresses.client = "192.0.2.5";
  Gateway right(addresses);
  SaOptions options;
  options.suite = EspSuite{Encryption::chacha20_poly1305, 256, Integrity::none};
  options.local_selectors = {address_at(inner, 12) + "/32"};
  options.remote_selectors = {address_at(inner, 16) + "/32"};
  install(right, options, header.spi, vector.bytes("key") + part(nonce, 0, 4), header.sequence);

  const Result opened = right.receive(
      kWan,
      esp_frame(kPeer, kRight,
                header.wire + from(nonce, 4) + vector.bytes("ciphertext") + vector.bytes("icv")));
  CHECK(opened.drops.empty());
  REQUIRE(opened.lan.size() == 1);
  CHECK(hops_before(ip_of(opened.lan[0]), 1) == inner);
}

TEST_CASE("published: packets of AES-CBC are opened, with OpenSSL's ICV (RFC 3602 §4)") {
  const Packet integrity_key(32, 0x0b);
  for (const Vector& vector : read_vectors("aes_cbc_esp.txt")) {
    INFO("case " << vector.text("case"));
    const bool is_tunnel = vector.text("mode") == "tunnel";
    const Packet packet = vector.bytes("packet"), payload = vector.bytes("payload");
    Addresses addresses = mirrored();
    const std::string source = "192.168.123.3";
    SaOptions options = between_hosts(source, "192.168.123.100");
    if (is_tunnel) {
      addresses.lan = "192.168.123.1/24";
      addresses.client = "192.168.123.200";
      options = SaOptions{};
      options.local_selectors = {source + "/32"};
      options.remote_selectors = {addresses.client + "/32"};
    } else {
      addresses.wan = "192.168.123.100/24";
      addresses.peer = source;
    }
    options.suite = EspSuite{Encryption::aes_cbc, 128, Integrity::hmac_sha2_256_128};
    Gateway right(addresses);
    right.policy(PolicyAction::bypass, "192.168.123.100/32", source + "/32");  // the answer
    install(right, options, wire::load_u32(packet.data()), vector.bytes("key") + integrity_key, 1);
    const Packet icv = part(crypto::test::hmac_by_openssl("SHA256", integrity_key, packet), 0, 16);
    const Result opened =
        right.receive(kWan, esp_frame(options.outer_local, options.outer_remote, packet + icv));
    CHECK(opened.drops.empty());
    if (is_tunnel) {
      REQUIRE(opened.lan.size() == 1);
      CHECK(hops_before(ip_of(opened.lan[0]), 1) == payload);
      continue;
    }
    // An echo request to us: the answer is what it was, but for its type and checksum.
    REQUIRE(opened.wan.size() == 1);
    const Packet reply = ip_of(opened.wan[0]);
    Packet expected = payload;
    expected[0] = 0;
    wire::store_u16(&expected[2], 0);
    wire::ChecksumSum sum;
    sum.add(expected);
    wire::store_u16(&expected[2], sum.finish());
    CHECK(address_at(reply, 16) == source);
    CHECK(from(reply, 20) == expected);
  }
}

namespace {

/// Whether the text is an IPv4 packet of the length that it says, with the least padding.
bool holds_packet(const Packet& text) {
  if (text.size() < 22 || text[0] != 0x45) return false;
  const std::size_t bytes = wire::load_u16(&text[2]);
  return bytes + text[text.size() - 2] + 2 == text.size() && text[text.size() - 2] < 4 &&
         wire::parse_ipv4(part(text, 0, bytes)).has_value();
}

/// A client's packet, sealed with the vector's key and IV, has its ciphertext: on the way of the
/// first packet of its flow, and on that of the others.
void check_sealed(const Vector& vector, Encryption encryption) {
  const Packet key = vector.bytes("key"), nonce = vector.bytes("nonce");
  const Packet text = vector.bytes("plaintext");
  const Packet inner = part(text, 0, wire::load_u16(&text[2]));
  const std::uint64_t iv = load_u64(&nonce[4]);
  SaOptions options;
  options.esn = true;  // its high half is nowhere in IV and ciphertext
  options.suite = EspSuite{encryption, bits_of(key), Integrity::none};
  options.local_selectors = {address_at(inner, 12) + "/32"};
  options.remote_selectors = {address_at(inner, 16) + "/32"};
  auto sa = outbound_sa(options);
  set_key(sa, key + part(nonce, 0, 4));
  SaSettings settings;
  settings.headers.mss_clamp = false;
  Gateway left;
  const SlotIndex slot = left.install(sa, settings);
  left.protect(options.local_selectors[0], options.remote_selectors[0], slot);
  INFO(options.suite->name() << ", IV " << iv);

  // The texts of the draft end in the next header of ICMP.
  Packet ciphertext = vector.bytes("ciphertext");
  ciphertext.back() ^= static_cast<std::uint8_t>(text.back() ^ kIpv4);
  Packet in_tunnel = text;
  in_tunnel.back() = kIpv4;
  const Packet expected = seal_by_openssl(by_hand(sa, number_of_iv(iv)), from(nonce, 4), in_tunnel);
  REQUIRE(part(expected, 16, text.size()) == ciphertext);
  for (int packet = 0; packet < 2; ++packet) {
    set_next_iv(left, slot, iv);
    const Result sealed = left.receive(kLan, frame(hops_before(inner, 1)));
    REQUIRE(sealed.wan.size() == 1);
    CHECK(esp_of(sealed.wan[0]) == expected);
    const bool may_be_known = inner[9] == kUdp && encryption == Encryption::aes_gcm_16;
    CHECK(left.worker().went_the_short_way == (packet == 1 && may_be_known));
  }
}

}  // namespace

TEST_CASE("published: what a worker seals is the published ciphertext (RFC 4106, RFC 7634)") {
  std::size_t sealed = 0;
  for (const Vector& vector : read_vectors("aes_gcm_esp.txt")) {
    if (!holds_packet(vector.bytes("plaintext"))) continue;
    check_sealed(vector, Encryption::aes_gcm_16);
    ++sealed;
  }
  CHECK(sealed == 7);
  check_sealed(read_vectors("chacha20_poly1305_esp.txt").at(0), Encryption::chacha20_poly1305);
}

namespace {

/// A datagram as long as a vector's text is sealed, in transport mode, to what the vector's
/// keystream makes of it, and opened again.
void check_keystream(const Vector& vector, const EspSuite& suite, std::size_t salt_bytes) {
  const Packet nonce = vector.bytes("nonce");
  const Packet keystream = exclusive_or(vector.bytes("plaintext"), vector.bytes("ciphertext"));
  const std::uint64_t iv = load_u64(&nonce[salt_bytes]);
  SaOptions options = between_hosts(kPeer, kRight);
  options.esn = true;
  options.suite = suite;
  auto sa = outbound_sa(options);
  set_key(sa, vector.bytes("key") + part(nonce, 0, salt_bytes) +
                  Packet(suite.integrity_key_bytes(), 0x0b));
  Gateway left, right(mirrored());
  const SlotIndex slot = left.install(sa);
  left.protect(options.local_selectors[0], options.remote_selectors[0], slot);
  const auto key = sa.key.view();
  install(right, options, 0x1000, Packet(key.begin(), key.end()), number_of_iv(iv));
  INFO(suite.name() << ", IV " << iv);

  const Packet datagram = udp(4000, 5000, Packet(keystream.size() - 10, 0x5a));
  const Packet text = datagram + Packet{0, kUdp};
  const Packet expected =
      seal_by_openssl(by_hand(sa, number_of_iv(iv)), from(nonce, salt_bytes), text);
  REQUIRE(part(expected, 16, text.size()) == exclusive_or(text, keystream));
  set_next_iv(left, slot, iv);
  const Packet sent = ip_packet({.source = kPeer, .destination = kRight, .payload = datagram});
  const Result sealed = left.inject(sent, {InjectKind::outbound_local, kWan, false});
  REQUIRE(sealed.wan.size() == 1);
  CHECK(esp_of(sealed.wan[0]) == expected);
  // Nobody listens on its port: the main thread is told, with the whole packet.
  const Result opened = right.receive(kWan, esp_frame(kPeer, kRight, expected));
  REQUIRE(opened.punts.size() == 1);
  CHECK(opened.punts[0].what.reason == PuntReason::port_unreachable);
  CHECK(from(opened.punts[0].bytes, 20) == datagram);
}

}  // namespace

TEST_CASE("published: AES-CTR's keystream is what a worker seals and opens with (RFC 3686 §6)") {
  for (const Vector& vector : read_vectors("aes_ctr.txt")) {
    for (const Integrity integrity : {Integrity::hmac_sha1_96, Integrity::hmac_sha2_512_256}) {
      check_keystream(vector, {Encryption::aes_ctr, bits_of(vector.bytes("key")), integrity}, 4);
    }
  }
}

TEST_CASE("published: AES-CCM's keystream is what a worker seals and opens with (RFC 4309 §4)") {
  for (const Vector& vector : read_vectors("aes_ccm.txt")) {
    for (const Encryption encryption : {Encryption::aes_ccm_16, Encryption::aes_ccm_8}) {
      check_keystream(vector, {encryption, bits_of(vector.bytes("key")), Integrity::none}, 3);
    }
  }
}
