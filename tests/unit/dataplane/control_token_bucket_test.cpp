#include <random>

#include <catch2/catch.hpp>

#include "dataplane/control/newcomers.hpp"
#include "dataplane/control/token_bucket.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;

constexpr Rate kTenASecond{10, 5};
constexpr Instant kFilled{1h};

int admitted(SourcePolicer& policer, const wire::IpAddress& source, Instant now, int tries) {
  int count = 0;
  for (int i = 0; i < tries; ++i) count += policer.admit(source, now) ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("rate limit: a burst, then the rate") {
  TokenBucket bucket(kTenASecond, kFilled);
  int taken = 0;
  CHECK(bucket.has(kTenASecond, kFilled));
  while (bucket.take(kTenASecond, kFilled)) ++taken;
  CHECK(taken == 5);
  CHECK_FALSE(bucket.has(kTenASecond, kFilled + 99ms));
  CHECK_FALSE(bucket.take(kTenASecond, kFilled + 99ms));
  CHECK(bucket.has(kTenASecond, kFilled + 100ms));
  CHECK(bucket.take(kTenASecond, kFilled + 100ms));
  CHECK_FALSE(bucket.take(kTenASecond, kFilled + 100ms));
  CHECK(bucket.is_full(kTenASecond, kFilled + 10s));
}

TEST_CASE("policing: one source's flood does not take another's share") {
  SourcePolicer policer(kTenASecond, 16, kFilled);
  CHECK(admitted(policer, test::address("192.0.2.1"), kFilled, 1000) == 5);
  CHECK(admitted(policer, test::address("192.0.2.2"), kFilled, 1000) == 5);
}

TEST_CASE("policing: ten thousand forged sources share what is left, the table stays bounded") {
  SourcePolicer policer(kTenASecond, 16, kFilled);
  const auto peer = test::address("198.51.100.7");
  policer.keep(peer, kFilled);
  int through = 0;
  for (std::uint32_t host = 0; host < 10000; ++host) {
    through += policer.admit(wire::IpAddress::v4(0x0a000000U + host), kFilled) ? 1 : 0;
  }
  CHECK(through == 16 + 5);  // a first one for each that found a place, one burst for the rest
  CHECK(policer.sources() == 17);
  CHECK(admitted(policer, peer, kFilled, 1000) == 5);  // the configured peer is not touched
}

TEST_CASE("policing: whether a source would be admitted is asked without taking anything") {
  SourcePolicer policer(kTenASecond, 1, kFilled);
  const auto first = test::address("192.0.2.1"), second = test::address("192.0.2.2");
  for (int i = 0; i < 10; ++i) CHECK(policer.may_admit(first, kFilled));
  CHECK(admitted(policer, first, kFilled, 1000) == 5);
  CHECK_FALSE(policer.may_admit(first, kFilled));
  CHECK(policer.may_admit(second, kFilled));  // of those without a place
  CHECK(admitted(policer, second, kFilled, 1000) == 5);
  CHECK_FALSE(policer.may_admit(second, kFilled));
  CHECK_FALSE(policer.may_admit(test::address("192.0.2.3"), kFilled));
  CHECK(policer.may_admit(first, kFilled + 100ms));
  CHECK(policer.may_admit(test::address("192.0.2.3"), kFilled + 1s));  // idle ones make room
}

TEST_CASE("newcomers: whoever comes again is let in beside a hundred thousand forged sources") {
  Newcomers newcomers(0x1234567890abcdef, kFilled);
  const auto honest = test::address("203.0.113.9");
  CHECK(newcomers.admit(honest, kFilled));  // nobody else is there
  // A second of a flood: of the forged sources as many pass as the key daemon can answer.
  std::mt19937 dice(7);
  int through = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto forged = wire::IpAddress::v4(static_cast<std::uint32_t>(dice()));
    through += newcomers.admit(forged, kFilled + i * 10us) ? 1 : 0;
  }
  CHECK(through > 2000);
  CHECK(through < 2600);
  // Half of it ago a newcomer was refused; now it comes again.
  int late = 0;
  for (std::uint32_t host = 1; host <= 100; ++host) {
    const auto peer = wire::IpAddress::v4(0xc6336400U + host);
    static_cast<void>(newcomers.admit(peer, kFilled + 1s));
    for (int i = 0; i < 500; ++i) {
      static_cast<void>(
          newcomers.admit(wire::IpAddress::v4(static_cast<std::uint32_t>(dice())), kFilled + 1s));
    }
    late += newcomers.admit(peer, kFilled + 1s + 500ms) ? 1 : 0;
  }
  CHECK(late >= 98);
}

TEST_CASE("newcomers: an address that comes without end has its share, and no more") {
  Newcomers newcomers(1, kFilled);
  const auto busy = test::address("203.0.113.9");
  int through = 0;
  for (int i = 0; i < 10'000; ++i) through += newcomers.admit(busy, kFilled) ? 1 : 0;
  CHECK(through == 1 + static_cast<int>(Newcomers::kPerSource.burst));
  CHECK(newcomers.admit(test::address("203.0.113.10"), kFilled));
}

TEST_CASE("newcomers: a configured peer is let in whatever the others do") {
  Newcomers newcomers(1, kFilled);
  const auto peer = test::address("198.51.100.7");
  newcomers.know_peer(peer, kFilled);
  for (std::uint32_t host = 0; host < 10'000; ++host) {
    static_cast<void>(newcomers.admit(wire::IpAddress::v4(0x0a000000U + host), kFilled));
  }
  CHECK(newcomers.admit(peer, kFilled));
}

TEST_CASE("policing: idle sources make room, configured peers stay") {
  SourcePolicer policer(kTenASecond, 2, kFilled);
  policer.keep(test::address("198.51.100.7"), kFilled);
  CHECK(policer.admit(test::address("192.0.2.1"), kFilled));
  CHECK(policer.admit(test::address("192.0.2.2"), kFilled));
  CHECK(policer.admit(test::address("192.0.2.3"), kFilled + 2s));
  CHECK(policer.sources() == 2);  // the peer and the newcomer
}

}  // namespace culvert::dataplane::control
