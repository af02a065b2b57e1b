// What the peer sends through its SAs, or through one that is gone: numbers that are new, late,
// doubled or far ahead; sound, forged, badly padded or cut short; around packets and fragments.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/model/esp_model.hpp"
#include "tests/model/gateway_model.hpp"
#include "tests/unit/dataplane/agreement/random_outer.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class RandomEsp : protected RandomOuter {
 protected:
  using RandomOuter::RandomOuter;

  static constexpr std::size_t kBurst = 32;
  // Of a burst: a leap over most of ESN's numbers stands alone, as does a peer that has moved, and
  // a number has one packet, which may come twice.
  bool burst_is_empty_ = true, burst_stands_alone_ = false;

  void begin_numbers() {
    burst_stands_alone_ = false;
    model_.burst_begins();
    burst_numbers_.clear();
  }

  Packet any_esp() {
    if (!is_train_ && (model_.inbound.empty() || one_in(40))) {
      const std::uint32_t spi = gone_.empty() || one_in(2)
                                    ? static_cast<std::uint32_t>(0x90000000 + below(4))
                                    : any(gone_);
      return model::esp_seal({Packet(20, 1), spi, false}, 1, 4, any_ip());
    }
    const auto found = is_train_
                           ? model_.inbound.find(train_spi_.value())
                           : std::next(model_.inbound.begin(),
                                       static_cast<std::ptrdiff_t>(below(model_.inbound.size())));
    const model::InboundModel& sa = found->second;
    // What its number does to the window is known when the packet before it was judged: the model
    // goes first.
    std::uint64_t number = number_for(sa);
    // What is beyond a limit is refused for one reason only.
    const bool is_limited = is_counted(sa);
    if (is_limited) number = next_limited(sa);
    if (!sa.keys.esn && number > 0xffffffffULL) number = sa.replay.highest();
    Packet& esp = burst_numbers_[{found->first, number}];
    if (esp.empty()) {
      const Packet inner = is_train_ ? train_packet() : any_inner(sa);
      esp = is_train_ ? sound_esp(sa, number, inner) : esp_of(sa, number, inner);
    }
    return esp;
  }
  /// A whole packet, to be cut. Where there is no SA it is no ESP.
  Packet any_esp_for_pieces() {
    if (model_.inbound.empty()) return any_for_us();
    const auto found = std::next(model_.inbound.begin(),
                                 static_cast<std::ptrdiff_t>(below(model_.inbound.size())));
    const model::InboundModel& sa = found->second;
    // Others are faster: its number is ahead of them when it is not to be late.
    std::uint64_t number = one_in(3) ? number_for(sa) : sa.replay.highest() + 1 + below(64);
    const bool is_limited = is_counted(sa);
    if (is_limited) number = next_limited(sa);
    if (!sa.keys.esn && number > 0xffffffffULL) number = sa.replay.highest();
    return outer(esp_of(sa, number, any_larger_ip()));
  }
  /// What a piece makes whole. One that was spoiled, or that goes by another packet's name, does so
  /// earlier than sent.
  [[nodiscard]] std::optional<Packet> becomes_whole(const Packet& piece,
                                                    PacketOrigin origin) const {
    return model_.reassembly.whole_by(piece, origin, model_.largest_whole);
  }
  /// Of an SA that ends by time only; nullopt: there is none.
  std::optional<std::uint32_t> any_unlimited_with_esn() {
    std::vector<std::uint32_t> spis;
    for (const auto& [spi, sa] : model_.inbound) {
      if (sa.keys.esn && !sa.stopped && !is_counted(sa)) spis.push_back(spi);
    }
    return spis.empty() ? std::nullopt : std::optional(any(spis));
  }
  Packet sound_esp(const model::InboundModel& sa, std::uint64_t number, Packet inner) {
    const std::uint8_t next = into_sa(sa, inner);
    return model::esp_seal(sa.keys, number, next, inner);
  }

 private:
  std::uint64_t number_for(const model::InboundModel& sa) {
    const std::uint64_t highest = sa.replay.highest();
    // Near the end of a half of ESN's numbers now and then.
    if (sa.keys.esn && highest > sa.window && burst_is_empty_ && one_in(100)) {
      burst_stands_alone_ = true;
      return (highest | 0xffffffffULL) - below(3);
    }
    // Zero is nobody's number, and is sent as well.
    const auto behind = [&](std::uint64_t by) { return highest - std::min(highest, by); };
    switch (below(8)) {
      case 0:
        return behind(below(sa.window));
      case 1:  // about the window's left edge, and beyond
        if (one_in(2)) return behind(sa.window - kBurst / 2 + below(kBurst));
        return highest < sa.window ? highest + 1 : behind(sa.window + below(sa.window));
      case 2:
        return highest + 1 + below(one_in(4) ? 2 * sa.window : sa.window / 4);
      default:
        return highest + 1;
    }
  }
  /// The next number of an SA that has a limit.
  std::uint64_t next_limited(const model::InboundModel& sa) {
    return ++limited_.try_emplace(sa.keys.spi, sa.replay.highest()).first->second;
  }

  /// For an SA that is for fragments behind the first: one, that begins too early now and then.
  std::optional<Packet> early_fragment(const model::InboundModel& sa) {
    for (std::size_t i = 0; i < sa.local.size(); ++i) {
      if (!sa.local[i].opaque_port() || !sa.local[i].first.is_v4()) continue;
      const auto source = any_inside(sa.remote[i]), destination = any_inside(sa.local[i]);
      if (!source || !destination) continue;
      return ip_packet({.source = *source,
                        .destination = *destination,
                        .fragment = static_cast<std::uint16_t>(1 + below(2)),
                        .payload = model::counting(8 + below(40))});
    }
    return std::nullopt;
  }

  /// Now and then a piece of a packet for us.
  Packet any_inner(const model::InboundModel& sa) {
    if (!sa.transport && one_in(8)) {
      if (const auto early = early_fragment(sa)) return *early;
    }
    // Through whatever SA: of two workers' each would wait for the other's.
    if (sa.transport || second_ || !one_in(6)) return any_ip();
    if (inside_.size() < 6 && one_in(2)) send_inside();
    for (std::size_t i = 0; i < inside_.size(); ++i) {
      InPieces& packet = inside_[i];
      const Packet& next = packet.coming.back();
      const bool passes = !model::refused_inside(sa.remote, sa.local, sa.checks_errors, next);
      // In a burst, fragments that come in clear are before those of an SA.
      const bool is_open = (!burst_is_empty_ && becomes_whole(next, PacketOrigin::tunnel)) ||
                           model_.reassembly.has_no_room_for(kBurst);
      if (!passes || is_open) continue;
      Packet ip = packet.next();
      if (packet.coming.empty()) {
        inside_.erase(inside_.begin() + static_cast<std::ptrdiff_t>(i));
      }
      return ip;
    }
    return any_ip();
  }

  /// What the SA carries instead of an IP packet, when its mode asks for it; the next header.
  std::uint8_t into_sa(const model::InboundModel& sa, Packet& inner) {
    auto next = static_cast<std::uint8_t>(inner[0] >> 4U == 4 ? 4 : 41);
    if (sa.transport) std::tie(next, inner) = upper_layer(shapes_.at(sa.keys.spi).outer_v6);
    return next;
  }

  Packet esp_of(const model::InboundModel& sa, std::uint64_t number, Packet inner) {
    const std::uint8_t next = into_sa(sa, inner);
    if (!one_in(12)) return model::esp_seal(sa.keys, number, next, inner);
    const std::size_t block = model::sizes_of(sa.keys).block;
    const std::size_t fill = (inner.size() + 2) % block;  // 0: as short as it is, it has no padding
    Packet trailer =
        model::esp_trailer(inner.size(), next, fill == 0 ? 1 + below(3) : below(3), block);
    // What counts against a limit is authentic, whatever is in it.
    switch (is_counted(sa) ? 1 + below(4) : below(6)) {
      case 0: {  // forged: its number and SPI, too
        Packet esp = model::esp_seal(sa.keys, number, next, inner);
        const std::size_t at = one_in(2) ? below(8) : below(esp.size());
        esp[at] ^= static_cast<std::uint8_t>(1U << below(8));
        return esp;
      }
      case 1:
        if (one_in(3)) {
          trailer[trailer.size() - 2] = 0xff;  // more than a small packet has
        } else {
          trailer[below(trailer.size() - 2)] ^= 0x40;  // a padding byte
        }
        return model::esp_seal_raw(sa.keys, number, inner, trailer);
      case 2: {
        if (one_in(2)) return model::esp_seal(sa.keys, number, 59, Packet(below(60), 0));
        // "the rest of the Payload Data may consist of only random bytes" (RFC 4303 §2.6)
        Packet text(std::max<std::size_t>(block, 4) * (1 + below(8)));
        for (std::uint8_t& byte : text) byte = static_cast<std::uint8_t>(below(256));
        text.back() = 59;
        return model::esp_seal_raw(sa.keys, number, {}, text);
      }
      case 3:
        if (sa.transport) return model::esp_seal(sa.keys, number, next, inner);
        if (one_in(3)) return model::esp_seal(sa.keys, number, 17, inner);
        return model::esp_seal(sa.keys, number, static_cast<std::uint8_t>(next == 4 ? 41 : 4),
                               inner);
      case 4: {  // padded to hide its size (RFC 4303 §2.7)
        Packet padded = inner;
        // In transport mode behind what says its own length.
        if (!sa.transport || next == 17) padded.resize(inner.size() + below(100), 0);
        return model::esp_seal(sa.keys, number, next, padded);
      }
      default: {
        Packet esp = model::esp_seal(sa.keys, number, next, inner);
        esp.resize(esp.size() - 1 - below(3));
        return esp;
      }
    }
  }

  std::map<std::uint32_t, std::uint64_t> limited_;  ///< by SPI: the last number of the peer's
  std::map<std::pair<std::uint32_t, std::uint64_t>, Packet> burst_numbers_;  ///< by SPI and number
};

}  // namespace culvert::test
