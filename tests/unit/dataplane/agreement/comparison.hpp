// A burst in the model beside the same one in the worker: what it comes to, and what waits in both.
// And what came up over all bursts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <rte_cycles.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "tests/model/gateway_model.hpp"
#include "tests/model/reassembly_model.hpp"
#include "tests/unit/dataplane/agreement/expected.hpp"
#include "tests/unit/dataplane/agreement/observer.hpp"
#include "tests/unit/dataplane/agreement/random_frames.hpp"

namespace culvert::test {

/// Of each kind: how many packets, or which there were.
struct CameUp {
  std::uint64_t clear = 0, sealed = 0;
  std::uint64_t sealed_in_transport = 0, delivered_from_transport = 0;
  std::uint64_t whole = 0, went_on = 0;  ///< that had come in fragments
  std::uint64_t cut_in_clear = 0, cut_before_sealing = 0, cut_after_sealing = 0;
  std::uint64_t unknown_spis = 0;
  std::uint64_t followed = 0;  ///< another packet of their flow in the burst
  bool handed_over = false;    ///< from one worker to the other
  std::uint64_t sealed_in_udp = 0, sealed_to_vlans = 0, moved = 0;
  std::uint64_t at_other_address = 0;  ///< of ours than their SA's
  std::set<crypto::Encryption> sealed_by, opened_by;
  std::uint64_t resynchronized = 0;  ///< SAs that had lost 2^32 packets or more
  std::set<std::uint32_t> inbound_over_by_bytes, outbound_over_by_bytes;  ///< by SPI
  std::set<DropReason> drops;
  std::uint64_t open_drops = 0;  ///< for one of some reasons
  std::set<PuntReason> punts;
};

class Comparison : protected RandomFrames {
 protected:
  Comparison(std::uint64_t seed, std::uint32_t workers)
      : RandomFrames(seed, workers), seed_(seed) {}

  void for_each_worker(auto&& look_at) {
    look_at(gateway_.worker());
    if (second_) look_at(second_->state());
  }

  CameUp came_up_;
  std::uint64_t compared_ = 0;  ///< packets
  /// That packets put together from fragments are of: whether what came before them leaves before
  /// them is not told.
  std::set<Packet> of_wholes_;
  /// Out of a tunnel and in clear it is two flows, which are one where they leave; and each SA has
  /// a worker of two.
  std::map<Packet, std::set<std::pair<dataplane::PacketOrigin, std::uint32_t>>> came_as_;
  Observer observer_{model_};

  /// What a packet comes to; how many frames leave because of it.
  std::size_t expect(const model::Outcomes& outcomes, Expected& expected) {
    std::size_t frames = 0;
    for (const model::Outcome& one : outcomes.each) frames += expect_one(one, expected);
    if (outcomes.each.size() > 1) {
      ++(std::holds_alternative<model::SentClear>(outcomes.each[0]) ? came_up_.cut_in_clear
                                                                    : came_up_.cut_before_sealing);
    }
    return frames;
  }
  void follow(std::uint32_t way, const Packet& ip, Expected& expected) {
    if (const Packet flow = flow_of(way, ip); !flow.empty()) {
      came_as_[flow].insert({model_.passed_as, second_ ? model_.came_by : 0});
    }
    add_to_flow(way, ip, expected);
  }
  std::size_t expect_one(const model::Outcome& outcome, Expected& expected) {
    if (const auto* sent = std::get_if<model::SentClear>(&outcome)) {
      expected.clear[sent->port].push_back(sent->ip);
      follow(sent->port, sent->ip, expected);
      return 1;
    }
    if (const auto* sealed = std::get_if<model::Sealed>(&outcome)) {
      const std::uint32_t spi = model_.outbound.at(sealed->sa).keys.spi;
      expected.sealed[spi].push_back(
          told_sealed(sealed->port, sealed->headers, sealed->next_header, sealed->payload));
      const bool is_in_tunnel = sealed->next_header == 4 || sealed->next_header == 41;
      if (is_in_tunnel && sealed->headers.size() == 1) follow(spi, sealed->payload, expected);
      if (sealed->headers.size() > 1) ++came_up_.cut_after_sealing;
      if (sealed->port > 1) ++came_up_.sealed_to_vlans;
      return sealed->headers.size();
    }
    if (const auto* closed = std::get_if<model::PortClosed>(&outcome)) {
      ++expected.punts[{PuntReason::port_unreachable, 0}];
      expected.closed.push_back(closed->ip);
      return 0;
    }
    if (const auto* refused = std::get_if<model::TooBig>(&outcome)) {
      ++expected.punts[{PuntReason::packet_too_big, refused->mtu}];
    } else if (std::holds_alternative<model::UnknownSpi>(outcome)) {
      ++expected.unknown_spis;
    } else if (const auto* reason = std::get_if<DropReason>(&outcome)) {
      ++expected.drops[*reason];
    } else if (const auto* open = std::get_if<model::OneOf>(&outcome)) {
      ++expected.open_drops[open->reasons];
    } else {
      ++expected.punts[{std::get<PuntReason>(outcome), 0}];
    }
    return 0;
  }
  void expect_wholes(Expected& expected) {
    while (!model_.whole.empty()) {
      ++came_up_.whole;
      const model::Outcomes outcomes = model_.next_whole();
      for (const auto& one : outcomes.each) {
        if (!std::holds_alternative<DropReason>(one)) ++came_up_.went_on;
      }
      const std::map<Packet, std::vector<Packet>> others = expected.flows;
      expect(outcomes, expected);
      for (const auto& [flow, packets] : expected.flows) {
        const auto found = others.find(flow);
        if (found == others.end() || found->second != packets) of_wholes_.insert(flow);
      }
    }
  }

  /// What the worker has come to, with what it tells the main thread of peers.
  Expected observed(const Result& result) {
    Expected seen = observer_.observed(result);
    PeerMovedHint hint;
    while (rte_ring_sc_dequeue_elem(gateway_.hints(), &hint, sizeof(hint)) == 0) {
      const auto source = hint.is_v6 ? wire::IpAddress::v6(wire::Bytes(hint.address, 16))
                                     : wire::IpAddress::v4(wire::Bytes(hint.address, 4));
      seen.moved.push_back(told_moved(hint.sa, source, hint.port));
      let_tell_again(hint.sa);
    }
    return seen;
  }
  /// As if a second had gone by, before which a worker does not tell of a peer again.
  void let_tell_again(std::uint64_t sa) {
    Sad& sad = *gateway_.tables().sad;
    const SaRecord* const record = sad.find(channel::SaId{sa});
    if (record == nullptr) return;
    const auto spi = static_cast<std::uint32_t>(record->spec.spi);
    if (InboundSa* const found = sad.inbound(spi)) found->details->moved_hint_tsc = 0;
  }
  /// A burst's worth of time. What has waited too long ends before anything else comes, or behind a
  /// burst that comes first: the worker looks ten times a second.
  std::string time_passes() {
    milliseconds_ += kBurstMilliseconds;
    // The worker's goes on within a burst: what is so near its end that this matters is left out.
    while (model_.reassembly.ends_about(milliseconds_, 400) ||
           model_.bypassed.ends_about(milliseconds_, 100)) {
      milliseconds_ += kBurstMilliseconds;
    }
    // Beside what is unseen since before, when no burst came behind it.
    const auto [firsts, others] = model_.reassembly.time_is(milliseconds_);
    ended_unseen_.firsts.insert(ended_unseen_.firsts.end(), firsts.begin(), firsts.end());
    ended_unseen_.others += others;
    const std::size_t ended = ended_unseen_.count();
    if (ended == 0) return {};
    // Where they do not take the room of others.
    if (one_in(2) && ended + model_.reassembly.held() < model::ReassemblyModel::kFragments / 2) {
      for_each_worker([](WorkerState& worker) { worker.last_expiry = rte_rdtsc(); });
      return {};
    }
    return compare({}, {}, 0);
  }
  /// How the two differ, or nothing.
  std::string compare(Expected expected, Expected actual, std::size_t count) {
    see_what_ended(expected, actual);
    for (const auto& [reasons, drops] : expected.open_drops) came_up_.open_drops += drops;
    settle(expected, actual.drops);
    came_up_.at_other_address = model_.at_other_address;
    for (const auto& [sa, source, port] : std::exchange(model_.moved, {})) {
      ++came_up_.moved;
      expected.moved.push_back(told_moved(sa, source, port));
    }
    for (auto* side : {&expected, &actual}) {
      std::ranges::sort(side->closed);
      std::ranges::sort(side->overdue);
      std::ranges::sort(side->moved);
      for (auto& [port, packets] : side->clear) std::ranges::sort(packets);
      for (auto& [spi, packets] : side->sealed) std::ranges::sort(packets);
      for (const Packet& flow : of_wholes_) side->flows.erase(flow);
      for (const auto& [flow, origins] : came_as_) {
        if (origins.size() > 1) side->flows.erase(flow);
      }
    }
    of_wholes_.clear();
    came_as_.clear();
    if (observer_.has_bad_sequence()) return context() + "a sequence number that was not the next";
    if (actual.flows != expected.flows) {
      actual.flows = expected.flows;
      if (actual == expected) return context() + "a packet of a flow was overtaken";
    }
    for (const auto& [flow, packets] : expected.flows) came_up_.followed += packets.size() - 1;
    if (actual != expected) {
      return context() + "\nexpected:" + told(expected) + "\nseen:    " + told(actual);
    }
    std::uint64_t held = 0, whole = 0, clamped = 0;
    for_each_worker([&](const WorkerState& worker) {
      held += worker.reassembler.held();
      whole += worker.counters.reassembled.read();
      clamped += worker.counters.mss_clamped.read();
      came_up_.handed_over |= worker.counters.handed_over.read() != 0;
    });
    if (held != model_.reassembly.held()) {
      return context() + "fragments that wait: " + std::to_string(held) + " and not " +
             std::to_string(model_.reassembly.held());
    }
    if (whole != came_up_.whole) {
      return context() + "packets put together: " + std::to_string(whole) + " and not " +
             std::to_string(came_up_.whole);
    }
    if (clamped != model_.clamped_syns) {
      return context() + "SYNs that announce less: " + std::to_string(clamped) + " and not " +
             std::to_string(model_.clamped_syns);
    }
    compared_ += count;
    remember(expected);
    return {};
  }

 private:
  /// As far as what is open can have come to what was seen, it has. False: it is as it was.
  static bool settle(Expected& expected, const std::map<DropReason, std::uint64_t>& seen) {
    if (expected.open_drops.empty()) return expected.drops == seen;
    const auto [reasons, count] = *expected.open_drops.begin();
    expected.open_drops.erase(reasons);
    const auto before = expected.drops;
    // With reasons of two: so many have the one, the others the other.
    for (std::uint64_t of_first = 0; of_first <= count; ++of_first) {
      expected.drops = before;
      if (of_first != 0) expected.drops[*reasons.begin()] += of_first;
      if (of_first != count) expected.drops[*reasons.rbegin()] += count - of_first;
      if (settle(expected, seen)) return true;
    }
    expected.drops = before;
    expected.open_drops[reasons] = count;
    return false;
  }
  /// All that has waited too long has ended in the worker, too.
  void see_what_ended(Expected& expected, Expected& actual) {
    const auto [firsts, others] = std::exchange(ended_unseen_, {});
    if (firsts.empty() && others == 0) return;
    if (others != 0) expected.drops[DropReason::reassembly_timeout] += others;
    if (!firsts.empty()) expected.punts[{PuntReason::reassembly_timeout, 0}] += firsts.size();
    expected.overdue.insert(expected.overdue.end(), firsts.begin(), firsts.end());
    for_each_worker([](WorkerState& worker) { worker.last_expiry = 0; });
    const Expected more = observed(gateway_.receive(kWan, std::vector<Packet>{}));
    for (const auto& [reason, count] : more.drops) actual.drops[reason] += count;
    for (const auto& [punt, count] : more.punts) actual.punts[punt] += count;
    actual.overdue.insert(actual.overdue.end(), more.overdue.begin(), more.overdue.end());
  }

  void remember(const Expected& burst) {
    for (const auto& [reason, count] : burst.drops) came_up_.drops.insert(reason);
    for (const auto& [punt, count] : burst.punts) came_up_.punts.insert(punt.first);
    for (const auto& [port, packets] : burst.clear) came_up_.clear += packets.size();
    for (const auto& [spi, packets] : burst.sealed) {
      came_up_.sealed += packets.size();
      const Shape& shape = shapes_.at(spi);
      if (shape.transport) came_up_.sealed_in_transport += packets.size();
      if (shape.udp) came_up_.sealed_in_udp += packets.size();
      came_up_.sealed_by.insert(encryption_of(spi));
    }
    came_up_.unknown_spis += burst.unknown_spis;
    for (const auto& [spi, sa] : model_.inbound) {
      if (sa.ended_by_bytes) came_up_.inbound_over_by_bytes.insert(spi);
      if (sa.packets > 0) came_up_.opened_by.insert(sa.keys.encryption);
    }
    for (const auto& [slot, sa] : model_.outbound) {
      if (sa.ended_by_bytes) came_up_.outbound_over_by_bytes.insert(sa.keys.spi);
    }
  }

  /// Of an outbound SA.
  [[nodiscard]] crypto::Encryption encryption_of(std::uint32_t spi) const {
    const auto sa = std::ranges::find_if(
        model_.outbound, [&](const auto& entry) { return entry.second.keys.spi == spi; });
    return sa->second.keys.encryption;
  }

  std::string context() const {
    return "CULVERT_AGREEMENT_SEED=" + std::to_string(seed_) + ", after " +
           std::to_string(compared_) + " packets: ";
  }

  /// A burst takes as long on the clock of what waits to be put together, which is more than it
  /// does on a machine.
  static constexpr std::uint64_t kBurstMilliseconds = 80;
  std::uint64_t seed_;
  /// What has waited too long, in the model only.
  model::ReassemblyModel::Ended ended_unseen_;
};

}  // namespace culvert::test
