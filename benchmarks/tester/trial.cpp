#include "benchmarks/tester/trial.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "wire/ethernet.hpp"

namespace culvert::benchmarks {
namespace {

constexpr std::uint16_t kBurst = 32;
constexpr std::uint16_t kIpv4 = 0x0800;
constexpr std::uint32_t kFlows = 64;
constexpr std::array<std::uint32_t, 12> kImix{64, 570, 64, 64, 570, 64, 64, 570, 1400, 64, 570, 64};
/// RFC 2544 §23 waits two seconds for what is still on its way; silence this long says that nothing
/// is.
constexpr double kLongestWait = 2, kSilence = 0.2;

std::span<std::uint8_t> bytes_of(rte_mbuf* packet) {
  return {rte_pktmbuf_mtod(packet, std::uint8_t*), packet->data_len};
}

double seconds_since(std::uint64_t before) {
  return static_cast<double>(rte_rdtsc() - before) / static_cast<double>(rte_get_tsc_hz());
}

Mac mac_of(std::uint16_t port) {
  rte_ether_addr address{};
  rte_eth_macaddr_get(port, &address);
  Mac mac;
  std::memcpy(mac.data(), address.addr_bytes, mac.size());
  return mac;
}

bool is_ipv4(std::span<const std::uint8_t> frame) {
  return frame.size() > wire::ethernet::kHeaderBytes && frame[12] == 0x08 && frame[13] == 0x00;
}

}  // namespace

struct Tester::Sending {
  std::uint64_t sent = 0;    ///< taken by the port
  std::uint64_t number = 0;  ///< of the next packet
  std::uint64_t now = 0;     ///< TSC of the burst
};

Tester::Tester(std::uint16_t lan_port, std::uint16_t wan_port, rte_mempool* pool)
    : lan_{lan_port, kLan, mac_of(lan_port)}, wan_{wan_port, kWan, mac_of(wan_port)}, pool_(pool) {}

void Tester::send_frame(const Port& port, std::span<const std::uint8_t> frame) {
  rte_mbuf* packet = rte_pktmbuf_alloc(pool_);
  if (packet == nullptr) return;
  std::memcpy(rte_pktmbuf_append(packet, static_cast<std::uint16_t>(frame.size())), frame.data(),
              frame.size());
  if (rte_eth_tx_burst(port.id, 0, &packet, 1) == 0) rte_pktmbuf_free(packet);
}

bool Tester::serve_arp(Port& port, std::span<std::uint8_t> frame) {
  const auto arp = read_arp(frame);
  if (!arp) return false;
  if (arp->sender == port.link.gateway) {
    port.gateway_mac = arp->mac;
    port.is_resolved = true;
  }
  if (!arp->is_question || arp->target != port.link.tester) return true;
  answer_arp(frame, port.mac);
  send_frame(port, frame.first(kArpFrameBytes));
  return true;
}

bool Tester::find_gateway(double seconds) {
  constexpr double kAskAgain = 0.2;
  const std::uint64_t begin = rte_rdtsc();
  double next = 0;
  Seen ignored;
  while (seconds_since(begin) < seconds) {
    if (seconds_since(begin) >= next) {
      next += kAskAgain;
      for (const Port* port : {&lan_, &wan_}) {
        std::array<std::uint8_t, kArpFrameBytes> question{};
        write_arp_question(question, port->mac, port->link.tester, port->link.gateway);
        send_frame(*port, question);
      }
    }
    receive(lan_, nullptr, ignored);
    receive(wan_, nullptr, ignored);
    if (lan_.is_resolved && wan_.is_resolved) return true;
  }
  return false;
}

std::size_t Tester::write_frame(std::span<std::uint8_t> out, const Stream& stream,
                                const Sending& sending) {
  const std::size_t bytes =
      stream.inner_bytes != 0 ? stream.inner_bytes : kImix[sending.number % kImix.size()];
  const auto flow = static_cast<std::uint32_t>(sending.number % kFlows);
  const Mark mark{trial_, sending.now};
  const bool from_lan = stream.towards == Towards::wan;
  const Port& port = from_lan ? lan_ : wan_;
  const std::span<std::uint8_t> packet = out.subspan(wire::ethernet::kHeaderBytes);
  const auto write = [&](std::span<std::uint8_t> inner) {
    return write_inner(inner, stream.way, from_lan, bytes, flow, mark);
  };
  write_ethernet(out, port.gateway_mac, port.mac, kIpv4);
  const bool is_sealed = !from_lan && stream.way == Way::tunnel;
  return wire::ethernet::kHeaderBytes +
         (is_sealed ? tunnel_.seal(packet, bytes, write) : write(packet));
}

void Tester::send_burst(const Stream& stream, Sending& sending, std::uint64_t count) {
  rte_mbuf* burst[kBurst];
  const auto wanted = static_cast<std::uint16_t>(std::min<std::uint64_t>(count, kBurst));
  if (rte_pktmbuf_alloc_bulk(pool_, burst, wanted) != 0) return;
  sending.now = rte_rdtsc();
  for (std::uint16_t at = 0; at < wanted; ++at) {
    auto* const data =
        reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(burst[at], kMostFrameBytes));
    const std::size_t bytes = write_frame({data, kMostFrameBytes}, stream, sending);
    rte_pktmbuf_trim(burst[at], static_cast<std::uint16_t>(kMostFrameBytes - bytes));
    ++sending.number;
  }
  const Port& port = stream.towards == Towards::wan ? lan_ : wan_;
  const std::uint16_t taken = rte_eth_tx_burst(port.id, 0, burst, wanted);
  sending.sent += taken;
  rte_pktmbuf_free_bulk(burst + taken, wanted - taken);
}

void Tester::receive(Port& port, const Stream* stream, Seen& seen) {
  rte_mbuf* burst[kBurst];
  const std::uint16_t count = rte_eth_rx_burst(port.id, 0, burst, kBurst);
  const std::uint64_t now = rte_rdtsc();
  for (std::uint16_t at = 0; at < count; ++at) {
    const auto frame = bytes_of(burst[at]);
    if (serve_arp(port, frame)) continue;
    std::optional<Mark> mark;
    const bool is_expected = stream != nullptr && is_ipv4(frame) &&
                             (stream->towards == Towards::wan) == (&port == &wan_);
    if (is_expected) {
      const bool from_lan = &port == &wan_;
      const bool is_sealed = from_lan && stream->way == Way::tunnel;
      const auto packet = frame.subspan(wire::ethernet::kHeaderBytes);
      mark = read_inner(is_sealed ? tunnel_.open(packet) : packet, stream->way, from_lan);
    }
    if (!mark || mark->trial != trial_) {
      ++seen.others;
      continue;
    }
    ++seen.received;
    seen.latencies->add(now - mark->sent_tsc);
  }
  rte_pktmbuf_free_bulk(burst, count);
}

Seen Tester::run(const Stream& stream) {
  ++trial_;
  Seen seen;
  seen.latencies = std::make_unique<Latencies>();
  Sending sending;
  Port& expecting = stream.towards == Towards::wan ? wan_ : lan_;
  Port& other = stream.towards == Towards::wan ? lan_ : wan_;
  const double cycles_per_packet =
      static_cast<double>(rte_get_tsc_hz()) / stream.packets_per_second;
  const std::uint64_t begin = rte_rdtsc();
  while (seconds_since(begin) < stream.seconds) {
    const auto due =
        static_cast<std::uint64_t>(static_cast<double>(rte_rdtsc() - begin) / cycles_per_packet);
    if (due > sending.number) send_burst(stream, sending, due - sending.number);
    receive(expecting, &stream, seen);
    receive(other, &stream, seen);
  }
  seen.seconds = seconds_since(begin);
  seen.sent = sending.sent;
  const std::uint64_t end = rte_rdtsc();
  std::uint64_t last = end, received = seen.received;
  while (seen.received < seen.sent && seconds_since(end) < kLongestWait &&
         seconds_since(last) < kSilence) {
    receive(expecting, &stream, seen);
    receive(other, &stream, seen);
    if (seen.received != received) last = rte_rdtsc();
    received = seen.received;
  }
  return seen;
}

}  // namespace culvert::benchmarks
