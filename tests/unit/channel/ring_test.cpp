#include "channel/ring.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/unit/channel/fixture.hpp"

using namespace culvert::channel;
using namespace culvert::channel::test;

namespace {

constexpr std::size_t kSmall = 8;
using SmallRing = RingMemory<Event, kSmall>;

std::uint64_t sa_of(const Event& event) {
  return static_cast<std::uint64_t>(event.body.soft_expire.sa);
}

RingState push(RingProducer<Event, kSmall>& ring, std::uint64_t sa) {
  const Event event = soft_expire(sa);
  return ring.push(event, meaningful_bytes(event));
}

}  // namespace

TEST_CASE("ring: what goes in comes out, in order, over many wrap-arounds") {
  const auto memory = std::make_unique<SmallRing>();
  RingProducer<Event, kSmall> producer(*memory);
  RingConsumer<Event, kSmall> consumer(*memory);
  Event event;
  std::uint64_t put = 0, taken = 0;
  for (int round = 0; round < 1000; ++round) {
    for (int times = 0; times < round % 9; ++times) {
      if (push(producer, put + 1) == RingState::ok) ++put;
    }
    for (int times = 0; times < round % 7; ++times) {
      if (consumer.pop(event) != RingState::ok) break;
      REQUIRE(sa_of(event) == ++taken);
    }
  }
  CHECK(put > 100 * kSmall);
  CHECK(put - taken <= kSmall);
}

TEST_CASE("ring: a full ring takes nothing and loses nothing") {
  const auto memory = std::make_unique<SmallRing>();
  RingProducer<Event, kSmall> producer(*memory);
  RingConsumer<Event, kSmall> consumer(*memory);
  for (std::uint64_t sa = 1; sa <= kSmall; ++sa) REQUIRE(push(producer, sa) == RingState::ok);

  CHECK(push(producer, 99) == RingState::stuck);

  Event event;
  for (std::uint64_t sa = 1; sa <= kSmall; ++sa) {
    REQUIRE(consumer.pop(event) == RingState::ok);
    CHECK(sa_of(event) == sa);
  }
  CHECK(consumer.pop(event) == RingState::stuck);
  CHECK(push(producer, 100) == RingState::ok);
}

TEST_CASE("ring: a producer index that cannot be is torn, and nothing is read for it") {
  const auto memory = std::make_unique<SmallRing>();
  RingConsumer<Event, kSmall> consumer(*memory);
  const std::uint64_t impossible =
      GENERATE(as<std::uint64_t>{}, kSmall + 1, 1ULL << 32U, 1ULL << 63U, ~0ULL, ~0ULL - kSmall);
  memory->indices.produced = impossible;
  Event event = soft_expire(42);

  CHECK(consumer.pop(event) == RingState::torn);

  CHECK(sa_of(event) == 42);
  CHECK(memory->indices.consumed == 0);
}

TEST_CASE("ring: a producer index that goes back is torn") {
  const auto memory = std::make_unique<SmallRing>();
  RingProducer<Event, kSmall> producer(*memory);
  RingConsumer<Event, kSmall> consumer(*memory);
  Event event;
  REQUIRE(push(producer, 1) == RingState::ok);
  REQUIRE(push(producer, 2) == RingState::ok);
  REQUIRE(consumer.pop(event) == RingState::ok);
  REQUIRE(consumer.pop(event) == RingState::ok);

  memory->indices.produced = 1;

  CHECK(consumer.pop(event) == RingState::torn);
}

TEST_CASE("ring: a consumer index that cannot be is torn, and nothing is written for it") {
  const auto memory = std::make_unique<SmallRing>();
  RingProducer<Event, kSmall> producer(*memory);
  memory->indices.consumed = GENERATE(as<std::uint64_t>{}, 1, 2, 1ULL << 40U, ~0ULL - kSmall);

  CHECK(push(producer, 1) == RingState::torn);

  CHECK(memory->indices.produced == 0);
  CHECK(std::ranges::all_of(memory->slots[0].bytes,
                            [](std::byte byte) { return byte == std::byte{}; }));
}

TEST_CASE("ring: each end trusts its own index, not what the other wrote over it") {
  const auto memory = std::make_unique<SmallRing>();
  RingProducer<Event, kSmall> producer(*memory);
  RingConsumer<Event, kSmall> consumer(*memory);
  REQUIRE(push(producer, 1) == RingState::ok);
  memory->indices.produced = 5;  // the consumer's process overwrites the producer's line

  REQUIRE(push(producer, 2) == RingState::ok);

  CHECK(memory->indices.produced == 2);
}

TEST_CASE("ring: a slot that held a key is wiped before it is handed back") {
  const auto memory = std::make_unique<RingMemory<Request, 2>>();
  RingProducer<Request, 2> producer(*memory);
  RingConsumer<Request, 2> consumer(*memory);
  const Request sent = install_sa();
  REQUIRE(producer.push(sent, meaningful_bytes(sent)) == RingState::ok);
  const auto holds_key = [&] {
    return std::ranges::count(memory->slots[0].bytes, std::byte{0xAB}) > 0;
  };
  REQUIRE(holds_key());

  Request request;
  REQUIRE(consumer.pop_and_wipe(request) == RingState::ok);

  CHECK(request.body.install_sa.key.view().size() == 36);
  CHECK(request.body.install_sa.key.bytes[0] == 0xAB);
  CHECK(std::ranges::all_of(memory->slots[0].bytes,
                            [](std::byte byte) { return byte == std::byte{}; }));
}

TEST_CASE("ring: nothing of an earlier message or of the stack crosses behind a shorter one") {
  const auto memory = std::make_unique<RingMemory<Request, 1>>();
  RingProducer<Request, 1> producer(*memory);
  RingConsumer<Request, 1> consumer(*memory);
  Request request = install_sa();
  REQUIRE(producer.push(request, meaningful_bytes(request)) == RingState::ok);
  Request taken;
  REQUIRE(consumer.pop(taken) == RingState::ok);

  request.type = RequestType::query_sa;  // the body behind it still holds the key
  REQUIRE(producer.push(request, meaningful_bytes(request)) == RingState::ok);

  CHECK(std::ranges::count(memory->slots[0].bytes, std::byte{0xAB}) == 0);
}

TEST_CASE("ring: two threads exchange 300 000 messages without loss, doubles or tears") {
  // Small, so that full, empty and wrap-around happen all the time; the TSan build runs it too.
  const auto memory = std::make_unique<SmallRing>();
  constexpr std::uint64_t kMessages = 300'000;
  std::atomic<bool> sound = true;
  std::thread reader([&] {
    RingConsumer<Event, kSmall> consumer(*memory);
    Event event;
    for (std::uint64_t expected = 1; expected <= kMessages;) {
      switch (consumer.pop(event)) {
        case RingState::ok:
          if (sa_of(event) != expected++) sound = false;
          break;
        case RingState::stuck:
          std::this_thread::yield();
          break;
        case RingState::torn:
          sound = false;
          return;
      }
    }
  });
  RingProducer<Event, kSmall> producer(*memory);
  for (std::uint64_t sa = 1; sa <= kMessages && sound;) {
    const RingState state = push(producer, sa);
    if (state == RingState::torn) break;
    if (state == RingState::ok) {
      ++sa;
    } else {
      std::this_thread::yield();
    }
  }
  reader.join();
  CHECK(sound);
  CHECK(memory->indices.produced == kMessages);
  CHECK(memory->indices.consumed == kMessages);
}
