// The anti-replay window (RFC 4303 §3.4.3) as a ring of tagged words: constant cost for any step,
// of one packet or of a million, and for any window from 32 to 65536 packets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace culvert::dataplane {

enum class ReplayVerdict : std::uint8_t { fresh, duplicate, left_of_window };

/// A word of the ring holds 32 sequence numbers (a block) and says which block they are of, so that
/// a window that moves far need not clear what it passes: a word with another tag reads as empty.
/// The tag keeps 32 bits of the block number: it repeats after 2^37 packets, and what could happen
/// then is that a fresh packet is refused, never that a replay is taken.
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

/// A view of one SA's window: its state lives in the SA, its words beside the key.
/// Single writer: the SA's worker.
class ReplayWindow {
 public:
  /// `highest`: the highest sequence number verified, 0 at first. `packets` 0: nothing is checked.
  ReplayWindow(std::uint64_t& highest, ReplayWord* words, std::uint32_t packets,
               std::uint32_t word_mask)
      : highest_(highest), words_(words), packets_(packets), word_mask_(word_mask) {}

  /// Before decryption: whether it is worth the while.
  [[nodiscard]] ReplayVerdict check(std::uint64_t sequence) const {
    if (packets_ == 0) return ReplayVerdict::fresh;
    // "The first packet sent using a given SA will contain a sequence number of 1" (RFC 4303 §2.2)
    if (sequence == 0) return ReplayVerdict::left_of_window;
    if (sequence > highest_) return ReplayVerdict::fresh;
    if (highest_ - sequence >= packets_) return ReplayVerdict::left_of_window;
    const ReplayWord& word = word_of(sequence);
    const bool seen = word.tag == tag_of(sequence) && (word.received & bit_of(sequence)) != 0;
    return seen ? ReplayVerdict::duplicate : ReplayVerdict::fresh;
  }

  /// After the ICV agreed: "the receive window is updated only if the integrity verification
  /// succeeds" (RFC 4303 §3.4.3). Checks again, for one burst may hold the same number twice.
  [[nodiscard]] ReplayVerdict commit(std::uint64_t sequence) {
    const ReplayVerdict verdict = check(sequence);
    if (verdict != ReplayVerdict::fresh) return verdict;
    if (sequence > highest_) highest_ = sequence;
    if (packets_ == 0) return verdict;
    ReplayWord& word = word_of(sequence);
    const std::uint32_t tag = tag_of(sequence);
    word.received = (word.tag == tag ? word.received : 0) | bit_of(sequence);
    word.tag = tag;
    return verdict;
  }

  /// Where a number's word is, to be asked for ahead of `commit`.
  [[nodiscard]] const ReplayWord* place_of(std::uint64_t sequence) const {
    return words_ + (tag_of(sequence) & word_mask_);
  }

 private:
  friend class NewestRun;
  static std::uint32_t tag_of(std::uint64_t sequence) {
    return static_cast<std::uint32_t>(sequence >> 5U);
  }
  static std::uint32_t bit_of(std::uint64_t sequence) { return 1U << (sequence & 31U); }
  [[nodiscard]] ReplayWord& word_of(std::uint64_t sequence) const {
    return words_[tag_of(sequence) & word_mask_];
  }

  std::uint64_t& highest_;
  ReplayWord* words_;
  std::uint32_t packets_;
  std::uint32_t word_mask_;
};

/// Commits numbers, each above the highest and those before it, a word at a time. The window is not
/// to be looked at or written meanwhile.
class NewestRun {
 public:
  void begin(const ReplayWindow& window) {
    highest_ = *(at_ = &window.highest_);
    words_ = window.packets_ == 0 ? &nowhere_ : window.words_;
    mask_ = window.packets_ == 0 ? 0 : window.word_mask_;
    take_word(ReplayWindow::tag_of(highest_));
  }
  /// The highest of all so far.
  [[nodiscard]] std::uint64_t highest() const { return highest_; }
  void add(std::uint64_t sequence) {
    const std::uint32_t tag = ReplayWindow::tag_of(sequence);
    if (tag != static_cast<std::uint32_t>(word_)) [[unlikely]] {
      put_word();
      take_word(tag);
    }
    word_ |= std::uint64_t{ReplayWindow::bit_of(sequence)} << kReceivedAt;
    highest_ = sequence;
  }
  void end() {
    put_word();
    *at_ = highest_;
  }

 private:
  static constexpr unsigned kReceivedAt = 32;
  void put_word() {
    words_[static_cast<std::uint32_t>(word_) & mask_] = {
        static_cast<std::uint32_t>(word_), static_cast<std::uint32_t>(word_ >> kReceivedAt)};
  }
  void take_word(std::uint32_t tag) {
    const ReplayWord& word = words_[tag & mask_];
    word_ = std::uint64_t{word.tag == tag ? word.received : 0} << kReceivedAt | tag;
  }

  std::uint64_t* at_ = nullptr;
  std::uint64_t highest_ = 0;
  ReplayWord* words_ = nullptr;
  std::uint32_t mask_ = 0;
  /// The word in hand, its tag in the lower half. In one piece: loaded wider than it was stored just
  /// before, it would have to wait for the store to reach the cache.
  std::uint64_t word_ = 0;
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
