// A storm of bad input over a fuzz target, without libFuzzer: a million random inputs, then a
// million real ones with random damage. The target aborts on a false claim; sanitizers on
// everything else.
//
// usage: storm_NAME CORPUS_FOLDER
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "tests/random_seed.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Sample = std::vector<std::uint8_t>;

constexpr std::uint64_t kInputs = 1'000'000;  ///< of each kind
constexpr std::size_t kMostRandomBytes = 1600;

/// From the environment; else the default.
std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

std::vector<Sample> read_samples(const std::filesystem::path& folder) {
  std::vector<Sample> samples;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    Sample sample{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!sample.empty()) samples.push_back(std::move(sample));
  }
  return samples;
}

class Storm {
 public:
  explicit Storm(std::uint64_t seed) : random_(seed) {}

  /// Short ones are more frequent.
  Sample random_bytes() {
    Sample bytes(below(below(kMostRandomBytes) + 1));
    // Eight at a time: byte by byte this was up to two fifths of a storm.
    for (std::size_t at = 0; at < bytes.size();) {
      const std::uint64_t drawn = random_();
      const std::size_t part = std::min(sizeof(drawn), bytes.size() - at);
      std::memcpy(bytes.data() + at, &drawn, part);
      at += part;
    }
    return bytes;
  }

  /// One of `samples`, struck one to eight times.
  Sample damaged(const std::vector<Sample>& samples) {
    Sample sample = samples[below(samples.size())];
    for (std::size_t blows = below(8) + 1; blows > 0 && !sample.empty(); --blows) strike(sample);
    return sample;
  }

 private:
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }

  void strike(Sample& sample) {
    const std::size_t at = below(sample.size());
    const auto place = sample.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(6)) {
      case 0:
        sample[at] = static_cast<std::uint8_t>(sample[at] ^ (1U << below(8)));
        break;
      case 1:
        sample[at] = static_cast<std::uint8_t>(random_());
        break;
      case 2:
        sample[at] = below(2) == 0 ? 0x00 : 0xff;
        break;
      case 3:
        sample.erase(place, sample.end());
        break;
      case 4:
        sample.insert(place, below(16) + 1, static_cast<std::uint8_t>(random_()));
        break;
      default:
        sample.erase(place, place + static_cast<std::ptrdiff_t>(below(sample.size() - at) + 1));
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  const auto samples = read_samples(argv[1]);
  if (samples.empty()) {
    std::fprintf(stderr, "%s: no sample\n", argv[1]);
    return 2;
  }
  const std::uint64_t seed = culvert::test::random_seed();
  const std::uint64_t inputs = setting("CULVERT_STORM_COUNT", kInputs);

  Storm storm(seed);
  for (std::uint64_t index = 0; index < inputs; ++index) {
    const Sample input = storm.random_bytes();
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  for (std::uint64_t index = 0; index < inputs; ++index) {
    const Sample input = storm.damaged(samples);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%llu random and %llu damaged inputs\n", static_cast<unsigned long long>(inputs),
              static_cast<unsigned long long>(inputs));
  return 0;
}
