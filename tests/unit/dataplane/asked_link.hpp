// A table of neighbours, its virtual clock and what it asked for.
#pragma once

#include <algorithm>
#include <vector>

#include "dataplane/control/neighbor_table.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control::test_link {

inline const NeighborKey kPeer{PortId{0}, test::address("192.0.2.2")};
inline constexpr wire::MacAddress kMac{2, 0, 0, 0, 0, 2};
inline constexpr wire::MacAddress kOtherMac{2, 0, 0, 0, 0, 9};

struct AskedLink {
  NeighborTable table;
  Instant now{std::chrono::hours{1}};
  std::vector<NeighborAction> actions;

  void pass(Instant time) {
    now += time;
    table.tick(now, actions);
  }
  Wanted want(const NeighborKey& key = kPeer, WantedBy by = WantedBy::packet) {
    return table.want(key, by, now, actions);
  }
  void use(const NeighborKey& key = kPeer) { table.used(key, WantedBy::packet, now, actions); }
  void answer(const wire::MacAddress& mac) { table.answered(kPeer, mac, now, actions); }
  void ask_us(const NeighborKey& key, const wire::MacAddress& mac) {
    table.asked_us(key, mac, now, actions);
  }
  template <typename Action>
  std::size_t count() const {
    return static_cast<std::size_t>(std::ranges::count_if(
        actions,
        [](const NeighborAction& action) { return std::holds_alternative<Action>(action); }));
  }
};

}  // namespace culvert::dataplane::control::test_link
