// What crypto::esp::Engine costs over the raw IPsec-MB calls, in one run on the same packets:
// nanoseconds per packet of AES-GCM, sealed and opened, by size and number of keys.
//
//   crypto_engine [rounds]      median and least of that many rounds, 201 unless told
//
// On a machine with other work to do, believe the least.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <intel-ipsec-mb.h>

#include "crypto/esp/esp_crypto.hpp"

namespace {

using culvert::crypto::Encryption;
using culvert::crypto::EspSuite;
using culvert::crypto::Integrity;
using namespace culvert::crypto::esp;

constexpr std::size_t kBurst = 32;
constexpr std::size_t kPacketRoom = 2048;
constexpr std::size_t kPacketsPerRound = 8'192;
constexpr std::size_t kEspOverhead = 2;  // pad length and next header, sealed with the packet

/// One burst's packets in cache, as a worker has them, and the keys that they cycle through.
struct Workload {
  Workload(const Engine& engine, const EspSuite& suite, std::size_t key_count,
           std::size_t packet_bytes)
      : keys(key_count), memory(kBurst * kPacketRoom), nonces(kBurst * 16), aads(kBurst * 16) {
    for (std::size_t i = 0; i < key_count; ++i) {
      std::vector<std::uint8_t> key(suite.encryption_key_bytes(), static_cast<std::uint8_t>(i));
      if (!engine.expand(suite, key, keys[i])) std::abort();
    }
    // ESP aligns to 4 octets (RFC 4303 §2.4).
    const std::size_t text_bytes = (packet_bytes + kEspOverhead + 3) / 4 * 4;
    for (std::size_t i = 0; i < kBurst; ++i) {
      std::uint8_t* text = memory.data() + i * kPacketRoom + 64;
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

/// The floor: the library's function in a bare loop.
void raw(aes_gcm_enc_dec_t function, const std::vector<Operation>& burst) {
  gcm_context_data context;
  for (const Operation& operation : burst) {
    function(reinterpret_cast<const gcm_key_data*>(operation.key), &context, operation.text,
             operation.text, operation.text_bytes, operation.nonce, operation.aad,
             operation.aad_bytes, operation.icv, 16);
  }
}

void compare(Engine& engine, IMB_MGR& manager, std::size_t key_count, std::size_t packet_bytes,
             int rounds) {
  const EspSuite suite{Encryption::aes_gcm_16, 128, Integrity::none};
  Workload work(engine, suite, key_count, packet_bytes);
  std::vector<double> raw_seal;
  std::vector<double> seal;
  std::vector<double> raw_open;
  std::vector<double> open;
  for (int round = 0; round < rounds; ++round) {  // in turns: what disturbs one disturbs all
    raw_seal.push_back(nanoseconds_per_packet(work, [&] { raw(manager.gcm128_enc, work.burst); }));
    seal.push_back(nanoseconds_per_packet(work, [&] { engine.seal(suite, work.burst); }));
    raw_open.push_back(nanoseconds_per_packet(work, [&] { raw(manager.gcm128_dec, work.burst); }));
    open.push_back(nanoseconds_per_packet(work, [&] { engine.open(suite, work.burst); }));
  }
  std::printf("%8zu %6zu", packet_bytes, key_count);
  for (const auto& [floor, ours] : {std::pair(raw_seal, seal), std::pair(raw_open, open)}) {
    const Figure bare = summarize(floor);
    const Figure engine_figure = summarize(ours);
    std::printf("   %7.1f (%6.1f) %7.1f (%6.1f) %5.2f", bare.median, bare.least,
                engine_figure.median, engine_figure.least, bare.least / engine_figure.least);
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 201;
  const auto engine = make_ipsec_mb_engine();
  IMB_MGR* manager = alloc_mb_mgr(0);
  if (engine == nullptr || manager == nullptr) {
    std::fprintf(stderr, "IPsec-MB does not run on this machine\n");
    return 1;
  }
  init_mb_mgr_auto(manager, nullptr);
  std::printf("AES-128-GCM, %s, ns per packet, median (least) of %d\n", engine->name().data(),
              rounds);
  std::printf(
      "   bytes   keys          raw seal    engine seal  ratio          raw open    engine open  "
      "ratio\n");
  for (const std::size_t key_count : {1U, 1'024U, 10'000U, 100'000U}) {
    for (const std::size_t packet_bytes : {64U, 512U, 1420U}) {
      compare(*engine, *manager, key_count, packet_bytes, rounds);
    }
  }
  free_mb_mgr(manager);
  return 0;
}
