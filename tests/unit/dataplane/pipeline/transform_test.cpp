// Every ESP suite through a worker at each end, and what its sizes do to the packet.
#include <set>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

struct Shape {
  const char* name;
  bool inner_v6, outer_v6, esn, udp;
};
constexpr Shape kShapes[] = {
    {"4in4", false, false, false, false},      {"4in4 esn", false, false, true, false},
    {"6in6 esn", true, true, true, false},     {"4in6", false, true, false, false},
    {"6in4 esn udp", true, false, true, true}, {"6in6 udp", true, true, false, true},
};

SaOptions options_of(const Shape& shape, const crypto::EspSuite& suite) {
  SaOptions options;
  options.esn = shape.esn;
  options.udp = shape.udp;
  options.suite = suite;
  if (shape.inner_v6) {
    options.local_selectors = {"2001:db8:1::/64"};
    options.remote_selectors = {"2001:db8:2::/64"};
  }
  if (shape.outer_v6) {
    options.outer_local = "2001:db8:ff::1";
    options.outer_remote = "2001:db8:ff::2";
  }
  return options;
}

PacketOptions packet_of(const Shape& shape, std::size_t payload) {
  PacketOptions packet;
  packet.protocol = 99;  // no ports
  packet.payload = Packet(payload, 0x42);
  if (shape.inner_v6) {
    packet.source = "2001:db8:1::9";
    packet.destination = "2001:db8:2::7";
  }
  return packet;
}

using EngineMaker = std::unique_ptr<crypto::esp::Engine> (*)();

/// Two gateways that take one suite after the other: making them anew costs more than all packets.
class Suites {
 public:
  explicit Suites(EngineMaker of_left = crypto::esp::make_engine,
                  EngineMaker of_right = crypto::esp::make_engine)
      : left({}, 1, 0, of_left), right(mirrored(), 1, 0, of_right) {}
  /// The next pair of SAs carries what the policy names.
  void use(const SaOptions& options) {
    const SlotIndex slot = left.install(outbound_sa(options, ++spi_));
    if (spi_ == kFirstSpi) {
      left.protect(options.local_selectors[0], options.remote_selectors[0], slot);
    } else {
      REQUIRE(left.tables().spd->rebind(channel::PolicyId{1}, slot));
    }
    right.install(inbound_sa(options, spi_));
    // Packets without room for ports overtake none only while no flow is known.
    right.tables().reclaimer->outdate();
  }

  Gateway left, right;

 private:
  static constexpr std::uint32_t kFirstSpi = 0x1001;
  std::uint32_t spi_ = kFirstSpi - 1;
};

/// Payload of the packet inside, as it was: the hop limit differs.
Packet tail(const Packet& ip, std::size_t bytes) {
  return {ip.end() - static_cast<std::ptrdiff_t>(bytes), ip.end()};
}

/// A bit of any of them, and nothing comes out. Sealed anew: these are no replays.
void check_that_tampered_ones_end(Suites& suites, const std::vector<Packet>& frames,
                                  const crypto::esp::Form& form) {
  std::vector<Packet> tampered = suites.left.receive(kLan, frames).wan;
  for (Packet& wan : tampered) wan[wan.size() - 1 - form.icv_bytes] ^= 0x10;
  const Result broken = suites.right.receive(kWan, tampered);
  CHECK(broken.lan.empty());
  CHECK(broken.dropped(DropReason::icv_mismatch) == frames.size());
}

}  // namespace

TEST_CASE("worker: every suite in every shape of tunnel, with payloads of every remainder") {
  const Shape& shape = GENERATE(from_range(std::begin(kShapes), std::end(kShapes)));
  Suites suites;
  for (const auto& [suite, form] : crypto::esp::kTransforms) {
    suites.use(options_of(shape, suite));
    std::vector<Packet> frames;
    for (std::size_t payload = 0; payload < 40; ++payload) {
      frames.push_back(frame(ip_packet(packet_of(shape, payload))));
    }
    const Result sealed = suites.left.receive(kLan, frames);
    INFO(shape.name << ", " << suite.name());
    REQUIRE(sealed.wan.size() == frames.size());
    const std::size_t around =
        (shape.outer_v6 ? 40U : 20U) + (shape.udp ? 8U : 0U) + 8U + form.iv_bytes + form.icv_bytes;
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const Packet outer = ip_of(sealed.wan[i]);
      const std::size_t inner = i + (shape.inner_v6 ? 40U : 20U);
      // RFC 4303 §2.4: the least padding that fills words, or the cipher's blocks.
      const std::size_t text = (inner + 2 + form.alignment - 1U) / form.alignment * form.alignment;
      REQUIRE(outer.size() == around + text);
    }
    const Result opened = suites.right.receive(kWan, sealed.wan);
    REQUIRE(opened.drops.empty());
    REQUIRE(opened.lan.size() == frames.size());
    for (std::size_t i = 0; i < frames.size(); ++i) {
      REQUIRE(tail(ip_of(opened.lan[i]), i) == Packet(i, 0x42));
    }
    check_that_tampered_ones_end(suites, frames, form);
  }
}

TEST_CASE(
    "worker: where IPsec-MB cannot run OpenSSL seals and opens, and either takes the other's") {
  const bool seals = GENERATE(true, false);
  const EngineMaker fast = crypto::esp::make_engine, slow = crypto::esp::make_openssl_engine;
  for (const EngineMaker other : {fast, slow}) {
    Suites suites(seals ? slow : other, seals ? other : slow);
    for (const auto& [suite, form] : crypto::esp::kTransforms) {
      SaOptions options;
      options.suite = suite;
      options.esn = true;
      suites.use(options);
      std::vector<Packet> frames;
      for (std::size_t payload = 0; payload < 40; ++payload) {
        frames.push_back(frame(ip_packet(packet_of(kShapes[0], payload))));
      }
      INFO(suite.name());
      const Result opened = suites.right.receive(kWan, suites.left.receive(kLan, frames).wan);
      REQUIRE(opened.lan.size() == frames.size());
      for (std::size_t i = 0; i < frames.size(); ++i) {
        REQUIRE(tail(ip_of(opened.lan[i]), i) == Packet(i, 0x42));
      }
      check_that_tampered_ones_end(suites, frames, form);
    }
  }
}

TEST_CASE("worker: packets of many suites in one burst, mixed packet by packet") {
  Gateway left, right(mirrored());
  std::uint32_t spi = 0x1000;
  std::vector<Packet> frames;
  for (const auto& [suite, form] : crypto::esp::kTransforms) {
    SaOptions options;
    options.suite = suite;
    options.esn = spi % 2 == 0;
    const std::string net = "10.2." + std::to_string(spi - 0x1000);
    options.remote_selectors = {net + ".0/24"};
    left.protect("10.1.0.0/24", net + ".0/24", left.install(outbound_sa(options, spi)));
    right.install(inbound_sa(options, spi));
    right.policy(PolicyAction::bypass, "10.1.0.0/16", net + ".0/24");
    ++spi;
  }
  for (std::uint32_t i = 0; i < 60; ++i) {
    const std::uint32_t suite = (i * 7) % crypto::esp::kTransformCount;
    frames.push_back(frame(ip_packet({.destination = "10.2." + std::to_string(suite) + ".7",
                                      .protocol = 99,
                                      .payload = Packet(i, static_cast<std::uint8_t>(i))})));
  }
  const Result sealed = left.receive(kLan, frames);
  REQUIRE(sealed.wan.size() == frames.size());
  const Result opened = right.receive(kWan, sealed.wan);
  CHECK(opened.drops.empty());
  CHECK(opened.lan.size() + opened.punts.size() == frames.size());
}

TEST_CASE("worker: transport mode of every suite keeps the payload") {
  const bool is_v6 = GENERATE(false, true);
  const bool udp = GENERATE(false, true);
  const std::string here = is_v6 ? "2001:db8:ff::1" : "198.51.100.1";
  const std::string there = is_v6 ? "2001:db8:ff::2" : "198.51.100.2";
  Suites suites;
  suites.right.policy(PolicyAction::bypass, there + (is_v6 ? "/128" : "/32"),
                      here + (is_v6 ? "/128" : "/32"));
  for (const auto& [suite, form] : crypto::esp::kTransforms) {
    SaOptions options;
    options.mode = channel::SaMode::transport;
    options.suite = suite;
    options.esn = udp;
    options.udp = udp;
    options.outer_local = here;
    options.outer_remote = there;
    options.local_selectors = {here + (is_v6 ? "/128" : "/32")};
    options.remote_selectors = {there + (is_v6 ? "/128" : "/32")};
    suites.use(options);
    const Result sealed =
        suites.left.inject(echo_request(here, there), {InjectKind::outbound_local, kWan, false});
    INFO(suite.name() << (is_v6 ? ", IPv6" : ", IPv4"));
    REQUIRE(sealed.wan.size() == 1);
    // The peer answers the echo, in clear by its policy.
    const Result opened = suites.right.receive(kWan, sealed.wan[0]);
    CHECK(opened.drops.empty());
    REQUIRE(opened.wan.size() == 1);
    CHECK(wire::parse_ip(ip_of(opened.wan[0]))->protocol == (is_v6 ? 58 : 1));
  }
}

TEST_CASE(
    "worker: an ESP packet that does not fill the cipher's blocks is refused (RFC 3602 §2.4)") {
  SaOptions options;
  options.suite =
      crypto::EspSuite{crypto::Encryption::aes_cbc, 128, crypto::Integrity::hmac_sha2_256_128};
  Gateway left, right(mirrored());
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(options)));
  right.install(inbound_sa(options));
  const Packet whole = left.receive(kLan, frame(ip_packet({}))).wan.at(0);
  for (std::size_t cut = 1; cut < whole.size() - 42; ++cut) {
    Packet shorter(whole.begin(), whole.end() - static_cast<std::ptrdiff_t>(cut));
    wire::store_u16(&shorter[16], static_cast<std::uint16_t>(shorter.size() - 14));
    fix_checksum(shorter);
    const Result result = right.receive(kWan, shorter);
    INFO("shorter by " << cut);
    CHECK(result.lan.empty());
    const bool fills_blocks = cut % 16 == 0 && whole.size() - cut >= 14 + 20 + 8 + 16 + 16 + 16;
    CHECK(result.dropped(fills_blocks ? DropReason::icv_mismatch : DropReason::esp_truncated) == 1);
  }
}
