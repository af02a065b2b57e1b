#include <catch2/catch.hpp>

#include "dataplane/control/lifetime.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;
using channel::ExpiryCause;

constexpr Instant kStart{5h};
constexpr bool kEsn = true;

channel::Lifetime limits_in_seconds(std::uint64_t soft, std::uint64_t hard) {
  channel::Lifetime limits;
  limits.soft_seconds = soft;
  limits.hard_seconds = hard;
  return limits;
}

/// What is due, announced at once.
std::optional<Expiry> tell(LifetimeWatch& watch, const Usage& usage, Instant now) {
  const auto due = watch.due(usage, now);
  if (due) watch.announced(due->level);
  return due;
}

}  // namespace

TEST_CASE("lifetime: soft, then hard by time, each announced once (RFC 4301 §4.4.2.1)") {
  LifetimeWatch watch(limits_in_seconds(10, 12), kEsn, kStart);
  CHECK_FALSE(tell(watch, {}, kStart + 9999ms));
  CHECK(tell(watch, {}, kStart + 10s) == Expiry{ExpiryLevel::soft, ExpiryCause::time});
  CHECK_FALSE(tell(watch, {}, kStart + 11s));
  CHECK(tell(watch, {}, kStart + 12s) == Expiry{ExpiryLevel::hard, ExpiryCause::time});
  CHECK_FALSE(tell(watch, {}, kStart + 20s));
}

TEST_CASE("lifetime: a hard limit that comes first swallows the soft one") {
  LifetimeWatch watch(limits_in_seconds(10, 12), kEsn, kStart);
  CHECK(tell(watch, {}, kStart + 1h) == Expiry{ExpiryLevel::hard, ExpiryCause::time});
  CHECK_FALSE(tell(watch, {}, kStart + 2h));
}

TEST_CASE("lifetime: how long an SA lives yet by its hard limit in time") {
  const LifetimeWatch watch(limits_in_seconds(10, 12), kEsn, kStart);
  CHECK(watch.time_left(kStart) == 12s);
  CHECK(watch.time_left(kStart + 11999ms) == 1ms);
  CHECK(watch.time_left(kStart + 12s) == 0s);
  CHECK(watch.time_left(kStart + 13s) == -1s);
  CHECK(LifetimeWatch(limits_in_seconds(10, 0), kEsn, kStart).time_left(kStart) == std::nullopt);
}

TEST_CASE("lifetime: the time that is left in cycles of the workers' clock") {
  constexpr std::uint64_t kHertz = 2'100'000'000;
  CHECK(cycles_later(1000, 2s, kHertz) == 1000 + 2 * kHertz);
  CHECK(cycles_later(1000, 2s + 500ms, kHertz) == 1000 + 5 * kHertz / 2);
  CHECK(cycles_later(1000, 999'999'999ns, 5'000'000'000) == 1000 + 4'999'999'995);
  CHECK(cycles_later(1000, 0s, kHertz) == 1000);
  CHECK(cycles_later(1000, -5s, kHertz) == 1000);
}

TEST_CASE("lifetime: a life of years does not come round the workers' clock") {
  const LifetimeWatch absurd(limits_in_seconds(~0ULL, ~0ULL), kEsn, kStart);
  const Instant left = absurd.time_left(kStart).value();
  CHECK(left > 24h * 365 * 99);
  // A hundred years of 2 GHz are counted, of 6 GHz are not.
  CHECK(cycles_later(0, left, 2'000'000'000) == 2'000'000'000ULL * 100 * 365 * 24 * 3600);
  CHECK(cycles_later(0, left, 6'000'000'000) == ~0ULL);
  CHECK(cycles_later(~0ULL - 5'000'000'000, 1s, 2'000'000'000) == ~0ULL - 3'000'000'000);
  CHECK(cycles_later(~0ULL - 5'000'000'000, 3s, 2'000'000'000) == ~0ULL);
  CHECK(cycles_later(~0ULL, 1ns, 2'000'000'000) == ~0ULL);
}

TEST_CASE("lifetime: bytes and packets") {
  channel::Lifetime limits;
  limits.soft_bytes = 1000;
  limits.hard_packets = 5;
  LifetimeWatch watch(limits, kEsn, kStart);
  CHECK_FALSE(tell(watch, {.packets = 1, .bytes = 999}, kStart));
  CHECK(tell(watch, {.packets = 2, .bytes = 1000}, kStart) ==
        Expiry{ExpiryLevel::soft, ExpiryCause::bytes});
  CHECK(tell(watch, {.packets = 5, .bytes = 1001}, kStart) ==
        Expiry{ExpiryLevel::hard, ExpiryCause::packets});
}

TEST_CASE("lifetime: 32-bit sequence numbers run out, extended ones do not (RFC 4303 §3.3.3)") {
  LifetimeWatch plain(channel::Lifetime{}, !kEsn, kStart);
  CHECK_FALSE(tell(plain, {.sequence = 0xefffffffULL}, kStart));
  CHECK(tell(plain, {.sequence = 0xf0000000ULL}, kStart) ==
        Expiry{ExpiryLevel::soft, ExpiryCause::sequence});
  CHECK(tell(plain, {.sequence = 0xffffffffULL}, kStart) ==
        Expiry{ExpiryLevel::hard, ExpiryCause::sequence});

  LifetimeWatch extended(channel::Lifetime{}, kEsn, kStart);
  CHECK_FALSE(tell(extended, {.sequence = 0x1ffffffffULL}, kStart));
}

TEST_CASE("lifetime: no limits and absurd limits never expire") {
  LifetimeWatch forever(channel::Lifetime{}, kEsn, kStart);
  CHECK_FALSE(tell(forever, {.packets = ~0ULL, .bytes = ~0ULL}, kStart + 100000h));

  LifetimeWatch absurd(limits_in_seconds(~0ULL, ~0ULL), kEsn, kStart);
  CHECK_FALSE(tell(absurd, {}, kStart + 1h));
}

TEST_CASE(
    "lifetime: what could not be announced stays due, and is due again for a new key daemon") {
  LifetimeWatch watch(limits_in_seconds(10, 12), kEsn, kStart);
  CHECK(watch.due({}, kStart + 10s));
  CHECK(watch.due({}, kStart + 10s));
  watch.announced(ExpiryLevel::soft);
  CHECK_FALSE(watch.due({}, kStart + 11s));
  watch.set_listener(1);
  CHECK(watch.due({}, kStart + 11s) == Expiry{ExpiryLevel::soft, ExpiryCause::time});
}

}  // namespace culvert::dataplane::control
