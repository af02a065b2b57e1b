#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint64_t kEndOf32 = 0xffffffff;

TEST_CASE("sequence: the first number of an SA is 1 (RFC 4303 §3.3.3)") {
  OutboundSa sa;
  sa.sequence_limit = kEndOf32;
  const SequenceBlock block = reserve_sequence(sa, 64, SharedAdd(1));
  CHECK(block.first == 1);
  CHECK(block.count == 64);
  CHECK(reserve_sequence(sa, 1, SharedAdd(1)).first == 65);
}

TEST_CASE(
    "sequence: a block at the end is cut short and then there is none: 32 bits never cycle "
    "(RFC 4303 §3.3.3)") {
  for (const std::uint32_t workers : {1U, 4U}) {
    CAPTURE(workers);
    OutboundSa sa;
    sa.sequence_limit = kEndOf32;
    sa.sequence = kEndOf32 - 10;
    const SequenceBlock last = reserve_sequence(sa, 64, SharedAdd(workers));
    CHECK(last.first == kEndOf32 - 9);
    CHECK(last.count == 10);
    for (int again = 0; again < 1000; ++again) {
      REQUIRE(reserve_sequence(sa, 64, SharedAdd(workers)).count == 0);
    }
  }
}

TEST_CASE("sequence: with ESN the numbers go on past 2^32") {
  OutboundSa sa;
  sa.has_esn = true;
  sa.sequence_limit = ~0ULL;
  sa.sequence = kEndOf32 - 1;
  const SequenceBlock block = reserve_sequence(sa, 3, SharedAdd(1));
  CHECK(block.first == kEndOf32);
  CHECK(block.count == 3);
}

TEST_CASE("sequence: with ESN the end of 64 bits does not cycle either") {
  for (const std::uint32_t workers : {1U, 4U}) {
    CAPTURE(workers);
    OutboundSa sa;
    sa.has_esn = true;
    sa.sequence_limit = ~0ULL;
    sa.sequence = ~0ULL - 10;
    const SequenceBlock last = reserve_sequence(sa, 64, SharedAdd(workers));
    CHECK(last.first == ~0ULL - 9);
    CHECK(last.count == 10);
    for (int again = 0; again < 100; ++again) {
      REQUIRE(reserve_sequence(sa, 64, SharedAdd(workers)).count == 0);
    }
  }
}

TEST_CASE("sequence: a hard limit in packets is the limit: not one more (RFC 4301 §4.4.2.1)") {
  OutboundSa sa;
  sa.sequence_limit = 100;
  std::uint64_t given = 0;
  for (int again = 0; again < 10; ++again) given += reserve_sequence(sa, 33, SharedAdd(1)).count;
  CHECK(given == 100);
}

TEST_CASE("sequence: nothing asked, nothing given") {
  OutboundSa sa;
  sa.sequence_limit = kEndOf32;
  CHECK(reserve_sequence(sa, 0, SharedAdd(1)).count == 0);
  CHECK(reserve_sequence(sa, 1, SharedAdd(1)).first == 1);
}

TEST_CASE("sequence: threads that share an SA never get the same number, nor one past the limit",
          "[threads]") {
  INFO(test::kRace);
  constexpr std::uint64_t kLimit = kEndOf32;
  constexpr std::uint64_t kStart = kLimit - 100'000;
  OutboundSa sa;
  sa.sequence_limit = kLimit;
  sa.sequence = kStart;
  std::vector<std::vector<SequenceBlock>> taken(4);
  std::vector<std::thread> threads;
  for (auto& mine : taken) {
    threads.emplace_back([&sa, &mine] {
      for (std::uint32_t size = 1;; size = size % 64 + 1) {
        const SequenceBlock block = reserve_sequence(sa, size, SharedAdd(4));
        if (block.count == 0) return;
        mine.push_back(block);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<SequenceBlock> all;
  for (const auto& mine : taken) all.insert(all.end(), mine.begin(), mine.end());
  std::ranges::sort(all, {}, &SequenceBlock::first);
  std::uint64_t next = kStart + 1, gaps = 0;
  for (const SequenceBlock& block : all) {
    if (block.first != next) ++gaps;
    next = block.first + block.count;
  }
  CHECK(gaps == 0);
  CHECK(next == kLimit + 1);
}

TEST_CASE("sequence: why an SA stopped is what its packets are dropped for") {
  CHECK(drop_reason_of(StopCause::sequence) == DropReason::sequence_exhausted);
  CHECK(drop_reason_of(StopCause::hard_bytes) == DropReason::sa_expired);
  CHECK(drop_reason_of(StopCause::hard_packets) == DropReason::sa_expired);
  CHECK(drop_reason_of(StopCause::hard_time) == DropReason::sa_expired);
}

}  // namespace
}  // namespace culvert::dataplane
