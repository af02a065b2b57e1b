// The largest segment that TCP announces, lowered to what fits a tunnel (RFC 9293 §3.7.1).
#pragma once

#include <cstdint>
#include <optional>

#include "tests/model/ip_model.hpp"
#include "tests/model/packet.hpp"

namespace culvert::model {

/// Whether it begins a connection, and shows so.
inline bool is_syn(const ByteString& ip, const IpView& view) {
  const std::size_t bytes = view.total_bytes - view.header_bytes;
  return view.protocol == 6 && bytes >= 20 && (ip[view.header_bytes + 13] & 2U) != 0;
}

/// RFC 9293 §3.1, §3.2: where the option of a segment at `segment` has its value. nullopt: it has
/// none, or options that do not hold together.
inline std::optional<std::size_t> mss_at(const ByteString& ip, std::size_t segment) {
  const std::size_t end = segment + (ip[segment + 12] >> 4U) * std::size_t{4};
  if (end > ip.size()) return std::nullopt;
  for (std::size_t at = segment + 20; at < end && ip[at] != 0;) {
    if (ip[at] == 1) {
      ++at;
      continue;
    }
    if (at + 2 > end || ip[at + 1] < 2 || at + ip[at + 1] > end) return std::nullopt;
    if (ip[at] == 2) return ip[at + 1] == 4 ? std::optional(at + 2) : std::nullopt;
    at += ip[at + 1];
  }
  return std::nullopt;
}

/// RFC 1624 §3, eqn. 3, over the words from `from` to the end that differ.
inline unsigned updated_checksum(unsigned checksum, const ByteString& before,
                                 const ByteString& after, std::size_t from) {
  std::uint64_t sum = ~checksum & 0xffffU;
  const auto word = [](const ByteString& of, std::size_t at) {
    return at + 1 < of.size() ? get16(of, at) : unsigned{of[at]} << 8U;
  };
  for (std::size_t at = from; at < before.size(); at += 2) {
    const unsigned old = word(before, at), now = word(after, at);
    if (old != now) sum += (~old & 0xffffU) + now;
  }
  while (sum > 0xffffU) sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<unsigned>(~sum & 0xffffU);
}

/// `most`: what a segment may be. It is never raised.
inline ByteString with_clamped_mss(const ByteString& ip, const IpView& view, std::size_t most) {
  const std::size_t segment = view.header_bytes;
  const auto at = mss_at(ip, segment);
  if (!at || get16(ip, *at) <= most) return ip;
  ByteString clamped = ip;
  set16(clamped, *at, static_cast<unsigned>(most));
  set16(clamped, segment + 16, updated_checksum(get16(ip, segment + 16), ip, clamped, segment));
  return clamped;
}

}  // namespace culvert::model
