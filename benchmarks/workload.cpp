#include "benchmarks/workload.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "wire/cursor.hpp"
#include "wire/ip.hpp"

namespace culvert::benchmarks {
namespace {

constexpr std::size_t kBurst = 64;
constexpr std::size_t kEthernetBytes = 14, kUdpBytes = 8, kEspBytes = 8;
constexpr std::uint16_t kNatPort = 4500;
constexpr std::size_t kMostIvBytes = 16;
constexpr std::array<std::uint32_t, 12> kImixSizes{64, 570, 64,   64, 570, 64,
                                                   64, 570, 1400, 64, 570, 64};
constexpr std::size_t ip_bytes(wire::Family family) {
  return family == wire::Family::v4 ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes;
}
/// Headers in front of ESP.
std::size_t outer_bytes(const Case& test) {
  return ip_bytes(test.outer) + (test.has_udp ? kUdpBytes : 0);
}
/// Each SA has a network of 16 addresses a side.
constexpr unsigned kNetworkBits = 4;
/// Neighbours in time are no neighbours in memory. Prime, so that no SA is left out.
constexpr std::uint64_t kStride = 7919;

void write_ethernet(wire::Writer& out, const std::uint8_t (&destination)[6], wire::Family family) {
  out.bytes(destination);
  out.bytes(kNeighborMac);
  out.u16(family == wire::Family::v4 ? 0x0800 : 0x86dd);
}

/// IPv6's has a flow label in place of the identification.
void write_ipv6(wire::Writer& out, std::size_t total, std::uint16_t identification,
                std::uint8_t protocol, std::uint32_t source, std::uint32_t destination) {
  out.u32(0x60000000U | identification);
  out.u16(static_cast<std::uint16_t>(total - wire::ipv6::kHeaderBytes));
  out.u8(protocol);
  out.u8(64);
  out.bytes(address_of(wire::Family::v6, source).view());
  out.bytes(address_of(wire::Family::v6, destination).view());
}

/// An IP header, IPv4's with its checksum.
void write_ip(wire::Writer& out, wire::Family family, std::size_t total,
              std::uint16_t identification, std::uint8_t protocol, std::uint32_t source,
              std::uint32_t destination) {
  if (family == wire::Family::v6) {
    return write_ipv6(out, total, identification, protocol, source, destination);
  }
  std::array<std::uint8_t, wire::ipv4::kHeaderBytes> header{};
  wire::Writer ip(header);
  ip.u16(0x4500);
  ip.u16(static_cast<std::uint16_t>(total));
  ip.u16(identification);
  ip.u16(0x4000);
  ip.u8(64);
  ip.u8(protocol);
  ip.u16(0);
  ip.u32(source);
  ip.u32(destination);
  wire::write_ipv4_checksum(header.data(), header.size());
  out.bytes(header);
}

/// Of ESP in UDP over IPv4, whose checksum should be zero (RFC 3948 §2.1). `bytes`: header and all.
void write_nat_udp(wire::Writer& out, std::size_t bytes) {
  out.u16(kNatPort);
  out.u16(kNatPort);
  out.u16(static_cast<std::uint16_t>(bytes));
  out.u16(0);
}

/// Which SA and flow a frame is of, and its number within the SA.
struct Turn {
  std::uint32_t sa;
  std::uint32_t flow;
  std::uint32_t round;
};
Turn turn_of(const Case& test, std::span<const std::uint32_t> sas, std::size_t frame) {
  const std::size_t in_order = frame / sas.size(), within = test.disorder - 1;
  // An odd factor: each number once.
  const std::size_t round = (in_order & ~within) | (in_order * kStride & within);
  return {sas[frame * kStride % sas.size()], static_cast<std::uint32_t>(round % test.flows),
          static_cast<std::uint32_t>(round)};
}

/// Bad packets that only their ICV tells from good ones.
bool is_forged(Flood flood) { return flood == Flood::wrong_icvs || flood == Flood::from_elsewhere; }

/// Makes what should be dropped of a good packet: by the SPI's generation, by a bit of the ICV,
/// also of one that does not come from the peer's address. A replay is good but for its number.
void spoil(std::vector<std::uint8_t>& frame, const Case& test) {
  const std::size_t esp_at = kEthernetBytes + outer_bytes(test);
  if (test.flood == Flood::unknown_spis) frame[esp_at] ^= 0x80U;
  if (is_forged(test.flood)) frame.back() ^= 1U;
  if (test.flood == Flood::from_elsewhere) {
    std::uint8_t* const ip = &frame[kEthernetBytes];
    ip[wire::ipv4::kSource + 3] ^= 0x80U;
    wire::write_ipv4_checksum(ip, wire::ipv4::kHeaderBytes);
  }
}

/// A UDP packet of the SA's selectors.
std::vector<std::uint8_t> inner_packet(const Case& test, const Turn& turn, std::size_t size) {
  std::uint32_t source = kLocalBase + (turn.sa << kNetworkBits) + 2;
  std::uint32_t destination = kRemoteBase + (turn.sa << kNetworkBits) + 2;
  if (test.direction == Direction::in) std::swap(source, destination);
  std::vector<std::uint8_t> packet(size);
  wire::Writer out(packet);
  write_ip(out, test.inner, size, 0, 17, source, destination);
  const std::size_t header = ip_bytes(test.inner);
  out.u16(static_cast<std::uint16_t>(20000 + turn.flow % 256));
  out.u16(static_cast<std::uint16_t>(8000 + turn.flow / 256));
  out.u16(static_cast<std::uint16_t>(size - header));
  out.u16(0);
  for (std::size_t at = header + kUdpBytes; at < size; ++at) {
    packet[at] = static_cast<std::uint8_t>(at * 7);
  }
  return packet;
}

wire::TrafficSelector network(const Case& test, std::uint32_t base, std::uint32_t index) {
  return wire::TrafficSelector::of(
      prefix_of(test.inner, base + (index << kNetworkBits), 32 - kNetworkBits));
}

/// Cipher key, salt, integrity key (RFC 7296 §2.17).
std::vector<std::uint8_t> keymat_of(const crypto::EspSuite& suite, std::uint32_t index) {
  std::vector<std::uint8_t> key(suite.keymat_bytes());
  for (std::size_t at = 0; at < key.size(); ++at) {
    key[at] = static_cast<std::uint8_t>(index * 31 + at * 17 + 1);
  }
  return key;
}

/// Seals the packets of one case, by the crypto engine alone: the worker under test has no part in
/// its own input.
class Sealer {
 public:
  Sealer(const Case& test, crypto::esp::Engine& engine)
      : test_(test), transform_(crypto::esp::transform(test.transform)), engine_(engine) {}

  /// ESP in tunnel mode (RFC 4303 §2) in an Ethernet frame.
  std::vector<std::uint8_t> seal(const std::vector<std::uint8_t>& inner, channel::Spi spi,
                                 const Turn& turn, std::size_t frame_number) {
    const auto& [suite, form] = transform_;
    const std::size_t padding =
        (form.alignment - (inner.size() + 2) % form.alignment) % form.alignment;
    const std::size_t text = inner.size() + padding + 2;
    const std::size_t total =
        outer_bytes(test_) + kEspBytes + form.iv_bytes + text + form.icv_bytes;
    const std::uint32_t sequence = turn.round + 1;
    std::vector<std::uint8_t> frame(kEthernetBytes + total);
    wire::Writer out(frame);
    write_ethernet(out, kWanMac, test_.outer);
    write_ip(out, test_.outer, total, static_cast<std::uint16_t>(frame_number / kBurst),
             test_.has_udp ? wire::protocol::kUdp : wire::protocol::kEsp, kPeerWan, kOurWan);
    if (test_.has_udp) write_nat_udp(out, total - ip_bytes(test_.outer));
    const std::size_t esp_at = out.size();
    out.u32(static_cast<std::uint32_t>(spi));
    out.u32(sequence);
    std::array<std::uint8_t, kMostIvBytes> iv{};
    wire::Writer(std::span(iv).first(8)).u64(sequence);
    out.bytes(std::span(iv).first(form.iv_bytes));
    const std::size_t text_at = out.size();
    out.bytes(inner);
    for (std::size_t pad = 1; pad <= padding; ++pad) out.u8(static_cast<std::uint8_t>(pad));
    out.u8(static_cast<std::uint8_t>(padding));
    out.u8(test_.inner == wire::Family::v4 ? wire::protocol::kIpv4 : wire::protocol::kIpv6);
    seal_text(frame, esp_at, text_at, text, turn.sa, std::span(iv).first(form.iv_bytes));
    return frame;
  }

 private:
  void seal_text(std::vector<std::uint8_t>& frame, std::size_t esp_at, std::size_t text_at,
                 std::size_t text, std::uint32_t sa, std::span<const std::uint8_t> iv) {
    const auto& [suite, form] = transform_;
    std::vector<std::uint8_t> key = keymat_of(suite, sa);
    const auto salt = key.begin() + static_cast<std::ptrdiff_t>(suite.encryption_key_bytes());
    std::array<std::uint8_t, 32> nonce{};
    std::copy_n(salt, form.salt_bytes, nonce.begin());
    std::ranges::copy(iv, nonce.begin() + form.salt_bytes);
    key.erase(salt, salt + form.salt_bytes);
    if (!engine_.expand(suite, key, key_)) std::abort();
    // SPI, the number's higher half, which is 0, and its lower half (RFC 4106 §5).
    std::array<std::uint8_t, 12> long_aad{};
    std::copy_n(frame.data() + esp_at, 4, long_aad.begin());
    std::copy_n(frame.data() + esp_at + 4, 4, long_aad.begin() + 8);
    const bool is_long = test_.has_inbound_esn;
    const crypto::esp::Operation operation{
        .key = &key_,
        .text = frame.data() + text_at,
        .nonce = nonce.data(),
        .aad = is_long ? long_aad.data() : frame.data() + esp_at,
        .icv = frame.data() + text_at + text,
        .text_bytes = static_cast<std::uint32_t>(text),
        .aad_bytes = static_cast<std::uint8_t>(is_long ? long_aad.size() : kEspBytes)};
    engine_.seal(suite, std::span(&operation, 1));
  }

  const Case& test_;
  const crypto::esp::Transform& transform_;
  crypto::esp::Engine& engine_;
  crypto::esp::ExpandedKey key_{};
};

/// A capture in pcap's format, native byte order, times zero.
class CaptureFile {
 public:
  explicit CaptureFile(const std::string& name) : name_(name), out_(name, std::ios::binary) {
    put(std::uint32_t{0xa1b2c3d4});
    put(std::uint16_t{2});
    put(std::uint16_t{4});
    for (const std::uint32_t field : {0U, 0U, 65535U, 1U}) put(field);
  }
  void add(const std::vector<std::uint8_t>& frame) {
    put(std::uint64_t{0});
    put(static_cast<std::uint32_t>(frame.size()));
    put(static_cast<std::uint32_t>(frame.size()));
    out_.write(reinterpret_cast<const char*>(frame.data()),
               static_cast<std::streamsize>(frame.size()));
  }
  void finish() {
    if (out_.flush()) return;
    std::cerr << "packet_rate: cannot write " << name_ << '\n';
    std::exit(1);
  }

 private:
  template <typename Value>
  void put(Value value) {
    out_.write(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  std::string name_;
  std::ofstream out_;
};

}  // namespace

wire::IpAddress address_of(wire::Family family, std::uint32_t number) {
  if (family == wire::Family::v4) return wire::IpAddress::v4(number);
  std::array<std::uint8_t, 16> bytes{0x20, 0x01, 0x0d, 0xb8};
  wire::store_u32(bytes.data() + 12, number);
  return wire::IpAddress::v6(bytes);
}

wire::Prefix prefix_of(wire::Family family, std::uint32_t number, unsigned bits) {
  const unsigned in_front = family == wire::Family::v4 ? 0 : 96;
  return {address_of(family, number), static_cast<std::uint8_t>(in_front + bits)};
}

Selectors selectors_of_many_shapes(wire::Family family, std::uint32_t number) {
  constexpr unsigned kLocalLengths = 9, kRemoteLengths = 13;
  const std::uint32_t anywhere = number * 2654435761U >> 8U;
  const auto network = [&](std::uint32_t address, unsigned bits) {
    return wire::TrafficSelector::of(prefix_of(family, address, bits));
  };
  Selectors selectors{
      network(0x0b000000 | anywhere, 16 + number % kLocalLengths),
      network(0x0c000000 | (anywhere ^ 0x5a5a5aU), 16 + number / kLocalLengths % kRemoteLengths)};
  wire::TrafficSelector& remote = selectors.remote;
  const std::uint32_t service = number / (kLocalLengths * kRemoteLengths) % 3;
  if (service == 1) {
    remote.protocol = wire::protocol::kUdp;
    remote.port_first = 4096;
    remote.port_last = 8191;
  } else if (service == 2) {
    remote.protocol = wire::protocol::kTcp;
    remote.port_first = remote.port_last = 443;
  }
  return selectors;
}

std::string size_name(const Case& test) {
  return test.size == 0 ? "imix" : std::to_string(test.size);
}

std::string direction_name(const Case& test) {
  return test.direction == Direction::out ? "out" : "in";
}

std::string suite_name(const Case& test) {
  const std::string name = crypto::esp::transform(test.transform).suite.name();
  return test.variant.empty() ? name : name + " " + test.variant;
}

bool have_same_tables(Case one, const Case& other) {
  one.size = other.size;
  return one == other;
}

std::uint32_t policies_of(const Case& test) {
  return test.other_policies + (test.has_sa_policies ? test.sas : 0);
}

std::string row_name(const Case& test) {
  std::string name = suite_name(test) + "/" + direction_name(test) + "/" + size_name(test);
  for (const std::uint32_t number : {test.sas, policies_of(test), test.workers}) {
    name += "/" + std::to_string(number);
  }
  return name;
}

std::uint32_t frames_of(const Case& test) {
  const std::uint32_t flows = test.sas / test.workers * test.flows;
  const auto whole = static_cast<std::uint32_t>(kBurst);
  return (std::max(test.least_frames, flows) + whole - 1) / whole * whole;
}

std::uint32_t frames_per_good(const Case& test) {
  return test.flood == Flood::none ? 1 : 1 + kBadPerGood;
}

std::uint32_t openings_per_good(const Case& test) {
  return is_forged(test.flood) ? 1 + kBadPerGood : 1;
}

std::span<const std::uint32_t> sizes_of(const Case& test) {
  if (test.size == 0) return kImixSizes;
  return {&test.size, 1};
}

channel::InstallSa sa_request(const Case& test, std::uint32_t index, channel::Spi spi) {
  const bool in = test.direction == Direction::in;
  channel::InstallSa request;
  request.sa = channel::SaId{index + 1};
  request.direction = in ? channel::Direction::in : channel::Direction::out;
  request.child_id = channel::ChildId{index};
  request.spi = spi;
  request.replay_window = in ? test.replay_window : 0;
  request.suite = crypto::esp::transform(test.transform).suite;
  const std::uint16_t port = test.has_udp ? kNatPort : 0;
  request.udp_encapsulation = test.has_udp;
  request.local = {address_of(test.outer, kOurWan), port};
  request.remote = {address_of(test.outer, kPeerWan), port};
  // Limits that are looked at and never reached.
  request.lifetime.soft_seconds = 23 * 3600;
  request.lifetime.hard_seconds = 24 * 3600;
  request.lifetime.soft_bytes = 1ULL << 61;
  request.lifetime.hard_bytes = 1ULL << 62;
  request.lifetime.soft_packets = 1ULL << 61;
  request.lifetime.hard_packets = 1ULL << 62;
  request.esn = !in || test.has_inbound_esn;
  request.local_selectors.count = 1;
  request.local_selectors.items[0] = network(test, kLocalBase, index);
  request.remote_selectors.count = 1;
  request.remote_selectors.items[0] = network(test, kRemoteBase, index);
  if (!request.key.assign(keymat_of(request.suite, index))) std::abort();
  return request;
}

void for_each_clear_frame(const Case& test, std::span<const std::uint32_t> sas,
                          const std::function<void(const Frame&)>& take) {
  const auto sizes = sizes_of(test);
  for (std::size_t number = 0; number < frames_of(test); ++number) {
    const std::uint32_t size = sizes[number % sizes.size()];
    Frame frame(kEthernetBytes + size);
    wire::Writer out(frame);
    write_ethernet(out, kLanMac, test.inner);
    out.bytes(inner_packet(test, turn_of(test, sas, number), size));
    take(frame);
  }
}

void for_each_sealed_frame(const Case& test, std::span<const std::uint32_t> sas,
                           std::span<const channel::Spi> spis, crypto::esp::Engine& engine,
                           const std::function<void(const Frame&)>& take) {
  Sealer sealer(test, engine);
  const auto sizes = sizes_of(test);
  const std::uint32_t group = frames_per_good(test);
  for (std::size_t number = 0; number < frames_of(test); ++number) {
    const std::size_t good = number / group;
    const bool is_bad = number % group != 0;
    // A wrong ICV has the number of the next good packet: one that the window lets pass.
    const std::size_t of = is_bad && is_forged(test.flood) ? good + 1 : good;
    const Turn turn = turn_of(test, sas, of);
    const auto inner = inner_packet(test, turn, sizes[number % sizes.size()]);
    auto frame = sealer.seal(inner, spis[turn.sa], turn, number);
    if (is_bad) spoil(frame, test);
    take(frame);
  }
}

std::uint32_t sa_of_frame(const Case& test, std::span<const std::uint32_t> sas,
                          std::size_t number) {
  return turn_of(test, sas, number / frames_per_good(test)).sa;
}

void write_clear_capture(const std::string& file, const Case& test,
                         std::span<const std::uint32_t> sas) {
  CaptureFile capture(file);
  for_each_clear_frame(test, sas, [&](const Frame& frame) { capture.add(frame); });
  capture.finish();
}

void write_sealed_capture(const std::string& file, const Case& test,
                          std::span<const std::uint32_t> sas, std::span<const channel::Spi> spis,
                          crypto::esp::Engine& engine) {
  CaptureFile capture(file);
  for_each_sealed_frame(test, sas, spis, engine, [&](const Frame& frame) { capture.add(frame); });
  capture.finish();
}

}  // namespace culvert::benchmarks
