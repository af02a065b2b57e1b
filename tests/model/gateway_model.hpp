// What one gateway does with one packet, told plainly from the RFCs: policies in order (RFC 4301
// §5), ESP a packet at a time (RFC 4303 §3.3, §3.4), routes by looking at each (RFC 1812 §5.2).
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>
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
#include "tests/model/icmp_error_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/policy_model.hpp"
#include "tests/model/reassembly_model.hpp"
#include "tests/model/replay_model.hpp"
#include "tests/model/route_model.hpp"

namespace culvert::model {

// ---- verdicts ----

struct SentClear {
  unsigned port;
  ByteString ip;
};
struct Sealed {
  dataplane::SlotIndex sa;
  std::uint8_t next_header;
  ByteString payload;
  std::vector<std::size_t> wire_bytes;  ///< of the packet around it, or of each of its pieces
};
struct TooBig {
  std::size_t mtu;  ///< what its sender is to be told
};
struct UnknownSpi {};  ///< dropped, or shown to the main thread as a hint
using Outcome = std::variant<SentClear, Sealed, TooBig, UnknownSpi, dataplane::DropReason,
                             dataplane::PuntReason>;
/// What becomes of one packet, or of each of its pieces.
struct Outcomes {
  Outcomes() = default;
  template <typename One>
  Outcomes(One one) : each{Outcome(std::move(one))} {}
  std::vector<Outcome> each;
};

/// RFC 4301 §4.4.2.1: an SA ends by time, packets or bytes, whichever comes first.
struct LifeModel {
  std::uint64_t installed = 0, hard_seconds = ~0ULL;
  std::uint64_t packets = 0, hard_packets = ~0ULL;
  /// Of the packets inside, with their headers and what hides their size (RFC 4303 §2.7).
  std::uint64_t bytes = 0, hard_bytes = ~0ULL;
  bool stopped = false, ended_by_bytes = false;
  bool was_asked = false;  ///< for a packet, since its owner looked last

  /// Hard means not one packet more: whether this one passes. If so it is counted, else the SA has
  /// ended, for smaller packets too.
  bool take(std::uint64_t packet_bytes) {
    was_asked = true;
    if (stopped) return false;
    ended_by_bytes = bytes + packet_bytes > hard_bytes;
    stopped = ended_by_bytes || packets + 1 > hard_packets;
    if (stopped) return false;
    ++packets;
    bytes += packet_bytes;
    return true;
  }
  /// Whether one packet, or its pieces, might be what ends it.
  [[nodiscard]] bool is_near_its_end() const {
    constexpr std::uint64_t kMostPieces = 16, kMostBytes = 4096;
    return hard_packets - packets < kMostPieces || hard_bytes - bytes < kMostBytes;
  }
};
struct InboundModel : LifeModel {
  EspSa keys;
  bool transport = false;
  std::uint32_t window = 64;
  ReplayModel replay{64};
  unsigned failed_in_a_row = 0;  ///< to authenticate
  std::vector<wire::TrafficSelector> local, remote;
  bool checks_errors = false;  ///< RFC 4301 §6.2: ICMP's, by what they quote
};
struct OutboundModel : LifeModel {
  EspSa keys;
  bool transport = false;
  wire::IpAddress peer;                    ///< where the tunnel ends
  std::size_t path_mtu = ~0UL;             ///< ICMP's word on the way there (RFC 4301 §8.2)
  std::size_t configured_path_mtu = ~0UL;  ///< the operator's: it bounds ICMP's
  config::DontFragment df{};               ///< of the outer header (RFC 4301 §8.1)
  bool cuts_after_sealing = false;
};

class GatewayModel {
 public:
  std::vector<dataplane::PolicyEntry> policies;
  bool bypass_by_default = false;
  RouteModel routes;
  std::vector<wire::Prefix> networks;  ///< that its ports are connected to
  struct NextHop {
    unsigned port = 0;
    bool resolved = false;
    std::size_t mtu = 1500;
  };
  std::map<dataplane::AdjacencyIndex, NextHop> next_hops;
  std::map<std::uint32_t, InboundModel> inbound;  ///< by SPI
  std::map<dataplane::SlotIndex, OutboundModel> outbound;
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
  }

  /// A sound IP packet from a wire that is no ESP for us.
  Outcomes from_wire(const ByteString& ip, unsigned port) {
    arrives_on_ = port;
    return decide(ip, dataplane::PacketOrigin::clear);
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

  /// An IP packet of the gateway's own (RFC 4301 §5.1): nobody's hop, and what no policy names
  /// leaves in clear.
  Outcomes own(const ByteString& ip) { return pass(ip, dataplane::PacketOrigin::originated); }

  /// ESP from the peer, from its SPI on; `around`: the packet that it came in.
  Outcomes esp_from_peer(const ByteString& esp, const ByteString& around) {
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
    const auto high = static_cast<std::uint32_t>(sequence >> 32U);
    auto opened = esp_open(sa.keys, high, esp);
    // A3: only where packets come one at a time does it follow the worker, which tries one a burst.
    if (!opened && sa.keys.esn && sa.failed_in_a_row >= dataplane::kFailuresBeforeResync) {
      opened = esp_open_above(sa.keys, high, dataplane::kResyncTries, esp);
      sa.failed_in_a_row = 0;
    }
    if (!opened) {
      ++sa.failed_in_a_row;
      return DropReason::icv_mismatch;
    }
    if (const auto refused = refusal(sa.replay.commit(opened->sequence))) return *refused;
    sa.failed_in_a_row = 0;
    // RFC 4301 §4.4.2.1: whatever is in it, the key was used for it.
    const ByteString& payload = opened->payload;
    const std::size_t bytes =
        sa.transport ? without_esp(around, opened->next_header, payload).size() : payload.size();
    if (!sa.take(bytes)) return DropReason::sa_expired;
    return decapsulate(sa, *opened, around);
  }

 private:
  Outcomes go_on(const Whole& next) {
    const IpView view = view_ip(next.ip).value();
    constexpr std::uint8_t kEsp = 50;
    if (view.protocol != kEsp || next.origin != dataplane::PacketOrigin::clear) {
      return decide(next.ip, next.origin);
    }
    const ByteString esp = slice(next.ip, view.header_bytes, view.total_bytes - view.header_bytes);
    if (esp.size() < 8) return dataplane::DropReason::esp_truncated;
    return esp_from_peer(esp, next.ip);
  }

  void for_each_life(auto look_at) {
    for (auto& [spi, sa] : inbound) look_at(sa);
    for (auto& [slot, sa] : outbound) look_at(sa);
  }

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

  Outcomes decapsulate(InboundModel& sa, const EspContents& opened, const ByteString& around) {
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
      const auto ecn = ecn_inside(ecn_of(inner), ecn_of(around));
      if (!ecn) return DropReason::congestion_marked;
      inner = with_ecn(std::move(inner), *ecn);
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
    if (is_impossible_source(view.source)) return DropReason::source_address_invalid;
    if (is_for_a_group(view.destination)) return DropReason::destination_multicast;
    if (routes.lookup(view.source) == dataplane::Adjacencies::kLocal ||
        is_broadcast(networks, view.source)) {
      return DropReason::source_address_invalid;
    }
    if (is_broadcast(networks, view.destination)) return DropReason::destination_multicast;
    if (routes.lookup(view.destination) == dataplane::Adjacencies::kLocal) {
      if (fragment_of(ip)) return gather(ip, origin);
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
        // RFC 768: the length is of header and data.
        if (bytes < 8 || get16(ip, view.header_bytes + 4) < 8 ||
            get16(ip, view.header_bytes + 4) > bytes) {
          return DropReason::truncated_packet;
        }
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

  Outcomes pass(const ByteString& ip, dataplane::PacketOrigin origin) {
    using dataplane::DropReason;
    using dataplane::PolicyAction;
    using dataplane::PuntReason;
    const IpView view = view_ip(ip).value();
    const bool is_ours = origin == dataplane::PacketOrigin::originated;
    const bool may_go_on = is_ours || view.hops > 1;
    auto hit = first_policy(policies, flow_of(ip, view), origin);
    // RFC 4301 §7.4: of packets in clear, later fragments go where their first one went.
    auto piece = origin == dataplane::PacketOrigin::clear ? fragment_of(ip) : std::nullopt;
    if (piece && !ReassemblyModel::is_sound(ip, *piece)) piece.reset();
    if (piece && piece->offset == 0) bypassed.begins(*piece);
    if (piece && piece->offset != 0) {
      if (const auto first = bypassed.policy_of(*piece, reassembly.now())) hit = first;
    }
    if (!hit) {
      if (auto way = as_return_traffic(ip, view, origin)) return *way;
      // What was decrypted has passed its SA's selectors.
      if (origin == dataplane::PacketOrigin::clear && !bypass_by_default) {
        return DropReason::no_policy_match;
      }
      if (origin == dataplane::PacketOrigin::clear && speaks_of_protected(ip, view, policies)) {
        return DropReason::cleartext_violates_policy;
      }
      return may_go_on ? route(ip, view, is_ours) : Outcomes(PuntReason::ttl_exceeded);
    }
    const dataplane::PolicyEntry& policy = policies[hit->index];
    if (policy.action == PolicyAction::discard) return DropReason::policy_discard;
    if (policy.action == PolicyAction::protect && hit->reverse) {
      return DropReason::cleartext_violates_policy;
    }
    if (!may_go_on) return PuntReason::ttl_exceeded;
    if (policy.action == PolicyAction::bypass) {
      if (piece && piece->offset == 0 && is_news_to_later_ones(*hit, ip, view, origin)) {
        bypassed.passed(*piece, *hit, reassembly.now());
      }
      return route(ip, view, is_ours);
    }
    if (policy.outbound == dataplane::kNoSlot) return PuntReason::acquire;
    return seal(policy.outbound, is_ours ? ip : one_hop_on(ip), view, is_ours);
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
    if (!hit || policies[hit->index].action != dataplane::PolicyAction::protect) {
      return std::nullopt;
    }
    const dataplane::SlotIndex slot = policies[hit->index].outbound;
    if (slot == dataplane::kNoSlot) return dataplane::DropReason::no_sa;
    if (!is_ours && outbound.at(slot).transport) return std::nullopt;
    if (!is_ours && view.hops <= 1) return dataplane::PuntReason::ttl_exceeded;
    return seal(slot, is_ours ? ip : one_hop_on(ip), view, is_ours);
  }

  /// Whether later fragments of a first one, which have no ports, would by themselves meet no
  /// policy, or one behind the first's.
  [[nodiscard]] bool is_news_to_later_ones(const PolicyHit& first, const ByteString& ip,
                                           const IpView& view,
                                           dataplane::PacketOrigin origin) const {
    dataplane::FlowKey flow = flow_of(ip, view);
    flow.ports_known = false;
    const auto later = first_policy(policies, flow, origin);
    return !later || later->index > first.index;
  }

  /// RFC 4303 §2: how long a packet of `total` bytes is with ESP: header, IV, padding and trailer
  /// up to a four-byte boundary, ICV, and in tunnel mode an IP header in front.
  static std::size_t sealed_bytes(const OutboundModel& sa, std::size_t header_bytes,
                                  std::size_t total) {
    const std::size_t outer_bytes = sa.transport ? header_bytes : sa.peer.is_v4() ? 20 : 40;
    const std::size_t payload_bytes = sa.transport ? total - header_bytes : total;
    std::size_t encrypted_bytes = payload_bytes + 2;
    while (encrypted_bytes % 4 != 0) ++encrypted_bytes;
    return outer_bytes + 8 + 8 + encrypted_bytes + 16;
  }
  /// RFC 4301 §8.2.1: the largest packet that fits `mtu` with ESP, by trying each size.
  static std::size_t largest_inside(const OutboundModel& sa, std::size_t header_bytes,
                                    std::size_t mtu) {
    const std::size_t least = sa.transport ? header_bytes : 0;
    for (std::size_t total = mtu; total > least; --total) {
      if (sealed_bytes(sa, header_bytes, total) <= mtu) return total;
    }
    return 0;
  }
  /// Of a sealed packet's pieces on the wire; of the one, when it fits. `options`: of its IPv4
  /// header.
  static std::vector<std::size_t> sizes_on_wire(bool is_v4, const ByteString& options,
                                                std::size_t bytes, std::size_t mtu) {
    if (bytes <= mtu) return {bytes};
    const std::size_t payload_bytes = bytes - (is_v4 ? 20 : 40) - options.size();
    const IpFields fields = {.source = is_v4 ? "0.0.0.0" : "::", .destination = fields.source};
    ByteString sealed = ip(fields, ByteString(options.size() + payload_bytes));
    if (is_v4) {
      sealed[0] = static_cast<std::uint8_t>(0x45U + options.size() / 4);
      std::ranges::copy(options, sealed.begin() + 20);
    }
    std::vector<std::size_t> sizes;
    for (const ByteString& piece : cut(sealed, mtu)) {
      sizes.push_back(piece.size());
    }
    return sizes;
  }

  /// `ip` is about to be sealed, its hop counted.
  Outcomes seal(dataplane::SlotIndex slot, const ByteString& ip, const IpView& view, bool is_ours) {
    OutboundModel& sa = outbound.at(slot);
    if (sa.stopped) return dataplane::DropReason::sa_expired;
    sa.was_asked = true;
    const bool is_v4 = view.source.is_v4();
    const auto to = routes.lookup(sa.transport ? view.destination : sa.peer);
    const std::size_t mtu = std::min({next_hops.at(to).mtu, sa.path_mtu, sa.configured_path_mtu});
    const std::size_t bytes = sealed_bytes(sa, view.header_bytes, view.total_bytes);
    if (bytes > mtu) {
      const std::size_t inside = largest_inside(sa, view.header_bytes, mtu);
      if (may_be_cut(ip) && !sa.transport && !sa.cuts_after_sealing) {
        return seal_pieces(slot, cut(ip, inside), is_ours);
      }
      const std::size_t told = is_v4 ? inside : std::max(inside, kLeastIpv6Mtu);
      // RFC 8200 §4.5: by its source, which for our own packets is us.
      const bool is_our_v6 = is_ours && !is_v4;
      if (is_our_v6 && !sa.transport && view.total_bytes > kLeastIpv6Mtu) {
        return seal_pieces(slot, cut(ip, told), is_ours);
      }
      if (!is_cut_when_sealed(sa, is_our_v6 || may_be_cut(ip), view)) return TooBig{told};
    }
    if (!sa.take(view.total_bytes)) return dataplane::DropReason::sa_expired;
    const std::size_t skipped = sa.transport ? view.header_bytes : 0;
    const std::uint8_t inside = is_v4 ? 4 : 41;
    const bool is_v4_outside = sa.transport ? is_v4 : sa.peer.is_v4();
    const ByteString options =
        sa.transport && is_v4 ? slice(ip, 20, view.header_bytes - 20) : ByteString{};
    return Sealed{slot, sa.transport ? view.protocol : inside,
                  slice(ip, skipped, view.total_bytes - skipped),
                  sizes_on_wire(is_v4_outside, options, bytes, mtu)};
  }
  /// RFC 4301 §8.1, and RFC 2473 §7.1: 1280 bytes of IPv6 pass every tunnel.
  static bool is_cut_when_sealed(const OutboundModel& sa, bool may_cut_inside, const IpView& view) {
    if (!view.source.is_v4() && view.total_bytes <= kLeastIpv6Mtu) return true;
    // RFC 4303 §3.1.1: transport mode has no header of its own.
    if (sa.transport) return may_cut_inside;
    return sa.df == config::DontFragment::copy ? may_cut_inside
                                               : sa.df == config::DontFragment::clear;
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

  unsigned arrives_on_ = 0;                           ///< the port of the packet in hand
  bool may_wait_ = true;                              ///< should the packet in hand be a fragment
  static constexpr std::size_t kLeastIpv6Mtu = 1280;  ///< RFC 8200 §5
};

}  // namespace culvert::model
