#include "benchmarks/workload.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "wire/cursor.hpp"
#include "wire/ip.hpp"
#include "wire/ip_address.hpp"

namespace culvert::benchmarks {
namespace {

constexpr std::size_t kFrames = 4096;  ///< a multiple of the burst and of 1024 SAs
constexpr std::size_t kEthernetBytes = 14, kIpBytes = 20, kUdpBytes = 8, kEspBytes = 8,
                      kIvBytes = 8, kIcvBytes = 16;
constexpr std::array<std::uint32_t, 12> kImix{64, 570, 64, 64, 570, 64, 64, 570, 1400, 64, 570, 64};

std::uint32_t inner_size(const Case& test, std::size_t frame) {
  return test.size == 0 ? kImix[frame % kImix.size()] : test.size;
}

void write_ethernet(wire::Writer& out, const std::uint8_t (&destination)[6]) {
  out.bytes(destination);
  out.bytes(kNeighborMac);
  out.u16(0x0800);
}

/// An IPv4 header with its checksum.
void write_ip(wire::Writer& out, std::size_t total, std::uint8_t protocol, std::uint32_t source,
              std::uint32_t destination) {
  std::array<std::uint8_t, kIpBytes> header{};
  wire::Writer ip(header);
  ip.u16(0x4500);
  ip.u16(static_cast<std::uint16_t>(total));
  ip.u32(0x00004000);
  ip.u8(64);
  ip.u8(protocol);
  ip.u16(0);
  ip.u32(source);
  ip.u32(destination);
  wire::write_ipv4_checksum(header.data(), header.size());
  out.bytes(header);
}

/// A UDP packet of the SA's selectors; several flows an SA when there are few SAs.
std::vector<std::uint8_t> inner_packet(const Case& test, std::size_t frame, std::size_t size) {
  const auto sa = static_cast<std::uint32_t>(frame % test.sas);
  const auto flow = static_cast<std::uint16_t>(test.sas == 1 ? frame % 64 : 0);
  std::uint32_t source = kLocalBase + (sa << 8) + 2;
  std::uint32_t destination = kRemoteBase + (sa << 8) + 2;
  if (test.direction == Direction::in) std::swap(source, destination);
  std::vector<std::uint8_t> packet(size);
  wire::Writer out(packet);
  write_ip(out, size, 17, source, destination);
  out.u16(static_cast<std::uint16_t>(20000 + flow));
  out.u16(4000);
  out.u16(static_cast<std::uint16_t>(size - kIpBytes));
  out.u16(0);
  for (std::size_t at = kIpBytes + kUdpBytes; at < size; ++at) {
    packet[at] = static_cast<std::uint8_t>(at * 7);
  }
  return packet;
}

wire::TrafficSelector network(std::uint32_t base, std::uint32_t index) {
  return wire::TrafficSelector::of({wire::IpAddress::v4(base + (index << 8)), 24});
}

std::vector<std::uint8_t> key_of(std::uint32_t index) {
  std::vector<std::uint8_t> key(20);
  for (std::size_t at = 0; at < key.size(); ++at) {
    key[at] = static_cast<std::uint8_t>(index * 31 + at * 17 + 1);
  }
  return key;
}

/// ESP in tunnel mode (RFC 4303, RFC 4106), made by the crypto engine alone: the worker under test
/// has no part in its own input.
std::vector<std::uint8_t> seal(const std::vector<std::uint8_t>& inner, channel::Spi spi,
                               std::uint32_t sequence, std::uint32_t sa,
                               const crypto::esp::ExpandedKey& key, crypto::esp::Engine& engine) {
  const std::size_t padding = (4 - (inner.size() + 2) % 4) % 4;
  const std::size_t text = inner.size() + padding + 2;
  const std::size_t total = kIpBytes + kEspBytes + kIvBytes + text + kIcvBytes;
  std::vector<std::uint8_t> frame(kEthernetBytes + total);
  wire::Writer out(frame);
  write_ethernet(out, kWanMac);
  write_ip(out, total, 50, kPeerWan, kOurWan);
  const std::size_t esp_at = out.size();
  out.u32(static_cast<std::uint32_t>(spi));
  out.u32(sequence);
  out.u64(sequence);
  const std::size_t text_at = out.size();
  out.bytes(inner);
  for (std::size_t pad = 1; pad <= padding; ++pad) out.u8(static_cast<std::uint8_t>(pad));
  out.u8(static_cast<std::uint8_t>(padding));
  out.u8(4);
  std::array<std::uint8_t, 16> nonce{};
  const auto salt = key_of(sa);
  std::copy_n(salt.begin() + 16, 4, nonce.begin());
  std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(esp_at + kEspBytes), kIvBytes,
              nonce.begin() + 4);
  const crypto::esp::Operation operation{.key = &key,
                                         .text = frame.data() + text_at,
                                         .nonce = nonce.data(),
                                         .aad = frame.data() + esp_at,
                                         .icv = frame.data() + text_at + text,
                                         .text_bytes = static_cast<std::uint32_t>(text),
                                         .aad_bytes = kEspBytes};
  engine.seal(kSuite, std::span(&operation, 1));
  return frame;
}

}  // namespace

std::string size_name(const Case& test) {
  return test.size == 0 ? "imix" : std::to_string(test.size);
}

channel::InstallSa sa_request(Direction direction, std::uint32_t index, channel::Spi spi) {
  channel::InstallSa request;
  request.sa = channel::SaId{index + 1};
  request.direction = direction == Direction::in ? channel::Direction::in : channel::Direction::out;
  request.child_index = index;
  request.spi = spi;
  request.replay_window = direction == Direction::in ? 1024 : 0;
  request.suite = kSuite;
  request.local = {wire::IpAddress::v4(kOurWan), 0};
  request.remote = {wire::IpAddress::v4(kPeerWan), 0};
  // Limits that are looked at and never reached.
  request.lifetime.soft_bytes = 1ULL << 61;
  request.lifetime.hard_bytes = 1ULL << 62;
  request.lifetime.soft_packets = 1ULL << 61;
  request.lifetime.hard_packets = 1ULL << 62;
  request.esn = direction == Direction::out;
  request.local_selectors.count = 1;
  request.local_selectors.items[0] = network(kLocalBase, index);
  request.remote_selectors.count = 1;
  request.remote_selectors.items[0] = network(kRemoteBase, index);
  if (!request.key.assign(key_of(index))) std::abort();
  return request;
}

Frames clear_frames(const Case& test) {
  Frames result;
  for (std::size_t frame = 0; frame < kFrames; ++frame) {
    const std::uint32_t size = inner_size(test, frame);
    const auto packet = inner_packet(test, frame, size);
    std::vector<std::uint8_t> bytes(kEthernetBytes + size);
    wire::Writer out(bytes);
    write_ethernet(out, kLanMac);
    out.bytes(packet);
    result.frames.push_back(std::move(bytes));
    result.inner_bytes.push_back(size);
  }
  return result;
}

Frames sealed_frames(const Case& test, const std::vector<channel::Spi>& spis,
                     crypto::esp::Engine& engine) {
  std::vector<crypto::esp::ExpandedKey> keys(test.sas);
  for (std::uint32_t sa = 0; sa < test.sas; ++sa) {
    const auto key = key_of(sa);
    if (!engine.expand(kSuite, crypto::Bytes(key).first(16), keys[sa])) std::abort();
  }
  Frames result;
  for (std::size_t frame = 0; frame < kFrames; ++frame) {
    const std::uint32_t size = inner_size(test, frame);
    const auto sa = static_cast<std::uint32_t>(frame % test.sas);
    const auto sequence = static_cast<std::uint32_t>(frame / test.sas + 1);
    result.frames.push_back(
        seal(inner_packet(test, frame, size), spis[sa], sequence, sa, keys[sa], engine));
    result.inner_bytes.push_back(size);
  }
  return result;
}

void write_capture(const std::string& file, const Frames& frames) {
  std::ofstream out(file, std::ios::binary);
  const auto put = [&](auto value) {
    out.write(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  put(std::uint32_t{0xa1b2c3d4});
  put(std::uint16_t{2});
  put(std::uint16_t{4});
  for (const std::uint32_t field : {0U, 0U, 65535U, 1U}) put(field);
  for (const auto& frame : frames.frames) {
    put(std::uint32_t{0});
    put(std::uint32_t{0});
    put(static_cast<std::uint32_t>(frame.size()));
    put(static_cast<std::uint32_t>(frame.size()));
    out.write(reinterpret_cast<const char*>(frame.data()),
              static_cast<std::streamsize>(frame.size()));
  }
  if (!out.flush()) {
    std::cerr << "cannot write " << file << '\n';
    std::exit(1);
  }
}

}  // namespace culvert::benchmarks
