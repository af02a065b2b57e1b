// A device whose flow rules are the test's: it takes the calls of rte_flow for a DPDK port, keeps a
// table of limited size, and says to which queue a frame goes. It reads items and frames by the
// words of rte_flow.h alone and knows nothing of those who make the rules.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include <rte_flow.h>

namespace culvert::test {

class FlowDevice {
 public:
  /// Calls for `dpdk_port` come here while this lives; other ports have DPDK's own answer.
  FlowDevice(std::uint16_t dpdk_port, std::uint16_t queues, std::size_t room);
  ~FlowDevice();
  FlowDevice(const FlowDevice&) = delete;
  FlowDevice& operator=(const FlowDevice&) = delete;
  static FlowDevice* of(std::uint16_t dpdk_port);

  struct Item {
    rte_flow_item_type type;
    std::vector<std::uint8_t> spec, mask;  ///< empty: any
  };
  struct Rule {
    std::vector<Item> items;
    std::uint16_t queue;
  };

  /// By a rule; without one as RSS would: by any hash of the frame.
  [[nodiscard]] std::uint16_t queue_of(const std::vector<std::uint8_t>& frame) const;
  [[nodiscard]] const std::list<Rule>& rules() const { return rules_; }

  /// What the hardware cannot: its words, or nullptr where it can.
  std::function<const char*(const Rule&)> cannot = [](const Rule&) { return nullptr; };
  bool keeps_rules = false;  ///< refuses to remove any
  unsigned validated = 0, created = 0, refused = 0, destroyed = 0, flushed = 0;

  int validate(const rte_flow_attr* attributes, const rte_flow_item* items,
               const rte_flow_action* actions, rte_flow_error* error, Rule* parsed = nullptr);
  rte_flow* create(const rte_flow_attr* attributes, const rte_flow_item* items,
                   const rte_flow_action* actions, rte_flow_error* error);
  int destroy(rte_flow* rule, rte_flow_error* error);
  int flush();

 private:
  std::uint16_t dpdk_port_, queues_;
  std::size_t room_;
  std::list<Rule> rules_;
};

/// Whether a rule has an item of this type, and with something to match.
[[nodiscard]] bool names(const FlowDevice::Rule& rule, rte_flow_item_type type);
[[nodiscard]] bool matches_on(const FlowDevice::Rule& rule, rte_flow_item_type type);

}  // namespace culvert::test
