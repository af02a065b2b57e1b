// The anti-replay window (RFC 4303 §3.4.3) as a ring of tagged words: constant cost for any step,
// of one packet or of a million, and for any window from 32 to 65536 packets.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace culvert::dataplane {

enum class ReplayVerdict : std::uint8_t { fresh, duplicate, left_of_window };

/// A word of the ring holds 32 sequence numbers (a block) and says which block they are of, so that
/// a window that moves far need not clear what it passes: a word with another tag reads as empty.
/// The tag keeps 32 bits of the block number: it repeats after 2^37 packets, and what could happen
/// then is that a fresh packet is refused, never that a replay is taken.
/// The block of the highest number is not in the ring but beside that number, until it is left:
/// packets that come in order meet the ring once in 32.
struct ReplayWord {
  std::uint32_t tag = 0;
  std::uint32_t received = 0;  ///< one bit a sequence number
};

/// Words that a window of this many packets takes: a power of two, one block more than it spans.
[[nodiscard]] constexpr std::uint32_t replay_words(std::uint32_t packets) {
  if (packets == 0) return 0;
  std::uint32_t words = 1;
  while (words < (packets + 31) / 32 + 1) words *= 2;
  return words;
}

/// A view of one SA's window: its state lives in the SA, its words in a table of their own.
/// Single writer: the SA's worker.
class ReplayWindow {
 public:
  /// `highest`: the highest sequence number verified, 0 at first; `newest`: what was received of
  /// its block, a bit each. `packets` 0: nothing is checked.
  ReplayWindow(std::uint64_t& highest, std::uint32_t& newest, ReplayWord* words,
               std::uint32_t packets, std::uint32_t word_mask)
      : highest_(highest),
        newest_(newest),
        words_(words),
        packets_(packets),
        word_mask_(word_mask) {}

  /// Before decryption: whether it is worth the while.
  [[nodiscard]] ReplayVerdict check(std::uint64_t sequence) const {
    if (packets_ == 0) return ReplayVerdict::fresh;
    // "The first packet sent using a given SA will contain a sequence number of 1" (RFC 4303 §2.2)
    if (sequence == 0) return ReplayVerdict::left_of_window;
    if (sequence > highest_) return ReplayVerdict::fresh;
    if (highest_ - sequence >= packets_) return ReplayVerdict::left_of_window;
    return (received_of_block(sequence) & bit_of(sequence)) != 0 ? ReplayVerdict::duplicate
                                                                 : ReplayVerdict::fresh;
  }

  /// After the ICV agreed: "the receive window is updated only if the integrity verification
  /// succeeds" (RFC 4303 §3.4.3). Checks again, for one burst may hold the same number twice.
  [[nodiscard]] ReplayVerdict commit(std::uint64_t sequence) {
    const ReplayVerdict verdict = check(sequence);
    if (verdict != ReplayVerdict::fresh) return verdict;
    if (sequence > highest_) {
      if (block_of(sequence) != block_of(highest_)) {
        if (packets_ != 0) word_of(highest_) = {tag_of(highest_), newest_};
        newest_ = 0;
      }
      newest_ |= bit_of(sequence);
      set_highest(highest_, sequence);
    } else if (block_of(sequence) == block_of(highest_)) {
      newest_ |= bit_of(sequence);
    } else if (packets_ != 0) {
      word_of(sequence) = {tag_of(sequence), received_of_block(sequence) | bit_of(sequence)};
    }
    return verdict;
  }

  /// Numbers below the highest that it would still take, in order.
  [[nodiscard]] std::vector<std::uint64_t> missing() const {
    std::vector<std::uint64_t> numbers;
    if (packets_ == 0) return numbers;
    std::uint64_t number = highest_ >= packets_ ? highest_ - packets_ + 1 : 1;
    for (; number < highest_; ++number) {
      if (check(number) == ReplayVerdict::fresh) numbers.push_back(number);
    }
    return numbers;
  }

 private:
  friend class NewestRun;
  /// Relaxed: the main thread shows the number, and nothing is read because of it. The worker, who
  /// alone writes it, reads it as it is.
  static void set_highest(std::uint64_t& highest, std::uint64_t sequence) {
    std::atomic_ref(highest).store(sequence, std::memory_order_relaxed);
  }
  static std::uint64_t block_of(std::uint64_t sequence) { return sequence >> 5U; }
  static std::uint32_t tag_of(std::uint64_t sequence) {
    return static_cast<std::uint32_t>(block_of(sequence));
  }
  static std::uint32_t bit_of(std::uint64_t sequence) { return 1U << (sequence & 31U); }
  [[nodiscard]] ReplayWord& word_of(std::uint64_t sequence) const {
    return words_[tag_of(sequence) & word_mask_];
  }
  [[nodiscard]] std::uint32_t received_of_block(std::uint64_t sequence) const {
    if (block_of(sequence) == block_of(highest_)) return newest_;
    const ReplayWord& word = word_of(sequence);
    return word.tag == tag_of(sequence) ? word.received : 0;
  }

  std::uint64_t& highest_;
  std::uint32_t& newest_;
  ReplayWord* words_;
  std::uint32_t packets_;
  std::uint32_t word_mask_;
};

/// Commits numbers, each above the highest and those before it; without a window only above those
/// before it. The window is not to be looked at or written meanwhile.
class NewestRun {
 public:
  void begin(const ReplayWindow& window) {
    highest_at_ = &window.highest_;
    highest_ = window.packets_ == 0 ? 0 : *highest_at_;
    newest_ = *(newest_at_ = &window.newest_);
    words_ = window.packets_ == 0 ? &nowhere_ : window.words_;
    mask_ = window.packets_ == 0 ? 0 : window.word_mask_;
  }
  /// The highest of all so far.
  [[nodiscard]] std::uint64_t highest() const { return highest_; }
  void add(std::uint64_t sequence) {
    if (ReplayWindow::block_of(sequence) != ReplayWindow::block_of(highest_)) [[unlikely]] {
      const std::uint32_t tag = ReplayWindow::tag_of(highest_);
      words_[tag & mask_] = {tag, newest_};
      newest_ = 0;
    }
    newest_ |= ReplayWindow::bit_of(sequence);
    highest_ = sequence;
  }
  void end() {
    ReplayWindow::set_highest(*highest_at_, std::max(*highest_at_, highest_));
    *newest_at_ = newest_;
  }

 private:
  std::uint64_t* highest_at_ = nullptr;
  std::uint32_t* newest_at_ = nullptr;
  std::uint64_t highest_ = 0;
  std::uint32_t newest_ = 0;
  std::uint32_t mask_ = 0;
  ReplayWord* words_ = nullptr;
  ReplayWord nowhere_;  ///< of an SA without a window
};

/// The 64-bit sequence number of a packet that carries its low half (RFC 4303 appendix A2).
/// `highest` is the highest verified; `window` the replay window, or 32 when there is none.
[[nodiscard]] constexpr std::uint64_t extend_sequence(std::uint64_t highest, std::uint32_t window,
                                                      std::uint32_t low) {
  const auto highest_low = static_cast<std::uint32_t>(highest);
  const auto highest_high = static_cast<std::uint32_t>(highest >> 32U);
  const std::uint32_t bottom = highest_low - window + 1;  // may wrap: case B
  std::uint32_t high = highest_high;
  if (highest_low >= window - 1) {
    // Case A: the window lies within one subspace.
    if (low < bottom) ++high;
  } else if (low >= bottom && high > 0) {
    // Case B: the window spans two, and this is in the older one. In the first subspace there is
    // no older one.
    --high;
  }
  return (std::uint64_t{high} << 32U) | low;
}

}  // namespace culvert::dataplane
