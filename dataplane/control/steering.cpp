#include "dataplane/control/steering.hpp"

#include <algorithm>
#include <span>
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
  if (workers_ <= 1) return;
  for (std::size_t index = 0; index < interfaces_.size(); ++index) make_lanes(index);
}

/// Interfaces of one device (its VLANs) share its table of rules.
std::size_t Steering::device_of(const Interface& interface) {
  const auto known = std::ranges::find(devices_, interface.dpdk_port, &Device::dpdk_port);
  if (known != devices_.end()) return static_cast<std::size_t>(known - devices_.begin());
  devices_.push_back({interface.dpdk_port, {}, false});
  return devices_.size() - 1;
}

/// Where lanes were whose SAs are all gone, or behind the last.
std::size_t Steering::room_for_lanes() {
  constexpr std::size_t kForms = ports::kEspForms.size();
  for (std::size_t first = 0; first < lanes_.size(); first += kForms) {
    const auto its = std::span(lanes_).subspan(first, kForms);
    const auto is_free = [](const Lane& lane) {
      return lane.is_over && lane.waiting.count + lane.ruled.count == 0;
    };
    if (std::ranges::all_of(its, is_free)) return first;
  }
  return lanes_.size();
}

void Steering::make_lanes(std::size_t interface) {
  const Interface& port = interfaces_[interface];
  const std::size_t device = device_of(port);
  const std::size_t first = room_for_lanes();
  for (std::size_t form = 0; form < ports::kEspForms.size(); ++form) {
    Lane lane{.rules = ports::EspRules(port.dpdk_port, ports::kEspForms[form], port.vlan),
              .interface = interface,
              .device = device,
              .form = ports::kEspForms[form]};
    if (first + form == lanes_.size()) {
      lanes_.push_back(std::move(lane));
    } else {
      lanes_[first + form] = std::move(lane);
    }
  }
  lanes_of_.resize(std::max(lanes_of_.size(), interface + 1));
  lanes_of_[interface] = first;
}

void Steering::start() {
  is_started_ = true;
  for (std::size_t interface = 0; interface < lanes_of_.size(); ++interface) probe(interface);
}

void Steering::probe(std::size_t interface) {
  for (std::size_t form = 0; form < ports::kEspForms.size(); ++form) {
    Lane& lane = lanes_[lanes_of_[interface] + form];
    auto taken = lane.rules.probe();
    lane.is_taken = taken.has_value();
    lane.is_full = false;
    lane.refusal = taken ? "" : std::move(taken.error());
  }
  log_interface(static_cast<PortId>(interface));
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

/// What an interface that is no more has of rules and SAs is left where it is: `work` takes it
/// away, a part at a time, and whoever of these SAs is added again or removed before is taken out.
bool Steering::change(std::vector<Interface> interfaces) {
  const std::vector<Interface> before = std::exchange(interfaces_, std::move(interfaces));
  if (workers_ <= 1) return false;
  bool is_any_new = false;
  for (std::size_t index = 0; index < std::max(before.size(), interfaces_.size()); ++index) {
    const bool is_there = index < interfaces_.size();
    if (index < before.size()) {
      const bool stays = is_there && interfaces_[index].dpdk_port == before[index].dpdk_port &&
                         interfaces_[index].vlan == before[index].vlan;
      if (stays) continue;
      for (std::size_t form = 0; form < ports::kEspForms.size(); ++form) {
        lanes_[lanes_of_[index] + form].is_over = true;
      }
    }
    if (!is_there) continue;
    is_any_new = true;
    make_lanes(index);
    if (is_started_) probe(index);
  }
  lanes_of_.resize(interfaces_.size());
  return is_any_new;
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
  // An interface that is new: when it is told of, all SAs are added again.
  if (raw(sa.port) >= lanes_of_.size()) return remove(sa.slot);
  const std::size_t lane = lanes_of_[raw(sa.port)] + ports::place_of(sa.form);
  Place& place = places_[slot];
  if (place.lane == lane + 1 && place.spi == sa.spi) return;
  remove(sa.slot);
  place.lane = static_cast<std::uint32_t>(lane + 1);
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
/// room. Those of an interface that is gone take turns with new ones, which need not wait for a
/// million of them.
void Steering::work() {
  if (!is_started_) return;
  const Instant end = runtime::now() + kPatience;
  for (unsigned calls = 0; calls < kCallsAtOnce; ++calls) {
    const bool any =
        remove_one() || (calls % 2 == 0 ? empty_one() || add_one() : add_one() || empty_one());
    if (!any || runtime::now() >= end) return;
  }
}

bool Steering::remove_one() {
  const auto device = std::ranges::find_if(
      devices_, [](const Device& candidate) { return !candidate.leaving.empty(); });
  if (device == devices_.end()) return false;
  rte_flow* const rule = device->leaving.back();
  device->leaving.pop_back();
  remove_rule(static_cast<std::size_t>(device - devices_.begin()), rule);
  return true;
}

void Steering::remove_rule(std::size_t device, rte_flow* rule) {
  const std::uint16_t port = devices_[device].dpdk_port;
  const auto done = ports::remove_rule(port, rule);
  // One that stays sends packets that no SA takes to some queue, until all are removed at the stop.
  if (!done && !std::exchange(removal_failed_, true)) {
    runtime::log(runtime::Level::warning, "steering_rule_not_removed",
                 {{"port", port}, {"error", done.error()}});
  }
  if (done) freed(device);
}

/// An SA of a lane that is over.
bool Steering::empty_one() {
  const auto lane = std::ranges::find_if(lanes_, [](const Lane& candidate) {
    return candidate.is_over && candidate.waiting.count + candidate.ruled.count != 0;
  });
  if (lane == lanes_.end()) return false;
  List& list = lane->ruled.count != 0 ? lane->ruled : lane->waiting;
  const std::uint32_t slot = list.first - 1;
  rte_flow* const rule = places_[slot].rule;
  take_out(list, slot);
  places_[slot] = {};
  if (rule != nullptr) remove_rule(lane->device, rule);
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
  if (raw(port) >= lanes_of_.size()) return report;
  for (const Lane& lane :
       std::span(lanes_).subspan(lanes_of_[raw(port)], ports::kEspForms.size())) {
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
