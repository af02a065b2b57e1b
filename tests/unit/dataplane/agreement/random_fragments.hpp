// Packets for the gateway that come in pieces: in any order, one missing, doubled, overlapping, of
// a wrong length, too many, mixed with those of others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/model/fragment_model.hpp"
#include "tests/unit/dataplane/agreement/random_packets.hpp"

namespace culvert::test {

class RandomFragments : protected RandomPackets {
 protected:
  using RandomPackets::RandomPackets;

  /// A packet on its way.
  struct InPieces {
    std::vector<Packet> coming;  ///< the next one last
    bool from_wan = true;

    Packet next() {
      Packet piece = std::move(coming.back());
      coming.pop_back();
      return piece;
    }
  };
  std::vector<InPieces> on_their_way_;
  std::vector<InPieces> inside_;  ///< of the peer's SAs

  /// The index of one of them that comes by that port; none: the number of all.
  std::size_t any_on_its_way(bool from_wan) {
    std::vector<std::size_t> fitting;
    for (std::size_t i = 0; i < on_their_way_.size(); ++i) {
      if (on_their_way_[i].from_wan == from_wan) fitting.push_back(i);
    }
    return fitting.empty() ? on_their_way_.size() : any(fitting);
  }

  /// `ip`: whole, for us. What has no eight bytes to spare is not sent.
  void send_in_pieces(const Packet& ip, bool from_wan) { begin(on_their_way_, ip, from_wan); }
  /// Through the peer's SAs, and now and then somebody sends the same pieces in clear.
  void send_inside() {
    begin(inside_, any_for_us(), true);
    if (inside_.empty() || !one_in(2)) return;
    InPieces forged = inside_.back();
    forged.from_wan = one_in(2);
    shuffle(forged.coming);
    on_their_way_.push_back(std::move(forged));
  }

  void begin(std::vector<InPieces>& among, const Packet& ip, bool from_wan) {
    InPieces packet{any_pieces(ip), from_wan};
    if (packet.coming.size() < 2) return;
    if (one_in(4)) mark_some(packet.coming);
    if (one_in(3)) spoil(packet.coming);
    if (one_in(2)) {
      std::ranges::reverse(packet.coming);  // in order
    } else {
      shuffle(packet.coming);
    }
    if (!packet.coming.empty()) among.push_back(std::move(packet));
  }

  /// For one of our own addresses and no ESP, of a size worth cutting.
  Packet any_for_us() {
    PacketOptions options = any_options(true);
    options.fragment = 0;
    const Packet more = model::counting(16 + below(one_in(3) ? 5000 : 200));
    if (one_in(2)) {
      const bool v4 = options.source.find(':') == std::string::npos;
      options.protocol = v4 ? 1 : 58;
      options.payload = v4 ? model::icmp(8, 0, more)
                           : model::icmp(128, 0, more, options.source, options.destination);
    } else {
      model::put(options.payload, more);
      if (options.protocol == 17 && options.payload.size() >= 8) {
        Packet length;
        model::put16(length, static_cast<unsigned>(options.payload.size()));
        std::copy(length.begin(), length.end(), options.payload.begin() + 4);
        if (one_in(8)) set16(options.payload, 2, one_in(4) ? 500 : 4500);
      }
    }
    return ip_packet(options);
  }

  /// What goes into a tunnel and may be larger than any frame.
  Packet any_larger_ip() {
    if (!one_in(4)) return any_ip();
    return resized(any_options(false), 1500 + below(1300));
  }

  void shuffle(auto& of) {
    for (std::size_t left = of.size(); left > 1; --left) {
      std::swap(of[left - 1], of[below(left)]);
    }
  }

  /// Two to some seventy pieces.
  std::vector<Packet> any_pieces(const Packet& ip) {
    const std::size_t head = is_v4(ip) ? data_at(ip) : 40;
    const std::size_t wanted = one_in(12) ? 40 + below(30) : 2 + below(4);
    constexpr std::size_t kMost = 1400;  // a frame is no larger than a link
    return pieces_of(ip, std::clamp<std::size_t>((ip.size() - head) / wanted / 8 * 8, 8, kMost));
  }

  static bool is_v4(const Packet& ip) { return ip[0] >> 4U == 4; }
  static std::size_t data_at(const Packet& ip) {
    return is_v4(ip) ? (ip[0] & 0x0fU) * std::size_t{4} : 48;
  }
  static void set16(Packet& ip, std::size_t at, unsigned value) {
    ip[at] = static_cast<std::uint8_t>(value >> 8U);
    ip[at + 1] = static_cast<std::uint8_t>(value);
  }

  /// Of `step` bytes, by one identification, which may be another packet's as well.
  std::vector<Packet> pieces_of(Packet ip, std::size_t step) {
    const bool v4 = is_v4(ip);
    const unsigned identification =
        one_in(10) ? static_cast<unsigned>(below(3)) : ++identification_ & 0xffffU;
    if (v4) {
      set16(ip, 4, identification);
      set16(ip, 6, 0);
      ip = with_ip_options(model::with_checksum(std::move(ip)));
    }
    const std::size_t head = v4 ? data_at(ip) : 40;
    std::vector<Packet> pieces;
    for (Packet& piece : model::cut(ip, (v4 ? head : head + 8) + step)) {
      if (!v4) set16(piece, 46, identification);
      // A router on the way cuts once more.
      if (v4 && step > 8 && one_in(20)) {
        for (Packet& part : model::cut(piece, data_at(piece) + 8 + below(step / 8) * 8)) {
          pieces.push_back(std::move(part));
        }
      } else {
        pieces.push_back(std::move(piece));
      }
    }
    return pieces;
  }

 private:
  /// Routers count hops and mark congestion (RFC 3168 §5).
  void mark_some(std::vector<Packet>& pieces) {
    const auto usual = static_cast<unsigned>(below(4));
    for (Packet& piece : pieces) {
      piece =
          model::with_ecn(std::move(piece), one_in(4) ? static_cast<unsigned>(below(4)) : usual);
      piece[is_v4(piece) ? 8 : 7] = static_cast<std::uint8_t>(1 + below(60));
      piece = model::with_checksum(std::move(piece));
    }
  }

  static std::size_t offset_of(const Packet& ip) {
    return is_v4(ip) ? model::get16(ip, 6) & 0x1fffU : model::get16(ip, 42) >> 3U;
  }
  static bool has_more(const Packet& ip) {
    return is_v4(ip) ? (model::get16(ip, 6) & 0x2000U) != 0 : (model::get16(ip, 42) & 1U) != 0;
  }
  static Packet placed(Packet ip, std::size_t place, bool more) {
    const auto offset = static_cast<unsigned>(place & 0x1fffU);
    more = more || offset == 0;  // or it would be whole
    if (is_v4(ip)) {
      set16(ip, 6, offset | (more ? 0x2000U : 0));
    } else {
      set16(ip, 42, offset << 3U | (more ? 1U : 0U));
    }
    return model::with_checksum(std::move(ip));
  }
  static Packet of_length(Packet ip, std::size_t data_bytes) {
    ip.resize(data_at(ip) + data_bytes, 0x77);
    set16(ip, is_v4(ip) ? 2 : 4, static_cast<unsigned>(is_v4(ip) ? ip.size() : ip.size() - 40));
    return model::with_checksum(std::move(ip));
  }

  /// Something goes wrong with one of them. In order yet.
  void spoil(std::vector<Packet>& pieces) {
    Packet& chosen = pieces[below(pieces.size())];
    const Packet ip = chosen;
    const std::size_t bytes = ip.size() - data_at(ip);
    const auto add = [&](Packet odd) { pieces.push_back(std::move(odd)); };
    switch (below(12)) {
      case 0:  // the network doubles it
        return add(ip);
      case 1: {  // somebody else doubles it
        Packet changed = ip;
        changed.back() ^= 1;
        return add(changed);
      }
      case 2:
        return add(placed(ip, offset_of(ip) + (one_in(2) ? 1U : 0x1fffU), has_more(ip)));
      case 3: {
        std::swap(chosen, pieces.back());
        return pieces.pop_back();
      }
      case 4:  // ragged in the middle, too long or short at the end
        chosen = of_length(ip, bytes + 1 + below(7));
        return;
      case 5:
        chosen = of_length(ip, bytes - std::min<std::size_t>(bytes - 1, 1 + below(8)));
        return;
      case 6:  // beyond what a packet may be
        return add(placed(of_length(ip, 8 + below(60) * 8), 0x1ff8U + below(8), one_in(2)));
      case 7:
        return add(placed(ip, offset_of(ip), !has_more(ip)));
      case 8:
        return add(of_length(ip, 0));
      case 9: {  // of another packet
        Packet other = ip;
        other[is_v4(ip) ? 15 : 23] ^= 0x10;
        return add(model::with_checksum(std::move(other)));
      }
      case 10:  // behind the end
        return add(placed(ip, offset_of(pieces.back()) + 200 + below(100), one_in(2)));
      default:
        chosen = placed(ip, offset_of(ip), !has_more(ip));
    }
  }

  unsigned identification_ = 3;
};

}  // namespace culvert::test
