// Fragments, told from RFC 791 §3.2 and RFC 8200 §4.5: a packet in pieces, and pieces put together.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "tests/model/ip_model.hpp"

namespace culvert::model {

/// IPv4 with DF clear. IPv6 is cut by its source only (RFC 8200 §4.5).
inline bool may_be_cut(const ByteString& ip) {
  return ip[0] >> 4U == 4 && (get16(ip, 6) & 0x4000U) == 0;
}

/// RFC 791 §3.1: of a header's options, those that every fragment has to carry.
inline ByteString copied_options(const ByteString& options) {
  ByteString copied;
  for (std::size_t at = 0; at < options.size() && options[at] != 0;) {
    const std::size_t bytes = options[at] == 1 ? 1 : options[at + 1];
    if ((options[at] & 0x80U) != 0) put(copied, slice(options, at, bytes));
    at += bytes;
  }
  while (copied.size() % 4 != 0) copied.push_back(0);
  return copied;
}

/// Pieces of at most `mtu` bytes; none when it leaves no room for eight bytes of payload. All but
/// the last are as large as the first one's header lets them be.
inline std::vector<ByteString> cut_v4(const ByteString& ip, std::size_t mtu) {
  const std::size_t header_bytes = (ip[0] & 0x0fU) * std::size_t{4};
  const std::size_t total = get16(ip, 2);
  std::vector<ByteString> pieces;
  if (mtu < header_bytes + 8) return pieces;
  const std::size_t step = (mtu - header_bytes) / 8 * 8;
  const unsigned before = get16(ip, 6);
  for (std::size_t at = header_bytes; at < total; at += step) {
    const std::size_t bytes = std::min(step, total - at);
    ByteString options = slice(ip, 20, header_bytes - 20);
    if (!pieces.empty()) options = copied_options(options);
    ByteString piece = slice(ip, 0, 20);
    piece[0] = static_cast<std::uint8_t>(0x45U + options.size() / 4);
    put(piece, options);
    const bool more = at + bytes < total || (before & 0x2000U) != 0;
    ByteString changed;
    put16(changed, static_cast<unsigned>(piece.size() + bytes));
    put(changed, slice(ip, 4, 2));
    put16(changed, static_cast<unsigned>((before & 0x1fffU) + (at - header_bytes) / 8) |
                       (more ? 0x2000U : 0U));
    std::copy(changed.begin(), changed.end(), piece.begin() + 2);
    put(piece, slice(ip, at, bytes));
    pieces.push_back(with_checksum(std::move(piece)));
  }
  return pieces;
}

/// The same of an IPv6 packet without extension headers. The identification is the source's to
/// choose; here it is 0.
inline std::vector<ByteString> cut_v6(const ByteString& ip, std::size_t mtu) {
  constexpr std::size_t kHeaders = 48;
  std::vector<ByteString> pieces;
  if (mtu < kHeaders + 8) return pieces;
  const std::size_t step = (mtu - kHeaders) / 8 * 8;
  for (std::size_t at = 40; at < ip.size(); at += step) {
    const std::size_t bytes = std::min(step, ip.size() - at);
    ByteString piece = slice(ip, 0, 4);
    put16(piece, static_cast<unsigned>(8 + bytes));
    piece.push_back(44);
    put(piece, slice(ip, 7, 33));
    piece.push_back(ip[6]);
    piece.push_back(0);
    put16(piece, static_cast<unsigned>(at - 40) | (at + bytes < ip.size() ? 1U : 0U));
    put32(piece, 0);
    put(piece, slice(ip, at, bytes));
    pieces.push_back(std::move(piece));
  }
  return pieces;
}
inline std::vector<ByteString> cut(const ByteString& ip, std::size_t mtu) {
  return ip[0] >> 4U == 4 ? cut_v4(ip, mtu) : cut_v6(ip, mtu);
}

/// One piece of a packet, and what it has in common with the others.
struct Fragment {
  ByteString of;  ///< addresses, identification; in IPv4 the protocol, too
  std::uint8_t protocol = 0;
  std::size_t offset = 0;
  bool more = false;
  std::size_t packet_bytes = 0;
  ByteString payload;
};

/// Whether it is one. RFC 6946: what is whole by itself is none.
inline bool is_fragment(const ByteString& ip) {
  if (ip[0] >> 4U == 4) return (get16(ip, 6) & 0x3fffU) != 0;
  return ip[6] == 44 && (get16(ip, 42) & 0xfff9U) != 0;
}

/// nullopt: the packet is whole.
inline std::optional<Fragment> fragment_of(const ByteString& ip) {
  if (!is_fragment(ip)) return std::nullopt;
  Fragment fragment;
  fragment.packet_bytes = ip.size();
  if (ip[0] >> 4U == 4) {
    const unsigned field = get16(ip, 6);
    const std::size_t header_bytes = (ip[0] & 0x0fU) * std::size_t{4};
    fragment.of = slice(ip, 12, 8);
    put(fragment.of, slice(ip, 4, 2));
    fragment.protocol = ip[9];
    fragment.offset = (field & 0x1fffU) * std::size_t{8};
    fragment.more = (field & 0x2000U) != 0;
    fragment.payload = slice(ip, header_bytes, ip.size() - header_bytes);
    fragment.of.push_back(fragment.protocol);
  } else {
    fragment.of = slice(ip, 8, 32);
    put(fragment.of, slice(ip, 44, 4));
    fragment.protocol = ip[40];
    fragment.offset = get16(ip, 42) & 0xfff8U;
    fragment.more = (get16(ip, 42) & 1U) != 0;
    fragment.payload = slice(ip, 48, ip.size() - 48);
  }
  return fragment;
}

/// nullopt: a piece is missing, or there is more than the packet.
inline std::optional<ByteString> joined(std::vector<Fragment> pieces) {
  std::ranges::sort(pieces, {}, &Fragment::offset);
  ByteString whole;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const bool is_last = i + 1 == pieces.size();
    if (pieces[i].offset != whole.size() || pieces[i].more == is_last) return std::nullopt;
    put(whole, pieces[i].payload);
  }
  return whole;
}

}  // namespace culvert::model
