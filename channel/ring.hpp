// A single-producer single-consumer ring in memory that the other side may write into at any time.
//
// Each end keeps its own index in private memory, publishes it, and never reads it back; the other
// end's index is believed only as far as it is possible: a distance of more than the ring's slots
// is *torn*, and nothing is read or written because of it. Messages are bytes until they are copied
// out.
//
// Memory orders, and what each pairs with:
//   produced: store-release (the slot's bytes come before it) ↔ load-acquire in the consumer.
//   consumed: store-release (the copy out comes before it)    ↔ load-acquire in the producer, which
//             then overwrites the slot.
#pragma once

#include <cassert>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "channel/layout.hpp"
#include "crypto/secret.hpp"

namespace culvert::channel {

enum class RingState : std::uint8_t {
  ok,     ///< done
  stuck,  ///< full (producer) or empty (consumer)
  torn,   ///< the other side's index is impossible
};

template <typename Message, std::size_t kSlots>
class RingProducer {
 public:
  explicit RingProducer(RingMemory<Message, kSlots>& memory) : memory_(&memory) {}

  /// Slots that may be written. `torn` when the consumer's index cannot be.
  [[nodiscard]] RingState free(std::size_t& slots) const {
    const std::uint64_t consumed = memory_->indices.consumed.load(std::memory_order_acquire);
    const std::uint64_t waiting = produced_ - consumed;
    if (waiting > kSlots) return RingState::torn;
    slots = kSlots - static_cast<std::size_t>(waiting);
    return RingState::ok;
  }

  /// Puts the first `bytes` of `message` in; the slot's rest is zeroed, so that nothing an earlier
  /// message or a stack left behind crosses over.
  [[nodiscard]] RingState push(const Message& message, std::size_t bytes) {
    static_assert(std::is_trivially_copyable_v<Message>);
    assert(bytes <= sizeof(Message));
    std::size_t slots = 0;
    if (const RingState state = free(slots); state != RingState::ok) return state;
    if (slots == 0) return RingState::stuck;
    auto& slot = memory_->slots[produced_ % kSlots].bytes;
    std::memcpy(slot.data(), &message, bytes);
    std::memset(slot.data() + bytes, 0, slot.size() - bytes);
    ++produced_;
    memory_->indices.produced.store(produced_, std::memory_order_release);
    return RingState::ok;
  }

 private:
  RingMemory<Message, kSlots>* memory_;
  std::uint64_t produced_ = 0;  ///< private: the shared one is only for the other side
};

template <typename Message, std::size_t kSlots>
class RingConsumer {
 public:
  explicit RingConsumer(RingMemory<Message, kSlots>& memory) : memory_(&memory) {}

  /// Copies the next message out.
  [[nodiscard]] RingState pop(Message& message) {
    static_assert(std::is_trivially_copyable_v<Message>);
    if (const RingState state = look(); state != RingState::ok) return state;
    copy_out(message, memory_->slots[consumed_ % kSlots].bytes.data());
    finish();
    return RingState::ok;
  }

  /// The same, and overwrites the slot before it is handed back: it may have held a key.
  [[nodiscard]] RingState pop_and_wipe(Message& message) {
    if (const RingState state = look(); state != RingState::ok) return state;
    auto& slot = memory_->slots[consumed_ % kSlots].bytes;
    copy_out(message, slot.data());
    crypto::wipe(slot.data(), slot.size());
    finish();
    return RingState::ok;
  }

 private:
  [[nodiscard]] RingState look() const {
    const std::uint64_t produced = memory_->indices.produced.load(std::memory_order_acquire);
    const std::uint64_t waiting = produced - consumed_;
    if (waiting == 0) return RingState::stuck;
    return waiting > kSlots ? RingState::torn : RingState::ok;
  }

  static void copy_out(Message& message, const std::byte* slot) {
    std::memcpy(static_cast<void*>(&message), slot, sizeof(Message));
    // The compiler must not read the slot a second time in place of the copy: what was validated
    // has to be what is used.
    asm volatile("" ::: "memory");
  }

  void finish() {
    ++consumed_;
    memory_->indices.consumed.store(consumed_, std::memory_order_release);
  }

  RingMemory<Message, kSlots>* memory_;
  std::uint64_t consumed_ = 0;  ///< private: the shared one is only for the other side
};

}  // namespace culvert::channel
