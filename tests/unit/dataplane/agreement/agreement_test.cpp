// The worker and a model of it see the same packets and the same changes of the tables, all of them
// random: what leaves, byte for byte, what is dropped and why, what the main thread is shown.
//
// CULVERT_AGREEMENT_PACKETS and CULVERT_AGREEMENT_SEED: how many, and which.
#include <algorithm>
#include <cstdlib>
#include <set>
#include <tuple>
#include <utility>

#include <catch2/catch.hpp>
#include <rte_cycles.h>
#include <rte_mbuf.h>

#include "tests/unit/dataplane/agreement/expected.hpp"
#include "tests/unit/dataplane/agreement/random_tables.hpp"

using namespace culvert;
using namespace culvert::dataplane;
using namespace culvert::test;

namespace {

constexpr std::uint64_t kPackets = 60'000;
constexpr std::size_t kBurst = 32;

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

class Agreement : RandomTables {
 public:
  explicit Agreement(std::uint64_t seed) : RandomTables(seed) {
    const std::size_t frame_bytes =
        rte_pktmbuf_data_room_size(test::packet_pool()) - RTE_PKTMBUF_HEADROOM;
    largest_whole_ = model_.largest_whole = frame_bytes - 14;
    gateway_.iterate = [this](WorkerState& worker, Burst& burst) {
      worker.reassembler.clock_ahead = milliseconds_ * (rte_get_tsc_hz() / 1000) - rte_rdtsc();
      run_iteration(worker, burst);
    };
  }

  /// Bursts until so many packets were compared. Why it stopped early, or nothing.
  std::string run(std::uint64_t packets) {
    while (compared_ < packets) {
      if (one_in(8)) change_something();
      if (auto difference = one_burst(); !difference.empty()) return difference;
    }
    return {};
  }
  [[nodiscard]] std::uint64_t compared() const { return compared_; }
  [[nodiscard]] const Expected& seen() const { return seen_; }

 private:
  // ---- packets ----

  std::size_t train_bytes() { return is_exact_ ? train_bytes_ : 8 + below(140); }
  /// All of one size, by which an SA comes to its limit to the byte, or goes a byte beyond.
  void aim_at_limit() {
    std::vector<std::uint64_t> left;
    const auto look_at = [&](const model::LifeModel& sa) {
      if (!sa.stopped && sa.hard_bytes - sa.bytes < 40'000)
        left.push_back(sa.hard_bytes - sa.bytes);
    };
    if (train_spi_) {
      look_at(model_.inbound.at(*train_spi_));
    } else {
      for (const auto& [slot, sa] : model_.outbound) look_at(sa);
    }
    if (left.empty()) return;
    std::uint64_t packets = 1;
    const std::uint64_t bytes = any(left);
    while (bytes / packets >= 1300 || (bytes % packets != 0 && packets < 20)) ++packets;
    const std::uint64_t total = bytes / packets + (one_in(4) ? 1 : 0);
    const bool v4 = train_.source.find(':') == std::string::npos;
    const std::size_t headers = (v4 ? 20 : 40) + std::min<std::size_t>(train_.payload.size(), 20);
    is_exact_ = total >= headers + 8 && total < 1400;
    if (is_exact_) train_bytes_ = total - headers;
  }
  /// The IP packet around ESP from the peer.
  Packet outer(const Packet& esp) const {
    const auto shape = shapes_.find(model::get32(esp, 0));
    const bool v6 = shape != shapes_.end() && shape->second.outer_v6;
    return test::ip_packet({.source = v6 ? "2001:db8:ff::2" : "198.51.100.2",
                            .destination = v6 ? "2001:db8:ff::1" : "198.51.100.1",
                            .protocol = 50,
                            .payload = esp});
  }

  std::uint64_t number_for(const model::InboundModel& sa) {
    const std::uint64_t highest = sa.replay.highest();
    // Near the end of a half of ESN's numbers now and then.
    if (sa.keys.esn && highest > sa.window && burst_is_empty_ && one_in(100)) {
      burst_has_leap_ = true;
      return (highest | 0xffffffffULL) - below(3);
    }
    // The worker looks at a burst's late numbers after its newest: what is so near the window's
    // left edge that this matters is left out.
    const bool is_wide = sa.window >= 256;
    const std::size_t late = is_wide ? sa.window / 2 : sa.window - kBurst + 1;
    switch (below(8)) {
      case 0:
        return highest == 0 ? 1 : highest - below(std::min<std::size_t>(highest, late));
      case 1: {
        // Left of the window before its burst too: between the two it is a duplicate as well, and
        // whether that is seen before or after its ICV is open.
        const std::uint64_t far = 2 * std::uint64_t{sa.window} + kBurst;
        return highest > far ? highest - far + below(5) : highest + 1;
      }
      case 2:
        if (!is_wide || burst_has_gap_) return highest + 1;
        burst_has_gap_ = true;
        return highest + 1 + below(sa.window / 4);
      default:
        return highest + 1;
    }
  }

  static bool is_counted(const model::LifeModel& sa) {
    return sa.hard_packets != ~0ULL || sa.hard_bytes != ~0ULL;
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
    // What is sound and beyond a limit is refused for one reason only.
    const bool is_limited = is_counted(sa);
    if (is_limited) number = ++limited_[found->first];
    if (!sa.keys.esn && number > 0xffffffffULL) number = sa.replay.highest();
    Packet& esp = burst_numbers_[{found->first, number}];
    if (esp.empty()) {
      const Packet inner = is_train_ ? resized(train_, train_bytes()) : any_inner(sa);
      esp = esp_of(sa, number, is_limited, inner);
    }
    return esp;
  }

  /// Now and then a piece of a packet for us.
  Packet any_inner(const model::InboundModel& sa) {
    if (sa.transport || !one_in(6)) return any_ip();
    if (inside_.size() < 6 && one_in(2)) send_inside();
    for (std::size_t i = 0; i < inside_.size(); ++i) {
      InPieces& packet = inside_[i];
      const Packet& next = packet.coming.back().ip;
      const bool passes =
          model::any_pair_takes(sa.remote, sa.local, flow_of(next, model::view_ip(next).value()));
      // In a burst, fragments that come in clear are before those of an SA.
      const bool is_open = (packet.is_next_the_last() && !burst_is_empty_) ||
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

  Packet esp_of(const model::InboundModel& sa, std::uint64_t number, bool is_limited,
                Packet inner) {
    auto next = static_cast<std::uint8_t>(inner[0] >> 4U == 4 ? 4 : 41);
    if (sa.transport) std::tie(next, inner) = upper_layer(shapes_.at(sa.keys.spi).outer_v6);
    if (is_limited || !one_in(12)) return model::esp_seal(sa.keys, number, next, inner);
    const std::size_t fill = (inner.size() + 2) % 4;  // 0: as short as it is, it has no padding
    Packet trailer = model::esp_trailer(inner.size(), next, fill == 0 ? 1 + below(3) : below(3));
    switch (below(6)) {
      case 0: {  // forged, with a number that is new before and after its burst
        Packet esp = model::esp_seal(sa.keys, sa.replay.highest() + 100'000, next, inner);
        esp[16 + below(esp.size() - 16)] ^= static_cast<std::uint8_t>(1U << below(8));
        return esp;
      }
      case 1:
        trailer[below(trailer.size() - 2)] ^= 0x40;  // a padding byte
        return model::esp_seal_raw(sa.keys, number, inner, trailer);
      case 2:
        return model::esp_seal(sa.keys, number, 59, Packet(below(60), 0));
      case 3:
        if (sa.transport) return model::esp_seal(sa.keys, number, next, inner);
        return model::esp_seal(sa.keys, number, static_cast<std::uint8_t>(next == 4 ? 41 : 4),
                               inner);
      case 4: {  // padded to hide its size (RFC 4303 §2.7)
        Packet padded = inner;
        if (!sa.transport) padded.resize(inner.size() + below(100), 0);
        return model::esp_seal(sa.keys, number, next, padded);
      }
      default: {
        Packet esp = model::esp_seal(sa.keys, number, next, inner);
        esp.resize(esp.size() - 1 - below(3));
        return esp;
      }
    }
  }

  // ---- a burst on both sides ----

  /// What a packet comes to; how many frames leave because of it.
  std::size_t expect(const model::Outcomes& outcomes, Expected& expected) {
    std::size_t frames = 0;
    for (const model::Outcome& one : outcomes.each) frames += expect_one(one, expected);
    if (outcomes.each.size() > 1) {
      ++(std::holds_alternative<model::SentClear>(outcomes.each[0]) ? cut_in_clear_
                                                                    : cut_before_sealing_);
    }
    return frames;
  }
  std::size_t expect_one(const model::Outcome& outcome, Expected& expected) {
    if (const auto* sent = std::get_if<model::SentClear>(&outcome)) {
      expected.clear[sent->port].push_back(sent->ip);
      return 1;
    }
    if (const auto* sealed = std::get_if<model::Sealed>(&outcome)) {
      expected.sealed[model_.outbound.at(sealed->sa).keys.spi].push_back(
          told_sealed(sealed->wire_bytes, sealed->next_header, sealed->payload));
      if (sealed->wire_bytes.size() > 1) ++cut_after_sealing_;
      return sealed->wire_bytes.size();
    }
    if (const auto* refused = std::get_if<model::TooBig>(&outcome)) {
      ++expected.punts[{PuntReason::packet_too_big, refused->mtu}];
    } else if (std::holds_alternative<model::UnknownSpi>(outcome)) {
      ++expected.unknown_spis;
    } else if (const auto* reason = std::get_if<DropReason>(&outcome)) {
      ++expected.drops[*reason];
    } else {
      ++expected.punts[{std::get<PuntReason>(outcome), 0}];
    }
    return 0;
  }

  std::string one_burst() {
    if (auto difference = time_passes(); !difference.empty()) return difference;
    if (one_in(6)) return burst_of_fragments();
    if (one_in(400)) return one_in(2) ? too_many_packets() : too_many_fragments();
    if (one_in(12)) {
      const Packet ip = own_packet();
      Expected expected;
      expect(model_.own(ip), expected);
      const Expected actual =
          observed(gateway_.inject(ip, {InjectKind::outbound_local, kWan, false}));
      return compare(std::move(expected), actual, 1);
    }
    Expected expected;
    std::vector<Packet> frames;
    const bool from_wan = one_in(2);
    begin_burst(from_wan, true);
    std::size_t leaving = 0;
    const std::uint64_t cut_so_far = cut_before_sealing_ + cut_after_sealing_;
    for (std::size_t left = 1 + below(kBurst); left > 0; --left) {
      if (!is_train_ && one_in(10) && add_fragment(from_wan, frames, expected)) {
        if (!model_.whole.empty()) break;
        continue;
      }
      burst_is_empty_ = frames.empty();
      for_each_life([](model::LifeModel& sa) { sa.was_asked = false; });
      leaving += expect(one_packet(from_wan, frames), expected);
      if (!model_.whole.empty()) break;
      // A port's queue has room for 1 024 frames, and one more packet may leave in a hundred.
      if (leaving > 20 || burst_has_leap_ || (!is_train_ && limit_is_near())) break;
      // A train may end its SA: pieces cut before that are dropped one by one, a packet after it
      // whole.
      if (is_train_ && cut_before_sealing_ + cut_after_sealing_ != cut_so_far) break;
    }
    expect_wholes(expected);
    const Expected actual = observed(gateway_.receive(from_wan ? kWan : kLan, frames));
    return compare(std::move(expected), actual, frames.size());
  }

  // ---- fragments for us ----

  /// A burst's worth of time. What has waited too long ends before anything else comes, or behind a
  /// burst that comes first: the worker looks ten times a second.
  std::string time_passes() {
    milliseconds_ += kBurstMilliseconds;
    // The worker's goes on within a burst: what is so near its end that this matters is left out.
    while (model_.reassembly.ends_about(milliseconds_, 20 * kBurstMilliseconds)) {
      milliseconds_ += kBurstMilliseconds;
    }
    const std::size_t ended = model_.reassembly.time_is(milliseconds_);
    if (ended == 0) return {};
    // Where they do not take the room of others.
    ended_unseen_ = ended;
    if (one_in(2) && ended + model_.reassembly.held() < model::ReassemblyModel::kFragments / 2) {
      gateway_.worker().last_expiry = rte_rdtsc();
      return {};
    }
    return compare({}, {}, 0);
  }
  /// All that has waited too long has ended in the worker, too.
  void see_what_ended(Expected& expected, Expected& actual) {
    if (ended_unseen_ == 0) return;
    expected.drops[DropReason::reassembly_timeout] += ended_unseen_;
    ended_unseen_ = 0;
    gateway_.worker().last_expiry = 0;
    const Expected more = observed(gateway_.receive(kWan, std::vector<Packet>{}));
    for (const auto& [reason, count] : more.drops) actual.drops[reason] += count;
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

  /// False: there is none that it is plain what to expect of.
  bool add_fragment(bool from_wan, std::vector<Packet>& frames, Expected& expected) {
    constexpr std::size_t kEnough = 12, kWholesOfABurst = 3;
    if (on_their_way_.size() < kEnough && one_in(3)) begin_in_pieces(from_wan);
    const std::size_t index = any_on_its_way(from_wan);
    if (index == on_their_way_.size()) return false;
    InPieces& packet = on_their_way_[index];
    // Behind its burst, packets that have become whole are looked at. Within either it is open
    // which one comes before an SA's limit, and what a number is beside another of its SA.
    if (packet.is_next_the_last()) {
      if (has_other_traffic_ && (a_limit_is_near() || !frames.empty())) return false;
      const bool is_one_too_many = model_.whole.size() == kWholesOfABurst || a_limit_is_near();
      if (!model_.whole.empty() && (is_one_too_many || whole_spis_.contains(packet.spi))) {
        return false;
      }
      whole_spis_.insert(packet.spi);
    }
    const Packet ip = packet.next();
    if (packet.coming.empty())
      on_their_way_.erase(std::next(on_their_way_.begin(), static_cast<std::ptrdiff_t>(index)));
    add_piece(ip, frames, expected);
    return true;
  }

  /// More packets than are put together at once, begun one behind the other.
  std::string too_many_packets() {
    for (std::size_t left = model::ReassemblyModel::kPackets + 1 + below(20); left > 0; --left) {
      const auto pieces = any_pieces(one_in(2) ? any_for_us() : any_esp_for_pieces().second);
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
  /// Which packet gives way to a new one is open when two began at once: it is not sent then.
  void add_piece(const Packet& ip, std::vector<Packet>& frames, Expected& expected) {
    if (model_.reassembly.is_full() && !model_.reassembly.has_an_oldest()) return;
    frames.push_back(frame(ip));
    for (const auto& one : model_.from_wire(ip).each) expect_one(one, expected);
  }

  void begin_in_pieces(bool from_wan) {
    if (!from_wan || model_.inbound.empty() || one_in(4)) {
      return send_in_pieces(any_for_us(), 0, from_wan);
    }
    const auto [spi, ip] = any_esp_for_pieces();
    send_in_pieces(ip, spi, true);
  }
  std::pair<std::uint32_t, Packet> any_esp_for_pieces() {
    if (model_.inbound.empty()) return {0, any_for_us()};
    const auto found = std::next(model_.inbound.begin(),
                                 static_cast<std::ptrdiff_t>(below(model_.inbound.size())));
    const model::InboundModel& sa = found->second;
    // Others are faster: its number is ahead of them when it is not to be late.
    std::uint64_t number = one_in(3) ? number_for(sa) : sa.replay.highest() + 1 + below(64);
    const bool is_limited = is_counted(sa);
    if (is_limited) number = ++limited_[found->first];
    if (!sa.keys.esn && number > 0xffffffffULL) number = sa.replay.highest();
    return {found->first, outer(esp_of(sa, number, is_limited, any_ip()))};
  }

  bool a_limit_is_near() {
    bool is_near = false;
    for_each_life([&](model::LifeModel& sa) {
      constexpr std::uint64_t kNearPackets = 128, kNearBytes = 20'000;
      is_near |= !sa.stopped && (sa.hard_packets - sa.packets < kNearPackets ||
                                 sa.hard_bytes - sa.bytes < kNearBytes);
    });
    return is_near;
  }

  void expect_wholes(Expected& expected) {
    while (!model_.whole.empty()) {
      ++whole_;
      const model::Outcomes outcomes = model_.next_whole();
      for (const auto& one : outcomes.each) {
        if (!std::holds_alternative<DropReason>(one)) ++went_on_;
      }
      expect(outcomes, expected);
    }
  }

  /// Now and then it is a train: packets of one flow that differ in size only, all of them small
  /// enough to go whole, in clear or by one SA. They stay in order on whatever way they go.
  void begin_burst(bool from_wan, bool has_other_traffic) {
    burst_has_leap_ = burst_has_gap_ = false;
    burst_numbers_.clear();
    whole_spis_.clear();
    has_other_traffic_ = has_other_traffic;
    is_train_ = has_other_traffic && one_in(6);
    if (!is_train_) return;
    train_ = any_options(false);
    train_bytes_ = 8 + below(140);
    train_spi_.reset();
    is_exact_ = false;
    std::vector<std::uint32_t> counted;
    for (const auto& [spi, sa] : model_.inbound) {
      if (!sa.stopped && is_counted(sa)) counted.push_back(spi);
    }
    if (from_wan && !counted.empty() && !one_in(3)) train_spi_ = any(counted);
    if (one_in(2)) aim_at_limit();
  }

  /// The next frame of a burst, and what the model says of it.
  model::Outcomes one_packet(bool from_wan, std::vector<Packet>& frames) {
    const bool is_esp = is_train_ ? train_spi_.has_value() : from_wan && !one_in(3);
    if (!is_esp) {
      const Packet ip = is_train_ ? resized(train_, train_bytes()) : any_ip();
      frames.push_back(frame(ip));
      return model_.from_wire(ip);
    }
    const Packet esp = any_esp();
    const auto shape = shapes_.find(model::get32(esp, 0));
    // In transport mode an answer would have that header, and not be cut therefore.
    const bool may_have_header = shape != shapes_.end() && !shape->second.transport;
    const Packet around = may_have_header ? with_fragment_header(outer(esp)) : outer(esp);
    frames.push_back(frame(around));
    model::Outcomes outcomes = model_.esp_from_peer(esp, around);
    if (shape != shapes_.end() && shape->second.transport && outcomes.each.size() == 1 &&
        std::holds_alternative<PuntReason>(outcomes.each[0])) {
      ++delivered_from_transport_;  // port_unreachable: it was for us
    }
    return outcomes;
  }

  std::string compare(Expected expected, Expected actual, std::size_t count) {
    see_what_ended(expected, actual);
    for (auto* side : {&expected, &actual}) {
      for (auto& [port, packets] : side->clear) std::ranges::sort(packets);
      for (auto& [spi, packets] : side->sealed) std::ranges::sort(packets);
    }
    if (bad_sequence_) return context() + "a sequence number that was not the next";
    if (actual != expected) {
      return context() + "\nexpected:" + told(expected) + "\nseen:    " + told(actual);
    }
    if (gateway_.worker().reassembler.held() != model_.reassembly.held()) {
      return context() +
             "fragments that wait: " + std::to_string(gateway_.worker().reassembler.held()) +
             " and not " + std::to_string(model_.reassembly.held());
    }
    if (gateway_.worker().counters.reassembled.read() != whole_) {
      return context() + "packets put together: " +
             std::to_string(gateway_.worker().counters.reassembled.read()) + " and not " +
             std::to_string(whole_);
    }
    compared_ += count;
    remember(expected);
    return {};
  }

  void for_each_life(auto&& look_at) {
    for (auto& [spi, sa] : model_.inbound) look_at(sa);
    for (auto& [slot, sa] : model_.outbound) look_at(sa);
  }
  /// Whether the last packet may have been among the last of an SA. A burst ends there: within one
  /// it is open which packets come before the limit.
  bool limit_is_near() {
    bool is_near = false;
    for_each_life([&](model::LifeModel& sa) { is_near |= sa.was_asked && sa.is_near_its_end(); });
    return is_near;
  }

  std::string context() const {
    return "CULVERT_AGREEMENT_SEED=" + std::to_string(setting("CULVERT_AGREEMENT_SEED", 1)) +
           ", after " + std::to_string(compared_) + " packets: ";
  }

  using Numbers = std::map<std::uint32_t, std::vector<std::uint64_t>>;  ///< by SPI

  Expected observed(const test::Result& result) {
    Expected seen;
    std::map<Packet, std::vector<model::Fragment>> in_pieces;  // of sealed packets
    Numbers numbers;
    for (const auto& [port, frames] : {std::pair(0U, &result.lan), std::pair(1U, &result.wan)}) {
      for (const Packet& whole : *frames) {
        Packet ip = test::ip_of(whole);
        const bool v4 = ip[0] >> 4U == 4;
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
        // The identification is the worker's to choose.
        if (fragment && !v4 && ip[41] != kNotOurs) std::fill_n(ip.begin() + 44, 4, std::uint8_t{0});
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
    seen.sealed[spi].push_back(told_sealed(wire_bytes, opened->next_header, opened->payload));
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

  void remember(const Expected& burst) {
    for (const auto& [reason, count] : burst.drops) seen_.drops[reason] += count;
    for (const auto& [punt, count] : burst.punts) punted_.insert(punt.first);
    for (const auto& [port, packets] : burst.clear) clear_ += packets.size();
    for (const auto& [spi, packets] : burst.sealed) {
      sealed_ += packets.size();
      if (shapes_.at(spi).transport) sealed_in_transport_ += packets.size();
    }
    seen_.unknown_spis += burst.unknown_spis;
    for (const auto& [spi, sa] : model_.inbound) {
      if (sa.ended_by_bytes) inbound_over_by_bytes_.insert(spi);
    }
    for (const auto& [slot, sa] : model_.outbound) {
      if (sa.ended_by_bytes) outbound_over_by_bytes_.insert(sa.keys.spi);
    }
  }

 public:
  std::uint64_t clear_ = 0, sealed_ = 0;
  using RandomTables::over_by_time_;
  std::uint64_t sealed_in_transport_ = 0, delivered_from_transport_ = 0;
  std::uint64_t whole_ = 0, went_on_ = 0;  ///< that had come in fragments
  std::uint64_t cut_in_clear_ = 0, cut_before_sealing_ = 0, cut_after_sealing_ = 0;
  std::set<std::uint32_t> inbound_over_by_bytes_, outbound_over_by_bytes_;  ///< by SPI
  std::set<PuntReason> punted_;

 private:
  /// A burst takes as long on the clock of what waits to be put together, which is more than it
  /// does on a machine.
  static constexpr std::uint64_t kBurstMilliseconds = 20;
  std::map<std::uint32_t, std::uint64_t> sent_;     ///< by SPI: the last number seen on the wire
  std::map<std::uint32_t, std::uint64_t> limited_;  ///< by SPI: the last number of the peer's
  std::uint64_t compared_ = 0;
  // Of a burst: a leap over most of ESN's numbers stands alone, gaps are few, and a number has one
  // packet, which may come twice.
  bool burst_is_empty_ = true, burst_has_leap_ = false, burst_has_gap_ = false;
  std::map<std::pair<std::uint32_t, std::uint64_t>, Packet> burst_numbers_;  ///< by SPI and number
  std::size_t ended_unseen_ = 0;        ///< fragments that have waited too long, in the model only
  bool has_other_traffic_ = false;      ///< beside fragments
  std::set<std::uint32_t> whole_spis_;  ///< of what becomes whole in this burst
  bool is_train_ = false, is_exact_ = false;
  test::PacketOptions train_;
  std::size_t train_bytes_ = 0;
  std::optional<std::uint32_t> train_spi_;  ///< of the peer's; nullopt: it comes in clear
  bool bad_sequence_ = false;
  Expected seen_;
};

}  // namespace

TEST_CASE("agreement: worker and model come to the same over random packets and tables") {
  const std::uint64_t packets = setting("CULVERT_AGREEMENT_PACKETS", kPackets);
  Agreement agreement(setting("CULVERT_AGREEMENT_SEED", 1));
  const std::string difference = agreement.run(packets);
  INFO(agreement.compared() << " packets agreed");
  REQUIRE(difference == "");
  // Each kind came up, or the generator has lost its teeth: with the seed of the suite. Among many
  // others, the rarest is missing from one or two in a hundred.
  if (std::getenv("CULVERT_AGREEMENT_SEED") != nullptr) return;
  CHECK(agreement.clear_ > packets / 100);
  CHECK(agreement.sealed_ > packets / 100);
  CHECK(agreement.over_by_time_ > 0);
  CHECK(agreement.sealed_in_transport_ > 0);
  CHECK(agreement.delivered_from_transport_ > 0);
  CHECK(agreement.seen().unknown_spis > 0);
  CHECK(agreement.whole_ > packets / 1000);
  CHECK(agreement.went_on_ > packets / 5000);
  CHECK(agreement.cut_in_clear_ > 0);
  CHECK(agreement.cut_before_sealing_ > 0);
  CHECK(agreement.cut_after_sealing_ > 0);
  CHECK_FALSE(agreement.inbound_over_by_bytes_.empty());
  CHECK_FALSE(agreement.outbound_over_by_bytes_.empty());
  for (const DropReason reason : {DropReason::policy_discard,
                                  DropReason::no_policy_match,
                                  DropReason::cleartext_violates_policy,
                                  DropReason::source_address_invalid,
                                  DropReason::destination_multicast,
                                  DropReason::replay_duplicate,
                                  DropReason::replay_left_of_window,
                                  DropReason::icv_mismatch,
                                  DropReason::sa_expired,
                                  DropReason::esp_truncated,
                                  DropReason::esp_padding_invalid,
                                  DropReason::dummy_packet,
                                  DropReason::inner_header_invalid,
                                  DropReason::inner_selector_mismatch,
                                  DropReason::local_port_closed,
                                  DropReason::local_protocol_unsupported,
                                  DropReason::icmp_ignored,
                                  DropReason::packet_too_big,
                                  DropReason::fragment_invalid,
                                  DropReason::fragment_overlap,
                                  DropReason::reassembly_timeout,
                                  DropReason::reassembly_full,
                                  DropReason::congestion_marked}) {
    INFO(info(reason).name);
    CHECK(agreement.seen().drops.contains(reason));
  }
  for (const PuntReason reason :
       {PuntReason::acquire, PuntReason::ttl_exceeded, PuntReason::no_route,
        PuntReason::resolve_neighbor, PuntReason::port_unreachable, PuntReason::packet_too_big}) {
    INFO(static_cast<int>(reason));
    CHECK(agreement.punted_.contains(reason));
  }
}
