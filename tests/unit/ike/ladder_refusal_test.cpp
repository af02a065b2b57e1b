// What an initiator is told, or finds by itself, and how its operator reads it.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

using wire::ike::Notify;
using wire::ike::NotifyType;

/// The initiator's first message is answered with nothing but a notify (RFC 7296 §2.6, §2.21.1:
/// such an answer has no authentication).
void answer_with(Ladder& ladder, NotifyType type, std::vector<std::uint8_t> data = {}) {
  REQUIRE(ladder.wire.size() == 1);
  Flying datagram = ladder.wire.front();
  ladder.wire.clear();
  auto header = simulation::header_of(datagram);
  header.response = true;
  header.from_initiator = false;
  datagram.from = kB;
  std::swap(datagram.local, datagram.remote);
  datagram.bytes = wire::ike::encode_message(
      header, {Notify{wire::ike::Protocol::none, type, {}, std::move(data)}});
  ladder.world.deliver(datagram);
}

TEST_CASE("refusal: a peer of another major version is called that (RFC 7296 §2.5)") {
  Ladder ladder;
  const auto command = ladder.initiate(kA);
  answer_with(ladder, NotifyType::invalid_major_version);
  CHECK(ladder.connection(kA).last_failure == Failure::unsupported_version);
  REQUIRE(ladder.outcome(kA, command) != nullptr);
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
}

TEST_CASE("refusal: a group that we did not offer is not taken (RFC 7296 §1.2)") {
  Ladder ladder;
  const auto command = ladder.initiate(kA);
  answer_with(ladder, NotifyType::invalid_ke_payload, {0, 16});
  CHECK(ladder.connection(kA).last_failure == Failure::invalid_ke_group);
  CHECK(ladder.connection(kA).last_failure_detail.find("16") != std::string::npos);
  REQUIRE(ladder.outcome(kA, command) != nullptr);
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
}

TEST_CASE("refusal: a peer that is busy is called that (RFC 7296 §2.25)") {
  Ladder ladder;
  ladder.initiate(kA);
  answer_with(ladder, NotifyType::temporary_failure);
  CHECK(ladder.connection(kA).last_failure == Failure::temporary_failure);
}

TEST_CASE("refusal: without a local address towards the peer nothing is sent") {
  Ladder ladder;
  ladder.gateway(kA).config->connections.front().local.address.reset();
  const auto command = ladder.initiate(kA);
  ladder.silent();
  CHECK(ladder.connection(kA).last_failure == Failure::no_local_address);
  REQUIRE(ladder.outcome(kA, command) != nullptr);
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
}

TEST_CASE("refusal: a child that the peer took down says so") {
  Ladder ladder;
  ladder.connect();
  const std::string what = GENERATE("office", "branch");
  ladder.world.command(kB, CommandVerb::terminate, what);
  ladder.run();
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.connection(kA).last_failure == Failure::peer_deleted);
  CHECK(ladder.connection(kA).last_failure_detail.find("b.example.org") != std::string::npos);
  CHECK_FALSE(ladder.connection(kB).last_failure.has_value());
}

}  // namespace
}  // namespace culvert::ladder
