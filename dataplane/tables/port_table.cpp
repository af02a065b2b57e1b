#include "dataplane/tables/port_table.hpp"

#include <algorithm>
#include <cassert>
#include <memory>

#include "dataplane/tables/reclaimer.hpp"

namespace culvert::dataplane {

PortTable::PortTable() : now_(new Snapshot) {}

PortTable::~PortTable() { delete now_.load(std::memory_order_relaxed); }

void PortTable::publish(const std::vector<PortInfo>& ports, Reclaimer& reclaimer) {
  assert(ports.size() >= size() && ports.size() <= kMaxPorts);
  auto next = std::make_unique<Snapshot>();
  next->count = ports.size();
  std::ranges::copy(ports, next->ports.begin());
  const Snapshot* const before = now_.exchange(next.release(), std::memory_order_acq_rel);
  reclaimer.retire([before] { delete before; });
}

std::vector<PortInfo> PortTable::copy() const {
  const Snapshot& snapshot = now();
  return {snapshot.ports.begin(),
          snapshot.ports.begin() + static_cast<std::ptrdiff_t>(snapshot.count)};
}

}  // namespace culvert::dataplane
