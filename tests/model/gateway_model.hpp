// What one gateway does with one packet, told plainly from the RFCs: policies in order (RFC 4301
// §5), ESP a packet at a time (RFC 4303 §3.3, §3.4), routes by looking at each (RFC 1812 §5.2).
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/spd.hpp"
#include "dataplane/worker/punt.hpp"
#include "tests/model/esp_model.hpp"
#include "tests/model/policy_model.hpp"
#include "tests/model/replay_model.hpp"
#include "tests/model/route_model.hpp"

namespace culvert::model {

// ---- a packet's fields ----

struct IpView {
  wire::IpAddress source, destination;
  std::uint8_t protocol = 0;
  std::uint8_t hops = 0;
  std::size_t header_bytes = 0, total_bytes = 0;
  bool later_fragment = false;
};

/// Sound packets without IPv6 extension headers only, which are all that the test makes.
inline std::optional<IpView> view_ip(const ByteString& ip) {
  IpView view;
  if (ip.size() >= 20 && ip[0] >> 4U == 4) {
    view.header_bytes = (ip[0] & 0x0fU) * std::size_t{4};
    view.total_bytes = get16(ip, 2);
    if (view.header_bytes < 20 || view.total_bytes < view.header_bytes ||
        view.total_bytes > ip.size()) {
      return std::nullopt;
    }
    view.later_fragment = (get16(ip, 6) & 0x1fffU) != 0;
    view.hops = ip[8];
    view.protocol = ip[9];
    view.source = wire::IpAddress::v4(get32(ip, 12));
    view.destination = wire::IpAddress::v4(get32(ip, 16));
    return view;
  }
  if (ip.size() < 40 || ip[0] >> 4U != 6) return std::nullopt;
  view.header_bytes = 40;
  view.total_bytes = 40 + get16(ip, 4);
  if (view.total_bytes > ip.size()) return std::nullopt;
  view.protocol = ip[6];
  view.hops = ip[7];
  view.source = wire::IpAddress::v6(wire::Bytes(ip.data() + 8, 16));
  view.destination = wire::IpAddress::v6(wire::Bytes(ip.data() + 24, 16));
  return view;
}

/// RFC 4301 §4.4.1.1: ports of TCP and UDP, type and code of ICMP on both sides; OPAQUE where a
/// fragment or a packet's end hides them.
inline dataplane::FlowKey flow_of(const ByteString& ip, const IpView& view) {
  dataplane::FlowKey key;
  key.source = view.source;
  key.destination = view.destination;
  key.protocol = view.protocol;
  key.ports_known = !view.later_fragment;
  const bool has_ports = view.protocol == 6 || view.protocol == 17;
  const bool is_icmp = view.protocol == 1 || view.protocol == 58;
  if (view.later_fragment || (!has_ports && !is_icmp)) return key;
  if (view.total_bytes - view.header_bytes < 4) {
    key.ports_known = false;
    return key;
  }
  key.source_port = static_cast<std::uint16_t>(get16(ip, view.header_bytes));
  key.destination_port =
      static_cast<std::uint16_t>(get16(ip, view.header_bytes + (is_icmp ? 0 : 2)));
  return key;
}

/// RFC 791: the header's checksum over what it says now.
inline ByteString with_checksum(ByteString ip) {
  if (ip[0] >> 4U == 6) return ip;
  ip[10] = ip[11] = 0;
  const unsigned sum = internet_checksum(slice(ip, 0, (ip[0] & 0x0fU) * std::size_t{4}));
  ip[10] = static_cast<std::uint8_t>(sum >> 8U);
  ip[11] = static_cast<std::uint8_t>(sum);
  return ip;
}

/// RFC 1812 §5.3.1: one hop less, and the header's checksum anew.
inline ByteString one_hop_on(ByteString ip) {
  if (ip[0] >> 4U == 6) {
    --ip[7];
    return ip;
  }
  --ip[8];
  return with_checksum(std::move(ip));
}

/// RFC 4303 §3.1.1: `around` is the packet that had ESP in it; its header says what was inside.
inline ByteString without_esp(const ByteString& around, std::uint8_t next_header,
                              const ByteString& payload) {
  const bool v4 = around[0] >> 4U == 4;
  const std::size_t header_bytes = v4 ? (around[0] & 0x0fU) * std::size_t{4} : 40;
  ByteString ip = slice(around, 0, header_bytes);
  put(ip, payload);
  const std::size_t length = v4 ? ip.size() : payload.size();
  const std::size_t length_at = v4 ? 2 : 4;
  ip[length_at] = static_cast<std::uint8_t>(length >> 8U);
  ip[length_at + 1] = static_cast<std::uint8_t>(length);
  ip[v4 ? 9 : 6] = next_header;
  return with_checksum(std::move(ip));
}

/// RFC 792, RFC 4443 §2.3: over the message, in IPv6 over addresses, length and protocol, too.
inline unsigned icmp_checksum(const ByteString& ip, const IpView& view) {
  const ByteString message = slice(ip, view.header_bytes, view.total_bytes - view.header_bytes);
  ByteString summed;
  if (view.protocol == 58) {
    summed = slice(ip, 8, 32);
    put32(summed, message.size());
    put32(summed, 58);
  }
  put(summed, message);
  return internet_checksum(summed);
}

/// RFC 792, RFC 4443 §4.2: what an echo request is answered with, from the address it was for.
inline ByteString echo_reply(ByteString ip, const IpView& view) {
  constexpr std::uint8_t kFirstHops = 64;
  const bool v4 = view.protocol == 1;
  const std::ptrdiff_t source = v4 ? 12 : 8, bytes = v4 ? 4 : 16;
  std::swap_ranges(ip.begin() + source, ip.begin() + source + bytes, ip.begin() + source + bytes);
  ip[v4 ? 8 : 7] = kFirstHops;
  const std::size_t icmp = view.header_bytes;
  ip[icmp] = v4 ? 0 : 129;
  ip[icmp + 2] = ip[icmp + 3] = 0;
  const unsigned sum = icmp_checksum(ip, view_ip(ip).value());
  ip[icmp + 2] = static_cast<std::uint8_t>(sum >> 8U);
  ip[icmp + 3] = static_cast<std::uint8_t>(sum);
  return with_checksum(std::move(ip));
}

// ---- verdicts ----

struct SentClear {
  unsigned port;
  ByteString ip;
};
struct Sealed {
  dataplane::SlotIndex sa;
  std::uint8_t next_header;
  ByteString payload;
};
struct UnknownSpi {};  ///< dropped, or shown to the main thread as a hint
using Outcome =
    std::variant<SentClear, Sealed, UnknownSpi, dataplane::DropReason, dataplane::PuntReason>;

/// RFC 4301 §4.4.2.1: an SA ends by time, by packets, or by both, whichever comes first.
struct LifeModel {
  std::uint64_t installed = 0, hard_seconds = ~0ULL;
  std::uint64_t packets = 0, hard_packets = ~0ULL;
  bool stopped = false;
};
struct InboundModel : LifeModel {
  EspSa keys;
  bool transport = false;
  std::uint32_t window = 64;
  ReplayModel replay{64};
  std::vector<wire::TrafficSelector> local, remote;
};
struct OutboundModel : LifeModel {
  EspSa keys;
  bool transport = false;
};

class GatewayModel {
 public:
  std::vector<dataplane::PolicyEntry> policies;
  bool bypass_by_default = false;
  RouteModel routes;
  struct NextHop {
    unsigned port = 0;
    bool resolved = false;
  };
  std::map<dataplane::AdjacencyIndex, NextHop> next_hops;
  std::map<std::uint32_t, InboundModel> inbound;  ///< by SPI
  std::map<dataplane::SlotIndex, OutboundModel> outbound;

  /// The clock, in seconds: whoever has reached a limit is over from here on.
  void time_is(std::uint64_t now) {
    const auto look_at = [now](LifeModel& sa) {
      if (now - sa.installed >= sa.hard_seconds || sa.packets >= sa.hard_packets) sa.stopped = true;
    };
    for (auto& [spi, sa] : inbound) look_at(sa);
    for (auto& [slot, sa] : outbound) look_at(sa);
  }

  /// A sound IP packet from a wire that is no ESP for us.
  Outcome from_wire(const ByteString& ip) { return decide(ip, dataplane::PacketOrigin::clear); }

  /// An IP packet of the gateway's own (RFC 4301 §5.1): nobody's hop, and what no policy names
  /// leaves in clear.
  Outcome own(const ByteString& ip) { return pass(ip, dataplane::PacketOrigin::originated); }

  /// ESP from the peer, from its SPI on; `around`: the packet that it came in.
  Outcome esp_from_peer(const ByteString& esp, const ByteString& around) {
    using dataplane::DropReason;
    const auto found = inbound.find(get32(esp, 0));
    if (found == inbound.end()) return UnknownSpi{};
    InboundModel& sa = found->second;
    if (sa.stopped) return DropReason::sa_expired;
    // RFC 4303 §2.4: what is encrypted ends on a four-byte boundary.
    if (esp.size() < 16 + 4 + 16 || (esp.size() - 32) % 4 != 0) return DropReason::esp_truncated;
    const std::uint32_t low = get32(esp, 4);
    const std::uint64_t sequence =
        sa.keys.esn ? extended_by_search(sa.replay.highest(), sa.window, low) : low;
    // §3.4.3: the check precedes the ICV, the window moves after it.
    if (const auto refused = refusal(sa.replay.check(sequence))) return *refused;
    const auto opened = esp_open(sa.keys, static_cast<std::uint32_t>(sequence >> 32U), esp);
    if (!opened) return DropReason::icv_mismatch;
    if (const auto refused = refusal(sa.replay.commit(sequence))) return *refused;
    return decapsulate(sa, *opened, around);
  }

 private:
  static std::optional<dataplane::DropReason> refusal(Replay verdict) {
    switch (verdict) {
      case Replay::fresh:
        return std::nullopt;
      case Replay::duplicate:
        return dataplane::DropReason::replay_duplicate;
      case Replay::left_of_window:
        return dataplane::DropReason::replay_left_of_window;
    }
    return std::nullopt;
  }

  Outcome decapsulate(InboundModel& sa, const EspContents& opened, const ByteString& around) {
    using dataplane::DropReason;
    // §2.4: "1, 2, 3, …"
    for (std::size_t i = 0; i < opened.padding.size(); ++i) {
      if (opened.padding[i] != static_cast<std::uint8_t>(i + 1)) {
        return DropReason::esp_padding_invalid;
      }
    }
    if (opened.next_header == 59) return DropReason::dummy_packet;  // §2.6
    ByteString inner;
    if (sa.transport) {
      inner = without_esp(around, opened.next_header, opened.payload);
    } else {
      if (opened.next_header != 4 && opened.next_header != 41) {
        return DropReason::esp_next_header_invalid;
      }
      const auto view = view_ip(opened.payload);
      if (!view || view->source.is_v4() != (opened.next_header == 4)) {
        return DropReason::inner_header_invalid;
      }
      inner = slice(opened.payload, 0, view->total_bytes);  // §2.7: padding goes
    }
    // RFC 4301 §4.4.2.1: hard means not one packet more.
    if (sa.packets + 1 > sa.hard_packets) {
      sa.stopped = true;
      return DropReason::sa_expired;
    }
    ++sa.packets;
    // RFC 4301 §5.2 step 4: the packet is one that the SA was made for.
    if (!any_pair_takes(sa.remote, sa.local, flow_of(inner, view_ip(inner).value()))) {
      return DropReason::inner_selector_mismatch;
    }
    return decide(inner, dataplane::PacketOrigin::tunnel);
  }

  static bool is_multicast(const wire::IpAddress& address) {
    return address.is_v4() ? address.bytes[0] >= 224 : address.bytes[0] == 0xff;
  }
  /// RFC 1122 §3.2.1.3; RFC 4291 §2.5.2, §2.5.3: "::" and "::1".
  static bool is_impossible_source(const wire::IpAddress& address) {
    if (is_multicast(address)) return true;
    if (address == parsed("::") || address == parsed("::1")) return true;
    return address.is_v4() && (address.bytes[0] == 127 || address.bytes[0] == 0);
  }

  Outcome decide(const ByteString& ip, dataplane::PacketOrigin origin) {
    using dataplane::DropReason;
    const IpView view = view_ip(ip).value();
    if (is_impossible_source(view.source)) return DropReason::source_address_invalid;
    if (is_multicast(view.destination)) return DropReason::destination_multicast;
    if (routes.lookup(view.source) == dataplane::Adjacencies::kLocal) {
      return DropReason::source_address_invalid;
    }
    if (routes.lookup(view.destination) == dataplane::Adjacencies::kLocal) {
      return deliver(ip, view, origin);
    }
    return pass(ip, origin);
  }

  /// For us (RFC 4301 §5.2): refused only by what a policy says of it. Echo is answered; nobody
  /// else listens.
  Outcome deliver(const ByteString& ip, const IpView& view, dataplane::PacketOrigin origin) {
    using dataplane::DropReason;
    using dataplane::PolicyAction;
    if (const auto hit = first_policy(policies, flow_of(ip, view), origin)) {
      const PolicyAction action = policies[hit->index].action;
      if (action == PolicyAction::discard) return DropReason::policy_discard;
      if (action == PolicyAction::protect && hit->reverse) {
        return DropReason::cleartext_violates_policy;
      }
    }
    const std::size_t bytes = view.total_bytes - view.header_bytes;
    switch (view.protocol) {
      case 6:
        return DropReason::local_port_closed;
      case 17:
        if (bytes < 8) return DropReason::truncated_packet;
        return dataplane::PuntReason::port_unreachable;
      case 1:
      case 58:
        break;
      default:
        return DropReason::local_protocol_unsupported;
    }
    if (bytes < 8) return DropReason::truncated_packet;
    const bool is_request = ip[view.header_bytes] == (view.protocol == 1 ? 8 : 128);
    if (!is_request || ip[view.header_bytes + 1] != 0 || icmp_checksum(ip, view) != 0) {
      return DropReason::icmp_ignored;
    }
    return own(echo_reply(ip, view));
  }

  Outcome pass(const ByteString& ip, dataplane::PacketOrigin origin) {
    using dataplane::DropReason;
    using dataplane::PolicyAction;
    using dataplane::PuntReason;
    const IpView view = view_ip(ip).value();
    const bool is_ours = origin == dataplane::PacketOrigin::originated;
    const bool may_go_on = is_ours || view.hops > 1;
    const auto hit = first_policy(policies, flow_of(ip, view), origin);
    if (!hit) {
      // What was decrypted has passed its SA's selectors.
      if (origin == dataplane::PacketOrigin::clear && !bypass_by_default) {
        return DropReason::no_policy_match;
      }
      return may_go_on ? route(ip, view, is_ours) : Outcome(PuntReason::ttl_exceeded);
    }
    const dataplane::PolicyEntry& policy = policies[hit->index];
    if (policy.action == PolicyAction::discard) return DropReason::policy_discard;
    if (policy.action == PolicyAction::protect && hit->reverse) {
      return DropReason::cleartext_violates_policy;
    }
    if (!may_go_on) return PuntReason::ttl_exceeded;
    if (policy.action == PolicyAction::bypass) return route(ip, view, is_ours);
    if (policy.outbound == dataplane::kNoSlot) return PuntReason::acquire;
    return seal(policy.outbound, is_ours ? ip : one_hop_on(ip), view);
  }

  Outcome seal(dataplane::SlotIndex slot, const ByteString& ip, const IpView& view) {
    OutboundModel& sa = outbound.at(slot);
    if (sa.stopped || sa.packets >= sa.hard_packets) {
      sa.stopped = true;
      return dataplane::DropReason::sa_expired;
    }
    ++sa.packets;
    if (sa.transport) {
      return Sealed{slot, view.protocol,
                    slice(ip, view.header_bytes, view.total_bytes - view.header_bytes)};
    }
    return Sealed{slot, static_cast<std::uint8_t>(ip[0] >> 4U == 4 ? 4 : 41), ip};
  }

  Outcome route(const ByteString& ip, const IpView& view, bool is_ours) {
    const auto to = routes.lookup(view.destination);
    if (to == dataplane::Adjacencies::kDrop) return dataplane::PuntReason::no_route;
    const NextHop& hop = next_hops.at(to);
    if (!hop.resolved) return dataplane::PuntReason::resolve_neighbor;
    return SentClear{hop.port, is_ours ? ip : one_hop_on(ip)};
  }
};

}  // namespace culvert::model
