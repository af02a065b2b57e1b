// What one gateway does with one packet, told plainly from the RFCs: policies in order (RFC 4301
// §5), ESP a packet at a time (RFC 4303 §3.3, §3.4), routes by looking at each (RFC 1812 §5.2).
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "config/header_options.hpp"
#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/spd.hpp"
#include "dataplane/worker/punt.hpp"
#include "dataplane/worker/resynchronize.hpp"
#include "tests/model/address_model.hpp"
#include "tests/model/bypass_model.hpp"
#include "tests/model/esp_model.hpp"
#include "tests/model/fragment_model.hpp"
#include "tests/model/frame_model.hpp"
#include "tests/model/icmp_error_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/mss_model.hpp"
#include "tests/model/nat_traversal_model.hpp"
#include "tests/model/policy_model.hpp"
#include "tests/model/reassembly_model.hpp"
#include "tests/model/replay_model.hpp"
#include "tests/model/route_model.hpp"
#include "tests/model/sa_model.hpp"
#include "tests/model/sealing_model.hpp"
#include "tests/model/verdict_model.hpp"
#include "tests/model/vlan_model.hpp"

namespace culvert::model {

class GatewayModel {
 public:
  std::vector<dataplane::PolicyEntry> policies;
  bool bypass_by_default = false;
  std::uint64_t policies_version = 0;  ///< another one whenever they change
  RouteModel routes;
  std::vector<wire::Prefix> networks;  ///< that its ports are connected to
  struct NextHop {
    unsigned port = 0;
    bool resolved = false;
    std::size_t mtu = 1500;
  };
  std::map<dataplane::AdjacencyIndex, NextHop> next_hops;
  std::vector<PortModel> ports = {{0, {}}, {1, {}}};
  ByteString mac;                                 ///< of all ports
  std::map<std::uint32_t, InboundModel> inbound;  ///< by SPI
  std::map<dataplane::SlotIndex, OutboundModel> outbound;
  std::set<std::uint64_t> ike_sas;  ///< our SPIs
  ReassemblyModel reassembly;
  BypassModel bypassed;
  std::size_t largest_whole = 65535;  ///< that fragments may become
  /// What fragments have become and is larger is no fragment that waits for others.
  std::size_t largest_that_waits = 65535;

  /// A packet that fragments have become, and whether they came in clear.
  struct Whole {
    ByteString ip;
    dataplane::PacketOrigin origin{};
  };
  std::deque<Whole> whole;  ///< `next_whole` goes on with them
  /// An authentic packet, newer than all of its SA before, that came from elsewhere (RFC 3948 §6,
  /// RFC 4555).
  struct Moved {
    std::uint64_t sa = 0;
    wire::IpAddress source;
    unsigned port = 0;  ///< with UDP
  };
  std::vector<Moved> moved;
  std::uint64_t clamped_syns = 0;      ///< that announce less than they did
  std::uint64_t at_other_address = 0;  ///< authentic packets, at one of ours that is not their SA's

  /// The clock, in seconds: whose time has come is over from here on.
  void time_is(std::uint64_t now) {
    for_each_life([now](LifeModel& sa) {
      if (now - sa.installed >= sa.hard_seconds) sa.stopped = true;
    });
  }
  /// The gateway looks at its SAs: whoever has reached another limit is over, too.
  void look_at_limits() {
    for_each_life([](LifeModel& sa) {
      if (sa.packets >= sa.hard_packets || sa.bytes >= sa.hard_bytes) sa.stopped = true;
    });
    // RFC 4303 §3.3.3: by its numbers, too, where they are few.
    for (auto& [spi, sa] : inbound) {
      if (!sa.keys.esn && sa.replay.highest() >= kLastOf32Bits) sa.stopped = true;
    }
    for (auto& [slot, sa] : outbound) {
      if (sa.stopped || sa.keys.esn || sa.packets < sa.numbers) continue;
      sa.stopped = sa.is_exhausted = true;
    }
  }

  /// What follows comes at once.
  void burst_begins() {
    for (auto& [spi, sa] : inbound) {
      sa.ended_in_burst = false;
      sa.replay.burst_begins();
    }
  }
  /// A frame from a device.
  Outcomes from_device(const ByteString& frame, unsigned device) {
    using dataplane::DropReason;
    came_by = 0;
    if (frame.size() < kEthernetBytes) return DropReason::malformed_ethernet;
    const bool is_ours = is_for_group(frame) || is_for(frame, mac);
    const auto port = port_of(ports, device, frame);
    // The one is asked first by a device without VLANs, the other by one with them.
    if (!port && !is_ours) return OneOf{{DropReason::unknown_vlan, DropReason::not_for_us}};
    if (!port) return DropReason::unknown_vlan;
    if (!is_ours) return DropReason::not_for_us;
    const unsigned type = type_of(frame);
    if (type == kArpType) return dataplane::PuntReason::arp;
    if (type != kIpv4Type && type != kIpv6Type) return DropReason::unknown_ethertype;
    const ByteString ip = packet_in(frame);
    const auto wrong = type == kIpv4Type ? wrong_with_ipv4(ip) : wrong_with_ipv6(ip);
    if (wrong) return *wrong;
    // RFC 1122 §3.3.6: what goes to a link's group is for no host alone.
    if (is_for_group(frame)) return DropReason::destination_multicast;
    return from_wire(unpadded(ip), *port);
  }
  /// A sound IP packet that came by a port.
  Outcomes from_wire(const ByteString& ip, unsigned port) {
    arrives_on_ = port;
    return arrive(ip);
  }

  /// RFC 4301 §5.2: what was put together arrives as if it had come in one piece. Precondition:
  /// there is one.
  Outcomes next_whole() {
    const Whole next = std::move(whole.front());
    whole.pop_front();
    may_wait_ = next.ip.size() <= largest_that_waits;
    Outcomes outcomes = go_on(next);
    may_wait_ = true;
    return outcomes;
  }

  /// The packet that was asked about last, if it came to policy; and the SA that it came by, 0: in
  /// clear.
  dataplane::PacketOrigin passed_as{};
  std::uint32_t came_by = 0;

  /// An IP packet of the gateway's own (RFC 4301 §5.1): nobody's hop, and what no policy names
  /// leaves in clear.
  Outcomes own(const ByteString& ip) { return pass(ip, dataplane::PacketOrigin::originated); }

 private:
  /// RFC 4301 §5.2: ESP for us is opened, all else meets the policies.
  Outcomes arrive(const ByteString& ip) {
    using dataplane::DropReason;
    came_by = 0;
    if (lacks_upper_header(ip, view_ip(ip).value())) return DropReason::fragment_invalid;
    const auto encrypted = encrypted_in(ip);
    const wire::IpAddress to = view_ip(ip).value().destination;
    if (!encrypted || routes.lookup(to) != dataplane::Adjacencies::kLocal) {
      return decide(ip, dataplane::PacketOrigin::clear);
    }
    const ByteString& esp = encrypted->esp;
    const auto found = esp.size() < 8 ? inbound.end() : inbound.find(get32(esp, 0));
    if (found == inbound.end()) return without_sa(ip, *encrypted);
    // RFC 4301 §4.1: a tunnel's SPI names its SA at whatever address of ours of its family.
    const InboundModel& sa = found->second;
    const bool is_of_tunnel = !sa.transport && to.is_v4() == sa.here.is_v4();
    if (to != sa.here && !is_of_tunnel) return DropReason::sa_endpoint_mismatch;
    return esp_from_peer(found->second, *encrypted, ip);
  }
  Outcomes without_sa(const ByteString& ip, const Encrypted& encrypted) {
    using dataplane::DropReason;
    const ByteString& data = encrypted.esp;
    if (!encrypted.source_port) {
      return data.size() < 8 ? Outcomes(DropReason::esp_truncated) : UnknownSpi{};
    }
    if (is_keepalive(data)) return DropReason::nat_keepalive;
    if (data.size() < 4) return DropReason::esp_truncated;
    return has_marker(data) ? decide(ip, dataplane::PacketOrigin::clear) : UnknownSpi{};
  }

  /// `around`: the packet that it came in.
  Outcomes esp_from_peer(InboundModel& sa, const Encrypted& encrypted, const ByteString& around) {
    using dataplane::DropReason;
    const ByteString& esp = encrypted.esp;
    // The packets behind the one that ended it, of the same burst, may have been checked before.
    if (sa.stopped && sa.ended_in_burst) return as_in_burst(sa, esp, DropReason::sa_expired);
    if (sa.stopped) return DropReason::sa_expired;
    if (!has_esp_length(sa.keys, esp)) return DropReason::esp_truncated;
    const std::uint64_t sequence = sequence_of(sa, esp, sa.replay.highest());
    // §3.4.3: the check precedes the ICV, the window moves after it.
    if (const auto refused = refusal(sa.replay.check(sequence))) {
      return as_in_burst(sa, esp, *refused);
    }
    const auto high = static_cast<std::uint32_t>(sequence >> 32U);
    auto opened = esp_open(sa.keys, high, esp);
    // A3: only where packets come one at a time does it follow the worker, which tries one a burst.
    if (!opened && sa.keys.esn && sa.failed_in_a_row >= dataplane::kFailuresBeforeResync) {
      opened = esp_open_above(sa.keys, high, dataplane::kResyncTries, esp);
      sa.failed_in_a_row = 0;
    }
    if (!opened) {
      ++sa.failed_in_a_row;
      return as_in_burst(sa, esp, DropReason::icv_mismatch);
    }
    const bool is_newest = opened->sequence > sa.replay.highest();
    if (const auto refused = refusal(sa.replay.commit(opened->sequence))) return *refused;
    sa.failed_in_a_row = 0;
    if (is_newest) see_where_from(sa, encrypted, view_ip(around).value());
    // RFC 4301 §4.4.2.1: whatever is in it, the key was used for it.
    const ByteString& payload = opened->payload;
    const std::size_t bytes =
        sa.transport ? without_esp(around, opened->next_header, payload).size() : payload.size();
    if (!sa.take(bytes)) {
      sa.ended_in_burst = true;
      return DropReason::sa_expired;
    }
    came_by = sa.keys.spi;
    return decapsulate(sa, *opened, around);
  }
  static std::uint64_t sequence_of(const InboundModel& sa, const ByteString& esp,
                                   std::uint64_t highest) {
    const std::uint32_t low = get32(esp, 4);
    return sa.keys.esn ? extended_by_search(highest, sa.window, low) : low;
  }
  /// What is refused, `one_by_one` for that reason. §3.4.3 has a packet checked when it comes, and
  /// once more when it is verified: of a burst, those in front of it may not be verified yet.
  static Outcomes as_in_burst(const InboundModel& sa, const ByteString& esp,
                              dataplane::DropReason one_by_one) {
    if (!has_esp_length(sa.keys, esp)) {
      return OneOf{{one_by_one, dataplane::DropReason::esp_truncated}};
    }
    const std::uint64_t sequence = sequence_of(sa, esp, sa.replay.highest_then());
    auto reason = refusal(sa.replay.check_then(sequence));
    if (!reason && !esp_open(sa.keys, static_cast<std::uint32_t>(sequence >> 32U), esp)) {
      reason = dataplane::DropReason::icv_mismatch;
    }
    if (!reason) reason = refusal(sa.replay.check(sequence));
    if (!reason || *reason == one_by_one) return one_by_one;
    return OneOf{{one_by_one, *reason}};
  }
  void see_where_from(const InboundModel& sa, const Encrypted& encrypted, const IpView& outer) {
    // RFC 7296 §2.23: how the peer sends is its own choice.
    if (encrypted.source_port.has_value() != sa.udp) return;
    // A NAT may show it as somebody else to another address of ours.
    if (outer.destination != sa.here) {
      ++at_other_address;
      return;
    }
    const unsigned port = encrypted.source_port.value_or(0);
    if (outer.source != sa.peer || (sa.udp && port != sa.peer_port)) {
      moved.push_back({sa.id, outer.source, port});
    }
  }

  Outcomes go_on(const Whole& next) {
    if (next.origin == dataplane::PacketOrigin::clear) return arrive(next.ip);
    return decide(next.ip, next.origin);
  }

  void for_each_life(auto look_at) {
    for (auto& [spi, sa] : inbound) look_at(sa);
    for (auto& [slot, sa] : outbound) look_at(sa);
  }

  Outcomes decapsulate(InboundModel& sa, const EspContents& opened, const ByteString& around) {
    using dataplane::DropReason;
    // §2.6: of a dummy's text nothing but this byte need be well-formed.
    if (opened.next_header == 59) return DropReason::dummy_packet;
    // §2.4: "1, 2, 3, …"
    if (!opened.padding_fits) return DropReason::esp_padding_invalid;
    for (std::size_t i = 0; i < opened.padding.size(); ++i) {
      if (opened.padding[i] != static_cast<std::uint8_t>(i + 1)) {
        return DropReason::esp_padding_invalid;
      }
    }
    ByteString inner;
    if (sa.transport) {
      inner = without_esp(around, opened.next_header, opened.payload);
      if (sa.udp) inner = with_upper_checksum(std::move(inner));
    } else {
      if (opened.next_header != 4 && opened.next_header != 41) {
        return DropReason::esp_next_header_invalid;
      }
      const auto view = view_ip(opened.payload);
      if (!view || view->source.is_v4() != (opened.next_header == 4)) {
        return DropReason::inner_header_invalid;
      }
      if (lacks_upper_header(opened.payload, *view)) return DropReason::inner_header_invalid;
      inner = slice(opened.payload, 0, view->total_bytes);  // §2.7: padding goes
      const auto ecn = ecn_inside(ecn_of(inner), ecn_of(around));
      if (!ecn) return DropReason::congestion_marked;
      const unsigned dscp = traffic_class_of(sa.copies_dscp_in ? around : inner) & 0xfcU;
      inner = with_traffic_class(std::move(inner), dscp | *ecn);
    }
    // RFC 4301 §5.2 step 4: the packet is one that the SA was made for.
    if (const auto refused = refused_inside(sa.remote, sa.local, sa.checks_errors, inner)) {
      return *refused;
    }
    return decide(inner, dataplane::PacketOrigin::tunnel);
  }

  Outcomes decide(const ByteString& ip, dataplane::PacketOrigin origin) {
    using dataplane::DropReason;
    const IpView view = view_ip(ip).value();
    if (is_for_a_group(view.source) || is_on_no_wire(view.source)) {
      return DropReason::source_address_invalid;
    }
    if (is_for_a_group(view.destination)) return DropReason::destination_multicast;
    if (is_on_no_wire(view.destination)) return DropReason::destination_address_invalid;
    if (routes.lookup(view.source) == dataplane::Adjacencies::kLocal ||
        is_broadcast(networks, view.source)) {
      return DropReason::source_address_invalid;
    }
    if (is_broadcast(networks, view.destination)) return DropReason::destination_multicast;
    if (routes.lookup(view.destination) == dataplane::Adjacencies::kLocal) {
      if (is_fragment(ip)) return gather(ip, origin);
      return deliver(ip, view, origin);
    }
    // RFC 4291 §2.5.6, RFC 3927 §2.7: no router takes them further.
    if (is_of_one_link(view.source) || is_of_one_link(view.destination)) {
      return DropReason::link_local_address;
    }
    return pass(ip, origin);
  }

  /// RFC 4301 §5.2: fragments for us are reassembled before anything else is asked of them.
  Outcomes gather(const ByteString& ip, dataplane::PacketOrigin origin) {
    if (!may_wait_) return dataplane::DropReason::reassembly_full;
    ReassemblyModel::Arrival arrival = reassembly.arrive(ip, origin, largest_whole);
    if (arrival.whole) whole.push_back({std::move(*arrival.whole), origin});
    Outcomes ended;
    for (const dataplane::DropReason reason : arrival.dropped) ended.each.emplace_back(reason);
    return ended;
  }

  /// For us (RFC 4301 §5.2): refused only by what a policy says of it. Echo is answered; nobody
  /// else listens.
  Outcomes deliver(const ByteString& ip, const IpView& view, dataplane::PacketOrigin origin) {
    using dataplane::DropReason;
    using dataplane::PolicyAction;
    const bool has_port = view.protocol == 17 && view.total_bytes - view.header_bytes >= 4;
    const unsigned port = has_port ? get16(ip, view.header_bytes + 2) : 0;
    // RFC 4301 §4.4.1: IKE's own traffic passes the policies that it makes SAs for.
    const bool is_ike = port == 500 || port == kNatTraversalPort;
    const auto hit = first_policy(policies, flow_of(ip, view), origin);
    if (hit && !hit->unclear && !is_ike) {
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
        return deliver_udp(ip, slice(ip, view.header_bytes, bytes));
      case 1:
      case 58:
        break;
      default:
        return DropReason::local_protocol_unsupported;
    }
    if (bytes < 8) return DropReason::truncated_packet;
    const bool is_request = ip[view.header_bytes] == (view.protocol == 1 ? 8 : 128);
    if (!is_request || ip[view.header_bytes + 1] != 0 || icmp_checksum(ip, view) != 0 ||
        has_source_route(ip)) {
      return DropReason::icmp_ignored;
    }
    // RFC 4301 §5.1: what was asked encrypted is not answered in clear unless a policy says so.
    const bool must_be_named = origin == dataplane::PacketOrigin::tunnel;
    return pass(echo_reply(ip, view), dataplane::PacketOrigin::originated, must_be_named);
  }

  Outcomes deliver_udp(const ByteString& ip, const ByteString& datagram) {
    using dataplane::DropReason;
    using dataplane::PuntReason;
    const auto data = udp_data(datagram);
    if (!data) return DropReason::truncated_packet;
    const unsigned port = get16(datagram, 2);
    if (port == 500)
      return names_ike_sa(*data, ike_sas) ? PuntReason::ike : PuntReason::ike_newcomer;
    if (port != kNatTraversalPort) return PortClosed{ip};
    // What came in clear was asked before whether it is ESP.
    if (is_keepalive(*data)) return DropReason::nat_keepalive;
    if (!has_marker(*data)) return DropReason::local_protocol_unsupported;
    return names_ike_sa(slice(*data, 4, data->size() - 4), ike_sas) ? PuntReason::ike_nat_traversal
                                                                    : PuntReason::ike_newcomer;
  }

  Outcomes pass(const ByteString& ip, dataplane::PacketOrigin origin, bool must_be_named = false) {
    passed_as = origin;
    using dataplane::DropReason;
    using dataplane::PolicyAction;
    using dataplane::PuntReason;
    const IpView view = view_ip(ip).value();
    const bool is_ours = origin == dataplane::PacketOrigin::originated;
    const bool may_go_on = is_ours || view.hops > 1;
    // RFC 4301 §4.4.1: what a gateway says in fragments is IKE, which passes its policies.
    if (is_ours && is_fragment(ip)) return route(ip, view, true);
    auto hit = first_policy(policies, flow_of(ip, view), origin);
    // RFC 4301 §7.4: later fragments go on as their first one did.
    auto piece = is_ours ? std::nullopt : fragment_of(ip);
    if (piece && !ReassemblyModel::is_sound(ip, *piece)) piece.reset();
    if (piece) piece->of.push_back(static_cast<std::uint8_t>(origin));
    if (piece && piece->offset == 0) bypassed.begins(*piece);
    if (piece && piece->offset != 0) {
      const auto holds = [&](BypassModel::First& first) {
        if (first.version == policies_version) return true;
        first.policy = first_policy(policies, first.flow, origin);
        first.version = policies_version;
        return speaks_for_later(first.policy, flow_of(ip, view), origin);
      };
      const auto first = bypassed.first_of(*piece, reassembly.now(), holds);
      if (first) hit = first->policy;
    }
    if (hit && hit->unclear) {
      return is_fragment(ip) ? DropReason::fragment_unsupported : DropReason::truncated_packet;
    }
    const auto note_first = [&] {
      if (piece && piece->offset == 0 && is_news_to_later_ones(hit, ip, view, origin)) {
        bypassed.passed(*piece, {flow_of(ip, view), hit, policies_version}, reassembly.now());
      }
    };
    if (!hit) {
      if (auto way = as_return_traffic(ip, view, origin)) return *way;
      if (must_be_named) return DropReason::no_policy_match;
      // What was decrypted has passed its SA's selectors.
      if (origin == dataplane::PacketOrigin::clear && !bypass_by_default) {
        return DropReason::no_policy_match;
      }
      if (origin == dataplane::PacketOrigin::clear && speaks_of_protected(ip, view, policies)) {
        return DropReason::cleartext_violates_policy;
      }
      if (!may_go_on) return PuntReason::ttl_exceeded;
      note_first();
      return route(clamped(ip, view, origin, dataplane::kNoSlot), view, is_ours);
    }
    const dataplane::PolicyEntry& policy = policies[hit->index];
    if (policy.action == PolicyAction::discard) return DropReason::policy_discard;
    if (policy.action == PolicyAction::protect && hit->reverse) {
      return DropReason::cleartext_violates_policy;
    }
    if (!may_go_on) return PuntReason::ttl_exceeded;
    if (policy.action == PolicyAction::bypass) {
      note_first();
      return route(clamped(ip, view, origin, dataplane::kNoSlot), view, is_ours);
    }
    note_first();
    if (policy.outbound == dataplane::kNoSlot) return PuntReason::acquire;
    const ByteString fit = clamped(ip, view, origin, policy.outbound);
    return seal(policy.outbound, is_ours ? fit : one_hop_on(fit), view, is_ours);
  }

  /// A SYN that goes into an SA (`into`; kNoSlot: in clear) or has come out of one announces no
  /// segments that do not fit, in either direction.
  ByteString clamped(const ByteString& ip, const IpView& view, dataplane::PacketOrigin origin,
                     dataplane::SlotIndex into) {
    if (is_fragment(ip) || !is_syn(ip, view)) return ip;
    std::size_t most = largest_segment(into, view);
    if (origin == dataplane::PacketOrigin::tunnel) {
      dataplane::FlowKey back = flow_of(ip, view);
      std::swap(back.source, back.destination);
      std::swap(back.source_port, back.destination_port);
      const auto hit = first_policy(policies, back, dataplane::PacketOrigin::originated);
      const bool is_protected =
          hit && policies[hit->index].action == dataplane::PolicyAction::protect;
      if (is_protected) most = std::min(most, largest_segment(policies[hit->index].outbound, view));
    }
    if (most == kNoLimit) return ip;
    ByteString fit = with_clamped_mss(ip, view, most);
    if (fit != ip) ++clamped_syns;
    return fit;
  }
  [[nodiscard]] std::size_t largest_segment(dataplane::SlotIndex slot, const IpView& view) const {
    constexpr std::size_t kTcpBytes = 20, kLeast = 88;  // less than that is nobody's
    if (slot == dataplane::kNoSlot) return kNoLimit;
    const OutboundModel& sa = outbound.at(slot);
    const auto hop = next_hops.find(routes.lookup(sa.transport ? view.destination : sa.peer));
    if (sa.stopped || !sa.headers.mss_clamp || hop == next_hops.end()) return kNoLimit;
    const std::size_t mtu =
        std::min<std::size_t>({hop->second.mtu, sa.path_mtu, sa.headers.path_mtu});
    const std::size_t inside = largest_inside(sa, view.header_bytes, mtu);
    const std::size_t headers = view.header_bytes + kTcpBytes;
    return inside < headers + kLeast ? kNoLimit : inside - headers;
  }

  /// RFC 4301 §6.2: an error that no policy names goes by the SA of what would answer the packet
  /// that it quotes; nowhere, if that is not there. nullopt: it is no such error, comes out of a
  /// tunnel, or from a link that the quoted packet did not go to.
  std::optional<Outcomes> as_return_traffic(const ByteString& ip, const IpView& view,
                                            dataplane::PacketOrigin origin) {
    const auto answer = answer_to_quoted(ip);
    if (!answer || origin == dataplane::PacketOrigin::tunnel) return std::nullopt;
    const bool is_ours = origin == dataplane::PacketOrigin::originated;
    const auto link = next_hops.find(routes.lookup(answer->source));
    const bool is_behind = link != next_hops.end() && link->second.port == arrives_on_ &&
                           !is_broadcast(networks, answer->source);
    if (!is_ours && !is_behind) return std::nullopt;
    const auto hit = first_policy(policies, *answer, dataplane::PacketOrigin::originated);
    // What may be protected must not be quoted in clear.
    if (hit && hit->unclear && is_ours) return dataplane::DropReason::no_sa;
    if (hit && hit->unclear) return std::nullopt;
    if (!hit || policies[hit->index].action != dataplane::PolicyAction::protect) {
      return std::nullopt;
    }
    const dataplane::SlotIndex slot = policies[hit->index].outbound;
    if (slot == dataplane::kNoSlot) return dataplane::DropReason::no_sa;
    if (!is_ours && outbound.at(slot).transport) return std::nullopt;
    if (!is_ours && view.hops <= 1) return dataplane::PuntReason::ttl_exceeded;
    return seal(slot, is_ours ? ip : one_hop_on(ip), view, is_ours);
  }

  /// Whether later fragments of a first one, which have no ports, would by themselves not go its
  /// way, and are to: they meet another policy, or one that stops them for what they hide. Those
  /// that show to be of a policy in front of the first's are that one's; none goes into an SA that
  /// it does not show to be for (RFC 4301 §4.4.1.1).
  [[nodiscard]] bool is_news_to_later_ones(const std::optional<PolicyHit>& first,
                                           const ByteString& ip, const IpView& view,
                                           dataplane::PacketOrigin origin) const {
    dataplane::FlowKey flow = flow_of(ip, view);
    flow.ports_known = false;
    const auto later = first_policy(policies, flow, origin);
    const bool is_same = later ? first && !later->unclear && later->index == first->index : !first;
    return !is_same && speaks_for_later(first, flow, origin);
  }
  [[nodiscard]] bool speaks_for_later(const std::optional<PolicyHit>& first,
                                      const dataplane::FlowKey& later,
                                      dataplane::PacketOrigin origin) const {
    constexpr std::size_t kBehindAll = ~std::size_t{0};
    const auto shown = first_policy(policies, later, origin, true);
    if (first && !first->reverse &&
        policies[first->index].action == dataplane::PolicyAction::protect) {
      return shown && shown->index == first->index;
    }
    return !shown || shown->index >= (first ? first->index : kBehindAll);
  }

  /// `ip` is about to be sealed, its hop counted.
  Outcomes seal(dataplane::SlotIndex slot, const ByteString& ip, const IpView& view, bool is_ours) {
    OutboundModel& sa = outbound.at(slot);
    if (sa.stopped) return sa.why_stopped();
    sa.was_asked = true;
    const bool is_v4 = view.source.is_v4();
    const auto to = routes.lookup(sa.transport ? view.destination : sa.peer);
    const NextHop& hop = next_hops.at(to);
    const std::size_t mtu = std::min<std::size_t>({hop.mtu, sa.path_mtu, sa.headers.path_mtu});
    const std::size_t total = padded_bytes(sa, view, mtu);
    const std::size_t bytes = sealed_bytes(sa, view.header_bytes, total);
    if (bytes > mtu) {
      const std::size_t inside = largest_inside(sa, view.header_bytes, mtu);
      const bool may_cut_now = !sa.transport && !sa.is_for_ports;
      const bool cuts_after = sa.headers.fragmentation == config::FragmentationOrder::after;
      if (may_be_cut(ip) && may_cut_now && !cuts_after) {
        return seal_pieces(slot, cut(ip, inside), is_ours);
      }
      const std::size_t told = is_v4 ? inside : std::max(inside, kLeastIpv6Mtu);
      // RFC 8200 §4.5: by its source, which for our own packets is us.
      const bool is_our_v6 = is_ours && !is_v4;
      if (is_our_v6 && may_cut_now && view.total_bytes > kLeastIpv6Mtu) {
        return seal_pieces(slot, cut(ip, told), is_ours);
      }
      if (!is_cut_when_sealed(sa, is_our_v6 || may_be_cut(ip), view)) return TooBig{told};
    }
    if (!sa.take_number(total)) return sa.why_stopped();
    const std::size_t skipped = sa.transport ? view.header_bytes : 0;
    const std::uint8_t next_header = sa.transport ? view.protocol : is_v4 ? 4 : 41;
    ByteString payload = slice(ip, skipped, view.total_bytes - skipped);
    payload.resize(total - skipped);
    return Sealed{slot, next_header, std::move(payload), sealed_headers(sa, ip, bytes, mtu),
                  hop.port};
  }
  /// Each piece is a packet of its own: with its number, and counted.
  Outcomes seal_pieces(dataplane::SlotIndex slot, const std::vector<ByteString>& pieces,
                       bool is_ours) {
    if (pieces.empty()) return dataplane::DropReason::packet_too_big;
    Outcomes all;
    for (const ByteString& piece : pieces) {
      const Outcomes one = seal(slot, piece, view_ip(piece).value(), is_ours);
      all.each.insert(all.each.end(), one.each.begin(), one.each.end());
    }
    return all;
  }

  Outcomes route(const ByteString& ip, const IpView& view, bool is_ours) {
    const auto to = routes.lookup(view.destination);
    if (to == dataplane::Adjacencies::kDrop) return dataplane::PuntReason::no_route;
    const NextHop& hop = next_hops.at(to);
    const ByteString leaving = is_ours ? ip : one_hop_on(ip);
    std::vector<ByteString> pieces = {leaving};
    if (view.total_bytes > hop.mtu) {
      // RFC 8200 §4.5: by its source, which for our own packets is us.
      if (!may_be_cut(ip) && !(is_ours && !view.source.is_v4())) return TooBig{hop.mtu};
      pieces = cut(leaving, hop.mtu);
    }
    Outcomes all;
    for (ByteString& piece : pieces) {
      if (hop.resolved) {
        all.each.emplace_back(SentClear{hop.port, std::move(piece)});
      } else {
        all.each.emplace_back(dataplane::PuntReason::resolve_neighbor);
      }
    }
    return all;
  }

  static constexpr std::size_t kNoLimit = ~std::size_t{0};
  unsigned arrives_on_ = 0;  ///< the port of the packet in hand
  bool may_wait_ = true;     ///< should the packet in hand be a fragment
};

}  // namespace culvert::model
