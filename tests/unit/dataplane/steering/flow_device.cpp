#include "tests/unit/dataplane/steering/flow_device.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <numeric>

#include <dlfcn.h>
#include <rte_errno.h>

#include "wire/cursor.hpp"

namespace culvert::test {
namespace {

std::map<std::uint16_t, FlowDevice*>& devices() {
  static std::map<std::uint16_t, FlowDevice*> all;
  return all;
}

int refuse(rte_flow_error* error, int code, const char* message) {
  error->message = message;
  rte_errno = code;
  return -code;
}

/// Bytes of an item's header as they stand in a frame; 0: an item that this device does not know.
std::size_t bytes_of(rte_flow_item_type type) {
  switch (type) {
    case RTE_FLOW_ITEM_TYPE_ETH:
      return 14;
    case RTE_FLOW_ITEM_TYPE_VLAN:
      return 4;
    case RTE_FLOW_ITEM_TYPE_IPV4:
      return 20;
    case RTE_FLOW_ITEM_TYPE_IPV6:
      return 40;
    case RTE_FLOW_ITEM_TYPE_UDP:
    case RTE_FLOW_ITEM_TYPE_ESP:
      return 8;
    default:
      return 0;
  }
}

/// Walks a frame along a rule's items.
class Walk {
 public:
  explicit Walk(const std::vector<std::uint8_t>& frame) : frame_(frame) {}

  bool passes(const FlowDevice::Item& item) {
    if (!begins(item.type)) return false;
    const std::size_t bytes = bytes_of(item.type);
    if (at_ + bytes > frame_.size()) return false;
    for (std::size_t i = 0; i < item.spec.size(); ++i) {
      if (((frame_[at_ + i] ^ item.spec[i]) & item.mask[i]) != 0) return false;
    }
    next_ = next_after(item.type);
    at_ += item.type == RTE_FLOW_ITEM_TYPE_IPV4 ? (frame_[at_] & 0xfU) * 4U : bytes;
    return true;
  }

 private:
  /// What stands at `at_` is what the layer before says.
  [[nodiscard]] bool begins(rte_flow_item_type type) const {
    switch (type) {
      case RTE_FLOW_ITEM_TYPE_ETH:
        return at_ == 0;
      case RTE_FLOW_ITEM_TYPE_VLAN:
        return next_ == 0x8100 || next_ == 0x88a8;
      case RTE_FLOW_ITEM_TYPE_IPV4:
        return next_ == 0x0800;
      case RTE_FLOW_ITEM_TYPE_IPV6:
        return next_ == 0x86dd;
      case RTE_FLOW_ITEM_TYPE_UDP:
        return next_ == 17;
      case RTE_FLOW_ITEM_TYPE_ESP:
        return next_ == 50 || next_ == kInUdp;
      default:
        return false;
    }
  }
  [[nodiscard]] std::uint32_t next_after(rte_flow_item_type type) const {
    switch (type) {
      case RTE_FLOW_ITEM_TYPE_ETH:
        return wire::load_u16(&frame_[12]);
      case RTE_FLOW_ITEM_TYPE_VLAN:
        return wire::load_u16(&frame_[at_ + 2]);
      case RTE_FLOW_ITEM_TYPE_IPV4:
        return frame_[at_ + 9];
      case RTE_FLOW_ITEM_TYPE_IPV6:
        return frame_[at_ + 6];
      case RTE_FLOW_ITEM_TYPE_UDP:
        return kInUdp;
      default:
        return 0;
    }
  }

  static constexpr std::uint32_t kInUdp = 0x10000;
  const std::vector<std::uint8_t>& frame_;
  std::size_t at_ = 0;
  std::uint32_t next_ = 0;
};

const FlowDevice::Item* find(const FlowDevice::Rule& rule, rte_flow_item_type type) {
  const auto found = std::ranges::find(rule.items, type, &FlowDevice::Item::type);
  return found == rule.items.end() ? nullptr : &*found;
}

}  // namespace

FlowDevice::FlowDevice(std::uint16_t dpdk_port, std::uint16_t queues, std::size_t room)
    : dpdk_port_(dpdk_port), queues_(queues), room_(room) {
  devices()[dpdk_port] = this;
}
FlowDevice::~FlowDevice() { devices().erase(dpdk_port_); }
FlowDevice* FlowDevice::of(std::uint16_t dpdk_port) {
  const auto found = devices().find(dpdk_port);
  return found == devices().end() ? nullptr : found->second;
}

std::uint16_t FlowDevice::queue_of(const std::vector<std::uint8_t>& frame) const {
  for (const Rule& rule : rules_) {
    Walk walk(frame);
    if (std::ranges::all_of(rule.items, [&](const Item& item) { return walk.passes(item); })) {
      return rule.queue;
    }
  }
  // The last byte is of an ICV: each queue gets some of every SA.
  return static_cast<std::uint16_t>(frame.back() % queues_);
}

int FlowDevice::validate(const rte_flow_attr* attributes, const rte_flow_item* items,
                         const rte_flow_action* actions, rte_flow_error* error, Rule* parsed) {
  ++validated;
  if (attributes->ingress != 1 || attributes->egress != 0 || attributes->transfer != 0) {
    return refuse(error, EINVAL, "not ingress");
  }
  Rule rule{};
  for (; items->type != RTE_FLOW_ITEM_TYPE_END; ++items) {
    const std::size_t bytes = bytes_of(items->type);
    if (bytes == 0) return refuse(error, ENOTSUP, "item unknown");
    if (items->last != nullptr) return refuse(error, ENOTSUP, "range");
    if ((items->spec == nullptr) != (items->mask == nullptr)) {
      return refuse(error, EINVAL, "spec and mask go together here");
    }
    Item item{items->type, {}, {}};
    if (items->spec != nullptr) {
      const auto* const spec = static_cast<const std::uint8_t*>(items->spec);
      const auto* const mask = static_cast<const std::uint8_t*>(items->mask);
      item.spec.assign(spec, spec + bytes);
      item.mask.assign(mask, mask + bytes);
    }
    rule.items.push_back(std::move(item));
  }
  if (actions[0].type != RTE_FLOW_ACTION_TYPE_QUEUE ||
      actions[1].type != RTE_FLOW_ACTION_TYPE_END) {
    return refuse(error, ENOTSUP, "only queues");
  }
  rule.queue = static_cast<const rte_flow_action_queue*>(actions[0].conf)->index;
  if (rule.queue >= queues_) return refuse(error, EINVAL, "no such queue");
  if (const char* const why = cannot(rule); why != nullptr) return refuse(error, ENOTSUP, why);
  if (parsed != nullptr) *parsed = std::move(rule);
  return 0;
}

rte_flow* FlowDevice::create(const rte_flow_attr* attributes, const rte_flow_item* items,
                             const rte_flow_action* actions, rte_flow_error* error) {
  Rule rule{};
  --validated;
  if (validate(attributes, items, actions, error, &rule) != 0) {
    --validated;
    return nullptr;
  }
  if (rules_.size() == room_) {
    ++refused;
    refuse(error, ENOSPC, "the table is full");
    return nullptr;
  }
  ++created;
  rules_.push_back(std::move(rule));
  return reinterpret_cast<rte_flow*>(&rules_.back());
}

int FlowDevice::destroy(rte_flow* rule, rte_flow_error* error) {
  if (keeps_rules) return refuse(error, EBUSY, "not now");
  const auto found = std::ranges::find_if(rules_, [&](const Rule& mine) {
    return reinterpret_cast<rte_flow*>(&const_cast<Rule&>(mine)) == rule;
  });
  if (found == rules_.end()) return refuse(error, ENOENT, "no such rule");
  rules_.erase(found);
  ++destroyed;
  return 0;
}

int FlowDevice::flush() {
  ++flushed;
  rules_.clear();
  return 0;
}

bool names(const FlowDevice::Rule& rule, rte_flow_item_type type) {
  return find(rule, type) != nullptr;
}
bool matches_on(const FlowDevice::Rule& rule, rte_flow_item_type type) {
  const FlowDevice::Item* const item = find(rule, type);
  return item != nullptr && !item->spec.empty();
}

}  // namespace culvert::test

// In place of DPDK's own, for the ports that have a FlowDevice: Debian's DPDK has no header for
// drivers, so that the test could not bring one.
using culvert::test::FlowDevice;

namespace {
template <typename Function>
Function* dpdk(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}
}  // namespace

extern "C" {
int rte_flow_validate(std::uint16_t port, const rte_flow_attr* attributes,
                      const rte_flow_item* items, const rte_flow_action* actions,
                      rte_flow_error* error) {
  if (FlowDevice* const device = FlowDevice::of(port); device != nullptr) {
    return device->validate(attributes, items, actions, error);
  }
  return dpdk<decltype(rte_flow_validate)>("rte_flow_validate")(port, attributes, items, actions,
                                                                error);
}
rte_flow* rte_flow_create(std::uint16_t port, const rte_flow_attr* attributes,
                          const rte_flow_item* items, const rte_flow_action* actions,
                          rte_flow_error* error) {
  if (FlowDevice* const device = FlowDevice::of(port); device != nullptr) {
    return device->create(attributes, items, actions, error);
  }
  return dpdk<decltype(rte_flow_create)>("rte_flow_create")(port, attributes, items, actions,
                                                            error);
}
int rte_flow_destroy(std::uint16_t port, rte_flow* rule, rte_flow_error* error) {
  if (FlowDevice* const device = FlowDevice::of(port); device != nullptr) {
    return device->destroy(rule, error);
  }
  return dpdk<decltype(rte_flow_destroy)>("rte_flow_destroy")(port, rule, error);
}
int rte_flow_flush(std::uint16_t port, rte_flow_error* error) {
  if (FlowDevice* const device = FlowDevice::of(port); device != nullptr) return device->flush();
  return dpdk<decltype(rte_flow_flush)>("rte_flow_flush")(port, error);
}
}
