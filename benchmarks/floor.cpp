#include "benchmarks/floor.hpp"

#include <array>
#include <memory>

#include <intel-ipsec-mb.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>

namespace culvert::benchmarks {
namespace {

constexpr std::size_t kBurst = 64;
constexpr std::size_t kRoom = 2048;

struct alignas(64) Packet {
  std::array<std::uint8_t, kRoom> text;
  std::array<std::uint8_t, 16> nonce, aad, icv;
};

struct Job {
  Direction direction;
  const Frames* frames;
  double seconds;
  double nanoseconds = 0;
};

int run_crypto(void* argument) {
  auto& job = *static_cast<Job*>(argument);
  const std::unique_ptr<IMB_MGR, void (*)(IMB_MGR*)> manager(alloc_mb_mgr(0), free_mb_mgr);
  init_mb_mgr_auto(manager.get(), nullptr);
  alignas(64) gcm_key_data key;
  gcm_context_data context;
  const std::array<std::uint8_t, 16> raw_key{1, 2, 3};
  IMB_AES128_GCM_PRE(manager.get(), raw_key.data(), &key);
  const auto process = job.direction == Direction::out ? manager->gcm128_enc : manager->gcm128_dec;
  const auto packets = std::make_unique<std::array<Packet, kBurst>>();
  const auto limit =
      static_cast<std::uint64_t>(job.seconds * static_cast<double>(rte_get_tsc_hz()));
  const std::uint64_t begin = rte_rdtsc();
  std::uint64_t done = 0, now = begin;
  std::size_t frame = 0;
  while (now - begin < limit) {
    for (std::size_t at = 0; at < kBurst; ++at) {
      Packet& packet = (*packets)[at];
      const std::uint32_t text = (job.frames->inner_bytes[frame] + 2 + 3) & ~3U;
      process(&key, &context, packet.text.data(), packet.text.data(), text, packet.nonce.data(),
              packet.aad.data(), 8, packet.icv.data(), 16);
      frame = frame + 1 == job.frames->inner_bytes.size() ? 0 : frame + 1;
    }
    done += kBurst;
    now = rte_rdtsc();
  }
  job.nanoseconds = static_cast<double>(now - begin) * 1e9 / static_cast<double>(rte_get_tsc_hz()) /
                    static_cast<double>(done);
  return 0;
}

}  // namespace

double raw_crypto_nanoseconds(Direction direction, const Frames& frames, double seconds) {
  Job job{direction, &frames, seconds};
  const unsigned lcore = rte_get_next_lcore(-1, 1, 0);
  rte_eal_remote_launch(run_crypto, &job, lcore);
  rte_eal_wait_lcore(lcore);
  return job.nanoseconds;
}

}  // namespace culvert::benchmarks
