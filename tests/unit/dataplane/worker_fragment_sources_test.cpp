#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/worker/fragment_budget.hpp"
#include "dataplane/worker/fragment_sources.hpp"

namespace culvert::dataplane {
namespace {

/// The same, told plainly: all of it is looked through each time.
class PlainSources {
 public:
  void begin(std::size_t packet, std::uint64_t name) { packets_.push_back({packet, name, 0}); }
  void end(std::size_t packet) {
    std::erase_if(packets_, [&](const Packet& one) { return one.index == packet; });
  }
  void set_pieces(std::size_t packet, std::uint8_t pieces) {
    std::ranges::find(packets_, packet, &Packet::index)->pieces = pieces;
  }
  [[nodiscard]] std::size_t first_of_most_packets() const {
    return *first_by([](const Packet&) { return 1U; });
  }
  /// None: nobody else has pieces.
  [[nodiscard]] std::optional<std::size_t> first_of_most_pieces(std::size_t newcomer) const {
    return first_by(
        [&](const Packet& one) { return one.index == newcomer ? 0U : unsigned{one.pieces}; });
  }

 private:
  struct Packet {
    std::size_t index;
    std::uint64_t name;
    std::uint8_t pieces;
  };
  template <typename Share>
  [[nodiscard]] std::optional<std::size_t> first_by(const Share& share) const {
    std::map<std::uint64_t, unsigned> together;
    for (const Packet& packet : packets_) together[packet.name] += share(packet);
    std::optional<std::size_t> chosen;
    unsigned most = 0;
    for (const Packet& packet : packets_) {
      if (share(packet) == 0 || together[packet.name] <= most) continue;
      most = together[packet.name];
      chosen = packet.index;
    }
    return chosen;
  }

  std::vector<Packet> packets_;  ///< in the order of their beginning
};

}  // namespace

TEST_CASE("fragment sources: who gives way is whom a search through all of them finds") {
  std::mt19937 random(GENERATE(1U, 2U, 3U));
  const std::uint64_t names = GENERATE(1U, 3U, 64U, 1000U);
  FragmentSources sources;
  PlainSources plain;
  std::vector<std::size_t> used, vacant;
  for (std::size_t packet = 0; packet < FragmentSources::kPackets; ++packet) {
    vacant.push_back(packet);
  }
  const auto move_one = [&](std::vector<std::size_t>& from, std::vector<std::size_t>& to) {
    const auto chosen = from.begin() + static_cast<std::ptrdiff_t>(random() % from.size());
    to.push_back(*chosen);
    from.erase(chosen);
    return to.back();
  };
  for (int step = 0; step < 4000; ++step) {
    const bool begins = used.empty() || (!vacant.empty() && random() % 5 < 3);
    if (begins) {
      const std::uint64_t name = random() % names;
      const std::size_t packet = move_one(vacant, used);
      sources.begin(packet, name);
      plain.begin(packet, name);
    } else if (random() % 2 == 0) {
      const std::size_t packet = move_one(used, vacant);
      sources.end(packet);
      plain.end(packet);
    }
    if (used.empty()) continue;
    const std::size_t changed = used[random() % used.size()];
    const auto pieces = static_cast<std::uint8_t>(random() % 49);
    sources.set_pieces(changed, pieces);
    plain.set_pieces(changed, pieces);
    REQUIRE(sources.first_of_most_packets() == plain.first_of_most_packets());
    const std::size_t newcomer = used[random() % used.size()];
    if (const auto other = plain.first_of_most_pieces(newcomer)) {
      REQUIRE(sources.first_of_most_pieces(newcomer) == *other);
    }
  }
}

TEST_CASE("fragment budget: as many at once as may wait, then so many a millisecond") {
  constexpr std::uint64_t kMillisecond = 256'000;
  FragmentBudget budget(kMillisecond);
  const auto taken = [&](std::uint64_t now) {
    std::uint64_t count = 0;
    while (budget.take(now)) ++count;
    return count;
  };
  CHECK(taken(kMillisecond) == FragmentBudget::kAtOnce);
  CHECK(taken(kMillisecond) == 0);
  CHECK(taken(2 * kMillisecond) == FragmentBudget::kPerMillisecond);
  CHECK(taken(2 * kMillisecond + 2000) == 2);
  CHECK(taken(1000 * kMillisecond) == FragmentBudget::kAtOnce);
  // A count that begins anew, as of a machine that hibernated.
  CHECK(taken(0) == FragmentBudget::kAtOnce);
  CHECK(taken(kMillisecond) == FragmentBudget::kPerMillisecond);
  FragmentBudget unbounded(0);
  for (std::uint64_t i = 0; i <= FragmentBudget::kAtOnce; ++i) CHECK(unbounded.take(7));
}

}  // namespace culvert::dataplane
