// The channel against bytes of another process: as single messages and as a ring's whole memory.
// The first byte says which. Whatever is handed out must be valid, and the work bounded.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "channel/messages.hpp"
#include "channel/ring.hpp"

using namespace culvert::channel;

namespace {

using Bytes = std::span<const std::uint8_t>;

void require(bool claim) {
  if (!claim) std::abort();
}

/// `bytes` as a message, the rest zero.
template <typename Message>
Message as_message(Bytes bytes) {
  Message message;
  std::memset(static_cast<void*>(&message), 0, sizeof(message));
  if (!bytes.empty()) {
    std::memcpy(static_cast<void*>(&message), bytes.data(),
                std::min(bytes.size(), sizeof(message)));
  }
  return message;
}

template <typename Message>
void fuzz_message(Bytes bytes) {
  const auto message = as_message<Message>(bytes);
  const auto valid = validate(message);
  require(meaningful_bytes(message) <= sizeof(message));
  if (!valid) {
    require(!valid.error().field.empty() && !valid.error().problem.empty());
    return;
  }
  // What survives the crossing is as valid as what was sent.
  const auto crossed = as_message<Message>(
      Bytes(reinterpret_cast<const std::uint8_t*>(&message), meaningful_bytes(message)));
  require(validate(crossed).has_value());
}

/// A valid InstallSa's limits hold: what the tables rely on.
void fuzz_install(Bytes bytes) {
  auto request = as_message<Request>(bytes);
  request.type = RequestType::install_sa;
  if (!validate(request)) return;
  const InstallSa& sa = request.body.install_sa;
  require(sa.key.length <= kMaxKeyBytes && sa.key.view().size() == sa.suite.keymat_bytes());
  require(sa.local_selectors.count >= 1 && sa.local_selectors.count <= kMaxSelectors);
  require(sa.remote_selectors.count >= 1 && sa.remote_selectors.count <= kMaxSelectors);
  require(sa.replay_window <= kMaxReplayWindow);
  require(static_cast<std::uint32_t>(sa.spi) >= kFirstFreeSpi);
}

/// The memory of a small ring, rewritten by chunks of the input between the calls.
void fuzz_ring(Bytes bytes) {
  constexpr std::size_t kSlots = 4;
  using Ring = RingMemory<Event, kSlots>;
  // NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): too large for the stack
  static Ring memory;
  std::memset(static_cast<void*>(&memory), 0, sizeof(memory));
  RingConsumer<Event, kSlots> consumer(memory);
  RingProducer<Event, kSlots> producer(memory);
  Event event;
  while (!bytes.empty()) {
    // offset (two bytes), length (one), then what is written there.
    if (bytes.size() < 3) break;
    const std::size_t offset = (bytes[0] | std::size_t{bytes[1]} << 8U) % sizeof(memory);
    const std::size_t length =
        std::min({std::size_t{bytes[2]}, bytes.size() - 3, sizeof(memory) - offset});
    std::memcpy(reinterpret_cast<std::uint8_t*>(&memory) + offset, bytes.data() + 3, length);
    bytes = bytes.subspan(3 + length);

    for (std::size_t times = 0; times <= kSlots; ++times) {
      const RingState state = consumer.pop(event);
      if (state != RingState::ok) break;
      require(times < kSlots);  // one writing fills at most one ring
      (void)validate(event);
    }
    (void)producer.push(event, meaningful_bytes(event));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Bytes bytes(data + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      fuzz_message<Request>(bytes);
      break;
    case 1:
      fuzz_message<Event>(bytes);
      break;
    case 2:
      fuzz_message<Datagram>(bytes);
      break;
    case 3:
      fuzz_install(bytes);
      break;
    case 4:
      fuzz_ring(bytes);
      break;
  }
  return 0;
}
