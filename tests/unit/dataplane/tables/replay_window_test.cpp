#include "dataplane/tables/replay_window.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/model/replay_model.hpp"
#include "tests/random_seed.hpp"

namespace culvert::dataplane {
namespace {

/// A window with its memory.
class Window {
 public:
  explicit Window(std::uint32_t packets, std::uint64_t highest = 0)
      : highest_(highest), words_(replay_words(packets)), packets_(packets) {}

  ReplayVerdict check(std::uint64_t sequence) { return view().check(sequence); }
  ReplayVerdict commit(std::uint64_t sequence) { return view().commit(sequence); }
  [[nodiscard]] std::uint64_t highest() const { return highest_; }
  /// Numbers above the highest, each above those before it.
  void commit_run(const std::vector<std::uint64_t>& numbers) {
    NewestRun run;
    run.begin(view());
    for (const std::uint64_t number : numbers) {
      run.add(number);
      REQUIRE(run.highest() == number);
    }
    run.end();
  }

 private:
  ReplayWindow view() {
    const auto words = static_cast<std::uint32_t>(words_.size());
    return {highest_, newest_, words_.data(), packets_, words == 0 ? 0 : words - 1};
  }
  std::uint64_t highest_;
  std::uint32_t newest_ = 0;
  std::vector<ReplayWord> words_;
  std::uint32_t packets_;
};

const std::vector<std::uint32_t> kSizes{32,  33,  63,   64,   65,    100,
                                        127, 128, 1024, 4096, 65535, 65536};

bool agree(ReplayVerdict ours, model::Replay models) {
  return static_cast<int>(ours) == static_cast<int>(models);
}

TEST_CASE(
    "replay_window: the first packet of an SA has number 1; 0 is never taken (RFC 4303 §2.2)") {
  Window window(64);
  CHECK(window.check(0) == ReplayVerdict::left_of_window);
  CHECK(window.commit(0) == ReplayVerdict::left_of_window);
  CHECK(window.commit(1) == ReplayVerdict::fresh);
  CHECK(window.highest() == 1);
}

TEST_CASE("replay_window: a number that was received is a duplicate (RFC 4303 §3.4.3)") {
  for (const std::uint32_t size : kSizes) {
    CAPTURE(size);
    Window window(size);
    REQUIRE(window.commit(7) == ReplayVerdict::fresh);
    CHECK(window.check(7) == ReplayVerdict::duplicate);
    CHECK(window.commit(7) == ReplayVerdict::duplicate);
    CHECK(window.commit(6) == ReplayVerdict::fresh);
  }
}

TEST_CASE("replay_window: the left edge is exactly highest - size + 1 (RFC 4303 appendix A2.1)") {
  for (const std::uint32_t size : kSizes) {
    CAPTURE(size);
    Window window(size);
    const std::uint64_t highest = 10 * std::uint64_t{size} + 3;
    REQUIRE(window.commit(highest) == ReplayVerdict::fresh);
    CHECK(window.commit(highest - size) == ReplayVerdict::left_of_window);
    CHECK(window.commit(highest - size + 1) == ReplayVerdict::fresh);
    CHECK(window.commit(highest - size + 1) == ReplayVerdict::duplicate);
    CHECK(window.highest() == highest);
  }
}

TEST_CASE(
    "replay_window: a check alone changes nothing: only a verified packet moves the window "
    "(RFC 4303 §3.4.3)") {
  Window window(64);
  REQUIRE(window.commit(1) == ReplayVerdict::fresh);
  CHECK(window.check(1000) == ReplayVerdict::fresh);
  CHECK(window.check(1000) == ReplayVerdict::fresh);
  CHECK(window.highest() == 1);
  CHECK(window.commit(2) == ReplayVerdict::fresh);
}

TEST_CASE(
    "replay_window: two packets of one burst with the same number: the second is refused at "
    "commit though both passed the check") {
  Window window(64);
  REQUIRE(window.check(5) == ReplayVerdict::fresh);
  REQUIRE(window.check(5) == ReplayVerdict::fresh);
  CHECK(window.commit(5) == ReplayVerdict::fresh);
  CHECK(window.commit(5) == ReplayVerdict::duplicate);
}

TEST_CASE("replay_window: a burst may push an earlier packet of it out of the window") {
  Window window(32);
  REQUIRE(window.check(1) == ReplayVerdict::fresh);
  REQUIRE(window.commit(100) == ReplayVerdict::fresh);
  CHECK(window.commit(1) == ReplayVerdict::left_of_window);
}

TEST_CASE("replay_window: a jump over the whole ring, and over many, forgets what it passed") {
  for (const std::uint32_t size : kSizes) {
    CAPTURE(size);
    Window window(size);
    for (std::uint64_t n = 1; n <= 2 * size; ++n) REQUIRE(window.commit(n) == ReplayVerdict::fresh);
    for (const std::uint64_t rings : {1, 2, 3, 1000}) {
      const std::uint64_t target =
          window.highest() + rings * 32 * std::uint64_t{replay_words(size)};
      CAPTURE(rings);
      REQUIRE(window.commit(target) == ReplayVerdict::fresh);
      // Everything else in the window has not been seen, although its words were full.
      std::uint64_t fresh = 0;
      for (std::uint64_t n = target - size + 1; n < target; ++n) {
        if (window.commit(n) == ReplayVerdict::fresh) ++fresh;
      }
      CHECK(fresh == size - 1);
      CHECK(window.commit(target - size) == ReplayVerdict::left_of_window);
    }
  }
}

TEST_CASE("replay_window: size 0 refuses nothing and still knows the highest number") {
  Window window(0);
  CHECK(window.commit(9) == ReplayVerdict::fresh);
  CHECK(window.commit(9) == ReplayVerdict::fresh);
  CHECK(window.commit(3) == ReplayVerdict::fresh);
  CHECK(window.highest() == 9);
}

TEST_CASE("replay_window: a run of numbers leaves what committing one by one leaves") {
  std::mt19937_64 random(11);
  const auto below = [&random](std::uint64_t bound) { return random() % bound; };
  for (std::uint32_t size : {0U, 32U, 33U, 64U, 1024U, 65536U}) {
    CAPTURE(size);
    Window by_one(size), by_run(size);
    for (int round = 0; round < 500; ++round) {
      std::vector<std::uint64_t> numbers(below(40));
      std::uint64_t number = by_one.highest();
      // Small steps mostly; some are over words, or over the whole ring.
      for (std::uint64_t& next : numbers) {
        next = number += 1 + (below(8) == 0 ? below(3 * std::uint64_t{size} + 100) : below(3));
      }
      for (const std::uint64_t next : numbers) {
        REQUIRE(by_one.commit(next) == ReplayVerdict::fresh);
      }
      by_run.commit_run(numbers);
      REQUIRE(by_run.highest() == by_one.highest());
      for (int packet = 0; packet < 20; ++packet) {
        const std::uint64_t late = by_one.highest() - std::min(by_one.highest(), below(size + 9));
        REQUIRE(by_run.commit(late) == by_one.commit(late));
      }
    }
  }
}

TEST_CASE("replay_window: at the end of 64 bits it neither wraps nor reopens (RFC 4303 §3.3.3)") {
  constexpr std::uint64_t kLast = ~std::uint64_t{0};
  Window window(64, kLast - 10);
  CHECK(window.commit(kLast) == ReplayVerdict::fresh);
  CHECK(window.commit(kLast) == ReplayVerdict::duplicate);
  CHECK(window.commit(1) == ReplayVerdict::left_of_window);
  CHECK(window.commit(kLast - 63) == ReplayVerdict::fresh);
  CHECK(window.commit(kLast - 64) == ReplayVerdict::left_of_window);
}

TEST_CASE("replay_window: random orders agree with a set that remembers everything") {
  const std::uint64_t seed = test::random_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (const std::uint32_t size : kSizes) {
    CAPTURE(size);
    Window window(size);
    model::ReplayModel model(size);
    std::uint64_t wrong = 0;
    for (int step = 0; step < 20000; ++step) {
      std::uint64_t sequence = 0;
      const std::uint64_t kind = random() % 100;
      if (kind < 60) {
        sequence = model.highest() + random() % 4;
      } else if (kind < 95) {
        const std::uint64_t back = random() % (2 * std::uint64_t{size});
        sequence = model.highest() > back ? model.highest() - back : random() % 3;
      } else if (kind < 99) {
        sequence = model.highest() + random() % (3 * std::uint64_t{size});
      } else {
        sequence = model.highest() + random() % (std::uint64_t{1} << 33U);
      }
      if (!agree(window.check(sequence), model.check(sequence))) ++wrong;
      if (random() % 4 != 0 && !agree(window.commit(sequence), model.commit(sequence))) ++wrong;
    }
    CHECK(wrong == 0);
    CHECK(window.highest() == model.highest());
  }
}

TEST_CASE(
    "extend_sequence: around 2^32 the high half is the one that puts the number at or right of "
    "the window's bottom (RFC 4303 appendix A2.2)") {
  constexpr std::uint64_t k32 = std::uint64_t{1} << 32U;
  // Case A: the window lies in one subspace; what is left of it is of the next.
  CHECK(extend_sequence(k32 + 100, 64, 101) == k32 + 101);
  CHECK(extend_sequence(k32 + 100, 64, 37) == k32 + 37);
  CHECK(extend_sequence(k32 + 100, 64, 36) == 2 * k32 + 36);
  // Case B: the window spans two subspaces.
  CHECK(extend_sequence(k32 + 10, 64, 10) == k32 + 10);
  CHECK(extend_sequence(k32 + 10, 64, 0xffffffff) == k32 - 1);
  CHECK(extend_sequence(k32 + 10, 64, 0xffffffff - 52) == k32 - 53);
  CHECK(extend_sequence(k32 + 10, 64, 0xffffffff - 53) == 2 * k32 - 54);
  // The first subspace has no older one.
  CHECK(extend_sequence(0, 64, 1) == 1);
  CHECK(extend_sequence(0, 64, 0xffffffff) == 0xffffffff);
}

TEST_CASE("extend_sequence: random numbers agree with a search over all high halves") {
  const std::uint64_t seed = test::random_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  constexpr std::uint64_t k32 = std::uint64_t{1} << 32U;
  std::uint64_t wrong = 0;
  for (int step = 0; step < 200000; ++step) {
    const std::uint32_t window = kSizes[random() % kSizes.size()];
    // Near a multiple of 2^32 more often than not.
    const std::uint64_t turn = (random() % 4) * k32;
    const std::uint64_t near = turn + random() % (4 * std::uint64_t{window});
    const std::uint64_t highest =
        random() % 3 == 0 ? random() % (4 * k32) : near - std::min(near, 2 * std::uint64_t{window});
    const auto low =
        random() % 2 == 0
            ? static_cast<std::uint32_t>(random())
            : static_cast<std::uint32_t>(highest + random() % (4ULL * window) - window);
    if (extend_sequence(highest, window, low) != model::extended_by_search(highest, window, low)) {
      UNSCOPED_INFO("highest " << highest << " window " << window << " low " << low);
      ++wrong;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE(
    "replay_window: an ESN stream that crosses 2^32 twice out of order is received once each") {
  const std::uint64_t seed = test::random_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  constexpr std::uint64_t k32 = std::uint64_t{1} << 32U;
  for (const std::uint32_t size : {32U, 64U, 1000U, 65536U}) {
    CAPTURE(size);
    for (const std::uint64_t turn : {k32, 2 * k32}) {
      const std::uint64_t first = turn - 2000;
      Window window(size, first - 1);
      std::vector<std::uint64_t> sent;
      for (std::uint64_t n = first; n < turn + 2000; ++n) sent.push_back(n);
      // Reordered by less than a window, each sent twice.
      for (std::size_t i = 0; i + 20 <= sent.size(); i += 20) {
        std::shuffle(sent.begin() + static_cast<std::ptrdiff_t>(i),
                     sent.begin() + static_cast<std::ptrdiff_t>(i + 20), random);
      }
      std::uint64_t taken = 0, refused = 0, misread = 0;
      for (const std::uint64_t sequence : sent) {
        for (int copy = 0; copy < 2; ++copy) {
          const std::uint64_t read =
              extend_sequence(window.highest(), size, static_cast<std::uint32_t>(sequence));
          if (read != sequence) ++misread;
          (window.commit(read) == ReplayVerdict::fresh ? taken : refused) += 1;
        }
      }
      CHECK(misread == 0);
      CHECK(taken == sent.size());
      CHECK(refused == sent.size());
    }
  }
}

}  // namespace
}  // namespace culvert::dataplane
