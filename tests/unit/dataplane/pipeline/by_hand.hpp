// SAs whose numbers, IVs and keys a test chooses, and the packets that OpenSSL makes for them.
#pragma once

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/crypto/esp_by_openssl.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"

namespace culvert::test {

/// Eight bytes of network order.
inline std::uint64_t load_u64(const std::uint8_t* from) {
  return std::uint64_t{wire::load_u32(from)} << 32U | wire::load_u32(from + 4);
}

/// The number with ESN that stands for this IV on the wire: ours end in the number's low half.
inline std::uint64_t number_of_iv(std::uint64_t iv) {
  return std::uint64_t{1} << 32U | static_cast<std::uint32_t>(iv);
}
/// The next packet of an outbound SA with ESN has this IV.
inline void set_next_iv(Gateway& gateway, dataplane::SlotIndex slot, std::uint64_t iv) {
  dataplane::OutboundSa& sa = *gateway.tables().sad->outbound(slot);
  REQUIRE(sa.has_esn);
  sa.iv_start = static_cast<std::uint32_t>(iv >> 32U) - 1;
  sa.sequence.store(number_of_iv(iv) - 1);
}

inline void set_key(channel::InstallSa& sa, const Packet& key) { REQUIRE(sa.key.assign(key)); }

/// What OpenSSL is to make of the packet with a number.
inline crypto::test::EspByHand by_hand(const channel::InstallSa& sa, std::uint64_t sequence) {
  const auto key = sa.key.view();
  return {sa.suite, Packet(key.begin(), key.end()), static_cast<std::uint32_t>(sa.spi), sequence,
          sa.esn};
}

/// Payload with padding (RFC 4303 §2.4: 1, 2, 3 …) and trailer, in whole blocks.
inline Packet with_padding(Packet payload, std::size_t block, std::uint8_t next_header) {
  std::uint8_t padding = 0;
  while ((payload.size() + 2) % block != 0) payload.push_back(++padding);
  payload.push_back(padding);
  payload.push_back(next_header);
  return payload;
}

/// ESP between two gateways, in a frame.
inline Packet esp_frame(const std::string& source, const std::string& destination,
                        const Packet& esp) {
  return frame(
      ip_packet({.source = source, .destination = destination, .protocol = 50, .payload = esp}));
}
/// ESP of a sealed frame, without UDP.
inline Packet esp_of(const Packet& sealed) {
  const std::size_t ip_bytes = wire::is_v4(&sealed[14]) ? 20 : 40;
  return {sealed.begin() + 14 + static_cast<std::ptrdiff_t>(ip_bytes), sealed.end()};
}

/// An IP packet as it was `hops` gateways before (or, with a negative number, behind).
inline Packet hops_before(Packet ip, int hops) {
  const bool is_v4 = wire::is_v4(ip.data());
  std::uint8_t& left = ip[is_v4 ? 8 : 7];
  left = static_cast<std::uint8_t>(left + hops);
  if (is_v4) wire::write_ipv4_checksum(ip.data(), 20);
  return ip;
}

}  // namespace culvert::test
