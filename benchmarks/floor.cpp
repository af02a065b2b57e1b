#include "benchmarks/floor.hpp"

#include <array>
#include <atomic>
#include <memory>

#include "benchmarks/clock.hpp"
#include "benchmarks/lcores.hpp"
#include "benchmarks/raw_calls.hpp"
#include "dataplane/tables/counters.hpp"

namespace culvert::benchmarks {
namespace {

constexpr std::size_t kMostPackets = 64;
constexpr std::size_t kRoom = 2048;
constexpr std::size_t kTextAt = 128;  ///< room for the ESP header and the longest IV in front

struct alignas(64) Packet {
  std::array<std::uint8_t, kRoom> text;
  std::array<std::uint8_t, 16> nonce, aad;
};

/// A burst of the case's sizes: as many as fit of their cycle, whole.
struct Burst {
  explicit Burst(const Case& test) : packets(std::make_unique<Packets>()) {
    const crypto::esp::Form form = crypto::esp::form_of(test.transform);
    const auto sizes = sizes_of(test);
    const std::size_t count = kMostPackets / sizes.size() * sizes.size();
    for (std::size_t at = 0; at < count; ++at) {
      Packet& packet = (*packets)[at];
      const std::size_t bytes = sizes[at % sizes.size()] + 2;
      const std::size_t text = (bytes + form.alignment - 1) / form.alignment * form.alignment;
      operations.push_back({.key = nullptr,
                            .text = packet.text.data() + kTextAt,
                            .nonce = packet.nonce.data(),
                            .aad = packet.aad.data(),
                            .icv = packet.text.data() + kTextAt + text,
                            .text_bytes = static_cast<std::uint32_t>(text),
                            .aad_bytes = 8});
    }
  }

  using Packets = std::array<Packet, kMostPackets>;
  std::unique_ptr<Packets> packets;
  std::vector<crypto::esp::Operation> operations;
};

struct Lane {
  const Case* test = nullptr;
  ThreadClock clock;
  dataplane::Counter done;
  std::atomic<bool> stop{false};
};

int run_crypto(void* argument) {
  auto& lane = *static_cast<Lane*>(argument);
  const Burst burst(*lane.test);
  const RawCalls calls =
      make_raw_calls(crypto::esp::transform(lane.test->transform), burst.operations);
  const auto& process = lane.test->direction == Direction::out ? calls.seal : calls.open;
  lane.clock.start();
  // Relaxed: a round later is soon enough.
  while (!lane.stop.load(std::memory_order_relaxed)) {
    process();
    lane.done.add(burst.operations.size());
  }
  return 0;
}

}  // namespace

std::vector<double> raw_crypto_nanoseconds(const Case& test, double seconds) {
  std::vector<Lane> lanes(test.workers);
  std::vector<Probe> probes;
  for (Lane& lane : lanes) {
    lane.test = &test;
    probes.push_back({&lane.clock, [&lane] { return lane.done.read(); }, [] { return 0.0; }});
  }
  return measure_on_lcores(lanes, run_crypto, probes, seconds);
}

}  // namespace culvert::benchmarks
