// Packets as byte strings, put together field by field (RFC 791, 8200, 768, 792, 4443, 826).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "wire/ip_address.hpp"

namespace culvert::model {

using ByteString = std::vector<std::uint8_t>;

inline void put16(ByteString& to, unsigned value) {
  to.push_back(static_cast<std::uint8_t>(value >> 8U));
  to.push_back(static_cast<std::uint8_t>(value));
}
inline void put32(ByteString& to, std::uint64_t value) {
  put16(to, static_cast<unsigned>(value >> 16U & 0xffffU));
  put16(to, static_cast<unsigned>(value & 0xffffU));
}
inline void put(ByteString& to, const ByteString& more) {
  to.insert(to.end(), more.begin(), more.end());
}
inline unsigned get16(const ByteString& from, std::size_t at) {
  return static_cast<unsigned>(from.at(at) << 8 | from.at(at + 1));
}
inline std::uint32_t get32(const ByteString& from, std::size_t at) {
  return std::uint32_t{get16(from, at)} << 16U | get16(from, at + 2);
}
inline ByteString slice(const ByteString& from, std::size_t at, std::size_t bytes) {
  return {from.begin() + static_cast<std::ptrdiff_t>(at),
          from.begin() + static_cast<std::ptrdiff_t>(at + bytes)};
}

inline void set16(ByteString& of, std::size_t at, unsigned value) {
  of[at] = static_cast<std::uint8_t>(value >> 8U);
  of[at + 1] = static_cast<std::uint8_t>(value);
}

/// RFC 1071, over 16-bit words; 0 over bytes that hold their own right checksum.
inline unsigned internet_checksum(const ByteString& bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    sum += std::uint64_t{bytes[i]} << (i % 2 == 0 ? 8U : 0U);
  }
  while (sum > 0xffffU) sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<unsigned>(~sum & 0xffffU);
}

struct IpFields {
  std::string_view source, destination;
  std::uint8_t protocol = 17;
  std::uint8_t ttl = 64;
  std::uint8_t traffic_class = 0;
  unsigned fragment = 0;  ///< IPv4: flags and offset, as on the wire
  ByteString options{};   ///< IPv4: padded to words
};

inline wire::IpAddress parsed(std::string_view text) {
  return wire::IpAddress::parse(text).value();
}

inline ByteString ipv4(const IpFields& fields, const ByteString& payload) {
  ByteString header;
  header.push_back(static_cast<std::uint8_t>(0x45U + fields.options.size() / 4));
  header.push_back(fields.traffic_class);
  put16(header, static_cast<unsigned>(20 + fields.options.size() + payload.size()));
  put16(header, 0x1234);
  put16(header, fields.fragment);
  header.push_back(fields.ttl);
  header.push_back(fields.protocol);
  put16(header, 0);
  for (const auto text : {fields.source, fields.destination}) {
    const auto address = parsed(text);
    header.insert(header.end(), address.view().begin(), address.view().end());
  }
  put(header, fields.options);
  const unsigned checksum = internet_checksum(header);
  header[10] = static_cast<std::uint8_t>(checksum >> 8U);
  header[11] = static_cast<std::uint8_t>(checksum);
  put(header, payload);
  return header;
}

inline ByteString ipv6(const IpFields& fields, const ByteString& payload) {
  ByteString packet;
  put32(packet, 0x60000000U | std::uint32_t{fields.traffic_class} << 20U);
  put16(packet, static_cast<unsigned>(payload.size()));
  packet.push_back(fields.protocol);
  packet.push_back(fields.ttl);
  for (const auto text : {fields.source, fields.destination}) {
    const auto address = parsed(text);
    packet.insert(packet.end(), address.view().begin(), address.view().end());
  }
  put(packet, payload);
  return packet;
}
inline ByteString ip(const IpFields& fields, const ByteString& payload) {
  return parsed(fields.source).is_v4() ? ipv4(fields, payload) : ipv6(fields, payload);
}

/// Without a checksum, which IPv4 permits and no gateway looks at in transit.
inline ByteString udp(unsigned source, unsigned destination, const ByteString& payload) {
  ByteString datagram;
  put16(datagram, source);
  put16(datagram, destination);
  put16(datagram, static_cast<unsigned>(8 + payload.size()));
  put16(datagram, 0);
  put(datagram, payload);
  return datagram;
}

/// An ICMP message (RFC 792), or with addresses an ICMPv6 one (RFC 4443 §2.3).
inline ByteString icmp(std::uint8_t type, std::uint8_t code, const ByteString& rest,
                       std::string_view source = {}, std::string_view destination = {}) {
  ByteString message{type, code, 0, 0};
  put(message, rest);
  ByteString summed;
  if (!source.empty()) {
    for (const auto text : {source, destination}) {
      const auto address = parsed(text);
      summed.insert(summed.end(), address.view().begin(), address.view().end());
    }
    put32(summed, message.size());
    put32(summed, 58);
  }
  put(summed, message);
  const unsigned checksum = internet_checksum(summed);
  message[2] = static_cast<std::uint8_t>(checksum >> 8U);
  message[3] = static_cast<std::uint8_t>(checksum);
  return message;
}

inline ByteString ethernet(const ByteString& destination, const ByteString& source, unsigned type,
                           const ByteString& payload) {
  ByteString frame = destination;
  put(frame, source);
  put16(frame, type);
  put(frame, payload);
  return frame;
}

/// Bytes that count, so that a misplaced one shows.
inline ByteString counting(std::size_t bytes, std::uint8_t first = 0) {
  ByteString made(bytes);
  for (auto& byte : made) byte = first++;
  return made;
}

}  // namespace culvert::model
