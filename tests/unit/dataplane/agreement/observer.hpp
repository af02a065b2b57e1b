// What the worker has sent, shown and dropped, told as the model tells it: ESP is opened, put
// together before where it left in pieces, and its numbers are looked at.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tests/model/esp_model.hpp"
#include "tests/model/fragment_model.hpp"
#include "tests/model/gateway_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/sealing_model.hpp"
#include "tests/model/vlan_model.hpp"
#include "tests/unit/dataplane/agreement/addresses.hpp"
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
    forget_gone();
    std::map<Packet, std::vector<Piece>> in_pieces;  // of what may be sealed
    Numbers numbers;
    for (const auto& [device, frames] : {std::pair(0U, &result.lan), std::pair(1U, &result.wan)}) {
      for (const Packet& whole : *frames) {
        const unsigned port = port_of(device, whole);
        Packet ip = model::packet_in(whole);
        const auto fragment = model::fragment_of(ip);
        if (fragment && may_be_sealed(ip)) {
          in_pieces[fragment->of].push_back({std::move(ip), *fragment, port});
        } else if (is_sealed(ip)) {
          open_sealed({{ip, {}, port}}, payload_of(ip), seen, numbers);
        } else {
          add_clear(std::move(ip), port, seen);
        }
      }
    }
    for (const auto& [spi, sent] : numbers) {
      if (!std::ranges::is_sorted(sent)) bad_sequence_ = true;
    }
    for (auto& [of, pieces] : in_pieces) open_pieces(std::move(pieces), seen, numbers);
    check_numbers(numbers);
    seen.drops = result.drops;
    for (const auto& punt : result.punts) {
      ++seen.punts[{punt.what.reason, punt.what.mtu}];
      if (punt.what.reason == PuntReason::port_unreachable) seen.closed.push_back(punt.bytes);
      if (punt.what.reason == PuntReason::reassembly_timeout) seen.overdue.push_back(punt.bytes);
    }
    seen.unknown_spis = result.dropped(DropReason::sa_not_found);
    seen.drops.erase(DropReason::sa_not_found);
    const auto hints = seen.punts.find({PuntReason::unknown_spi, 0});
    if (hints != seen.punts.end()) {
      seen.unknown_spis += hints->second;
      seen.punts.erase(hints);
    }
    // The main thread hears of some, by the clock, and here of no SA's.
    const auto unreachable = seen.punts.find({PuntReason::path_unreachable, 0});
    if (unreachable != seen.punts.end()) {
      seen.drops[DropReason::icmp_ignored] += unreachable->second;
      seen.punts.erase(unreachable);
    }
    return seen;
  }
  /// Packets whose number has more bits than are sent of it.
  [[nodiscard]] std::uint64_t sealed_beyond_32_bits() const { return beyond_32_bits_; }
  /// Some number was not the next of its SA.
  [[nodiscard]] bool has_bad_sequence() const { return bad_sequence_; }

 private:
  using Numbers = std::map<std::uint32_t, std::vector<std::uint64_t>>;  ///< by SPI
  struct Piece {
    Packet ip;
    model::Fragment fragment;
    unsigned port = 0;
  };

  void forget_gone() {
    constexpr std::size_t kEnough = 64;
    if (ivs_.size() < kEnough) return;
    std::map<std::uint32_t, std::set<Packet>> kept;
    for (const auto& [slot, sa] : model_.outbound) kept[sa.keys.spi] = std::move(ivs_[sa.keys.spi]);
    ivs_ = std::move(kept);
  }
  /// It is the worker's to choose of an IPv6 fragment that is ours, and of an IPv4 packet.
  static void forget_identification(Packet& ip) {
    if (ip[0] >> 4U == 6) {
      const bool is_ours = model::is_fragment(ip) && ip[41] != kNotOurs;
      if (is_ours) std::fill_n(ip.begin() + 44, 4, std::uint8_t{0});
      return;
    }
    const auto view = model::view_ip(ip);
    const bool is_ours = view && std::ranges::any_of(kOwn4, [&](const std::string& own) {
                           return view->source == model::parsed(own);
                         });
    if (!is_ours || !has_right_checksum(ip)) return;
    model::set16(ip, 4, 0);
    ip = model::with_checksum(std::move(ip));
  }
  /// By the frame's tags, which are the port's and no more; a wrong header is of no port.
  [[nodiscard]] unsigned port_of(unsigned device, const Packet& frame) const {
    constexpr auto kMac = static_cast<std::ptrdiff_t>(kOurMac.size());
    const std::size_t tag_bytes = model::kTagBytes * model::tags_in(frame)->size();
    const std::size_t type_at = model::kAddressesBytes + tag_bytes;
    const unsigned type = frame[type_at + 2] >> 4U == 4 ? 0x0800 : 0x86dd;
    // As all stations have it.
    const bool is_right = std::equal(kOurMac.begin(), kOurMac.end(), frame.begin()) &&
                          std::equal(kTheirMac.begin(), kTheirMac.end(), frame.begin() + kMac) &&
                          model::get16(frame, type_at) == type;
    const Packet tags = model::slice(frame, model::kAddressesBytes, tag_bytes);
    for (unsigned port = 0; is_right && port < model_.ports.size(); ++port) {
      const model::PortModel& one = model_.ports[port];
      if (one.device == device && model::tags_of(one) == tags) return port;
    }
    return kNoPort;
  }
  static void add_clear(Packet ip, unsigned port, Expected& seen) {
    forget_identification(ip);
    add_to_flow(port, ip, seen);
    seen.clear[port].push_back(std::move(ip));
  }

  // ---- what is sealed: it comes from an end of a tunnel ----

  static bool is_udp(const Packet& ip) { return model::view_ip(ip).value().protocol == 17; }
  static bool may_be_sealed(const Packet& ip) {
    static const std::vector<wire::IpAddress> kEnds = {model::parsed(kHere[0]),
                                                       model::parsed(kHere[1])};
    const model::IpView view = model::view_ip(ip).value();
    return (view.protocol == 50 || view.protocol == 17) &&
           std::ranges::find(kEnds, view.source) != kEnds.end();
  }
  static bool is_to_port_4500(const Packet& udp) {
    return udp.size() >= 8 && model::get16(udp, 2) == 4500;
  }
  static bool is_sealed(const Packet& ip) {
    return may_be_sealed(ip) && (!is_udp(ip) || is_to_port_4500(payload_of(ip)));
  }
  /// Behind the IP header.
  static Packet payload_of(const Packet& ip) {
    const std::size_t header_bytes = model::view_ip(ip).value().header_bytes;
    return model::slice(ip, header_bytes, ip.size() - header_bytes);
  }
  static bool has_right_checksum(const Packet& ip) {
    return ip[0] >> 4U == 6 ||
           model::internet_checksum(model::slice(ip, 0, (ip[0] & 15U) * std::size_t{4})) == 0;
  }
  /// UDP's in front of ESP: none over IPv4 (RFC 3948 §2.1), else a right one (RFC 8200 §8.1).
  static bool has_due_checksum(const Packet& ip, const Packet& udp) {
    if (ip[0] >> 4U == 4) return model::get16(udp, 6) == 0;
    Packet summed = model::slice(ip, 8, 32);
    model::put32(summed, udp.size());
    model::put32(summed, 17);
    model::put(summed, udp);
    return model::get16(udp, 6) != 0 && model::internet_checksum(summed) == 0;
  }
  /// Of a sealed packet, or of its pieces; empty where a checksum is wrong.
  static std::vector<Packet> told_each(const std::vector<Piece>& pieces, const Packet& payload) {
    std::vector<Packet> told;
    const bool has_udp = is_udp(pieces[0].ip);
    for (const Piece& piece : pieces) {
      if (!has_right_checksum(piece.ip) || piece.port != pieces[0].port) return {};
      told.push_back(model::told_headers(piece.ip, has_udp && told.empty()));
    }
    if (!has_udp) return told;
    if (!has_due_checksum(pieces[0].ip, payload)) return {};
    std::fill_n(told[0].end() - 2, 2, std::uint8_t{0});
    return told;
  }

  /// `payload`: what is behind the IP header, in whatever pieces it came.
  void open_sealed(const std::vector<Piece>& pieces, const Packet& payload, Expected& seen,
                   Numbers& numbers) {
    const std::size_t udp_bytes = is_udp(pieces[0].ip) ? 8 : 0;
    const Packet esp = model::slice(payload, udp_bytes, payload.size() - udp_bytes);
    const std::uint32_t spi = model::get32(esp, 0);
    const auto sa = std::ranges::find_if(
        model_.outbound, [&](const auto& entry) { return entry.second.keys.spi == spi; });
    const auto opened = sa == model_.outbound.end() ? std::nullopt : open(sa->second, esp);
    // RFC 4303 §2.4: "1, 2, 3, …"; RFC 4106 §3.1, RFC 3686 §4: no IV twice.
    if (!opened || !opened->padding_fits ||
        opened->padding != model::counting(opened->padding.size(), 1) ||
        (!opened->iv.empty() && !ivs_[spi].insert(opened->iv).second)) {
      seen.sealed[spi].emplace_back();
      return;
    }
    Packet inside = opened->payload;
    const bool is_in_tunnel = opened->next_header == 41 || opened->next_header == 4;
    if (is_in_tunnel) forget_identification(inside);
    if (is_in_tunnel && pieces.size() == 1) add_to_flow(spi, inside, seen);
    seen.sealed[spi].push_back(
        told_sealed(pieces[0].port, told_each(pieces, payload), opened->next_header, inside));
    numbers[spi].push_back(opened->sequence);
    if (opened->sequence >> 32U != 0) ++beyond_32_bits_;
  }
  /// With the first number behind those before this burst that ends as it does.
  std::optional<model::EspContents> open(const model::OutboundModel& sa, const Packet& esp) {
    const std::uint64_t before = sent_.try_emplace(sa.keys.spi, sa.before).first->second;
    auto high = static_cast<std::uint32_t>(before >> 32U);
    if (model::get32(esp, 4) <= (before & 0xffffffffU)) ++high;
    return model::esp_open(sa.keys, high, esp);
  }
  void open_pieces(std::vector<Piece> pieces, Expected& seen, Numbers& numbers) {
    std::ranges::sort(pieces, {}, [](const Piece& piece) { return piece.fragment.offset; });
    if (is_udp(pieces[0].ip) && !is_to_port_4500(payload_of(pieces[0].ip))) {
      for (Piece& piece : pieces) add_clear(std::move(piece.ip), piece.port, seen);
      return;
    }
    std::vector<model::Fragment> fragments;
    for (const Piece& piece : pieces) fragments.push_back(piece.fragment);
    const auto payload = model::joined(std::move(fragments));
    if (!payload) {
      seen.sealed[0].emplace_back();
      return;
    }
    open_sealed(pieces, *payload, seen, numbers);
  }
  /// RFC 4303 §3.3.3: numbers go up by one, whatever way through the worker a packet took. Those
  /// cut when sealed are looked at behind the others.
  void check_numbers(Numbers& numbers) {
    for (auto& [spi, sent] : numbers) {
      std::ranges::sort(sent);
      for (const std::uint64_t number : sent) {
        if (number != ++sent_[spi]) bad_sequence_ = true;
      }
    }
  }

  static constexpr unsigned kNoPort = 99;
  const model::GatewayModel& model_;
  std::map<std::uint32_t, std::uint64_t> sent_;    ///< by SPI: the last number seen on the wire
  std::map<std::uint32_t, std::set<Packet>> ivs_;  ///< by SPI, of SAs that are there
  std::uint64_t beyond_32_bits_ = 0;
  bool bad_sequence_ = false;
};

}  // namespace culvert::test
