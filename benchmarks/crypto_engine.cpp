// What crypto::esp::Engine costs over the raw IPsec-MB calls, in one run on the same packets:
// nanoseconds per packet, sealed and opened.
//
//   crypto_engine [suites|keys] [rounds]
//
// `suites`: every suite by size, IMIX too, one key. `keys`: AES-128-GCM by size and number of keys.
// Median and least of that many rounds, 201 unless told. On a machine with other work to do,
// believe the least.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/transform.hpp"
#include "raw_calls.hpp"

namespace {

using culvert::benchmarks::make_raw_calls;
using culvert::benchmarks::RawCalls;
using culvert::crypto::EspSuite;
using namespace culvert::crypto::esp;

constexpr std::size_t kBurst = 32;
constexpr std::size_t kPacketRoom = 2048;
constexpr std::size_t kTextAt = 128;  // room for the ESP header and the longest IV in front
constexpr std::size_t kPacketsPerRound = 8'192;
constexpr std::size_t kTrailerBytes = 2;  // pad length and next header, sealed with the packet
/// As the packet-rate suite mixes them.
constexpr std::size_t kImix[] = {64, 570, 64, 64, 570, 64, 64, 570, 1400, 64, 570, 64};
constexpr std::size_t kMixed = 0;  // as a packet size: IMIX

/// One burst's packets in cache, as a worker has them, and the keys that they cycle through.
struct Workload {
  Workload(const Engine& engine, const Transform& transform, std::size_t key_count,
           std::size_t packet_bytes)
      : keys(key_count), memory(kBurst * kPacketRoom), nonces(kBurst * 16), aads(kBurst * 16) {
    const auto& [suite, form] = transform;
    const std::size_t key_bytes = suite.encryption_key_bytes() + suite.integrity_key_bytes();
    for (std::size_t i = 0; i < key_count; ++i) {
      std::vector<std::uint8_t> key(key_bytes, static_cast<std::uint8_t>(i));
      if (!engine.expand(suite, key, keys[i])) std::abort();
    }
    for (std::size_t i = 0; i < kBurst; ++i) {
      const std::size_t bytes = packet_bytes == kMixed ? kImix[i % std::size(kImix)] : packet_bytes;
      // RFC 4303 §2.4: to four octets, or to the cipher's block.
      const std::size_t text_bytes =
          (bytes + kTrailerBytes + form.alignment - 1) / form.alignment * form.alignment;
      std::uint8_t* text = memory.data() + i * kPacketRoom + kTextAt;
      burst.push_back({.key = &keys[0],
                       .text = text,
                       .nonce = nonces.data() + i * 16,
                       .aad = aads.data() + i * 16,
                       .icv = text + text_bytes,
                       .text_bytes = static_cast<std::uint32_t>(text_bytes),
                       .aad_bytes = 8});
    }
  }

  /// Gives the burst its next keys, far enough apart that neighbours share no line.
  void choose_keys() {
    if (keys.size() == 1) return;
    for (Operation& operation : burst) {
      next_key = (next_key + 7919) % keys.size();
      operation.key = &keys[next_key];
    }
  }

  std::vector<ExpandedKey> keys;
  std::vector<std::uint8_t> memory;
  std::vector<std::uint8_t> nonces;
  std::vector<std::uint8_t> aads;
  std::vector<Operation> burst;
  std::size_t next_key = 0;
};

double nanoseconds_per_packet(Workload& work, const std::function<void()>& process) {
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t done = 0; done < kPacketsPerRound; done += kBurst) {
    work.choose_keys();
    process();
  }
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
  return spent.count() / static_cast<double>(kPacketsPerRound);
}

struct Figure {
  double median;
  double least;
};

Figure summarize(std::vector<double> values) {
  std::ranges::sort(values);
  return {values[values.size() / 2], values.front()};
}

/// One line of the table: the floor beside the engine, sealing and opening.
void compare(Engine& engine, const Transform& transform, std::size_t key_count,
             std::size_t packet_bytes, int rounds) {
  Workload work(engine, transform, key_count, packet_bytes);
  const RawCalls floor = make_raw_calls(transform, work.burst);
  const EspSuite& suite = transform.suite;
  std::vector<double> raw_seal, seal, raw_open, open;
  for (int round = 0; round < rounds; ++round) {  // in turns: what disturbs one disturbs all
    raw_seal.push_back(nanoseconds_per_packet(work, floor.seal));
    seal.push_back(nanoseconds_per_packet(work, [&] { engine.seal(suite, work.burst); }));
    raw_open.push_back(nanoseconds_per_packet(work, floor.open));
    open.push_back(nanoseconds_per_packet(work, [&] { engine.open(suite, work.burst); }));
  }
  const std::string size = packet_bytes == kMixed ? "imix" : std::to_string(packet_bytes);
  std::printf("%-18s %5s %6zu", suite.name().c_str(), size.c_str(), key_count);
  for (const auto& [bare_values, engine_values] :
       {std::pair(raw_seal, seal), std::pair(raw_open, open)}) {
    const Figure bare = summarize(bare_values);
    const Figure ours = summarize(engine_values);
    std::printf("   %7.1f (%6.1f) %7.1f (%6.1f) %5.2f", bare.median, bare.least, ours.median,
                ours.least, bare.least / ours.least);
  }
  std::printf("\n");
}

void print_heading(const Engine& engine, int rounds) {
  std::printf("%s, ns per packet, median (least) of %d, bursts of %zu\n", engine.name().data(),
              rounds, kBurst);
  std::printf(
      "suite              bytes   keys          raw seal    engine seal  ratio          raw open"
      "    engine open  ratio\n");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view table = argc > 1 ? argv[1] : "suites";
  const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 201;
  const auto engine = make_ipsec_mb_engine();
  if (engine == nullptr) {
    std::fprintf(stderr, "IPsec-MB does not run on this machine\n");
    return 1;
  }
  if (table != "suites" && table != "keys") {
    std::fprintf(stderr, "usage: crypto_engine [suites|keys] [rounds]\n");
    return 2;
  }
  print_heading(*engine, rounds);
  if (table == "suites") {
    for (const Transform& transform : kTransforms) {
      for (const std::size_t bytes :
           {std::size_t{64}, std::size_t{512}, std::size_t{1420}, kMixed}) {
        compare(*engine, transform, 1, bytes, rounds);
      }
    }
    return 0;
  }
  for (const std::size_t key_count : {1U, 1'024U, 10'000U, 100'000U}) {
    for (const std::size_t bytes : {64U, 512U, 1420U}) {
      compare(*engine, kTransforms[0], key_count, bytes, rounds);
    }
  }
  return 0;
}
