// Within a flow no packet leaves before one that came earlier, whichever way each has to go: the
// short way, the general stages, cut into pieces. Fragments that come in are no flow's until they
// are whole.
#include <random>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

constexpr std::size_t kFlows = 3;
constexpr std::uint8_t kPackets = 64;
using Serials = std::array<std::vector<std::uint8_t>, kFlows>;

Packet with_option(Packet ip) {
  ip.insert(ip.begin() + 20, {1, 1, 1, 0});  // three of nothing, and the end
  ip[0] = 0x46;
  wire::store_u16(&ip[wire::ipv4::kTotalLength], static_cast<std::uint16_t>(ip.size()));
  wire::write_ipv4_checksum(ip.data(), 24);
  return ip;
}

/// A frame of a flow, so many bytes of data, all of which are its serial number. `has_more`: it has
/// an option, or an extension header.
Packet packet_of(std::size_t flow, std::uint8_t serial, bool is_v6, std::size_t bytes,
                 bool has_more) {
  PacketOptions options = from_client(is_v6, bytes);
  options.fragment = 0;
  options.payload = udp(static_cast<std::uint16_t>(5000 + flow), 4000, Packet(bytes, serial));
  Packet ip = ip_packet(options);
  if (has_more) {
    ip = is_v6 ? behind_extension(ip, 60, {0, 0, 1, 4, 0, 0, 0, 0}) : with_option(ip);
  }
  return frame(ip);
}

/// Flow and serial number of an IP packet. Of a piece behind the first the flow is not known.
void note(const Packet& whole, Serials& serials) {
  const Packet ip = ip_of(whole);
  const auto header = wire::parse_ip(ip).value();
  std::vector<std::uint8_t>* found = nullptr;
  if (header.has_upper_header) {
    found = &serials.at(wire::load_u16(&ip[header.payload_offset]) - 5000U);
  } else {
    for (auto& one : serials) {
      if (!one.empty() && one.back() == ip.back()) found = &one;
    }
  }
  REQUIRE(found != nullptr);  // else a piece comes behind what was sent later
  if (found->empty() || found->back() != ip.back()) found->push_back(ip.back());
}

/// Of large ones only fragments fit. IPv6 is cut by its sender alone.
enum PacketKind : std::size_t { small, large, with_more };
constexpr std::size_t kTwoKinds = 2, kAllKinds = 3, kLargeAlone = 0;

/// A burst of packets of the flows, each of which is one of `kinds`, and what is to come of them.
struct Traffic {
  std::vector<Packet> frames;
  Serials serials;

  template <typename Make>
  Traffic(std::uint32_t seed, std::size_t kinds, Make make) {
    std::mt19937 random(seed);
    for (std::uint8_t serial = 1; serial <= kPackets; ++serial) {
      const std::size_t flow = random() % kFlows;
      serials[flow].push_back(serial);
      const std::size_t kind = kinds == kLargeAlone ? large : random() % kinds;
      frames.push_back(make(flow, serial, kind));
    }
  }
};

auto clear_packet(bool is_v6, std::size_t large_bytes) {
  return [=](std::size_t flow, std::uint8_t serial, std::size_t kind) {
    return packet_of(flow, serial, is_v6, kind == large && !is_v6 ? large_bytes : 100,
                     kind == with_more || (kind == large && is_v6));
  };
}

Serials received_by(Gateway& right, const std::vector<Packet>& frames) {
  Serials serials;
  for (const Packet& one : frames) {  // one at a time: what is put together is overtaken by none
    const Result opened = right.receive(kWan, one);
    REQUIRE(opened.drops.empty());
    for (const Packet& packet : opened.lan) note(packet, serials);
  }
  return serials;
}

}  // namespace

TEST_CASE("order: no packet of a flow is overtaken on its way into a tunnel") {
  const bool is_v6 = GENERATE(false, true);
  const auto fragmentation =
      GENERATE(config::FragmentationOrder::before, config::FragmentationOrder::after);
  const std::uint32_t seed = GENERATE(1U, 2U, 3U, 4U);
  const std::size_t kinds = GENERATE(kTwoKinds, kAllKinds, kLargeAlone);
  CAPTURE(is_v6, fragmentation, seed, kinds);
  SaOptions options = with_families(false, is_v6);
  options.window = 1024;
  Pair pair({.df = config::DontFragment::clear, .fragmentation = fragmentation}, options);
  const Traffic traffic(seed, kinds, clear_packet(is_v6, 1470));
  for (std::size_t flow = 0; flow < kFlows; ++flow) {  // known from here on
    pair.right.receive(kWan,
                       pair.left.receive(kLan, packet_of(flow, 0, is_v6, 100, false)).wan.at(0));
  }
  const Result sent = pair.left.receive(kLan, traffic.frames);
  REQUIRE(sent.drops.empty());
  REQUIRE(sent.punts.empty());
  CHECK(received_by(pair.right, sent.wan) == traffic.serials);
}

TEST_CASE("order: no packet of a flow is overtaken where it leaves as it is") {
  const bool is_v6 = GENERATE(false, true);
  const std::uint32_t seed = GENERATE(1U, 2U, 3U, 4U);
  const std::size_t kinds = GENERATE(kTwoKinds, kAllKinds, kLargeAlone);
  CAPTURE(is_v6, seed, kinds);
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, is_v6 ? "::/0" : "0.0.0.0/0", is_v6 ? "::/0" : "0.0.0.0/0");
  const Traffic traffic(seed, kinds, clear_packet(is_v6, 1600));
  for (std::size_t flow = 0; flow < kFlows; ++flow) {
    REQUIRE(gateway.receive(kLan, packet_of(flow, 0, is_v6, 100, false)).wan.size() == 1);
  }
  const Result sent = gateway.receive(kLan, traffic.frames);
  REQUIRE(sent.drops.empty());
  REQUIRE(sent.punts.empty());
  Serials serials;
  for (const Packet& one : sent.wan) note(one, serials);
  CHECK(serials == traffic.serials);
}

TEST_CASE("order: no packet of a flow is overtaken on its way out of a tunnel") {
  const bool is_v6 = GENERATE(false, true);
  const bool is_padded = GENERATE(false, true);
  const std::uint32_t seed = GENERATE(1U, 2U, 3U, 4U);
  CAPTURE(is_v6, is_padded, seed);
  // Padded to 600: what is longer has no padding to speak of. The window takes all that is late.
  SaOptions options = with_families(false, is_v6);
  options.window = 1024;
  Pair pair({.tfc_padding = static_cast<std::uint16_t>(is_padded ? 600 : 0)}, options);
  const auto sealed = [&](std::size_t flow, std::uint8_t serial, std::size_t bytes,
                          bool has_more = false) {
    const Result sent = pair.left.receive(kLan, packet_of(flow, serial, is_v6, bytes, has_more));
    return sent.wan.at(0);
  };
  for (std::size_t flow = 0; flow < kFlows; ++flow) {
    REQUIRE(pair.right.receive(kWan, sealed(flow, 0, 700)).lan.size() == 1);
  }
  const Traffic traffic(seed, 5, [&](std::size_t flow, std::uint8_t serial, std::size_t kind) {
    if (kind <= 1) return sealed(flow, serial, kind == 0 ? 700 : 100);
    if (kind == 2) return sealed(flow, serial, 700, true);
    Packet outer = sealed(flow, serial, 700);
    if (kind == 3) {  // a mark of congestion that is an alarm (RFC 6040 §4.2)
      outer[15] = static_cast<std::uint8_t>(outer[15] | 1U);
      fix_checksum(outer);
      return outer;
    }
    return frame(with_option(ip_of(outer)));
  });
  const Result opened = pair.right.receive(kWan, traffic.frames);
  REQUIRE(opened.drops.empty());
  Serials serials;
  for (const Packet& one : opened.lan) note(one, serials);
  CHECK(serials == traffic.serials);
}
