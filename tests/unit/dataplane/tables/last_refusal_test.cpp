#include "dataplane/tables/last_refusal.hpp"

#include <thread>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/sa_request.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

/// Each field of it says `number`.
RefusedPacket numbered(std::uint16_t number) {
  RefusedPacket packet;
  packet.flow.source = wire::IpAddress::v4(number);
  packet.flow.destination = wire::IpAddress::v4(number);
  packet.flow.source_port = packet.flow.destination_port = number;
  packet.tsc = number;
  return packet;
}
bool is_whole(const RefusedPacket& packet) {
  const auto number = static_cast<std::uint16_t>(packet.tsc);
  return packet.tsc == number && packet.flow == numbered(number).flow;
}

}  // namespace

TEST_CASE("last refusal: none at first, then the last one with all that is known of it") {
  LastRefusal refusal;
  CHECK_FALSE(refusal.read());
  RefusedPacket six;
  six.flow = {test::address("2001:db8::9"), test::address("2001:db8:1::7"), 4000, 53, 17, true};
  six.tsc = 0x123456789abcdef0;
  refusal.record(six);
  REQUIRE(refusal.read());
  CHECK(refusal.read()->flow == six.flow);
  CHECK(refusal.read()->tsc == six.tsc);
  RefusedPacket fragment;
  fragment.flow = {test::address("10.1.0.9"), test::address("10.2.0.7"), 0, 0, 6, false};
  refusal.record(fragment);
  CHECK(refusal.read()->flow == fragment.flow);
}

TEST_CASE("last refusal: who reads while it is written sees one packet or another, never of two",
          "[threads]") {
  INFO(test::kRace);
  LastRefusal refusal;
  refusal.record(numbered(1));
  std::atomic<bool> done{false};
  std::thread worker([&] {
    for (std::uint32_t round = 0; round < 200'000; ++round) {
      refusal.record(numbered(static_cast<std::uint16_t>(1 + round % 50'000)));
    }
    done = true;
  });
  std::uint64_t torn = 0;
  while (!done) {
    const auto seen = refusal.read();
    if (seen && !is_whole(*seen)) ++torn;
  }
  worker.join();
  CHECK(torn == 0);
  CHECK(is_whole(refusal.read().value()));
}

}  // namespace culvert::dataplane
