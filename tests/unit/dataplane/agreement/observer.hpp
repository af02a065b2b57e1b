// What the worker has sent, shown and dropped, told as the model tells it: ESP is opened, put
// together before where it left in pieces, and its numbers are looked at.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "tests/model/esp_model.hpp"
#include "tests/model/fragment_model.hpp"
#include "tests/model/gateway_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/unit/dataplane/agreement/expected.hpp"
#include "tests/unit/dataplane/agreement/random_packets.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

using namespace culvert::dataplane;

class Observer {
 public:
  /// Of a worker whose SAs the model has, too.
  explicit Observer(const model::GatewayModel& model) : model_(model) {}

  Expected observed(const Result& result) {
    Expected seen;
    std::map<Packet, std::vector<model::Fragment>> in_pieces;  // of sealed packets
    Numbers numbers;
    for (const auto& [port, frames] : {std::pair(0U, &result.lan), std::pair(1U, &result.wan)}) {
      for (const Packet& whole : *frames) {
        Packet ip = ip_of(whole);
        const auto fragment = model::fragment_of(ip);
        const model::IpView view = model::view_ip(ip).value();
        if (view.protocol == 50) {
          if (fragment) {
            in_pieces[fragment->of].push_back(*fragment);
          } else {
            open_sealed(
                {ip.size()},
                Packet(ip.begin() + static_cast<std::ptrdiff_t>(view.header_bytes), ip.end()), seen,
                numbers);
          }
          continue;
        }
        if (fragment) forget_identification(ip);
        seen.clear[port].push_back(std::move(ip));
      }
    }
    for (const auto& [spi, sent] : numbers) {
      if (!std::ranges::is_sorted(sent)) bad_sequence_ = true;
    }
    for (auto& [of, pieces] : in_pieces) open_pieces(std::move(pieces), seen, numbers);
    check_numbers(numbers);
    seen.drops = result.drops;
    for (const auto& punt : result.punts) ++seen.punts[{punt.what.reason, punt.what.mtu}];
    seen.unknown_spis = result.dropped(DropReason::sa_not_found);
    seen.drops.erase(DropReason::sa_not_found);
    const auto hints = seen.punts.find({PuntReason::unknown_spi, 0});
    if (hints != seen.punts.end()) {
      seen.unknown_spis += hints->second;
      seen.punts.erase(hints);
    }
    return seen;
  }
  /// Some number was not the next of its SA.
  [[nodiscard]] bool has_bad_sequence() const { return bad_sequence_; }

 private:
  using Numbers = std::map<std::uint32_t, std::vector<std::uint64_t>>;  ///< by SPI

  /// Of a fragment: it is the worker's to choose where the piece is ours.
  static void forget_identification(Packet& ip) {
    if (ip[0] >> 4U == 6 && ip[41] != kNotOurs) std::fill_n(ip.begin() + 44, 4, std::uint8_t{0});
  }
  void open_sealed(const std::vector<std::size_t>& wire_bytes, const Packet& esp, Expected& seen,
                   Numbers& numbers) {
    const std::uint32_t spi = model::get32(esp, 0);
    const auto sa = std::ranges::find_if(
        model_.outbound, [&](const auto& entry) { return entry.second.keys.spi == spi; });
    const auto opened =
        sa == model_.outbound.end() ? std::nullopt : model::esp_open(sa->second.keys, 0, esp);
    if (!opened) {
      seen.sealed[spi].emplace_back();
      return;
    }
    Packet inside = opened->payload;
    const bool is_packet = opened->next_header == 41;
    if (is_packet && model::fragment_of(inside)) forget_identification(inside);
    seen.sealed[spi].push_back(told_sealed(wire_bytes, opened->next_header, inside));
    numbers[spi].push_back(opened->sequence);
  }
  void open_pieces(std::vector<model::Fragment> pieces, Expected& seen, Numbers& numbers) {
    std::ranges::sort(pieces, {}, &model::Fragment::offset);
    std::vector<std::size_t> wire_bytes;
    for (const auto& piece : pieces) wire_bytes.push_back(piece.packet_bytes);
    const auto esp = model::joined(std::move(pieces));
    if (!esp) {
      seen.sealed[0].emplace_back();
      return;
    }
    open_sealed(wire_bytes, *esp, seen, numbers);
  }
  /// RFC 4303 §3.3.3: numbers go up by one, whatever way through the worker a packet took. Those
  /// cut when sealed leave after what was sealed behind them.
  void check_numbers(Numbers& numbers) {
    for (auto& [spi, sent] : numbers) {
      std::ranges::sort(sent);
      for (const std::uint64_t number : sent) {
        if (number != ++sent_[spi]) bad_sequence_ = true;
      }
    }
  }

  const model::GatewayModel& model_;
  std::map<std::uint32_t, std::uint64_t> sent_;  ///< by SPI: the last number seen on the wire
  bool bad_sequence_ = false;
};

}  // namespace culvert::test
