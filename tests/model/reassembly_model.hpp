// Fragments become a packet again, told from RFC 791 §3.2, RFC 8200 §4.5, RFC 5722 §4 and RFC 3168
// §5.3; how much is kept, and for how long, from docs/reference/configuration.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/spd.hpp"
#include "tests/model/fragment_model.hpp"

namespace culvert::model {

class ReassemblyModel {
 public:
  static constexpr std::size_t kPackets = 64, kFragments = 1024, kFragmentsOfOne = 48;
  static constexpr std::uint64_t kMilliseconds = 60'000;

  /// What a fragment came to. `dropped`: one reason for each fragment that has ended.
  struct Arrival {
    std::vector<dataplane::DropReason> dropped;
    std::optional<ByteString> whole;
  };

  /// `ip`: a sound packet that is a fragment. `largest`: of the packets that there is room for.
  Arrival arrive(const ByteString& ip, dataplane::PacketOrigin origin, std::size_t largest) {
    using dataplane::DropReason;
    const Fragment piece = fragment_of(ip).value();
    if (!is_sound(ip, piece)) return {{DropReason::fragment_invalid}, {}};
    Arrival arrival;
    Packet& packet = packet_of(piece.of, origin, arrival);
    if (packet.refused) return refuse(packet, *packet.refused, std::move(arrival));
    // RFC 8200 §4.5: of "exact duplicate fragments" the packet need not suffer.
    const auto is_the_same = [&](const Piece& other) {
      return other.what.offset == piece.offset && other.what.more == piece.more &&
             other.what.payload == piece.payload;
    };
    if (std::ranges::any_of(packet.pieces, is_the_same)) {
      arrival.dropped.push_back(DropReason::fragment_overlap);
      return arrival;
    }
    if (std::ranges::any_of(packet.pieces,
                            [&](const Piece& other) { return contradict(other.what, piece); })) {
      return refuse(packet, DropReason::fragment_overlap, std::move(arrival));
    }
    if (packet.pieces.size() == kFragmentsOfOne) {
      return refuse(packet, DropReason::reassembly_full, std::move(arrival));
    }
    Packet& with_room = held() == kFragments ? beside_others(packet, arrival) : packet;
    with_room.pieces.push_back({ip, piece});
    return finish(with_room, largest, std::move(arrival));
  }

  /// What `arrive` would make whole.
  [[nodiscard]] std::optional<ByteString> whole_by(const ByteString& ip,
                                                   dataplane::PacketOrigin origin,
                                                   std::size_t largest) const {
    const Fragment piece = fragment_of(ip).value();
    ReassemblyModel beside;
    for (const Packet& packet : packets_) {
      if (packet.of != piece.of || packet.origin != origin) continue;
      if (!may_be_all(packet, piece)) return std::nullopt;
      beside.packets_.push_back(packet);
    }
    return beside.arrive(ip, origin, largest).whole;
  }

  /// Fragments that have waited too long. RFC 1122 §3.3.2, RFC 8200 §4.5: the source is told, about
  /// the one at offset zero if it is there.
  struct Ended {
    std::vector<ByteString> firsts;
    std::size_t others = 0;
    [[nodiscard]] std::size_t count() const { return firsts.size() + others; }
  };
  Ended time_is(std::uint64_t milliseconds) {
    now_ = milliseconds;
    Ended ended;
    for (const Packet& packet : packets_) {
      if (age(packet) < kMilliseconds) continue;
      for (const Piece& piece : packet.pieces) {
        if (piece.what.offset == 0) {
          ended.firsts.push_back(piece.ip);
        } else {
          ++ended.others;
        }
      }
    }
    std::erase_if(packets_, [&](const Packet& packet) { return age(packet) >= kMilliseconds; });
    return ended;
  }
  /// Whether it can be part of a packet.
  static bool is_sound(const ByteString& ip, const Fragment& piece) {
    // RFC 8200 §4.5: a length that is not a multiple of 8 octets, and more to come; a packet of
    // more than 65 535. Without data it is part of nothing.
    const bool is_ragged = piece.more && piece.payload.size() % 8 != 0;
    return !is_ragged && !piece.payload.empty() &&
           headers_of(ip) + piece.offset + piece.payload.size() <= 65535;
  }
  [[nodiscard]] std::uint64_t now() const { return now_; }
  /// Whether some packet's time is over about then.
  [[nodiscard]] bool ends_about(std::uint64_t milliseconds, std::uint64_t within) const {
    return std::ranges::any_of(packets_, [&](const Packet& packet) {
      const std::uint64_t end = packet.began + kMilliseconds;
      return end < milliseconds + within && milliseconds < end + within;
    });
  }
  [[nodiscard]] std::size_t held() const {
    std::size_t count = 0;
    for (const Packet& packet : packets_) count += packet.pieces.size();
    return count;
  }
  [[nodiscard]] bool is_full() const { return packets_.size() == kPackets; }
  /// Whether so many more might find no room.
  [[nodiscard]] bool has_no_room_for(std::size_t fragments) const {
    return packets_.size() + fragments > kPackets || held() + fragments > kFragments;
  }
  /// Whether it is plain which one gives way to a new packet: no other began at the same time.
  [[nodiscard]] bool has_an_oldest() const {
    const std::size_t first = first_of_the_greediest(one);
    const std::size_t share = share_of(packets_[first], one);
    return std::ranges::count_if(packets_, [&](const Packet& packet) {
             return packet.began == packets_[first].began && share_of(packet, one) == share;
           }) == 1;
  }

 private:
  struct Piece {
    ByteString ip;
    Fragment what;
  };
  struct Packet {
    ByteString of;
    dataplane::PacketOrigin origin{};
    std::uint64_t began = 0;
    std::optional<dataplane::DropReason> refused;
    std::vector<Piece> pieces;
  };

  /// Whether there is an end, and as many bytes as are before it.
  static bool may_be_all(const Packet& packet, const Fragment& piece) {
    std::size_t bytes = piece.payload.size();
    bool has_end = !piece.more;
    std::size_t end = has_end ? piece.offset + bytes : 0;
    for (const Piece& other : packet.pieces) {
      bytes += other.what.payload.size();
      if (other.what.more) continue;
      has_end = true;
      end = std::max(end, other.what.offset + other.what.payload.size());
    }
    return has_end && bytes >= end;
  }
  static std::size_t headers_of(const ByteString& ip) {
    return ip[0] >> 4U == 4 ? (ip[0] & 0x0fU) * std::size_t{4} : 40;
  }
  [[nodiscard]] std::uint64_t age(const Packet& packet) const { return now_ - packet.began; }

  /// Its host, or in IPv6 its network of 64 bits.
  static ByteString source_of(const Packet& packet) {
    constexpr std::size_t kOfIpv4 = 4 + 4 + 2 + 1;
    return slice(packet.of, 0, packet.of.size() == kOfIpv4 ? 4 : 8);
  }
  static std::size_t one(const Packet&) { return 1; }
  static std::size_t pieces_of(const Packet& packet) { return packet.pieces.size(); }
  /// Of all that is kept, what is its source's.
  template <typename Share>
  [[nodiscard]] std::size_t share_of(const Packet& packet, Share share) const {
    std::size_t sum = 0;
    for (const Packet& other : packets_) {
      if (source_of(other) == source_of(packet)) sum += share(other);
    }
    return sum;
  }
  /// The oldest packet of the source that has most, of those that have any.
  template <typename Share>
  [[nodiscard]] std::size_t first_of_the_greediest(Share share) const {
    std::size_t chosen = packets_.size();
    for (std::size_t i = 0; i < packets_.size(); ++i) {
      if (share(packets_[i]) == 0) continue;
      const bool is_first = chosen == packets_.size();
      if (is_first || share_of(packets_[i], share) > share_of(packets_[chosen], share)) chosen = i;
    }
    return chosen;
  }

  /// RFC 791 §3.2: source, destination, protocol and identification; RFC 8200 §4.5: without the
  /// protocol. What came through a tunnel and what came in clear are never parts of one packet: the
  /// one is authentic. When all are in use, one of who has most gives way.
  Packet& packet_of(const ByteString& of, dataplane::PacketOrigin origin, Arrival& arrival) {
    for (Packet& packet : packets_) {
      if (packet.of == of && packet.origin == origin) return packet;
    }
    if (is_full()) give_way(first_of_the_greediest(one), arrival);
    packets_.push_back({of, origin, now_, {}, {}});
    return packets_.back();
  }
  void give_way(std::size_t index, Arrival& arrival) {
    arrival.dropped.insert(arrival.dropped.end(), packets_[index].pieces.size(),
                           dataplane::DropReason::reassembly_full);
    packets_.erase(packets_.begin() + static_cast<std::ptrdiff_t>(index));
  }
  /// The packet, where it is then: one of who has most pieces has given way to it.
  Packet& beside_others(const Packet& packet, Arrival& arrival) {
    const auto own = static_cast<std::size_t>(&packet - packets_.data());
    const std::size_t other = first_of_the_greediest(
        [&](const Packet& any) { return &any == &packet ? 0 : pieces_of(any); });
    give_way(other, arrival);
    return packets_[other < own ? own - 1 : own];
  }

  /// They share a byte, or one lies beyond the other, which is the last.
  static bool contradict(const Fragment& one, const Fragment& other) {
    const std::size_t one_end = one.offset + one.payload.size();
    const std::size_t other_end = other.offset + other.payload.size();
    if (one.offset < other_end && other.offset < one_end) return true;
    return (!one.more && other_end > one_end) || (!other.more && one_end > other_end);
  }

  /// RFC 5722 §4: the packet, "including those not yet received".
  static Arrival refuse(Packet& packet, dataplane::DropReason reason, Arrival arrival) {
    arrival.dropped.insert(arrival.dropped.end(), packet.pieces.size() + 1, reason);
    packet.pieces.clear();
    packet.refused = reason;
    return arrival;
  }

  /// Ends the packet when nothing of it is missing.
  Arrival finish(Packet& packet, std::size_t largest, Arrival arrival) {
    std::ranges::sort(packet.pieces, {}, [](const Piece& piece) { return piece.what.offset; });
    std::vector<Fragment> pieces;
    for (const Piece& piece : packet.pieces) pieces.push_back(piece.what);
    const auto data = joined(pieces);
    if (!data) return arrival;
    using dataplane::DropReason;
    const bool is_torn = has_ecn(packet, kCongestion) && has_ecn(packet, kNotCapable);
    const bool is_large = headers_of(packet.pieces[0].ip) + data->size() > largest;
    if (is_torn || is_large) {
      arrival.dropped.insert(arrival.dropped.end(), pieces.size(),
                             is_torn ? DropReason::congestion_marked : DropReason::reassembly_full);
    } else {
      arrival.whole = whole_of(packet, *data);
    }
    std::erase_if(packets_, [&](const Packet& other) { return &other == &packet; });
    return arrival;
  }

  /// RFC 791 §3.2, RFC 8200 §4.5: the first one's headers in front of everybody's data.
  static ByteString whole_of(const Packet& packet, const ByteString& data) {
    const ByteString& first = packet.pieces[0].ip;
    const bool v4 = first[0] >> 4U == 4;
    ByteString ip = slice(first, 0, headers_of(first));
    put(ip, data);
    ByteString length;
    put16(length, static_cast<unsigned>(v4 ? ip.size() : data.size()));
    std::copy(length.begin(), length.end(), ip.begin() + (v4 ? 2 : 4));
    if (v4) {
      ip[6] = ip[7] = 0;
    } else {
      ip[6] = first[40];
    }
    return has_ecn(packet, kCongestion) ? with_ecn(std::move(ip), kCongestion)
                                        : with_checksum(std::move(ip));
  }
  /// RFC 3168 §5.3: a mark of congestion on any of them is kept, or the packet is dropped; it is
  /// dropped when another has no ECN.
  static bool has_ecn(const Packet& packet, unsigned codepoint) {
    return std::ranges::any_of(packet.pieces,
                               [&](const Piece& piece) { return ecn_of(piece.ip) == codepoint; });
  }

  std::vector<Packet> packets_;  ///< the oldest first
  std::uint64_t now_ = 0;
};

}  // namespace culvert::model
