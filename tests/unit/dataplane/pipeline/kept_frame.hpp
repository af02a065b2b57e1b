// A frame that is still there when the worker has ended it: what it was decrypted to stands in it.
#pragma once

#include <algorithm>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class KeptFrame {
 public:
  /// It lies in the port then, for the next iteration.
  KeptFrame(dataplane::PortId port, const Packet& bytes)
      : packet_(rte_pktmbuf_alloc(packet_pool())) {
    REQUIRE(packet_ != nullptr);
    start_ = rte_pktmbuf_append(packet_, static_cast<std::uint16_t>(bytes.size()));
    REQUIRE(start_ != nullptr);
    std::copy(bytes.begin(), bytes.end(), start_);
    rte_mbuf_refcnt_update(packet_, 1);
    rte_mbuf* sent = packet_;
    REQUIRE(rte_eth_tx_burst(static_cast<std::uint16_t>(dataplane::raw(port)), 0, &sent, 1) == 1);
  }
  ~KeptFrame() { rte_pktmbuf_free(packet_); }
  KeptFrame(const KeptFrame&) = delete;
  KeptFrame& operator=(const KeptFrame&) = delete;

  /// What stands there now, by its place in the frame as it came.
  [[nodiscard]] Packet bytes(std::size_t at, std::size_t count) const {
    return {start_ + at, start_ + at + count};
  }

 private:
  rte_mbuf* packet_;
  char* start_ = nullptr;
};

}  // namespace culvert::test
