#include "dataplane/control/steering.hpp"

#include <algorithm>
#include <utility>

#include "runtime/log.hpp"

namespace culvert::dataplane::control {

std::expected<std::unique_ptr<Steering>, std::string> Steering::create(
    std::vector<Interface> interfaces, std::uint32_t workers, std::uint32_t slots) {
  std::unique_ptr<Steering> steering(new Steering(std::move(interfaces), workers));
  if (!steering->lanes_.empty() && !steering->places_.reserve(slots)) {
    return std::unexpected("no memory for the rules of " + std::to_string(slots) + " SAs");
  }
  return steering;
}

Steering::Steering(std::vector<Interface> interfaces, std::uint32_t workers)
    : interfaces_(std::move(interfaces)), workers_(workers) {
  make_lanes();
}

/// Interfaces of one device (its VLANs) share its table of rules.
void Steering::make_lanes() {
  if (workers_ <= 1) return;
  for (std::size_t index = 0; index < interfaces_.size(); ++index) {
    const Interface& interface = interfaces_[index];
    auto device = std::ranges::find(devices_, interface.dpdk_port, &Device::dpdk_port);
    if (device == devices_.end()) {
      devices_.push_back({interface.dpdk_port, {}, false});
      device = devices_.end() - 1;
    }
    for (const ports::EspForm& form : ports::kEspForms) {
      lanes_.push_back({.rules = ports::EspRules(interface.dpdk_port, form, interface.vlan),
                        .interface = index,
                        .device = static_cast<std::size_t>(device - devices_.begin()),
                        .form = form});
    }
  }
}

void Steering::start() {
  is_started_ = true;
  for (Lane& lane : lanes_) {
    auto taken = lane.rules.probe();
    lane.is_taken = taken.has_value();
    lane.is_full = false;
    lane.refusal = taken ? "" : std::move(taken.error());
  }
  if (lanes_.empty()) return;
  for (std::size_t port = 0; port < interfaces_.size(); ++port) {
    log_interface(static_cast<PortId>(port));
  }
}

void Steering::log_interface(PortId port) const {
  const SteeringReport now = report(port);
  std::string takes;
  for (const std::string& form : now.takes) takes += (takes.empty() ? "" : " ") + form;
  runtime::log(runtime::Level::info, "steering",
               {{"interface", interfaces_[raw(port)].name},
                {"rules_for", takes.empty() ? "none" : takes},
                {"refused", now.refuses.empty() ? "nothing" : now.refuses.front().second}});
}

/// 1. all rules at once, which is what drivers do fastest; 2. their SAs wait, for who starts again.
void Steering::stop() {
  if (!is_started_) return;
  is_started_ = false;
  for (Device& device : devices_) {
    device.leaving.clear();
    if (!std::exchange(device.any_rule, false)) continue;
    if (auto done = ports::remove_all_rules(device.dpdk_port); !done) {
      runtime::log(runtime::Level::warning, "steering_rules_left",
                   {{"port", device.dpdk_port}, {"error", done.error()}});
    }
  }
  for (Lane& lane : lanes_) {
    while (lane.ruled.count != 0) {
      const std::uint32_t slot = lane.ruled.first - 1;
      places_[slot].rule = nullptr;
      take_out(lane.ruled, slot);
      append(lane.waiting, slot);
    }
  }
}

bool Steering::change(std::vector<Interface> interfaces) {
  const bool differs_in_names_at_most =
      std::ranges::equal(interfaces, interfaces_, [](const Interface& a, const Interface& b) {
        return a.dpdk_port == b.dpdk_port && a.vlan == b.vlan;
      });
  if (differs_in_names_at_most) {
    interfaces_ = std::move(interfaces);
    return false;
  }
  const bool was_started = is_started_;
  stop();
  for (Lane& lane : lanes_) {
    while (lane.waiting.count != 0) {
      const std::uint32_t slot = lane.waiting.first - 1;
      take_out(lane.waiting, slot);
      places_[slot] = {};
    }
  }
  interfaces_ = std::move(interfaces);
  lanes_.clear();
  devices_.clear();
  next_lane_ = 0;
  make_lanes();
  if (was_started) start();
  return true;
}

void Steering::append(List& list, std::uint32_t slot) {
  Place& place = places_[slot];
  place.before = list.last;
  place.next = kNobody;
  (list.last == kNobody ? list.first : places_[list.last - 1].next) = slot + 1;
  list.last = slot + 1;
  ++list.count;
}

void Steering::take_out(List& list, std::uint32_t slot) {
  const Place& place = places_[slot];
  (place.before == kNobody ? list.first : places_[place.before - 1].next) = place.next;
  (place.next == kNobody ? list.last : places_[place.next - 1].before) = place.before;
  --list.count;
}

void Steering::add(const InboundSaPlace& sa) {
  if (lanes_.empty()) return;
  const auto slot = static_cast<std::uint32_t>(sa.slot);
  const std::size_t lane = raw(sa.port) * ports::kEspForms.size() + ports::place_of(sa.form);
  // An interface that is new: when it is told of, all SAs are added again.
  if (lane >= lanes_.size()) return remove(sa.slot);
  Place& place = places_[slot];
  if (place.lane == lane + 1 && place.spi == sa.spi) return;
  remove(sa.slot);
  place.lane = static_cast<std::uint16_t>(lane + 1);
  place.spi = sa.spi;
  append(lanes_[lane].waiting, slot);
}

void Steering::remove(SlotIndex slot) {
  if (lanes_.empty()) return;
  const auto at = static_cast<std::uint32_t>(slot);
  Place& place = places_[at];
  if (place.lane == 0) return;
  Lane& lane = lanes_[place.lane - 1U];
  take_out(place.rule != nullptr ? lane.ruled : lane.waiting, at);
  if (place.rule != nullptr) devices_[lane.device].leaving.push_back(place.rule);
  place = {};
}

/// Rules of SAs that are gone first: they may be of an SPI that is in use again, and they make
/// room.
void Steering::work() {
  if (!is_started_) return;
  const Instant end = runtime::now() + kPatience;
  for (unsigned calls = 0; calls < kCallsAtOnce; ++calls) {
    if (!remove_one() && !add_one()) return;
    if (runtime::now() >= end) return;
  }
}

bool Steering::remove_one() {
  const auto device = std::ranges::find_if(
      devices_, [](const Device& candidate) { return !candidate.leaving.empty(); });
  if (device == devices_.end()) return false;
  rte_flow* const rule = device->leaving.back();
  device->leaving.pop_back();
  const auto done = ports::remove_rule(device->dpdk_port, rule);
  // One that stays sends packets that no SA takes to some queue, until all are removed at the stop.
  if (!done && !std::exchange(removal_failed_, true)) {
    runtime::log(runtime::Level::warning, "steering_rule_not_removed",
                 {{"port", device->dpdk_port}, {"error", done.error()}});
  }
  if (done) freed(static_cast<std::size_t>(device - devices_.begin()));
  return true;
}

void Steering::freed(std::size_t device) {
  for (Lane& lane : lanes_) {
    if (lane.device != device || !std::exchange(lane.is_full, false)) continue;
    lane.refusal.clear();
  }
}

/// Lanes in turn: a form with a million SAs keeps no other one out.
bool Steering::add_one() {
  for (std::size_t tried = 0; tried < lanes_.size(); ++tried) {
    Lane& lane = lanes_[next_lane_];
    next_lane_ = (next_lane_ + 1) % lanes_.size();
    if (!can_add(lane)) continue;
    add_rule(lane);
    return true;
  }
  return false;
}

/// A refusal says that there is no room, in each driver's own words; whatever it was, the next SA
/// would meet it too.
void Steering::add_rule(Lane& lane) {
  const std::uint32_t slot = lane.waiting.first - 1;
  Place& place = places_[slot];
  auto rule = lane.rules.add(place.spi, static_cast<std::uint16_t>(slot % workers_));
  if (!rule) {
    lane.is_full = true;
    lane.refusal = std::move(rule.error());
    if (std::exchange(lane.is_logged, true)) return;
    runtime::log(runtime::Level::warning, "steering_rule_refused",
                 {{"interface", interfaces_[lane.interface].name},
                  {"form", ports::to_string(lane.form)},
                  {"rules", lane.ruled.count},
                  {"error", lane.refusal},
                  {"effect", "other SAs' packets are handed from worker to worker"}});
    return;
  }
  take_out(lane.waiting, slot);
  place.rule = *rule;
  append(lane.ruled, slot);
  devices_[lane.device].any_rule = true;
}

SteeringReport Steering::report(PortId port) const {
  SteeringReport report;
  for (const Lane& lane : lanes_) {
    if (lane.interface != raw(port)) continue;
    report.has_one_queue = false;
    report.with_rule += lane.ruled.count;
    report.without_rule += lane.waiting.count;
    const std::string form(ports::to_string(lane.form));
    if (lane.is_taken) {
      report.takes.push_back(form);
    } else {
      report.refuses.emplace_back(form, lane.refusal);
    }
    if (lane.is_full) report.last_refusal = lane.refusal;
  }
  return report;
}

}  // namespace culvert::dataplane::control
