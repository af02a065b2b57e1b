// Per-port transmit queues, sent at the end of the burst.
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {

void flush(WorkerState& worker, PortId port) {
  TransmitQueue& queue = worker.transmit[raw(port)];
  const PortInfo& info = worker.tables.ports[raw(port)];
  if (info.vlan.any()) [[unlikely]]
    add_tags(worker, port);
  const auto tx_queue = static_cast<std::uint16_t>(worker.context.id);
  const std::uint32_t sent = rte_eth_tx_burst(info.dpdk_port, tx_queue, queue.frames.data(),
                                              static_cast<std::uint16_t>(queue.count));
  for (std::uint32_t i = sent; i < queue.count; ++i) {
    queue.bytes -= queue.frames[i]->pkt_len;
    worker.drop(queue.frames[i], DropDirection::out, DropReason::tx_queue_full);
  }
  if (info.shares_device) [[unlikely]] {
    worker.counters.ports[raw(port)].sent.add(sent);
    worker.counters.ports[raw(port)].sent_bytes.add(queue.bytes);
  }
  worker.counters.sent.add(sent);
  worker.counters.sent_bytes.add(queue.bytes);
  queue.count = 0;
  queue.bytes = 0;
}

void transmit_all(WorkerState& worker) {
  for (std::size_t port = 0; port < worker.tables.ports.size(); ++port) {
    if (worker.transmit[port].count != 0) flush(worker, static_cast<PortId>(port));
  }
}

}  // namespace culvert::dataplane
