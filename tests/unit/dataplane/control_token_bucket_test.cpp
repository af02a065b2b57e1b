#include <catch2/catch.hpp>

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
  while (bucket.take(kTenASecond, kFilled)) ++taken;
  CHECK(taken == 5);
  CHECK_FALSE(bucket.take(kTenASecond, kFilled + 99ms));
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

TEST_CASE("policing: idle sources make room, configured peers stay") {
  SourcePolicer policer(kTenASecond, 2, kFilled);
  policer.keep(test::address("198.51.100.7"), kFilled);
  CHECK(policer.admit(test::address("192.0.2.1"), kFilled));
  CHECK(policer.admit(test::address("192.0.2.2"), kFilled));
  CHECK(policer.admit(test::address("192.0.2.3"), kFilled + 2s));
  CHECK(policer.sources() == 2);  // the peer and the newcomer
}

}  // namespace culvert::dataplane::control
