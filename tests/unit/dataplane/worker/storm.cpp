// A storm of bad frames over a whole worker: random ones, then real ones with random damage, damage
// under authentic ESP included. Only counted drops; every packet and every buffer accounted for.
//
// usage: test_worker_storm [COUNT of each kind, default 20000] [SEED]
//        test_worker_storm --write-samples FOLDER   (the corpus of the classifier's fuzzer)
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string_view>

#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/worker/bad_input.hpp"

namespace culvert::test {
namespace {

constexpr std::uint64_t kDefaultCount = 20'000;
constexpr unsigned kFramesAtOnce = 32;

class Storm {
 public:
  explicit Storm(std::uint64_t seed) : random_(seed) {}

  std::pair<Entry, ByteString> random_input() {
    ByteString bytes(below(below(1600) + 1));
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
    const auto entry = static_cast<Entry>(below(kEntries));
    // Half of the frames get past Ethernet.
    if ((entry == Entry::wan_frame || entry == Entry::lan_frame) && bytes.size() > 15 &&
        below(2) == 0) {
      const ByteString mac{2, 0, 0, 0, 1, static_cast<std::uint8_t>(entry == Entry::lan_frame)};
      std::copy(mac.begin(), mac.end(), bytes.begin());
      const bool is_v4 = below(2) == 0;
      bytes[12] = is_v4 ? 0x08 : 0x86;
      bytes[13] = is_v4 ? 0x00 : 0xdd;
      bytes[14] = static_cast<std::uint8_t>(is_v4 ? 0x45 : 0x60);
    }
    return {entry, bytes};
  }
  std::pair<Entry, ByteString> damaged(const std::vector<std::pair<Entry, ByteString>>& samples) {
    auto sample = samples[below(samples.size())];
    for (std::size_t blows = below(5); blows > 0 && !sample.second.empty(); --blows)
      strike(sample.second);
    if (below(2) == 0) repair(sample.second);
    return sample;
  }

 private:
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }

  void strike(ByteString& bytes) {
    const std::size_t at = below(bytes.size());
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(6)) {
      case 0:
        bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ (1U << below(8)));
        break;
      case 1:
        bytes[at] = static_cast<std::uint8_t>(random_());
        break;
      case 2:
        bytes[at] = below(2) == 0 ? 0x00 : 0xff;
        break;
      case 3:
        bytes.erase(place, bytes.end());
        break;
      case 4:
        bytes.insert(place, below(64) + 1, static_cast<std::uint8_t>(random_()));
        break;
      default:
        bytes.erase(place, place + static_cast<std::ptrdiff_t>(below(bytes.size() - at) + 1));
    }
  }
  /// A damaged IPv4 header with a right checksum goes further.
  static void repair(ByteString& bytes) {
    const std::size_t at = bytes.size() > 34 && bytes[12] == 0x08 && bytes[13] == 0 ? 14 : 0;
    if (bytes.size() < at + 20 || bytes[at] >> 4U != 4) return;
    const std::size_t header = (bytes[at] & 15U) * 4U;
    if (header < 20 || bytes.size() < at + header) return;
    bytes[at + 10] = bytes[at + 11] = 0;
    const unsigned checksum = model::internet_checksum(model::slice(bytes, at, header));
    bytes[at + 10] = static_cast<std::uint8_t>(checksum >> 8U);
    bytes[at + 11] = static_cast<std::uint8_t>(checksum);
  }

  std::mt19937_64 random_;
};

void write_samples(const std::filesystem::path& folder) {
  BadInputGateway rig;
  unsigned number = 0;
  for (const auto& [entry, bytes] : rig.samples()) {
    std::ofstream file(folder / ("sample-" + std::to_string(number++)), std::ios::binary);
    file.put(static_cast<char>(entry));
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
}

void report(Gateway& gateway) {
  const auto& counters = gateway.counters();
  std::printf("received %llu, sent %llu, punted %llu, delivered %llu, dropped %llu:\n",
              static_cast<unsigned long long>(counters.received.read()),
              static_cast<unsigned long long>(counters.sent.read()),
              static_cast<unsigned long long>(gateway.punts_seen),
              static_cast<unsigned long long>(counters.delivered.read()),
              static_cast<unsigned long long>(gateway.all_drops()));
  for (const auto& row : dataplane::all_drop_reasons()) {
    if (gateway.drops(row.reason) == 0) continue;
    std::printf("  %-28s %llu\n", std::string(row.name).c_str(),
                static_cast<unsigned long long>(gateway.drops(row.reason)));
  }
}

void storm(std::uint64_t count, std::uint64_t seed) {
  BadInputGateway rig;
  Storm source(seed);
  const auto samples = rig.samples();
  for (const bool is_random : {true, false}) {
    for (std::uint64_t n = 0; n < count; ++n) {
      const auto [entry, bytes] = is_random ? source.random_input() : source.damaged(samples);
      rig.feed(entry, bytes);
      if (n % kFramesAtOnce == kFramesAtOnce - 1) rig.run();
    }
    rig.run();
  }
  report(rig.gateway());
}

}  // namespace
}  // namespace culvert::test

int main(int argc, char** argv) {
  using namespace culvert::test;
  if (argc == 3 && std::string_view(argv[1]) == "--write-samples") {
    write_samples(argv[2]);
    return 0;
  }
  const std::uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : kDefaultCount;
  const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 0) : random_seed();
  // Before anything can go wrong: the line that replays it.
  std::printf("%s %llu %llu\n", argv[0], static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  storm(count, seed);
  return 0;
}
