// Where everything stands in the channel's memory. Both ends compute it from this file; what the
// memory itself says is only compared, never followed.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "channel/messages.hpp"

namespace culvert::channel {

/// "CULVERTC", little-endian.
inline constexpr std::uint64_t kMagic = 0x4354'5245'564C'5543;
/// Raise it with every change of a message or of this file: daemons of different builds then refuse
/// each other in words instead of misreading each other.
inline constexpr std::uint32_t kLayoutVersion = 5;

/// Slots a ring, powers of two.
inline constexpr std::size_t kRequestSlots = 1024;  ///< two rekeys a millisecond, a poll behind
inline constexpr std::size_t kEventSlots = 4096;    ///< a snapshot's pieces and every completion
inline constexpr std::size_t kDatagramSlots = 256;  ///< each way; as many as a socket would hold

inline constexpr std::size_t kCacheLine = 64;

/// A ring's positions: how many messages were ever put in and taken out. Each on its own cache
/// line, each written by one side only.
struct RingIndices {
  alignas(kCacheLine) std::atomic<std::uint64_t> produced;  ///< written by the producer
  alignas(kCacheLine) std::atomic<std::uint64_t> consumed;  ///< written by the consumer
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a lock would be private memory");
static_assert(sizeof(RingIndices) == 2 * kCacheLine);

/// A message's place: bytes, not an object, because the other side may write into it at any time.
template <typename Message>
struct alignas(kCacheLine) Slot {
  std::array<std::byte, (sizeof(Message) + kCacheLine - 1) / kCacheLine * kCacheLine> bytes;
};

template <typename Message, std::size_t kSlots>
struct RingMemory {
  static_assert(std::has_single_bit(kSlots));
  RingIndices indices;
  std::array<Slot<Message>, kSlots> slots;
};

struct RingDescription {
  std::uint64_t offset;  ///< bytes from the start of the memory
  std::uint32_t slot_bytes;
  std::uint32_t slots;
  friend bool operator==(const RingDescription&, const RingDescription&) = default;
};

/// The first page: what the server was built with.
struct Header {
  std::uint64_t magic;
  std::uint32_t layout_version;
  std::uint32_t header_bytes;
  std::uint64_t total_bytes;
  std::array<RingDescription, 4> rings;  ///< requests, events, to_network, to_ike
  friend bool operator==(const Header&, const Header&) = default;
};

/// The whole memory.
struct Memory {
  alignas(4096) Header header;
  alignas(4096) RingMemory<Request, kRequestSlots> requests;      ///< key daemon → data plane
  alignas(4096) RingMemory<Event, kEventSlots> events;            ///< data plane → key daemon
  alignas(4096) RingMemory<Datagram, kDatagramSlots> to_network;  ///< key daemon → data plane
  alignas(4096) RingMemory<Datagram, kDatagramSlots> to_ike;      ///< data plane → key daemon
};
static_assert(offsetof(Memory, header) == 0);
static_assert(offsetof(Memory, requests) == 4096);
static_assert(sizeof(Memory) % 4096 == 0, "mapped in whole pages");
static_assert(sizeof(Memory) < 16U << 20U, "lives in ordinary pages; keep it modest");
static_assert(offsetof(Header, total_bytes) == 16 && offsetof(Header, rings) == 24);
static_assert(sizeof(Header) == 24 + 4 * 16);

// The messages as this layout version has them. A failing line here means: raise kLayoutVersion.
static_assert(sizeof(wire::IpAddress) == 17 && sizeof(wire::Endpoint) == 20);
static_assert(sizeof(wire::TrafficSelector) == 40);
static_assert(sizeof(SelectorSet) == 4 + kMaxSelectors * 40);
static_assert(sizeof(InstallSa) == 1528 && sizeof(Completion) == 296);
static_assert(sizeof(Request) == 1544 && offsetof(Request, body) == 16);
static_assert(sizeof(Event) == 304 && offsetof(Event, body) == 8);
static_assert(sizeof(Datagram) == 8120 && offsetof(Datagram, bytes) == 56);

/// What the header of this build says.
constexpr Header expected_header() {
  return {kMagic,
          kLayoutVersion,
          sizeof(Header),
          sizeof(Memory),
          {{{offsetof(Memory, requests), sizeof(Slot<Request>), kRequestSlots},
            {offsetof(Memory, events), sizeof(Slot<Event>), kEventSlots},
            {offsetof(Memory, to_network), sizeof(Slot<Datagram>), kDatagramSlots},
            {offsetof(Memory, to_ike), sizeof(Slot<Datagram>), kDatagramSlots}}}};
}

}  // namespace culvert::channel
