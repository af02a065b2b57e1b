// Hostile and broken messages: nothing but counters and the answers that RFC 7296 asks for.
#include <random>

#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

using wire::ike::NotifyType;

Flying sent_by_a(std::vector<std::uint8_t> bytes, std::uint16_t port = 500) {
  return {kA,
          {*wire::IpAddress::parse("192.0.2.1"), port},
          {*wire::IpAddress::parse("192.0.2.2"), port},
          std::move(bytes),
          {}};
}
const wire::ike::Notify* only_notify(const wire::ike::Message& message) {
  REQUIRE(message.payloads.size() == 1);
  return std::get_if<wire::ike::Notify>(&message.payloads.front());
}

TEST_CASE("robustness: a message of version 1 gets INVALID_MAJOR_VERSION or nothing (§2.5)") {
  Ladder ladder;
  ladder.initiate(kA);
  Flying datagram = ladder.wire.front();
  ladder.wire.clear();
  datagram.bytes[17] = 0x10;
  ladder.world.deliver(datagram);
  ladder.silent();
  datagram.bytes[17] = 0x30;
  ladder.world.deliver(datagram);
  REQUIRE(ladder.wire.size() == 1);
  const auto answer = wire::ike::parse_message(ladder.wire.front().bytes);
  REQUIRE(answer.has_value());
  CHECK(only_notify(*answer)->type == NotifyType::invalid_major_version);
  CHECK(answer->header.major_version == 2);
  CHECK(ladder.gateway(kB).machine->counters().invalid_messages == 2);
  CHECK(ladder.gateway(kB).machine->counters().half_open == 0);
}

TEST_CASE("robustness: an unknown critical payload is refused by its type (§2.5)") {
  Ladder ladder;
  ladder.initiate(kA);
  Flying datagram = ladder.wire.front();
  ladder.wire.clear();
  auto message = wire::ike::parse_message(datagram.bytes);
  REQUIRE(message.has_value());
  const bool critical = GENERATE(true, false);
  message->payloads.push_back(
      wire::ike::Unknown{static_cast<wire::ike::PayloadType>(200), critical, {1, 2, 3}});
  datagram.bytes = wire::ike::encode_message(message->header, message->payloads);
  ladder.world.deliver(datagram);
  REQUIRE(ladder.wire.size() == 1);
  const auto answer = wire::ike::parse_message(ladder.wire.front().bytes);
  REQUIRE(answer.has_value());
  if (critical) {
    CHECK(only_notify(*answer)->type == NotifyType::unsupported_critical_payload);
    CHECK(only_notify(*answer)->data == std::vector<std::uint8_t>{200});
  } else {
    CHECK(answer->payloads.size() > 1);
  }
  CHECK(ladder.gateway(kB).machine->counters().half_open == (critical ? 0U : 1U));
}

TEST_CASE("robustness: a flood of half-open SAs meets cookies, then silence (§2.6)") {
  ike::Tuning tuning;
  tuning.half_open_cookie_threshold = 8;
  Ladder ladder(gateway_a(), mirrored(gateway_a()), tuning);
  ladder.initiate(kA);
  const Flying first = ladder.wire.front();
  ladder.wire.clear();
  for (std::uint8_t i = 0; i < 100; ++i) {
    Flying datagram = first;
    datagram.bytes[0] = i;  // another initiator SPI
    datagram.bytes[1] = 0xee;
    ladder.world.deliver(datagram);
  }
  const auto counters = ladder.gateway(kB).machine->counters();
  CHECK(counters.half_open == 8);
  CHECK(counters.cookies_sent == 92);
  // The honest one still gets in.
  ladder.wire.clear();
  ladder.pass(milliseconds(600));
  ladder.run();
  CHECK(ladder.world.why_not_usable(0) == "");
  // And the rest goes away by itself.
  ladder.pass(seconds(40));
  ladder.converged();
  CHECK(ladder.gateway(kB).machine->counters().half_open == 0);
}

TEST_CASE("robustness: a retry with a cookie whose first request was answered meanwhile (§2.6)") {
  // Given a gateway that asks for a cookie, and whose half-open IKE SAs go away right afterwards
  ike::Tuning tuning;
  tuning.half_open_cookie_threshold = 1;
  tuning.half_open_timeout = seconds(1);
  Ladder ladder(gateway_a(), mirrored(gateway_a()), tuning);
  ladder.initiate(kA);
  Flying other = ladder.wire.front();
  other.bytes[0] ^= 0xff;  // another initiator SPI
  ladder.world.deliver(other);
  std::erase_if(ladder.wire, [](const Flying& datagram) { return datagram.from == kB; });
  ladder("a ==> b  IKE_SA_INIT request");  // met by a cookie
  ladder.pass(milliseconds(1200));         // the first request is sent again, and waits
  // When the first request comes once more, and then the cookie arrives and leads to another
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder.run();
  // Then both sides prove themselves over the same request
  CHECK(ladder.world.why_not_usable(0) == "");
  CHECK(ladder.gateway(kB).machine->counters().authentication_failures == 0);
}

TEST_CASE("robustness: every truncation and many a bit of every message change nothing") {
  Ladder ladder;
  ladder.initiate(kA);
  std::mt19937 dice(1);
  for (int step = 0; step < 4; ++step) {
    REQUIRE(ladder.wire.size() == 1);
    const Flying whole = ladder.wire.front();
    for (std::size_t length = 0; length < whole.bytes.size(); ++length) {
      Flying cut = whole;
      cut.bytes.resize(length);
      ladder.world.deliver(cut);
    }
    // IKE_SA_INIT is not protected: only IKE_AUTH must withstand every bit.
    for (int i = 0; step >= 2 && i < 300; ++i) {
      Flying bent = whole;
      bent.bytes[dice() % bent.bytes.size()] ^= static_cast<std::uint8_t>(1U << (dice() % 8));
      ladder.world.deliver(bent);
    }
    std::erase_if(ladder.wire, [&](const Flying& datagram) { return datagram.from != whole.from; });
    ladder.wire.clear();
    ladder.world.deliver(whole);
  }
  ladder.wire.clear();
  CHECK(ladder.world.why_not_usable(0) == "");
}

TEST_CASE("robustness: noise on ports 500 and 4500 is counted and no more") {
  Ladder ladder;
  ladder.connect();
  std::mt19937 dice(2);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::uint8_t> noise(dice() % 400);
    for (auto& octet : noise) octet = static_cast<std::uint8_t>(dice());
    ladder.world.deliver(sent_by_a(std::move(noise), i % 2 == 0 ? 500 : 4500));
  }
  ladder.wire.clear();
  CHECK(ladder.gateway(kB).machine->counters().invalid_messages == 2000);
  ladder.rekey(kA);
  ladder.run();
  ladder.pass(seconds(6));
  ladder.converged();
}

TEST_CASE("robustness: a peer that is heard is not given up for a request that is lost (§2.4)") {
  Ladder ladder;
  ladder.connect();
  const int heard_after = GENERATE(-1, 0, 3, 5);  // tries; -1: never
  const auto speak = [&](int tries) {
    if (heard_after != tries) return;
    ladder.pass(milliseconds(100));
    ladder.rekey(kB);
    ladder("b --> a  CREATE_CHILD_SA request");
    ladder("a --> b  CREATE_CHILD_SA response");
    ladder.run();
  };
  ladder.rekey(kA);
  ladder("a --x b  CREATE_CHILD_SA request");
  speak(0);
  for (int again = 1; again <= 5; ++again) {
    while (ladder.wire.empty()) ladder.pass(milliseconds(100));
    ladder("a --x b  CREATE_CHILD_SA request");
    speak(again);
  }
  const bool is_heard = heard_after >= 0;
  for (int time = 0; time < 60; ++time) {
    ladder.pass(milliseconds(500));
    if (is_heard) ladder.run();
  }
  CHECK(ladder.reported(kA, "negotiation_failed") == (is_heard ? 0 : 1));
  if (is_heard) ladder.converged();
}

TEST_CASE("robustness: messages replayed long afterwards are not taken twice (§2.2)") {
  Ladder ladder;
  std::vector<Flying> recorded;
  auto send = ladder.world.send;
  ladder.world.send = [&](Flying datagram) {
    recorded.push_back(datagram);
    send(std::move(datagram));
  };
  ladder.connect();
  ladder.rekey(kA);
  ladder.run();
  ladder.pass(seconds(6));
  const auto before = ladder.ike_sa(kA).children.front().inbound;
  const std::vector<Flying> replay = recorded;
  for (const Flying& datagram : replay) ladder.world.deliver(datagram);
  ladder.wire.clear();
  CHECK(ladder.ike_sa(kA).children.front().inbound == before);
  CHECK(ladder.world.why_not_usable(0) == "");
  ladder.pass(seconds(60));
  ladder.converged();
}

}  // namespace
}  // namespace culvert::ladder
