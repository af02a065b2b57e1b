// Fragments for us, alone or among other packets: some become whole, some are more than is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/ip_model.hpp"
#include "tests/model/nat_traversal_model.hpp"
#include "tests/model/reassembly_model.hpp"
#include "tests/unit/dataplane/agreement/comparison.hpp"
#include "tests/unit/dataplane/agreement/expected.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class FragmentBursts : protected Comparison {
 protected:
  using Comparison::Comparison;

  /// Where it has other traffic than fragments, it is a train now and then.
  void begin_burst(bool from_wan, bool has_other_traffic) {
    begin_numbers();
    whole_spis_.clear();
    has_other_traffic_ = has_other_traffic;
    is_train_ = has_other_traffic && one_in(6);
    look_for_syns();
    if (is_train_) begin_train(from_wan);
  }

  /// Only fragments, some of which become whole.
  std::string burst_of_fragments() {
    const bool from_wan = !one_in(4);
    begin_burst(from_wan, false);
    Expected expected;
    std::vector<Packet> frames;
    for (std::size_t left = 1 + below(kBurst); left > 0; --left) {
      if (!add_fragment(from_wan, frames, expected)) break;
    }
    expect_wholes(expected);
    const Expected actual = observed(gateway_.receive(from_wan ? kWan : kLan, frames));
    return compare(std::move(expected), actual, frames.size());
  }
  /// More packets than are put together at once, begun one behind the other.
  std::string too_many_packets() {
    for (std::size_t left = model::ReassemblyModel::kPackets + 1 + below(20); left > 0; --left) {
      const auto pieces = any_pieces(one_in(2) ? any_for_us() : any_esp_for_pieces());
      if (pieces.size() < 2) continue;
      if (auto difference = time_passes(); !difference.empty()) return difference;
      if (auto difference = only(pieces, 1); !difference.empty()) return difference;
    }
    return {};
  }
  /// More fragments than wait in all, of each packet about as many as may wait of one.
  std::string too_many_fragments() {
    constexpr std::size_t kMost = model::ReassemblyModel::kFragmentsOfOne;
    for (std::size_t left = 24 + below(6); left > 0; --left) {
      PacketOptions options = any_options(true);
      options.payload = model::counting(8 * (kMost + 4));
      options.fragment = 0;
      const auto pieces = pieces_of(ip_packet(options), 8);
      if (auto difference = time_passes(); !difference.empty()) return difference;
      if (auto difference = only(pieces, kMost - 4 + below(7)); !difference.empty())
        return difference;
    }
    return {};
  }

  /// False: there is none that it is plain what to expect of.
  bool add_fragment(bool from_wan, std::vector<Packet>& frames, Expected& expected) {
    constexpr std::size_t kEnough = 12, kWholesOfABurst = 3;
    if (on_their_way_.size() < kEnough && one_in(3)) begin_in_pieces(from_wan);
    const std::size_t index = any_on_its_way(from_wan);
    if (index == on_their_way_.size()) return false;
    InPieces& packet = on_their_way_[index];
    // Behind its burst, packets that have become whole are looked at. Within either it is open
    // which one comes before an SA's limit, and what a number is beside another of its SA.
    if (const auto whole = becomes_whole(packet.coming.back(), PacketOrigin::clear)) {
      if (has_other_traffic_ && (a_limit_is_near() || !frames.empty())) return false;
      const bool is_one_too_many = model_.whole.size() == kWholesOfABurst || a_limit_is_near();
      const std::uint32_t spi = spi_of(*whole);
      if (!model_.whole.empty() && (is_one_too_many || whole_spis_.contains(spi))) return false;
      whole_spis_.insert(spi);
    }
    const Packet ip = packet.next();
    if (packet.coming.empty())
      on_their_way_.erase(std::next(on_their_way_.begin(), static_cast<std::ptrdiff_t>(index)));
    add_piece(ip, frames, expected);
    return true;
  }

 private:
  /// The first of some pieces, and nothing else.
  std::string only(const std::vector<Packet>& pieces, std::size_t count) {
    begin_burst(true, false);
    Expected expected;
    std::vector<Packet> frames;
    for (std::size_t i = 0; i < count; ++i) {
      add_piece(pieces[i], frames, expected);
      if (frames.size() < kBurst && i + 1 < count) continue;
      expect_wholes(expected);  // where another packet has the same identification
      const Expected actual = observed(gateway_.receive(kWan, frames));
      if (auto difference = compare(std::exchange(expected, {}), actual, frames.size());
          !difference.empty()) {
        return difference;
      }
      frames.clear();
    }
    return {};
  }
  /// 0: it is no ESP.
  static std::uint32_t spi_of(const Packet& whole) {
    const auto encrypted = model::encrypted_in(whole);
    return encrypted && encrypted->esp.size() >= 4 ? model::get32(encrypted->esp, 0) : 0;
  }
  /// Which packet gives way to a new one is open when two began at once: it is not sent then.
  void add_piece(const Packet& ip, std::vector<Packet>& frames, Expected& expected) {
    if (model_.reassembly.is_full() && !model_.reassembly.has_an_oldest()) return;
    // How much each of two workers has room for is not the model's.
    if (second_ && (model_.reassembly.is_full() || model_.reassembly.has_no_room_for(kBurst)))
      return;
    frames.push_back(frame(ip));
    for (const auto& one : model_.from_wire(ip, 0).each) expect_one(one, expected);
  }

  void begin_in_pieces(bool from_wan) {
    if (!from_wan || model_.inbound.empty() || one_in(4)) {
      return send_in_pieces(any_for_us(), from_wan);
    }
    send_in_pieces(any_esp_for_pieces(), true);
  }

  bool has_other_traffic_ = false;      ///< beside fragments
  std::set<std::uint32_t> whole_spis_;  ///< of what becomes whole in this burst
};

}  // namespace culvert::test
