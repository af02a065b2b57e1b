// How a child's SAs treat headers and sizes: what goes from the inner header to the outer one and
// back (RFC 4301 §5.1.2, RFC 6040), what happens to packets that do not fit (RFC 4301 §8), and what
// an observer does not learn of the traffic (RFC 4303 §2.6, §2.7).
#pragma once

#include <cstdint>

namespace culvert::config {

/// Between which headers the DSCP is copied: inner → outer when sealing, outer → inner when
/// opening.
enum class CopyDscp : std::uint8_t { out, in, both, none };
/// The outer header's DF bit: the inner packet's, or always one value (RFC 4301 §8.1).
enum class DontFragment : std::uint8_t { copy, set, clear };
/// Whether a packet that may be fragmented and does not fit is cut before or after encryption.
enum class FragmentationOrder : std::uint8_t { before, after };

/// By what an ICMP error is taken out of a tunnel whose selectors name its header: by that alone,
/// or by the packet that it quotes as well (RFC 4301 §6.2).
enum class IcmpErrors : std::uint8_t { header, check };

/// Packets without contents that an SA sends (RFC 4303 §2.6).
struct DummyPackets {
  /// That the SA sends at least, with what it carries: dummies fill what is missing. 0: none.
  std::uint16_t per_second = 0;
  /// Of each one, as of an inner packet; 0: those of `tfc_padding`, without that of a random size.
  std::uint16_t bytes = 0;

  friend bool operator==(const DummyPackets&, const DummyPackets&) = default;
};

struct HeaderOptions {
  /// `tfc_padding` that fills every packet to what the path carries.
  static constexpr std::uint16_t kPadToPath = 0xffff;
  static constexpr std::uint16_t kAnyPath = 0xffff;  ///< `path_mtu`: the link and ICMP alone say

  CopyDscp copy_dscp = CopyDscp::out;
  std::uint8_t dscp = 0;         ///< of the outer header when none is copied; 0..63
  bool copy_ecn = true;          ///< false: the outer header is Not-ECT (RFC 6040 §4.3)
  bool copy_flow_label = false;  ///< IPv6 in IPv6; else zero
  bool mss_clamp = true;         ///< TCP's SYN announces what fits the tunnel
  DontFragment df = DontFragment::copy;
  FragmentationOrder fragmentation = FragmentationOrder::before;
  IcmpErrors icmp_errors = IcmpErrors::header;
  std::uint8_t hop_limit = 64;    ///< of the outer header: TTL or hop limit
  std::uint16_t tfc_padding = 0;  ///< bytes that inner packets are padded to (RFC 4303 §2.7)
  /// Bytes of the largest outer packet that the path to the peer carries, whatever ICMP says of it.
  std::uint16_t path_mtu = kAnyPath;
  DummyPackets dummy_packets = {};  ///< outbound

  friend bool operator==(const HeaderOptions&, const HeaderOptions&) = default;
};

}  // namespace culvert::config
