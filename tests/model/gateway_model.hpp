// What one gateway does with one packet, told plainly from the RFCs: policies in order (RFC 4301
// §5), ESP a packet at a time (RFC 4303 §3.3, §3.4), routes by looking at each (RFC 1812 §5.2).
#pragma once

#include <map>
#include <optional>
#include <set>
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

/// RFC 1812 §5.3.1: one hop less, and the header's checksum anew.
inline ByteString one_hop_on(ByteString ip) {
  if (ip[0] >> 4U == 6) {
    --ip[7];
    return ip;
  }
  --ip[8];
  ip[10] = ip[11] = 0;
  const unsigned sum = internet_checksum(slice(ip, 0, (ip[0] & 0x0fU) * std::size_t{4}));
  ip[10] = static_cast<std::uint8_t>(sum >> 8U);
  ip[11] = static_cast<std::uint8_t>(sum);
  return ip;
}

// ---- verdicts ----

struct SentClear {
  unsigned port;
  ByteString ip;
};
struct Sealed {
  dataplane::SlotIndex sa;
  ByteString inner;
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
  std::uint32_t window = 64;
  ReplayModel replay{64};
  std::vector<wire::TrafficSelector> local, remote;
};
struct OutboundModel : LifeModel {
  EspSa keys;
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

  /// ESP from the peer, from its SPI on.
  Outcome esp_from_peer(const ByteString& esp) {
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
    return decapsulate(sa, *opened);
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

  Outcome decapsulate(InboundModel& sa, const EspContents& opened) {
    using dataplane::DropReason;
    // §2.4: "1, 2, 3, …"
    for (std::size_t i = 0; i < opened.padding.size(); ++i) {
      if (opened.padding[i] != static_cast<std::uint8_t>(i + 1)) {
        return DropReason::esp_padding_invalid;
      }
    }
    if (opened.next_header == 59) return DropReason::dummy_packet;  // §2.6
    if (opened.next_header != 4 && opened.next_header != 41) {
      return DropReason::esp_next_header_invalid;
    }
    const auto view = view_ip(opened.payload);
    if (!view || view->source.is_v4() != (opened.next_header == 4)) {
      return DropReason::inner_header_invalid;
    }
    const ByteString inner = slice(opened.payload, 0, view->total_bytes);  // §2.7: padding goes
    // RFC 4301 §4.4.2.1: hard means not one packet more.
    if (sa.packets + 1 > sa.hard_packets) {
      sa.stopped = true;
      return DropReason::sa_expired;
    }
    ++sa.packets;
    // RFC 4301 §5.2 step 4: the packet is one that the SA was made for.
    if (!any_pair_takes(sa.remote, sa.local, flow_of(inner, *view))) {
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
    using dataplane::PolicyAction;
    using dataplane::PuntReason;
    const IpView view = view_ip(ip).value();
    if (is_impossible_source(view.source)) return DropReason::source_address_invalid;
    if (is_multicast(view.destination)) return DropReason::destination_multicast;
    if (routes.lookup(view.source) == dataplane::Adjacencies::kLocal) {
      return DropReason::source_address_invalid;
    }
    const auto hit = first_policy(policies, flow_of(ip, view), origin);
    if (!hit) {
      // What was decrypted has passed its SA's selectors.
      if (origin == dataplane::PacketOrigin::clear && !bypass_by_default) {
        return DropReason::no_policy_match;
      }
      return view.hops > 1 ? route(ip, view) : Outcome(PuntReason::ttl_exceeded);
    }
    const dataplane::PolicyEntry& policy = policies[hit->index];
    if (policy.action == PolicyAction::discard) return DropReason::policy_discard;
    if (policy.action == PolicyAction::protect && hit->reverse) {
      return DropReason::cleartext_violates_policy;
    }
    if (view.hops <= 1) return PuntReason::ttl_exceeded;
    if (policy.action == PolicyAction::bypass) return route(ip, view);
    if (policy.outbound == dataplane::kNoSlot) return PuntReason::acquire;
    return seal(policy.outbound, ip);
  }

  Outcome seal(dataplane::SlotIndex slot, const ByteString& ip) {
    OutboundModel& sa = outbound.at(slot);
    if (sa.stopped || sa.packets >= sa.hard_packets) {
      sa.stopped = true;
      return dataplane::DropReason::sa_expired;
    }
    ++sa.packets;
    return Sealed{slot, one_hop_on(ip)};
  }

  Outcome route(const ByteString& ip, const IpView& view) {
    const auto to = routes.lookup(view.destination);
    if (to == dataplane::Adjacencies::kDrop) return dataplane::PuntReason::no_route;
    const NextHop& hop = next_hops.at(to);
    if (!hop.resolved) return dataplane::PuntReason::resolve_neighbor;
    return SentClear{hop.port, one_hop_on(ip)};
  }
};

}  // namespace culvert::model
