#include "benchmarks/tester/packets.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "crypto/suite.hpp"
#include "dataplane/tables/replay_window.hpp"
#include "wire/cursor.hpp"
#include "wire/ip.hpp"

namespace culvert::benchmarks {
namespace {

constexpr std::size_t kEthernetBytes = 14, kIpBytes = 20, kUdpBytes = 8, kEspBytes = 8,
                      kIvBytes = 8, kIcvBytes = 16;
constexpr std::uint32_t kMagic = 0x43756c76;
constexpr crypto::EspSuite kSuite{crypto::Encryption::aes_gcm_16, 128, crypto::Integrity::none};
// As scripts/bench --gateway-config writes them.
constexpr std::uint32_t kSpiToTester = 4096, kSpiToGateway = 4097;
constexpr std::array<std::uint8_t, 20> kKeyAndSalt{1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                                   11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

void write_ip(std::span<std::uint8_t> out, std::size_t total, std::uint8_t protocol,
              std::uint32_t source, std::uint32_t destination) {
  wire::Writer ip(out.first(kIpBytes));
  ip.u16(0x4500);
  ip.u16(static_cast<std::uint16_t>(total));
  ip.u32(0);
  ip.u8(64);
  ip.u8(protocol);
  ip.u16(0);
  ip.u32(source);
  ip.u32(destination);
  wire::write_ipv4_checksum(out.data(), kIpBytes);
}

struct Ends {
  std::uint32_t source, destination;
};
Ends ends_of(Way way, bool from_lan) {
  const std::uint32_t far = way == Way::tunnel ? kRemoteHost : kWan.tester;
  return from_lan ? Ends{kLan.tester, far} : Ends{far, kLan.tester};
}

std::array<std::uint8_t, 16> nonce_of(const std::uint8_t* iv) {
  std::array<std::uint8_t, 16> nonce{};
  std::copy_n(kKeyAndSalt.begin() + 16, 4, nonce.begin());
  std::copy_n(iv, kIvBytes, nonce.begin() + 4);
  return nonce;
}

/// SPI and all 64 bits of the number (RFC 4106 §5).
std::array<std::uint8_t, 16> aad_of(std::uint32_t spi, std::uint64_t sequence) {
  std::array<std::uint8_t, 16> aad{};
  wire::Writer out(aad);
  out.u32(spi);
  out.u64(sequence);
  return aad;
}

}  // namespace

std::size_t write_inner(std::span<std::uint8_t> out, Way way, bool from_lan, std::size_t bytes,
                        std::uint32_t flow, const Mark& mark) {
  const Ends ends = ends_of(way, from_lan);
  write_ip(out, bytes, 17, ends.source, ends.destination);
  wire::Writer rest(out.subspan(kIpBytes, bytes - kIpBytes));
  rest.u16(static_cast<std::uint16_t>(20000 + flow));
  rest.u16(4000);
  rest.u16(static_cast<std::uint16_t>(bytes - kIpBytes));
  rest.u16(0);  // no checksum (RFC 768)
  rest.u32(kMagic);
  rest.u32(mark.trial);
  rest.u64(mark.sent_tsc);
  return bytes;
}

std::optional<Mark> read_inner(std::span<const std::uint8_t> packet, Way way, bool from_lan) {
  if (packet.size() < kLeastInnerBytes || packet[0] != 0x45 || packet[9] != 17) return std::nullopt;
  wire::Reader in(wire::Bytes(packet.data(), packet.size()));
  if (!in.skip(12, "header")) return std::nullopt;
  const auto source = in.u32("source"), destination = in.u32("destination");
  const Ends ends = ends_of(way, from_lan);
  if (!source || *source != ends.source) return std::nullopt;
  if (!destination || *destination != ends.destination) return std::nullopt;
  if (!in.skip(kUdpBytes, "UDP")) return std::nullopt;
  const auto magic = in.u32("magic"), trial = in.u32("trial");
  const auto sent = in.u64("time");
  if (!magic || *magic != kMagic || !trial || !sent) return std::nullopt;
  return Mark{*trial, *sent};
}

void write_ethernet(std::span<std::uint8_t> out, const Mac& destination, const Mac& source,
                    std::uint16_t type) {
  wire::Writer ethernet(out.first(kEthernetBytes));
  ethernet.bytes(destination);
  ethernet.bytes(source);
  ethernet.u16(type);
}

Tunnel::Tunnel() : engine_(crypto::esp::make_engine()) {
  if (!engine_->expand(kSuite, crypto::Bytes(kKeyAndSalt).first(16), key_)) std::abort();
}

std::size_t Tunnel::finish(std::span<std::uint8_t> out, std::size_t inner_bytes) {
  const std::size_t padding = (4 - (inner_bytes + 2) % 4) % 4;
  const std::size_t text = inner_bytes + padding + 2;
  const std::size_t total = kInnerAt + text + kIcvBytes;
  const std::uint64_t sequence = next_sequence_++;
  write_ip(out, total, 50, kWan.tester, kWan.gateway);
  wire::Writer esp(out.subspan(kIpBytes, kEspBytes + kIvBytes));
  esp.u32(kSpiToGateway);
  esp.u32(static_cast<std::uint32_t>(sequence));
  esp.u64(sequence);
  wire::Writer trailer(out.subspan(kInnerAt + inner_bytes, padding + 2));
  for (std::size_t pad = 1; pad <= padding; ++pad) trailer.u8(static_cast<std::uint8_t>(pad));
  trailer.u8(static_cast<std::uint8_t>(padding));
  trailer.u8(4);
  const auto nonce = nonce_of(out.data() + kIpBytes + kEspBytes);
  const auto aad = aad_of(kSpiToGateway, sequence);
  const crypto::esp::Operation operation{.key = &key_,
                                         .text = out.data() + kInnerAt,
                                         .nonce = nonce.data(),
                                         .aad = aad.data(),
                                         .icv = out.data() + kInnerAt + text,
                                         .text_bytes = static_cast<std::uint32_t>(text),
                                         .aad_bytes = 12};
  engine_->seal(kSuite, std::span(&operation, 1));
  return total;
}

std::span<const std::uint8_t> Tunnel::open(std::span<std::uint8_t> packet) {
  wire::Reader in(wire::Bytes(packet.data(), packet.size()));
  const auto first = in.u16("version"), total = in.u16("length");
  if (!first || *first >> 8U != 0x45 || !total || *total > packet.size()) return {};
  if (packet[9] != 50 || *total < kInnerAt + kLeastInnerBytes + kIcvBytes) return {};
  if (!in.skip(kIpBytes - 4, "header")) return {};
  const auto spi = in.u32("SPI"), low = in.u32("sequence number");
  if (!spi || *spi != kSpiToTester || !low) return {};
  constexpr std::uint32_t kReordered = 1024;
  const std::uint64_t sequence = dataplane::extend_sequence(highest_received_, kReordered, *low);
  const std::size_t text = *total - kInnerAt - kIcvBytes;
  const auto nonce = nonce_of(packet.data() + kIpBytes + kEspBytes);
  const auto aad = aad_of(*spi, sequence);
  alignas(64) std::array<std::uint8_t, crypto::esp::kMaxIcvBytes> icv{};
  const crypto::esp::Operation operation{.key = &key_,
                                         .text = packet.data() + kInnerAt,
                                         .nonce = nonce.data(),
                                         .aad = aad.data(),
                                         .icv = icv.data(),
                                         .text_bytes = static_cast<std::uint32_t>(text),
                                         .aad_bytes = 12};
  engine_->open(kSuite, std::span(&operation, 1));
  if (std::memcmp(icv.data(), packet.data() + kInnerAt + text, kIcvBytes) != 0) return {};
  highest_received_ = std::max(highest_received_, sequence);
  return packet.subspan(kInnerAt, text);
}

void write_arp_question(std::span<std::uint8_t> frame, const Mac& mac, std::uint32_t sender,
                        std::uint32_t target) {
  write_ethernet(frame, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, 0x0806);
  wire::Writer arp(frame.subspan(kEthernetBytes, kArpFrameBytes - kEthernetBytes));
  arp.u16(1);
  arp.u16(0x0800);
  arp.u16(0x0604);
  arp.u16(1);
  arp.bytes(mac);
  arp.u32(sender);
  arp.bytes(Mac{});
  arp.u32(target);
}

std::optional<Arp> read_arp(std::span<const std::uint8_t> frame) {
  constexpr std::array<std::uint8_t, 8> kBegins{0x08, 0x06, 0, 1, 0x08, 0, 6, 4};
  if (frame.size() < kArpFrameBytes) return std::nullopt;
  if (!std::equal(kBegins.begin(), kBegins.end(), frame.begin() + 12)) return std::nullopt;
  Arp arp;
  arp.is_question = frame[21] == 1;
  std::copy_n(frame.begin() + 22, 6, arp.mac.begin());
  wire::Reader sender(wire::Bytes(frame.data() + 28, 4)), target(wire::Bytes(frame.data() + 38, 4));
  arp.sender = *sender.u32("sender");
  arp.target = *target.u32("target");
  return arp;
}

void answer_arp(std::span<std::uint8_t> frame, const Mac& mac) {
  const Arp asked = *read_arp(frame);
  write_ethernet(frame, asked.mac, mac, 0x0806);
  wire::Writer arp(frame.subspan(20, kArpFrameBytes - 20));
  arp.u16(2);
  arp.bytes(mac);
  arp.u32(asked.target);
  arp.bytes(asked.mac);
  arp.u32(asked.sender);
}

}  // namespace culvert::benchmarks
