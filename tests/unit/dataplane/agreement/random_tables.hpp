// Tables that change at random, in a worker's gateway and in the model of it alike: policies, SAs
// and their limits, routes, path MTUs, and the clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/control/lifetime.hpp"
#include "tests/model/gateway_model.hpp"
#include "tests/unit/dataplane/agreement/addresses.hpp"
#include "tests/unit/dataplane/agreement/random_shapes.hpp"
#include "tests/unit/dataplane/agreement/second_worker.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

using namespace culvert::dataplane;

class RandomTables : protected RandomShapes {
 protected:
  RandomTables(std::uint64_t seed, std::uint32_t workers)
      : RandomShapes(seed), gateway_({}, workers) {
    if (workers == 2) second_.emplace(gateway_);
    // The model has no clock for it.
    gateway_.worker().fragment_budget = dataplane::FragmentBudget(0);
    if (second_) second_->state().fragment_budget = dataplane::FragmentBudget(0);
    gateway_.sends_are_no_input = true;
    aimed_at_ = &model_.policies;
    model_.mac.assign(kOurMac.begin(), kOurMac.end());
    learn_topology();
    constexpr std::uint64_t kIkeSpi = 0x0101010101010101U * kOurIkeSpi;
    gateway_.tables().ike_spis->put(kIkeSpi);
    model_.ike_sas = {kIkeSpi};
    for (int i = 0; i < 4; ++i) add_outbound(any_shape());
    for (int i = 0; i < 4; ++i) add_inbound();
    new_policies();
  }

  void change_something() {
    switch (below(9)) {
      case 0:
        return new_policies();
      case 1:
        return rekey();
      case 2:
        if (model_.outbound.size() < kStaySmall) add_outbound(any_shape());
        return;
      case 3:
        if (model_.inbound.size() < kStaySmall) add_inbound();
        return;
      case 4:
        return remove_outbound();
      case 5:
        return remove_inbound();
      case 6:
        return clock_jumps();
      case 7:
        return change_path_mtu();
      default:
        return change_route();
    }
  }

  test::Gateway gateway_;
  std::optional<SecondWorker> second_;
  model::GatewayModel model_;
  std::uint64_t now_ = 1'000'000;  ///< seconds
  /// The clock of what waits to be put together.
  std::uint64_t milliseconds_ = 1'000'000'000;
  std::map<std::uint32_t, channel::SaId> ids_;
  std::map<std::uint32_t, Shape> shapes_;  ///< by SPI
  std::map<channel::SaId, control::LifetimeWatch> watches_;
  std::vector<std::uint32_t> gone_;
  std::uint32_t next_spi_ = 0x1000;
  std::uint64_t over_by_time_ = 0;  ///< SAs that the worker ended

 private:
  static constexpr std::uint32_t kStaySmall = 12;                      ///< SAs a direction, at most
  static constexpr std::uint64_t kSubspace = std::uint64_t{1} << 32U;  ///< of ESN's numbers

  void learn_topology() {
    const auto& fib = *gateway_.tables().fib;
    const test::Addresses addresses;
    const auto add = [&](const std::string& text) {
      const auto prefix = wire::Prefix::parse(text).value();
      model_.routes.add(prefix, fib.lookup(prefix.address));
    };
    for (const auto& own : {addresses.lan, addresses.wan, addresses.lan6, addresses.wan6}) {
      const auto prefix = wire::Prefix::parse(own).value();
      // What the subnet holds beside its known stations.
      auto stranger = prefix.address;
      stranger.bytes[stranger.is_v4() ? 3 : 15] = 0xfe;
      const AdjacencyIndex glean = fib.lookup(stranger);
      model_.routes.add(prefix, glean);
      model_.networks.push_back(prefix);
      model_.next_hops[glean] = {own == addresses.lan || own == addresses.lan6 ? 0U : 1U, false};
      add(prefix.address.to_string());
    }
    for (const auto& station :
         {addresses.peer, addresses.peer6, addresses.client, addresses.client6}) {
      add(station);
      const unsigned port = station == addresses.client || station == addresses.client6 ? 0 : 1;
      model_.next_hops[fib.lookup(wire::IpAddress::parse(station).value())] = {port, true};
    }
    for (const auto& [far, via] :
         {std::pair(addresses.far, addresses.peer), std::pair(addresses.far6, addresses.peer6)}) {
      model_.routes.add(wire::Prefix::parse(far).value(),
                        fib.lookup(wire::IpAddress::parse(via).value()));
    }
  }

  wire::TrafficSelector selector(bool v4) {
    const auto prefix = wire::Prefix::parse(any(v4 ? kNets4 : kNets6)).value();
    return wire::TrafficSelector::of(prefix);
  }
  /// Both sides of a policy are about the same protocol (RFC 4301 §4.4.1.1).
  void add_pair(PolicyEntry& entry) {
    const bool v4 = !one_in(3);
    auto local = selector(v4), remote = selector(v4);
    if (one_in(2)) {
      static const std::vector<std::uint8_t> kProtocols = {6, 17, 1, 47, 58};
      local.protocol = remote.protocol = any(kProtocols);
      const bool has_ports = local.protocol == 6 || local.protocol == 17;
      if (local.is_icmp() && one_in(2)) choose_messages(local, remote);
      for (auto* side : {&local, &remote}) {
        if (!has_ports || one_in(2)) continue;
        if (one_in(4)) {
          side->port_first = 65535;  // OPAQUE
          side->port_last = 0;
        } else {
          side->port_first = static_cast<std::uint16_t>(4000 + below(4));
          side->port_last = static_cast<std::uint16_t>(side->port_first + below(3));
        }
      }
    }
    entry.local.push_back(local);
    entry.remote.push_back(remote);
  }

  /// ICMP's types and codes stand where ports do, the same on both sides (RFC 7296 §3.13.1).
  void choose_messages(wire::TrafficSelector& local, wire::TrafficSelector& remote) {
    static const std::vector<std::uint8_t> kTypes = {0, 3, 3, 8, 11, 1, 2, 3, 128, 129};
    const unsigned first = any(kTypes) << 8U | (one_in(3) ? below(3) : 0U);
    const unsigned last = one_in(3) ? first : (first | 0xffU) + (one_in(3) ? 0x100U : 0U);
    for (auto* side : {&local, &remote}) {
      side->port_first = static_cast<std::uint16_t>(first);
      side->port_last = static_cast<std::uint16_t>(last);
    }
  }

  void new_policies() {
    std::vector<PolicyEntry> entries(below(24));
    for (std::size_t i = 0; i < entries.size(); ++i) {
      PolicyEntry& entry = entries[i];
      static const std::vector<PolicyAction> kActions = {
          PolicyAction::protect, PolicyAction::protect, PolicyAction::bypass,
          PolicyAction::discard};
      entry.action = any(kActions);
      for (std::size_t pairs = 1 + below(2); pairs > 0; --pairs) add_pair(entry);
      if (entry.action == PolicyAction::protect) {
        entry.origin = PolicyOrigin::negotiated;
        entry.policy = channel::PolicyId{next_policy_++};
        entry.child_id = channel::ChildId{static_cast<std::uint64_t>(i)};
        if (!one_in(5)) entry.outbound = any_outbound({});
      }
    }
    if (one_in(2)) {
      entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(below(entries.size() + 1)),
                     between_us_and_the_peer(channel::ChildId{entries.size()}));
    }
    model_.policies = entries;
    ++model_.policies_version;
    if (one_in(4)) model_.bypass_by_default = one_in(2);
    gateway_.tables().spd->replace(entries, model_.bypass_by_default
                                                ? config::PolicyAction::bypass
                                                : config::PolicyAction::discard);
  }

  /// The one that transport mode is for.
  PolicyEntry between_us_and_the_peer(channel::ChildId child_id) {
    const bool v6 = one_in(3);
    PolicyEntry entry;
    entry.action = PolicyAction::protect;
    entry.origin = PolicyOrigin::negotiated;
    entry.policy = channel::PolicyId{next_policy_++};
    entry.child_id = child_id;
    entry.local = {wire::TrafficSelector::parse(kHere.at(v6)).value()};
    entry.remote = {wire::TrafficSelector::parse(kThere.at(v6)).value()};
    entry.outbound = any_outbound({true, v6, false, {}});
    return entry;
  }

  /// One for a policy of this kind of traffic; kNoSlot where there is none.
  SlotIndex any_outbound(const Shape& wanted) {
    std::vector<SlotIndex> fitting;
    for (const auto& [slot, sa] : model_.outbound) {
      const Shape& shape = shapes_.at(sa.keys.spi);
      const bool fits = shape.transport ? shape.outer_v6 == wanted.outer_v6 : true;
      if (shape.transport == wanted.transport && fits) fitting.push_back(slot);
    }
    return fitting.empty() ? kNoSlot : any(fitting);
  }

  /// Now and then not long before the last of 32 bits, or with ESN before that one. What was sent
  /// before is as if it were received.
  std::uint64_t any_first_number(bool esn, std::uint64_t last_with_esn) {
    if (!one_in(4)) return 1;
    return (esn ? last_with_esn : model::kLastOf32Bits) - below(200);
  }

  void limit(model::LifeModel& model, channel::InstallSa& sa, bool by_packets) {
    model.installed = now_;
    if (by_packets && one_in(4)) model.hard_packets = sa.lifetime.hard_packets = 1 + below(300);
    if (one_in(3)) {
      // Inbound, the short way counts by bursts as long as a burst of the largest packets fits.
      constexpr std::uint64_t kLargestBurst = std::uint64_t{kBurstPackets} << 16U;
      const std::uint64_t more = one_in(4) ? kLargestBurst : 0;
      model.hard_bytes = sa.lifetime.hard_bytes = more + 1 + below(one_in(3) ? 200'000 : 5000);
    }
    if (one_in(4)) {
      model.hard_seconds = sa.lifetime.hard_seconds = 1 + below(300);
      sa.lifetime.soft_seconds = below(sa.lifetime.hard_seconds);
    }
    ids_[static_cast<std::uint32_t>(sa.spi)] = sa.sa;
    watches_.emplace(sa.sa,
                     control::LifetimeWatch(sa.lifetime, sa.esn, std::chrono::seconds(now_)));
  }

  /// The main thread looks at its SAs or does not come to it; a moment or an hour goes by. In this
  /// order packets come in between, and the worker meets an SA's end first.
  void clock_jumps() {
    if (one_in(2)) look_at_limits();
    const std::uint64_t seconds = one_in(20) ? 3600 : below(one_in(3) ? 6 : 60);
    now_ += seconds;
    milliseconds_ += 1000 * seconds;
    end_by_workers_clock();
    model_.time_is(now_);
  }

  /// That clock goes on by itself: a moment that is to come is never, one that has come is the
  /// first of all.
  void end_by_workers_clock() {
    for (const auto& [id, watch] : watches_) {
      const auto left = watch.time_left(std::chrono::seconds(now_));
      if (!left || left->count() > 0) continue;
      const SaRecord* const record = gateway_.tables().sad->find(id);
      REQUIRE(record != nullptr);
      gateway_.tables().sad->set_end(*record, 1);
    }
  }

  /// As Associations does.
  void look_at_limits() {
    for (auto& [id, watch] : watches_) {
      const SaRecord* const record = gateway_.tables().sad->find(id);
      REQUIRE(record != nullptr);
      const SaUsage usage = gateway_.tables().sad->usage(*record);
      const auto due =
          watch.due({usage.packets, usage.bytes, usage.sequence}, std::chrono::seconds(now_));
      if (!due) continue;
      const bool is_hard = due->level == control::ExpiryLevel::hard;
      if (is_hard) {
        if (gateway_.tables().sad->stopped(*record) == StopCause::hard_time) ++over_by_time_;
        gateway_.tables().sad->stop(id, due->cause == channel::ExpiryCause::sequence
                                            ? StopCause::sequence
                                            : StopCause::hard_time);
      }
      watch.announced(due->level);
    }
    model_.look_at_limits();
  }

  SlotIndex add_outbound(const Shape& shape) {
    auto options = sa_options(shape);
    if (!shape.transport && one_in(3)) narrow(options);
    channel::InstallSa sa = test::outbound_sa(options, next_spi_++);
    model::OutboundModel added;
    added.is_for_ports = names_ports(options.local_selectors);
    added.keys = keys_of(sa);
    added.transport = shape.transport;
    added.here = sa.local.address;
    added.peer = sa.remote.address;
    added.udp = shape.udp;
    shapes_[added.keys.spi] = shape;
    SaSettings settings;
    settings.first_sequence = any_first_number(sa.esn, one_in(2) ? ~0ULL : kSubspace - 1);
    added.before = settings.first_sequence - 1;
    added.numbers = (sa.esn ? ~0ULL : model::kLastOf32Bits) - added.before;
    limit(added, sa, added.before == 0);
    settings.headers = shape.headers;
    if (one_in(4)) settings.headers.path_mtu = static_cast<std::uint16_t>(576 + below(1000));
    added.headers = settings.headers;
    const SlotIndex slot = gateway_.install(sa, settings);
    model_.outbound[slot] = added;
    if (one_in(2)) set_path_mtu(slot);
    return slot;
  }

  /// What ICMP from the way to the peer would have said, or that it is forgotten.
  void set_path_mtu(SlotIndex slot) {
    model::OutboundModel& sa = model_.outbound.at(slot);
    // 9000 is more than the link takes.
    static const std::vector<std::uint16_t> kSome = {1280, 1400, 1499, 1500, 9000, kNoPathMtu};
    auto mtu = one_in(2) ? any(kSome) : static_cast<std::uint16_t>(300 + below(1200));
    // No room for what is cut before it is sealed; what is cut then is in no more pieces than may
    // be.
    if (one_in(3)) {
      constexpr std::size_t kLittleInside =
          16;  // an IPv4 header, eight bytes and a trailer are more
      mtu = static_cast<std::uint16_t>((sa.peer.is_v4() ? 20 : 40) + (sa.udp ? 8 : 0) +
                                       model::esp_around(sa.keys) + kLittleInside);
    }
    sa.path_mtu = mtu == kNoPathMtu ? ~0UL : mtu;
    gateway_.tables().sad->set_path_mtu(ids_.at(sa.keys.spi), mtu);
  }
  void change_path_mtu() {
    if (model_.outbound.empty()) return;
    set_path_mtu(std::next(model_.outbound.begin(),
                           static_cast<std::ptrdiff_t>(below(model_.outbound.size())))
                     ->first);
  }

  void add_inbound() {
    const Shape shape = any_shape();
    auto options = sa_options(shape);
    if (!shape.transport && one_in(2)) narrow(options);
    channel::InstallSa sa = test::outbound_sa(options, next_spi_++);
    sa.direction = channel::Direction::in;
    model::InboundModel added;
    added.keys = keys_of(sa);
    added.transport = shape.transport;
    added.id = static_cast<std::uint64_t>(sa.sa);
    added.here = sa.local.address;
    added.peer = sa.remote.address;
    added.peer_port = sa.remote.port;
    added.udp = shape.udp;
    shapes_[added.keys.spi] = shape;
    added.window = options.window;
    SaSettings settings;
    settings.first_sequence =
        any_first_number(sa.esn, kSubspace * (one_in(2) ? 1 : 1 + below(1000)) - 1);
    added.replay = model::ReplayModel(options.window, settings.first_sequence - 1);
    for (const auto& [texts, to] : {std::pair(&options.local_selectors, &added.local),
                                    std::pair(&options.remote_selectors, &added.remote)}) {
      for (const auto& text : *texts) to->push_back(wire::TrafficSelector::parse(text).value());
    }
    limit(added, sa, true);
    settings.headers = shape.headers;
    added.copies_dscp_in = shape.headers.copy_dscp == config::CopyDscp::in ||
                           shape.headers.copy_dscp == config::CopyDscp::both;
    added.checks_errors = one_in(2);
    if (added.checks_errors) settings.headers.icmp_errors = config::IcmpErrors::check;
    gateway_.install(sa, settings);
    model_.inbound.emplace(static_cast<std::uint32_t>(sa.spi), added);
  }

  /// A policy's traffic moves to a new SA; the old one goes when nothing names it.
  void rekey() {
    std::vector<PolicyEntry*> bound;
    for (PolicyEntry& entry : model_.policies) {
      if (entry.outbound != kNoSlot) bound.push_back(&entry);
    }
    if (bound.empty() || model_.outbound.size() >= kStaySmall) return;
    PolicyEntry& entry = *any(bound);
    entry.outbound = add_outbound(shapes_.at(model_.outbound.at(entry.outbound).keys.spi));
    REQUIRE(gateway_.tables().spd->rebind(entry.policy, entry.outbound));
  }
  /// Rather one that has ended: what goes on is more to look at.
  auto any_to_remove(auto& sas) {
    const auto ended =
        std::ranges::find_if(sas, [](const auto& entry) { return entry.second.stopped; });
    if (ended != sas.end() && !one_in(4)) return ended;
    return std::next(sas.begin(), static_cast<std::ptrdiff_t>(below(sas.size())));
  }
  void remove_outbound() {
    if (model_.outbound.empty()) return;
    const SlotIndex slot = any_to_remove(model_.outbound)->first;
    gateway_.tables().spd->unbind(slot);
    for (PolicyEntry& entry : model_.policies) {
      if (entry.outbound == slot) entry.outbound = kNoSlot;
    }
    remove_sa(model_.outbound.at(slot).keys.spi);
    model_.outbound.erase(slot);
  }
  void remove_inbound() {
    if (model_.inbound.empty()) return;
    const auto found = any_to_remove(model_.inbound);
    remove_sa(found->first);
    model_.inbound.erase(found);
  }
  void remove_sa(std::uint32_t spi) {
    REQUIRE(gateway_.tables().sad->remove(ids_.at(spi)) == channel::Outcome::ok);
    watches_.erase(ids_.at(spi));
    gateway_.tables().reclaimer->poll();
    gone_.push_back(spi);
  }
  void change_route() {
    const auto prefix = wire::Prefix::parse(any(kRoutes)).value();
    auto& fib = *gateway_.tables().fib;
    if (one_in(2)) {
      fib.remove(prefix);
      model_.routes.remove(prefix);
    } else {
      const bool v4 = prefix.address.is_v4();
      const std::string& via = any(v4 ? kVias4 : kVias6);
      const auto to = fib.lookup(wire::IpAddress::parse(via).value());
      REQUIRE(fib.add(prefix, to).has_value());
      model_.routes.add(prefix, to);
    }
    gateway_.tables().reclaimer->poll();
  }

  std::uint64_t next_policy_ = 1;
};

}  // namespace culvert::test
