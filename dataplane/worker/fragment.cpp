#include "dataplane/worker/fragment.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace culvert::dataplane {
namespace {

constexpr std::uint8_t kOptionEnd = 0, kOptionNothing = 1, kCopied = 0x80;

/// The IPv4 options that each fragment carries (RFC 791 §3.1: "copied flag"), padded to words.
struct CopiedOptions {
  std::array<std::uint8_t, 40> bytes{};
  std::size_t length = 0;
};

CopiedOptions copied_options(wire::Bytes options) {
  CopiedOptions kept;
  std::size_t at = 0;
  while (at < options.size() && options[at] != kOptionEnd) {
    if (options[at] == kOptionNothing) {
      ++at;
      continue;
    }
    const std::size_t length = at + 1 < options.size() ? options[at + 1] : 0;
    if (length < 2 || at + length > options.size()) break;
    if ((options[at] & kCopied) != 0) {
      std::memcpy(kept.bytes.data() + kept.length, options.data() + at, length);
      kept.length += length;
    }
    at += length;
  }
  kept.length = (kept.length + 3) / 4 * 4;  // the rest is end-of-options
  return kept;
}

/// Where IPv6's fragmentable part begins: behind hop-by-hop and routing headers (RFC 8200 §4.5).
/// 0: the chain does not hold together, or holds a fragment header.
std::size_t unfragmentable_bytes(wire::Bytes packet, std::uint16_t& next_header_at) {
  std::size_t at = wire::ipv6::kHeaderBytes;
  std::size_t boundary = at;
  next_header_at = wire::ipv6::kNextHeader;
  auto named_at = static_cast<std::uint16_t>(wire::ipv6::kNextHeader);
  for (unsigned i = 0; i < wire::ipv6::kMaxExtensionHeaders; ++i) {
    const std::uint8_t type = packet[named_at];
    if (type == wire::ipv6::kFragment) return 0;
    const bool is_options = type == wire::ipv6::kHopByHop || type == wire::ipv6::kRouting ||
                            type == wire::ipv6::kDestinationOptions;
    if (!is_options) return boundary;
    if (at + 8 > packet.size()) return 0;
    const std::size_t bytes = (packet[at + 1] + 1U) * 8U;
    if (at + bytes > packet.size()) return 0;
    named_at = static_cast<std::uint16_t>(at);
    at += bytes;
    // Destination options belong to the unfragmentable part only in front of a routing header.
    if (type != wire::ipv6::kDestinationOptions) {
      boundary = at;
      next_header_at = named_at;
    }
  }
  return boundary;
}

std::uint16_t narrow(std::size_t value) { return static_cast<std::uint16_t>(value); }

/// Fills in `step` and `count`.
std::optional<Cut> complete(Cut cut, std::size_t total, std::uint16_t mtu) {
  const std::size_t headers = std::max(cut.first_bytes, cut.later_bytes);
  if (mtu < headers + 8 || total <= cut.head_bytes) return std::nullopt;
  const std::size_t payload = total - cut.head_bytes;
  cut.step = narrow((mtu - headers) / 8U * 8U);
  cut.count = narrow((payload + cut.step - 1) / cut.step);
  return cut;
}

void write_ipv4_header(wire::Bytes packet, const Cut& cut, std::size_t begin, bool is_last,
                       std::size_t bytes, wire::MutableBytes out) {
  std::memcpy(out.data(), packet.data(), wire::ipv4::kHeaderBytes);
  const wire::Bytes options =
      packet.subspan(wire::ipv4::kHeaderBytes, cut.head_bytes - wire::ipv4::kHeaderBytes);
  const std::size_t header_bytes = begin == 0 ? cut.first_bytes : cut.later_bytes;
  if (begin == 0) {
    std::ranges::copy(options, out.begin() + wire::ipv4::kHeaderBytes);
  } else {
    const CopiedOptions kept = copied_options(options);
    std::copy_n(kept.bytes.begin(), kept.length, out.begin() + wire::ipv4::kHeaderBytes);
  }
  const std::uint16_t before = wire::load_u16(packet.data() + wire::ipv4::kFragment);
  const bool more = !is_last || (before & wire::ipv4::kMoreFragments) != 0;
  const std::size_t offset = (before & wire::ipv4::kOffsetMask) + begin / 8U;
  out[0] = static_cast<std::uint8_t>(0x40U | header_bytes / 4U);
  wire::store_u16(out.data() + wire::ipv4::kTotalLength, narrow(bytes));
  wire::store_u16(out.data() + wire::ipv4::kIdentification, narrow(cut.identification & 0xffffU));
  wire::store_u16(out.data() + wire::ipv4::kFragment,
                  narrow(offset | (more ? wire::ipv4::kMoreFragments : 0U)));
  wire::write_ipv4_checksum(out.data(), header_bytes);
}

void write_ipv6_header(wire::Bytes packet, const Cut& cut, std::size_t begin, bool is_last,
                       std::size_t bytes, wire::MutableBytes out) {
  std::memcpy(out.data(), packet.data(), cut.head_bytes);
  std::uint8_t* const fragment = out.data() + cut.head_bytes;
  fragment[0] = out[cut.next_header_at];
  fragment[1] = 0;
  out[cut.next_header_at] = wire::ipv6::kFragment;
  wire::store_u16(fragment + 2, narrow(begin | (is_last ? 0U : 1U)));
  wire::store_u32(fragment + 4, cut.identification);
  wire::store_u16(out.data() + wire::ipv6::kPayloadLength,
                  narrow(bytes - wire::ipv6::kHeaderBytes));
}

}  // namespace

std::optional<Cut> cut_for(wire::Bytes packet, std::uint16_t mtu, std::uint32_t identification) {
  const auto header = wire::parse_ip(packet);
  if (!header) return std::nullopt;
  Cut cut;
  cut.is_v4 = (packet[0] >> 4U) == 4;
  cut.identification = identification;
  if (!cut.is_v4) {
    const std::size_t head = unfragmentable_bytes(packet, cut.next_header_at);
    if (head == 0) return std::nullopt;
    cut.head_bytes = narrow(head);
    cut.first_bytes = cut.later_bytes = narrow(head + wire::ipv6::kFragmentHeaderBytes);
    return complete(cut, header->total_bytes, mtu);
  }
  cut.head_bytes = cut.first_bytes = header->payload_offset;
  const CopiedOptions kept = copied_options(
      packet.subspan(wire::ipv4::kHeaderBytes, header->payload_offset - wire::ipv4::kHeaderBytes));
  cut.later_bytes = narrow(wire::ipv4::kHeaderBytes + kept.length);
  // With DF set the packet's own identification is not unique (RFC 6864 §4.1).
  const std::uint16_t flags = wire::load_u16(packet.data() + wire::ipv4::kFragment);
  if ((flags & wire::ipv4::kDontFragment) == 0) {
    cut.identification = wire::load_u16(packet.data() + wire::ipv4::kIdentification);
  }
  return complete(cut, header->total_bytes, mtu);
}

std::size_t write_fragment(wire::Bytes packet, const Cut& cut, std::uint16_t index,
                           wire::MutableBytes out) {
  const std::size_t total =
      cut.is_v4
          ? wire::load_u16(packet.data() + wire::ipv4::kTotalLength)
          : wire::ipv6::kHeaderBytes + wire::load_u16(packet.data() + wire::ipv6::kPayloadLength);
  const std::size_t payload = total - cut.head_bytes;
  const std::size_t begin = std::size_t{index} * cut.step;
  const std::size_t length = std::min<std::size_t>(cut.step, payload - begin);
  const bool is_last = begin + length == payload;
  const std::size_t headers = index == 0 ? cut.first_bytes : cut.later_bytes;
  const std::size_t bytes = headers + length;
  if (cut.is_v4) {
    write_ipv4_header(packet, cut, begin, is_last, bytes, out);
  } else {
    write_ipv6_header(packet, cut, begin, is_last, bytes, out);
  }
  std::memcpy(out.data() + headers, packet.data() + cut.head_bytes + begin, length);
  return bytes;
}

}  // namespace culvert::dataplane
