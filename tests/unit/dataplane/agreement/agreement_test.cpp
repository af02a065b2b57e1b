// The worker and a model of it see the same packets and the same changes of the tables, all of them
// random: what leaves, byte for byte, what is dropped and why, what the main thread is shown.
//
// CULVERT_AGREEMENT_PACKETS and CULVERT_AGREEMENT_SEED: how many, and which.
#include <algorithm>
#include <cstdlib>
#include <random>
#include <tuple>
#include <utility>

#include <catch2/catch.hpp>

#include "dataplane/control/lifetime.hpp"
#include "tests/model/gateway_model.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

using namespace culvert;
using namespace culvert::dataplane;
using culvert::test::frame;
using culvert::test::kLan;
using culvert::test::kWan;
using culvert::test::Packet;

namespace {

constexpr std::uint64_t kPackets = 60'000;
constexpr std::size_t kBurst = 32;
constexpr std::uint32_t kStaySmall = 12;  ///< SAs a direction, at most

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

const std::vector<std::string> kV4 = {
    "10.1.0.9",  "10.1.0.20",  "10.1.7.7",   "10.2.0.7",     "10.2.0.8",    "10.2.9.9",
    "10.3.0.1",  "172.16.0.1", "172.16.5.5", "172.17.0.3",   "192.0.2.5",   "10.1.0.77",
    "224.0.0.5", "127.0.0.1",  "0.0.0.7",    "10.2.255.254", "198.51.100.2"};
const std::vector<std::string> kV6 = {"2001:db8:1::9",     "2001:db8:1::20", "2001:db8:2::7",
                                      "2001:db8:2::1:0",   "2001:db8:3::1",  "2001:db8:3:1::1",
                                      "2001:db8:1::77",    "ff02::5",        "::1",
                                      "2001:db8:2:ffff::", "2001:db8:ff::2"};
const std::vector<std::string> kOwn4 = {"10.1.0.1", "198.51.100.1"};
const std::vector<std::string> kOwn6 = {"2001:db8:1::1", "2001:db8:ff::1"};
const std::vector<std::string> kSayable4 = {"10.1.0.9", "10.1.0.20", "10.2.0.7", "172.16.5.5",
                                            "10.1.0.77"};
const std::vector<std::string> kSayable6 = {"2001:db8:1::9", "2001:db8:2::7", "2001:db8:3:1::1"};
/// The ends of the tunnels, IPv4 and IPv6.
const std::vector<std::string> kHere = {"198.51.100.1", "2001:db8:ff::1"};
const std::vector<std::string> kThere = {"198.51.100.2", "2001:db8:ff::2"};
const std::vector<std::string> kNets4 = {"10.1.0.0/24",   "10.1.0.0/16", "10.2.0.0/16",
                                         "10.2.0.0/29",   "10.0.0.0/8",  "172.16.0.0/12",
                                         "172.16.5.5/32", "0.0.0.0/0",   "198.51.100.0/24"};
const std::vector<std::string> kNets6 = {
    "2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:2::/127", "2001:db8::/32", "::/0",
    "2001:db8:3::/48", "2001:db8:ff::/64"};
const std::vector<std::string> kRoutes = {"172.16.0.0/16", "172.16.5.0/24",   "172.17.0.0/16",
                                          "10.3.0.0/16",   "2001:db8:3::/48", "2001:db8:3:1::/64"};

/// What a burst should come to.
struct Expected {
  std::map<unsigned, std::vector<Packet>> clear;
  std::map<std::uint32_t, std::vector<Packet>> sealed;  ///< by SPI: next header, then payload
  std::map<DropReason, std::uint64_t> drops;
  std::map<PuntReason, std::uint64_t> punts;
  std::uint64_t unknown_spis = 0;
  friend bool operator==(const Expected&, const Expected&) = default;
};

std::string told(const Expected& what) {
  std::string text;
  for (const auto& [port, packets] : what.clear) {
    text += " clear on port " + std::to_string(port) + ": " + std::to_string(packets.size());
  }
  for (const auto& [spi, packets] : what.sealed) {
    text += " sealed by " + std::to_string(spi) + ": " + std::to_string(packets.size());
  }
  for (const auto& [reason, count] : what.drops) {
    text += " " + std::string(info(reason).name) + ": " + std::to_string(count);
  }
  for (const auto& [reason, count] : what.punts) {
    text += " punt " + std::to_string(static_cast<int>(reason)) + ": " + std::to_string(count);
  }
  return text + " unknown SPIs: " + std::to_string(what.unknown_spis);
}

/// What an SA is like, beside its keys and numbers.
struct Shape {
  bool transport = false, outer_v6 = false;
};

class Agreement {
 public:
  explicit Agreement(std::uint64_t seed) : random_(seed) {
    learn_topology();
    for (int i = 0; i < 4; ++i) add_outbound(any_shape());
    for (int i = 0; i < 4; ++i) add_inbound();
    new_policies();
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
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }
  bool one_in(std::size_t n) { return below(n) == 0; }
  template <typename T>
  const T& any(const std::vector<T>& of) {
    return of[below(of.size())];
  }

  // ---- the tables, here and in the model ----

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

  void change_something() {
    switch (below(8)) {
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
      default:
        return change_route();
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
        entry.child_index = static_cast<std::uint32_t>(i);
        if (!one_in(5)) entry.outbound = any_outbound({});
      }
    }
    if (one_in(2)) {
      entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(below(entries.size() + 1)),
                     between_us_and_the_peer(static_cast<std::uint32_t>(entries.size())));
    }
    model_.policies = entries;
    gateway_.tables().spd->replace(entries);
    if (one_in(4)) {
      model_.bypass_by_default = one_in(2);
      gateway_.tables().default_policy =
          model_.bypass_by_default ? config::PolicyAction::bypass : config::PolicyAction::discard;
      // A flow that is remembered was decided under the other default.
      gateway_.tables().spd->replace(entries);
    }
  }

  /// The one that transport mode is for.
  PolicyEntry between_us_and_the_peer(std::uint32_t child_index) {
    const bool v6 = one_in(3);
    PolicyEntry entry;
    entry.action = PolicyAction::protect;
    entry.origin = PolicyOrigin::negotiated;
    entry.policy = channel::PolicyId{next_policy_++};
    entry.child_index = child_index;
    entry.local = {wire::TrafficSelector::parse(kHere.at(v6)).value()};
    entry.remote = {wire::TrafficSelector::parse(kThere.at(v6)).value()};
    entry.outbound = any_outbound({true, v6});
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

  Shape any_shape() { return {one_in(4), one_in(3)}; }

  test::SaOptions sa_options(const Shape& shape) {
    test::SaOptions options;
    if (shape.outer_v6) {
      options.outer_local = kHere.at(1);
      options.outer_remote = kThere.at(1);
    }
    options.esn = one_in(2);
    static const std::vector<std::uint32_t> kWindows = {32, 64, 256, 1024};
    options.window = any(kWindows);
    static const std::vector<std::uint16_t> kKeys = {128, 192, 256};
    options.key_bits = any(kKeys);
    if (shape.transport) {
      options.mode = channel::SaMode::transport;
      options.local_selectors = {kHere.at(shape.outer_v6)};
      options.remote_selectors = {one_in(4) ? any(kNets4) : kThere.at(shape.outer_v6)};
      return options;
    }
    options.local_selectors.clear();
    options.remote_selectors.clear();
    for (std::size_t pairs = 1 + below(3); pairs > 0; --pairs) {
      options.local_selectors.push_back(any(one_in(3) ? kNets6 : kNets4));
      options.remote_selectors.push_back(any(one_in(3) ? kNets6 : kNets4));
    }
    return options;
  }
  static model::EspSa keys_of(const channel::InstallSa& sa) {
    const auto key = sa.key.view();
    return {{key.begin(), key.end()}, static_cast<std::uint32_t>(sa.spi), sa.esn};
  }

  void limit(model::LifeModel& model, channel::InstallSa& sa) {
    model.installed = now_;
    if (one_in(4)) model.hard_packets = sa.lifetime.hard_packets = 1 + below(300);
    if (one_in(4)) {
      model.hard_seconds = sa.lifetime.hard_seconds = 1 + below(300);
      sa.lifetime.soft_seconds = below(sa.lifetime.hard_seconds);
    }
    ids_[static_cast<std::uint32_t>(sa.spi)] = sa.sa;
    watches_.emplace(sa.sa,
                     control::LifetimeWatch(sa.lifetime, sa.esn, std::chrono::seconds(now_)));
  }

  /// The main thread looks at its SAs a moment or an hour later, as Associations does.
  void clock_jumps() {
    now_ += one_in(20) ? 3600 : below(60);
    for (auto& [id, watch] : watches_) {
      const SaRecord* const record = gateway_.tables().sad->find(id);
      REQUIRE(record != nullptr);
      const SaUsage usage = gateway_.tables().sad->usage(*record);
      const auto due =
          watch.due({usage.packets, usage.bytes, usage.sequence}, std::chrono::seconds(now_));
      if (!due) continue;
      const bool is_hard = due->level == control::ExpiryLevel::hard;
      if (is_hard && gateway_.tables().sad->stopped(*record) == StopCause::none) {
        gateway_.tables().sad->stop(id, StopCause::hard_time);
        if (due->cause == channel::ExpiryCause::time) ++over_by_time_;
      }
      watch.announced(due->level);
    }
    model_.time_is(now_);
  }

  SlotIndex add_outbound(const Shape& shape) {
    channel::InstallSa sa = test::outbound_sa(sa_options(shape), next_spi_++);
    model::OutboundModel added;
    added.keys = keys_of(sa);
    added.transport = shape.transport;
    shapes_[added.keys.spi] = shape;
    limit(added, sa);
    const SlotIndex slot = gateway_.install(sa);
    model_.outbound[slot] = added;
    return slot;
  }

  void add_inbound() {
    const Shape shape = any_shape();
    const auto options = sa_options(shape);
    channel::InstallSa sa = test::outbound_sa(options, next_spi_++);
    sa.direction = channel::Direction::in;
    model::InboundModel added;
    added.keys = keys_of(sa);
    added.transport = shape.transport;
    shapes_[added.keys.spi] = shape;
    added.window = options.window;
    added.replay = model::ReplayModel(options.window);
    for (const auto& [texts, to] : {std::pair(&options.local_selectors, &added.local),
                                    std::pair(&options.remote_selectors, &added.remote)}) {
      for (const auto& text : *texts) to->push_back(wire::TrafficSelector::parse(text).value());
    }
    limit(added, sa);
    gateway_.install(sa);
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
  void remove_outbound() {
    if (model_.outbound.empty()) return;
    const SlotIndex slot = std::next(model_.outbound.begin(),
                                     static_cast<std::ptrdiff_t>(below(model_.outbound.size())))
                               ->first;
    gateway_.tables().spd->unbind(slot);
    for (PolicyEntry& entry : model_.policies) {
      if (entry.outbound == slot) entry.outbound = kNoSlot;
    }
    remove_sa(model_.outbound.at(slot).keys.spi);
    model_.outbound.erase(slot);
  }
  void remove_inbound() {
    if (model_.inbound.empty()) return;
    const auto found = std::next(model_.inbound.begin(),
                                 static_cast<std::ptrdiff_t>(below(model_.inbound.size())));
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
      const char* const via = one_in(2) ? (v4 ? "198.51.100.2" : "2001:db8:ff::2")
                                        : (v4 ? "10.1.0.9" : "2001:db8:1::9");
      const auto to = fib.lookup(wire::IpAddress::parse(via).value());
      REQUIRE(fib.add(prefix, to).has_value());
      model_.routes.add(prefix, to);
    }
    gateway_.tables().reclaimer->poll();
  }

  // ---- packets ----

  Packet any_ip() {
    const bool v4 = !one_in(3);
    const auto& pool = v4 ? kV4 : kV6;
    test::PacketOptions options;
    options.source = one_in(40) ? any(v4 ? kOwn4 : kOwn6) : any(pool);
    options.destination = any(pool);
    const bool is_for_us = one_in(15);
    if (is_for_us) options.destination = any(v4 ? kOwn4 : kOwn6);
    if (is_for_us && one_in(2)) return test::echo_request(options.source, options.destination);
    options.ttl = one_in(12) ? static_cast<std::uint8_t>(below(3)) : 64;
    options.traffic_class = static_cast<std::uint8_t>(below(64) << 2U);
    static const std::vector<std::uint16_t> kFragments = {0x4000, 0x4000, 0x4000, 0x0000,
                                                          0x2000, 0x20b9, 0x00b9};
    options.fragment = is_for_us ? 0x4000 : any(kFragments);
    static const std::vector<std::uint8_t> kProtocols = {17, 17, 17, 6, 6, 1, 47};
    options.protocol = any(kProtocols);
    if (!v4 && options.protocol == 1) options.protocol = 58;
    options.payload = payload_of(options.protocol);
    return test::ip_packet(options);
  }

  Packet payload_of(std::uint8_t protocol) {
    if (one_in(30)) return Packet(below(8), 0x20);  // too short for ports, or nothing at all
    const Packet data = model::counting(below(one_in(8) ? 1100 : 40));
    const auto port = [&] { return static_cast<std::uint16_t>(3999 + below(8)); };
    if (protocol == 17) return test::udp(port(), port(), data);
    Packet payload(20, 0x10);
    if (protocol == 6) {
      payload = test::udp(port(), port(), Packet(12, 0));
      payload[12] = 0x50;
      payload[13] = 0x10;  // ACK: no SYN whose MSS would be changed
    } else if (protocol == 1 || protocol == 58) {
      payload[0] = protocol == 1 ? (one_in(2) ? 8 : 0) : (one_in(2) ? 128 : 129);
      payload[1] = 0;
    }
    payload.insert(payload.end(), data.begin(), data.end());
    return payload;
  }

  /// What the gateway itself says, for somebody it could be said to.
  Packet own_packet() {
    const bool v6 = one_in(3);
    test::PacketOptions options;
    if (one_in(2)) {
      options.source = kHere.at(v6);
      options.destination = kThere.at(v6);
    } else {
      options.source = any(v6 ? kOwn6 : kOwn4);
      options.destination = any(v6 ? kSayable6 : kSayable4);
    }
    static const std::vector<std::uint8_t> kProtocols = {17, 6, 47};
    options.protocol = any(kProtocols);
    options.payload = payload_of(options.protocol);
    return test::ip_packet(options);
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

  Packet any_esp() {
    if (model_.inbound.empty() || one_in(40)) {
      const std::uint32_t spi = gone_.empty() || one_in(2)
                                    ? static_cast<std::uint32_t>(0x90000000 + below(4))
                                    : any(gone_);
      return model::esp_seal({Packet(20, 1), spi, false}, 1, 4, any_ip());
    }
    const auto found = std::next(model_.inbound.begin(),
                                 static_cast<std::ptrdiff_t>(below(model_.inbound.size())));
    const model::InboundModel& sa = found->second;
    // What its number does to the window is known when the packet before it was judged: the model
    // goes first.
    std::uint64_t number = number_for(sa);
    // What is sound and beyond a limit is refused for one reason only.
    const bool is_limited = sa.hard_packets != ~0ULL;
    if (is_limited) number = ++limited_[found->first];
    if (!sa.keys.esn && number > 0xffffffffULL) number = sa.replay.highest();
    Packet& esp = burst_numbers_[{found->first, number}];
    if (esp.empty()) esp = esp_of(sa, number, is_limited);
    return esp;
  }

  Packet esp_of(const model::InboundModel& sa, std::uint64_t number, bool is_limited) {
    Packet inner = any_ip();
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

  /// What the peer says to us in transport mode: a protocol and its message.
  std::pair<std::uint8_t, Packet> upper_layer(bool v6) {
    static const std::vector<std::uint8_t> kProtocols = {17, 6, 1, 47};
    std::uint8_t protocol = any(kProtocols);
    if (protocol != 1) return {protocol, payload_of(protocol)};
    if (v6) protocol = 58;
    const Packet request = v6 ? test::echo_request("2001:db8:ff::2", "2001:db8:ff::1")
                              : test::echo_request("198.51.100.2", "198.51.100.1");
    return {protocol, Packet(request.begin() + (v6 ? 40 : 20), request.end())};
  }

  // ---- a burst on both sides ----

  void expect(const model::Outcome& outcome, Expected& expected) {
    if (const auto* sent = std::get_if<model::SentClear>(&outcome)) {
      expected.clear[sent->port].push_back(sent->ip);
    } else if (const auto* sealed = std::get_if<model::Sealed>(&outcome)) {
      Packet told{sealed->next_header};
      model::put(told, sealed->payload);
      expected.sealed[model_.outbound.at(sealed->sa).keys.spi].push_back(std::move(told));
    } else if (std::holds_alternative<model::UnknownSpi>(outcome)) {
      ++expected.unknown_spis;
    } else if (const auto* reason = std::get_if<DropReason>(&outcome)) {
      ++expected.drops[*reason];
    } else {
      ++expected.punts[std::get<PuntReason>(outcome)];
    }
  }

  std::string one_burst() {
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
    burst_has_leap_ = burst_has_gap_ = false;
    burst_numbers_.clear();
    for (std::size_t left = 1 + below(kBurst); left > 0; --left) {
      burst_is_empty_ = frames.empty();
      if (from_wan && !one_in(3)) {
        const Packet esp = any_esp();
        frames.push_back(frame(outer(esp)));
        const model::Outcome outcome = model_.esp_from_peer(esp, outer(esp));
        const auto shape = shapes_.find(model::get32(esp, 0));
        if (shape != shapes_.end() && shape->second.transport &&
            std::holds_alternative<PuntReason>(outcome)) {
          ++delivered_from_transport_;  // port_unreachable: it was for us
        }
        expect(outcome, expected);
      } else {
        const Packet ip = any_ip();
        frames.push_back(frame(ip));
        expect(model_.from_wire(ip), expected);
      }
      if (limit_is_near() || burst_has_leap_) break;
    }
    const Expected actual = observed(gateway_.receive(from_wan ? kWan : kLan, frames));
    return compare(std::move(expected), actual, frames.size());
  }

  std::string compare(Expected expected, Expected actual, std::size_t count) {
    for (auto* side : {&expected, &actual}) {
      for (auto& [port, packets] : side->clear) std::ranges::sort(packets);
      for (auto& [spi, packets] : side->sealed) std::ranges::sort(packets);
    }
    if (bad_sequence_) return context() + "a sequence number that was not the next";
    if (actual != expected) {
      return context() + "\nexpected:" + told(expected) + "\nseen:    " + told(actual);
    }
    compared_ += count;
    remember(expected);
    return {};
  }

  /// Whether an SA has just had its last packet. A burst ends there: within one it is open which
  /// packets come before the limit.
  bool limit_is_near() const {
    const auto is_at_limit = [](const auto& entry) {
      const auto& sa = entry.second;
      return sa.packets == sa.hard_packets && !sa.stopped;
    };
    return std::ranges::any_of(model_.outbound, is_at_limit) ||
           std::ranges::any_of(model_.inbound, is_at_limit);
  }

  std::string context() const {
    return "CULVERT_AGREEMENT_SEED=" + std::to_string(setting("CULVERT_AGREEMENT_SEED", 1)) +
           ", after " + std::to_string(compared_) + " packets: ";
  }

  Expected observed(const test::Result& result) {
    Expected seen;
    for (const auto& [port, frames] : {std::pair(0U, &result.lan), std::pair(1U, &result.wan)}) {
      for (const Packet& whole : *frames) {
        const Packet ip = test::ip_of(whole);
        const bool v4 = ip[0] >> 4U == 4;
        if (ip[v4 ? 9 : 6] != 50) {
          seen.clear[port].push_back(ip);
        } else {
          open_sealed(Packet(ip.begin() + (v4 ? 20 : 40), ip.end()), seen);
        }
      }
    }
    seen.drops = result.drops;
    for (const auto& punt : result.punts) ++seen.punts[punt.what.reason];
    seen.unknown_spis = result.dropped(DropReason::sa_not_found);
    seen.drops.erase(DropReason::sa_not_found);
    const auto hints = seen.punts.find(PuntReason::unknown_spi);
    if (hints != seen.punts.end()) {
      seen.unknown_spis += hints->second;
      seen.punts.erase(hints);
    }
    return seen;
  }

  /// RFC 4303 §3.3.3: numbers go up by one, whatever way through the worker a packet took.
  void open_sealed(const Packet& esp, Expected& seen) {
    const std::uint32_t spi = model::get32(esp, 0);
    const auto sa = std::ranges::find_if(
        model_.outbound, [&](const auto& entry) { return entry.second.keys.spi == spi; });
    if (sa == model_.outbound.end()) {
      seen.sealed[spi].emplace_back();
      return;
    }
    const auto opened = model::esp_open(sa->second.keys, 0, esp);
    Packet told;
    if (opened) {
      told.push_back(opened->next_header);
      model::put(told, opened->payload);
    }
    seen.sealed[spi].push_back(std::move(told));
    if (opened && opened->sequence != ++sent_[spi]) bad_sequence_ = true;
  }

  void remember(const Expected& burst) {
    for (const auto& [reason, count] : burst.drops) seen_.drops[reason] += count;
    for (const auto& [reason, count] : burst.punts) seen_.punts[reason] += count;
    for (const auto& [port, packets] : burst.clear) clear_ += packets.size();
    for (const auto& [spi, packets] : burst.sealed) {
      sealed_ += packets.size();
      if (shapes_.at(spi).transport) sealed_in_transport_ += packets.size();
    }
    seen_.unknown_spis += burst.unknown_spis;
  }

 public:
  std::uint64_t clear_ = 0, sealed_ = 0, over_by_time_ = 0;
  std::uint64_t sealed_in_transport_ = 0, delivered_from_transport_ = 0;

 private:
  std::mt19937_64 random_;
  test::Gateway gateway_;
  model::GatewayModel model_;
  std::uint64_t now_ = 1'000'000;  ///< seconds
  std::map<std::uint32_t, channel::SaId> ids_;
  std::map<std::uint32_t, Shape> shapes_;  ///< by SPI
  std::map<channel::SaId, control::LifetimeWatch> watches_;
  std::map<std::uint32_t, std::uint64_t> sent_;     ///< by SPI: the last number seen on the wire
  std::map<std::uint32_t, std::uint64_t> limited_;  ///< by SPI: the last number of the peer's
  std::vector<std::uint32_t> gone_;
  std::uint32_t next_spi_ = 0x1000;
  std::uint64_t next_policy_ = 1, compared_ = 0;
  // Of a burst: a leap over most of ESN's numbers stands alone, gaps are few, and a number has one
  // packet, which may come twice.
  bool burst_is_empty_ = true, burst_has_leap_ = false, burst_has_gap_ = false;
  std::map<std::pair<std::uint32_t, std::uint64_t>, Packet> burst_numbers_;  ///< by SPI and number
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
  // Each kind came up, or the generator has lost its teeth.
  CHECK(agreement.clear_ > packets / 100);
  CHECK(agreement.sealed_ > packets / 100);
  CHECK(agreement.over_by_time_ > 0);
  CHECK(agreement.sealed_in_transport_ > 0);
  CHECK(agreement.delivered_from_transport_ > 0);
  CHECK(agreement.seen().unknown_spis > 0);
  for (const DropReason reason :
       {DropReason::policy_discard, DropReason::no_policy_match,
        DropReason::cleartext_violates_policy, DropReason::source_address_invalid,
        DropReason::destination_multicast, DropReason::replay_duplicate,
        DropReason::replay_left_of_window, DropReason::icv_mismatch, DropReason::sa_expired,
        DropReason::esp_truncated, DropReason::esp_padding_invalid, DropReason::dummy_packet,
        DropReason::inner_header_invalid, DropReason::inner_selector_mismatch,
        DropReason::local_port_closed, DropReason::local_protocol_unsupported,
        DropReason::icmp_ignored}) {
    INFO(info(reason).name);
    CHECK(agreement.seen().drops.contains(reason));
  }
  for (const PuntReason reason :
       {PuntReason::acquire, PuntReason::ttl_exceeded, PuntReason::no_route,
        PuntReason::resolve_neighbor, PuntReason::port_unreachable}) {
    INFO(static_cast<int>(reason));
    CHECK(agreement.seen().punts.contains(reason));
  }
}
