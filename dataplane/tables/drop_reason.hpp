// Why a packet ended without being sent or delivered: one enum, one table. Counters, logs, the
// command and docs read it; nobody repeats its text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace culvert::dataplane {

/// Where in a packet's way it happened.
enum class DropDirection : std::uint8_t { in, out, local };
inline constexpr std::size_t kDropDirections = 3;
[[nodiscard]] constexpr std::string_view to_string(DropDirection direction) {
  switch (direction) {
    case DropDirection::in:
      return "in";
    case DropDirection::out:
      return "out";
    case DropDirection::local:
      return "local";
  }
  return "";
}

enum class DropReason : std::uint8_t {
  malformed_ethernet,
  unknown_ethertype,
  unknown_vlan,
  not_for_us,
  truncated_packet,
  ipv4_header_invalid,
  ipv4_checksum_wrong,
  ipv6_header_invalid,
  ipv6_extension_unsupported,
  multi_segment_unsupported,
  source_address_invalid,
  destination_address_invalid,
  destination_multicast,
  link_local_address,
  ttl_exceeded,
  no_route,
  neighbor_unresolved,
  neighbor_queue_full,
  packet_too_big,
  fragment_unsupported,
  fragment_invalid,
  fragment_overlap,
  reassembly_timeout,
  reassembly_full,
  fragments_policed,
  policy_discard,
  no_policy_match,
  cleartext_violates_policy,
  no_sa,
  acquire_queue_full,
  sa_not_found,
  sa_endpoint_mismatch,
  sa_expired,
  sequence_exhausted,
  replay_duplicate,
  replay_left_of_window,
  icv_mismatch,
  esp_truncated,
  esp_padding_invalid,
  esp_next_header_invalid,
  inner_header_invalid,
  inner_selector_mismatch,
  inner_fragment_offset,
  congestion_marked,
  dummy_packet,
  nat_keepalive,
  local_protocol_unsupported,
  local_port_closed,
  icmp_ignored,
  path_mtu_below_minimum,
  arp_ignored,
  neighbor_discovery_ignored,
  ike_policed,
  ike_not_connected,
  ike_datagram_invalid,
  ike_datagram_refused,
  icmp_rate_limited,
  no_headroom,
  no_buffer,
  punt_queue_full,
  handoff_queue_full,
  tx_queue_full,
  shutting_down,
};
inline constexpr std::size_t kDropReasons = static_cast<std::size_t>(DropReason::shutting_down) + 1;

/// What a packet of it says to an operator who looks for what is wrong.
enum class DropSeverity : std::uint8_t {
  ordinary,  ///< every healthy network has it, or the operator asked for it
  notable,   ///< it may be somebody's mistake, here or elsewhere, or nothing
  serious,   ///< what should have passed did not, or somebody attacks
};
[[nodiscard]] constexpr std::string_view to_string(DropSeverity severity) {
  switch (severity) {
    case DropSeverity::ordinary:
      return "ordinary";
    case DropSeverity::notable:
      return "notable";
    case DropSeverity::serious:
      return "serious";
  }
  return "";
}

struct DropReasonInfo {
  DropReason reason;
  std::string_view name;  ///< snake_case, stable: metrics label
  DropSeverity severity;
  std::string_view rfc;      ///< the rule, or empty
  std::string_view meaning;  ///< one sentence in the operator's words
  std::string_view remedy;   ///< what to do
};
const DropReasonInfo& info(DropReason reason);
const std::array<DropReasonInfo, kDropReasons>& all_drop_reasons();

}  // namespace culvert::dataplane
