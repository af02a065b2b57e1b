// One trial of RFC 2544 §26: a stream at a rate for a while, and what came back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "benchmarks/tester/latency.hpp"
#include "benchmarks/tester/packets.hpp"

struct rte_mempool;

namespace culvert::benchmarks {

enum class Towards : std::uint8_t {
  wan,  ///< clear packets into the LAN port; ESP, or the same forwarded, expected at the WAN port
  lan,  ///< ESP, or what is to be forwarded, into the WAN port; clear packets expected at the LAN's
};

struct Stream {
  Towards towards = Towards::wan;
  Way way = Way::tunnel;
  std::uint32_t inner_bytes = 64;  ///< 0: IMIX
  double packets_per_second = 0;
  double seconds = 0;
};

/// What a trial saw. The rate that was sent is `sent / seconds`: less than asked where the tester
/// could do no more.
struct Seen {
  std::uint64_t sent = 0, received = 0;
  std::uint64_t others = 0;  ///< frames that were none of the stream's, ARP left out
  double seconds = 0;
  std::unique_ptr<Latencies> latencies;
};

/// Two ports of the tester, cabled to a gateway's LAN and WAN. One thread.
class Tester {
 public:
  /// DPDK ports, configured and started; the error ends the program.
  Tester(std::uint16_t lan_port, std::uint16_t wan_port, rte_mempool* pool);

  /// Asks for the gateway's addresses on both links; false: one did not answer in time.
  [[nodiscard]] bool find_gateway(double seconds);
  [[nodiscard]] Seen run(const Stream& stream);

 private:
  struct Port {
    std::uint16_t id;
    Link link;
    Mac mac{}, gateway_mac{};
    bool is_resolved = false;
  };
  struct Sending;

  void send_burst(const Stream& stream, Sending& sending, std::uint64_t count);
  void receive(Port& port, const Stream* stream, Seen& seen);
  std::size_t write_frame(std::span<std::uint8_t> out, const Stream& stream,
                          const Sending& sending);
  /// True: it was ARP, answered or learnt from.
  bool serve_arp(Port& port, std::span<std::uint8_t> frame);
  void send_frame(const Port& port, std::span<const std::uint8_t> frame);

  Port lan_, wan_;
  rte_mempool* pool_;
  Tunnel tunnel_;
  std::uint32_t trial_ = 0;
};

}  // namespace culvert::benchmarks
