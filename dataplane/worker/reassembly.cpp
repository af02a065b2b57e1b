#include "dataplane/worker/reassembly.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "dataplane/worker/header_fields.hpp"
#include "wire/unaligned.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint32_t kLargestPacket = 65535;
constexpr std::uint8_t kEcnFieldMask = 3;
constexpr unsigned kNotCapableBit = 1U << static_cast<unsigned>(Ecn::not_ect);
constexpr unsigned kCongestionBit = 1U << static_cast<unsigned>(Ecn::ce);

/// The IPv6 chain up to the fragment header; 0 when there is none where the parser saw one.
struct FragmentHeaderAt {
  std::size_t at = 0;
  std::size_t named_at = 0;  ///< of the byte that says 44
};
FragmentHeaderAt fragment_header_of(const std::uint8_t* ip, std::size_t bytes) {
  FragmentHeaderAt found{wire::ipv6::kHeaderBytes, wire::ipv6::kNextHeader};
  for (unsigned i = 0; i < wire::ipv6::kMaxExtensionHeaders; ++i) {
    if (found.at + wire::ipv6::kFragmentHeaderBytes > bytes) return {};
    if (ip[found.named_at] == wire::ipv6::kFragment) return found;
    found.named_at = found.at;
    found.at += (ip[found.at + 1] + 1U) * 8U;
  }
  return {};
}

FragmentPlace place_v4(const Fragment& fragment) {
  const std::uint8_t* const ip = fragment.packet;
  const std::uint16_t field = wire::load_u16(ip + wire::ipv4::kFragment);
  FragmentPlace place;
  place.source = wire::IpAddress::v4(wire::Bytes(ip + wire::ipv4::kSource, 4));
  place.destination = wire::IpAddress::v4(wire::Bytes(ip + wire::ipv4::kDestination, 4));
  place.identification = wire::load_u16(ip + wire::ipv4::kIdentification);
  place.protocol = place.next_header = ip[wire::ipv4::kProtocol];
  place.is_last = (field & wire::ipv4::kMoreFragments) == 0;
  place.offset = (field & wire::ipv4::kOffsetMask) * 8U;
  place.head_bytes = place.data_at = static_cast<std::uint16_t>((ip[0] & 0x0fU) * 4U);
  return place;
}

std::optional<FragmentPlace> place_v6(const Fragment& fragment) {
  const std::uint8_t* const ip = fragment.packet;
  const FragmentHeaderAt header = fragment_header_of(ip, fragment.header.total_bytes);
  if (header.at == 0) return std::nullopt;
  const std::uint16_t field = wire::load_u16(ip + header.at + 2);
  FragmentPlace place;
  place.source = wire::IpAddress::v6(wire::Bytes(ip + wire::ipv6::kSource, 16));
  place.destination = wire::IpAddress::v6(wire::Bytes(ip + wire::ipv6::kDestination, 16));
  place.identification = wire::load_u32(ip + header.at + 4);
  place.next_header = ip[header.at];
  place.is_last = (field & 1U) == 0;
  place.offset = field & 0xfff8U;
  place.head_bytes = static_cast<std::uint16_t>(header.at);
  place.data_at = static_cast<std::uint16_t>(header.at + wire::ipv6::kFragmentHeaderBytes);
  return place;
}

/// An IPv6 host may have any address of its network of 64 bits (RFC 4291 §2.5.1).
std::uint64_t source_name_of(const wire::IpAddress& source) {
  const std::uint8_t* const bytes = source.bytes.data();
  return source.is_v4() ? wire::load_raw<std::uint32_t>(bytes)
                        : wire::load_raw<std::uint64_t>(bytes);
}

}  // namespace

std::uint32_t name_of(const FragmentPlace& place) {
  std::uint32_t mixed = place.identification * 0x9e3779b1U + place.protocol;
  for (const wire::IpAddress* const address : {&place.source, &place.destination}) {
    for (std::size_t at = 0; at < address->size(); at += 4) {
      mixed = (mixed ^ wire::load_raw<std::uint32_t>(&address->bytes[at])) * 0x85ebca6bU;
      mixed ^= mixed >> 15U;
    }
  }
  return mixed | 1U;
}

std::expected<FragmentPlace, DropReason> place_of(const Fragment& fragment) {
  const bool is_v4 = (fragment.packet[0] >> 4U) == 4;
  const auto found = is_v4 ? std::optional(place_v4(fragment)) : place_v6(fragment);
  if (!found || found->data_at > fragment.header.total_bytes) {
    return std::unexpected(DropReason::fragment_invalid);
  }
  FragmentPlace place = *found;
  place.origin = fragment.origin;
  place.data_bytes = static_cast<std::uint16_t>(fragment.header.total_bytes - place.data_at);
  // "the length of the fragment … not a multiple of 8 octets and the M flag … is 1: discarded";
  // "the Payload Length of the packet … would exceed 65,535 octets: discarded" (RFC 8200 §4.5)
  const bool is_ragged = !place.is_last && place.data_bytes % 8 != 0;
  const bool is_long = place.head_bytes + place.offset + place.data_bytes > kLargestPacket;
  if (is_ragged || is_long || place.data_bytes == 0) {
    return std::unexpected(DropReason::fragment_invalid);
  }
  return place;
}

Reassembler::Reassembler(std::uint64_t lifetime)
    : lifetime_(lifetime), partials_(std::make_unique<std::array<Partial, kPackets>>()) {}

void Reassembler::end(rte_mbuf* buffer, DropReason reason, bool is_merged) {
  assert(ended_count_ < ended_.size());
  ended_[ended_count_++] = {buffer, reason, is_merged};
}

void Reassembler::end_pieces(Partial& partial, DropReason reason, bool is_merged,
                             std::size_t first) {
  for (std::size_t i = first; i < partial.count; ++i) {
    end(partial.pieces[i].fragment.buffer, reason, is_merged);
  }
  held_ -= partial.count;
  partial.count = 0;
  sources_.set_pieces(index_of(partial), 0);
}

void Reassembler::vacate(Partial& partial) {
  const std::size_t index = index_of(partial);
  names_[index] = 0;
  sources_.end(index);
}

/// "If this timeout expires, the partially-reassembled datagram MUST be discarded and an ICMP Time
/// Exceeded message sent to the source host (if fragment zero has been received)" (RFC 1122
/// §3.3.2); "if the first fragment (i.e., the one with a Fragment Offset of zero) has been
/// received" (RFC 8200 §4.5). Of one that was refused no fragment is here: about overlaps "no ICMP
/// error messages should be sent".
void Reassembler::time_out(Partial& partial) {
  const bool has_first = partial.count != 0 && partial.pieces[0].offset_words == 0;
  if (has_first) {
    assert(overdue_count_ < overdue_.size());
    overdue_[overdue_count_++] = partial.pieces[0].fragment;
  }
  end_pieces(partial, DropReason::reassembly_timeout, false, has_first ? 1 : 0);
  vacate(partial);
}

/// Nobody is told of a packet that had its time before it: the errors are about timers, and a flood
/// of fragments would be answered one by one.
void Reassembler::give_way(Partial& partial, std::uint64_t now) {
  if (deadlines_[index_of(partial)] <= now) return time_out(partial);  // before `expire`
  end_pieces(partial, DropReason::reassembly_full);
  vacate(partial);
}

std::size_t Reassembler::index_of(const FragmentPlace& place, std::uint32_t name) const {
  std::size_t index = 0;
  while (index < kPackets &&
         (names_[index] != name || !(*partials_)[index].key.same_packet(place))) {
    ++index;
  }
  return index;
}

/// The packet's place in the table. When it is full, one of the source that has most packets in it
/// gives way.
Reassembler::Partial& Reassembler::partial_for(const FragmentPlace& place, std::uint64_t now) {
  const std::uint32_t name = name_of(place);
  if (const std::size_t known = index_of(place, name); known != kPackets) {
    if (deadlines_[known] > now) return (*partials_)[known];
    time_out((*partials_)[known]);  // before `expire`
  }
  auto index = static_cast<std::size_t>(std::ranges::find(names_, 0U) - names_.begin());
  if (index == kPackets) {
    const auto* const overdue =
        std::ranges::find_if(deadlines_, [&](std::uint64_t deadline) { return deadline <= now; });
    index = overdue != deadlines_.end() ? static_cast<std::size_t>(overdue - deadlines_.begin())
                                        : sources_.first_of_most_packets();
    give_way((*partials_)[index], now);
  }
  names_[index] = name;
  sources_.begin(index, source_name_of(place.source));
  Partial& fresh = (*partials_)[index];
  fresh.key = place;
  deadlines_[index] = now + lifetime_;
  fresh.total = fresh.have = 0;
  fresh.count = 0;
  fresh.is_refused = false;
  return fresh;
}

/// All buffers are held: a packet of the source that holds most gives its own. Were the newcomer
/// refused, some seventy fragments a second, of packets that never end, would keep out everybody.
void Reassembler::make_room_for(const Partial& newcomer, std::uint64_t now) {
  static_assert(kFragments < kBuffers);  // there is another one
  give_way((*partials_)[sources_.first_of_most_pieces(index_of(newcomer))], now);
}

/// "that datagram (and any constituent fragments) … MUST be silently discarded", what still comes
/// of it as well (RFC 5722 §4).
Reassembler::Outcome Reassembler::refuse(Partial& partial, const Fragment& fragment,
                                         DropReason reason) {
  end(fragment.buffer, reason);
  end_pieces(partial, reason);
  partial.is_refused = true;
  partial.refused_for = reason;
  return Outcome::refused;
}

/// Whether the network doubled a fragment, of two at the same place.
bool Reassembler::is_same(const Piece& piece, const Piece& other) {
  return piece.data_bytes == other.data_bytes &&
         std::memcmp(piece.fragment.packet + piece.data_at, other.fragment.packet + other.data_at,
                     piece.data_bytes) == 0;
}

/// A bit for each value that a fragment has.
unsigned Reassembler::ecn_fields_of(const Partial& partial) {
  unsigned fields = 0;
  for (const Piece& piece : std::span(partial.pieces).first(partial.count)) {
    fields |= 1U << (traffic_class_at(piece.fragment.packet) & kEcnFieldMask);
  }
  return fields;
}

Reassembler::Outcome Reassembler::accept(const Fragment& fragment, std::uint64_t now) {
  const auto place = place_of(fragment);
  if (!place) {
    end(fragment.buffer, place.error());
    return Outcome::refused;
  }
  Partial& partial = partial_for(*place, now + clock_ahead);
  if (partial.is_refused) return refuse(partial, fragment, partial.refused_for);
  const Piece piece{fragment, static_cast<std::uint16_t>(place->offset / 8U), place->data_at,
                    place->data_bytes};
  const auto all = std::span(partial.pieces).first(partial.count);
  const auto after =
      std::ranges::find_if(all, [&](const Piece& other) { return other.begin() >= piece.begin(); });
  const auto at = static_cast<std::size_t>(after - all.begin());
  const bool is_last_there = at < partial.count && all[at].end() == partial.total;
  if (at < partial.count && all[at].begin() == piece.begin() && is_same(all[at], piece) &&
      is_last_there == place->is_last) {
    // RFC 8200 §4.5 lets exact duplicates be dropped alone.
    end(fragment.buffer, DropReason::fragment_overlap);
    return Outcome::refused;
  }
  const bool overlaps = (at > 0 && all[at - 1].end() > piece.begin()) ||
                        (at < partial.count && all[at].begin() < piece.end());
  const bool is_beyond_end =
      (partial.total != 0 && (place->is_last || piece.end() > partial.total)) ||
      (place->is_last && partial.count != 0 && at != partial.count);
  if (overlaps || is_beyond_end) return refuse(partial, fragment, DropReason::fragment_overlap);
  if (partial.count == kFragments) return refuse(partial, fragment, DropReason::reassembly_full);
  if (held_ == kBuffers) make_room_for(partial, now + clock_ahead);
  std::move_backward(partial.pieces.begin() + static_cast<std::ptrdiff_t>(at),
                     partial.pieces.begin() + partial.count,
                     partial.pieces.begin() + partial.count + 1);
  partial.pieces[at] = piece;
  ++partial.count;
  sources_.set_pieces(index_of(partial), static_cast<std::uint8_t>(partial.count));
  ++held_;
  partial.have += piece.data_bytes;
  if (place->is_last) partial.total = piece.end();
  if (place->offset == 0) partial.key = *place;
  // No two overlap, so as many bytes as the whole has are the whole.
  if (partial.total == 0 || partial.have != partial.total) return Outcome::held;
  const unsigned ecn = ecn_fields_of(partial);
  if ((ecn & kCongestionBit) != 0 && (ecn & kNotCapableBit) != 0) {
    // "MUST NOT occur if any of the other fragments … carries the Not-ECT codepoint" (RFC 3168
    // §5.3): neither may the mark be set, nor be lost.
    end_pieces(partial, DropReason::congestion_marked);
    vacate(partial);
    return Outcome::refused;
  }
  whole_ = index_of(partial);
  return Outcome::whole;
}

std::size_t Reassembler::whole_bytes() const {
  const Partial& partial = (*partials_)[whole_];
  return partial.key.head_bytes + partial.total;
}

std::size_t Reassembler::write(wire::MutableBytes out) {
  Partial& partial = (*partials_)[whole_];
  const FragmentPlace& head = partial.key;
  const std::uint8_t* const first = partial.pieces[0].fragment.packet;
  const std::size_t bytes = whole_bytes();
  assert(out.size() >= bytes);
  std::memcpy(out.data(), first, head.head_bytes);
  for (std::size_t i = 0; i < partial.count; ++i) {
    const Piece& piece = partial.pieces[i];
    std::memcpy(out.data() + head.head_bytes + piece.begin(), piece.fragment.packet + piece.data_at,
                piece.data_bytes);
  }
  // "MUST NOT lose indications of congestion" (RFC 3168 §5.3)
  if ((ecn_fields_of(partial) & kCongestionBit) != 0) {
    const unsigned marked = traffic_class_at(out.data()) | static_cast<unsigned>(Ecn::ce);
    set_traffic_class(out.data(), static_cast<std::uint8_t>(marked));
  }
  if ((out[0] >> 4U) == 4) {
    wire::store_u16(out.data() + wire::ipv4::kTotalLength, static_cast<std::uint16_t>(bytes));
    wire::store_u16(out.data() + wire::ipv4::kFragment, 0);
    wire::write_ipv4_checksum(out.data(), head.head_bytes);
  } else {
    const FragmentHeaderAt header =
        fragment_header_of(first, partial.pieces[0].fragment.header.total_bytes);
    out[header.named_at] = head.next_header;
    wire::store_u16(out.data() + wire::ipv6::kPayloadLength,
                    static_cast<std::uint16_t>(bytes - wire::ipv6::kHeaderBytes));
  }
  const std::size_t merged = partial.count;
  end_pieces(partial, DropReason::reassembly_timeout, true);
  vacate(partial);
  return merged;
}

void Reassembler::give_up(DropReason reason) {
  Partial& partial = (*partials_)[whole_];
  end_pieces(partial, reason);
  vacate(partial);
}

void Reassembler::expire(std::uint64_t now) {
  for (std::size_t index = 0; index < kPackets; ++index) {
    Partial& partial = (*partials_)[index];
    if (is_used(index) && deadlines_[index] <= now + clock_ahead) time_out(partial);
  }
}

void Reassembler::clear(DropReason reason) {
  for (std::size_t index = 0; index < kPackets; ++index) {
    if (!is_used(index)) continue;
    end_pieces((*partials_)[index], reason);
    vacate((*partials_)[index]);
  }
}

}  // namespace culvert::dataplane
