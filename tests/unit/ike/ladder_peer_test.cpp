// A peer with the keys of an IKE SA that says what no honest one says: it harms itself only.
#include "tests/unit/ike/keyed_peer.hpp"

namespace culvert::ladder {
namespace {

using wire::ike::Delete;
using wire::ike::NotifyType;
using wire::ike::Protocol;

TEST_CASE("peer: an answer of no use, and then the IKE SA goes: the SPI goes back (§1.4.1)") {
  Ladder ladder;
  ladder.connect();
  // Given a rekey whose answer has no SA in it, so that we delete the child that it may have made
  ladder.rekey(kA);
  ladder.wire.clear();
  say(ladder, kA, ExchangeType::create_child_sa, true,
      {wire::ike::Nonce{std::vector<std::uint8_t>(32)}});
  REQUIRE(ladder.gateway(kA).data_plane.leased.size() == 1);
  // When the peer, instead of answering our Delete, ends the IKE SA; or our data plane restarts
  if (GENERATE(true, false)) {
    say(ladder, kA, ExchangeType::informational, false, {Delete{Protocol::ike, {}}});
  } else {
    ladder.world.restart_data_plane(kA);
    ladder.wire.clear();
  }
  // Then nothing is leased for it any more, and nothing given back twice
  CHECK(ladder.gateway(kA).data_plane.leased.empty());
}

TEST_CASE(
    "peer: it does not believe us, and says so with nothing else: the IKE SA ends (§2.21.2)") {
  Ladder ladder;
  ladder.connect();
  ask(ladder, kB, ExchangeType::informational, false,
      {ike::make_notify(NotifyType::authentication_failed)});
  CHECK(ladder.wire.size() == 1);  // the answer
  ladder.wire.clear();
  CHECK(ladder.gateway(kB).machine->ike_sas(ladder.world.now).empty());
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
  CHECK(ladder.connection(kB).last_failure == Failure::authentication_failed_remote);
  CHECK(contains(ladder.connection(kB).last_failure_detail, "a.example.org"));
}

TEST_CASE("peer: it answers IKE_AUTH without a proof, and hears that no IKE SA stands (§2.21.2)") {
  Ladder ladder;
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  ladder("b --x a  IKE_AUTH response");
  ask(ladder, kA, ExchangeType::ike_auth, true, {wire::ike::Nonce{std::vector<std::uint8_t>(32)}});
  CHECK(ladder.connection(kA).last_failure == Failure::invalid_syntax);
  ladder("a --> b  INFORMATIONAL request");
  ladder.wire.clear();
  for (const int side : {kA, kB}) {
    CHECK(ladder.gateway(side).machine->ike_sas(ladder.world.now).empty());
    CHECK(ladder.gateway(side).data_plane.sas.empty());
    CHECK(ladder.gateway(side).data_plane.leased.empty());
  }
}

TEST_CASE("peer: it deletes thousands of children that we do not know") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  ladder.wire.clear();
  for (int i = 0; i < 5; ++i) {
    std::vector<std::uint32_t> spis(1000);
    for (std::uint32_t& spi : spis) spi = static_cast<std::uint32_t>(0x1000 + &spi - spis.data());
    say(ladder, kA, ExchangeType::informational, false, {Delete{Protocol::esp, spis}});
  }
  const auto recorded = on_record(ladder, kA);
  REQUIRE(recorded.ike->exchange.has_value());
  CHECK(recorded.ike->exchange->deleted_early.size() <= 16);
}

TEST_CASE("peer: it asks for the same child again and again (§1.3, NO_ADDITIONAL_SAS)") {
  constexpr std::size_t kMost = 128;
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  Payloads request = heard(ladder, kB);
  std::erase_if(request, [](const auto& payload) {
    const auto* notify = std::get_if<wire::ike::Notify>(&payload);
    return notify != nullptr && notify->type == NotifyType::rekey_sa;
  });
  for (std::size_t i = 0; i < kMost + 20; ++i) {
    for (auto& payload : request) {
      if (auto* nonce = std::get_if<wire::ike::Nonce>(&payload)) nonce->data.back() ^= 1U;
      auto* offer = std::get_if<wire::ike::SecurityAssociation>(&payload);
      if (offer == nullptr) continue;
      for (auto& proposal : offer->proposals) {
        proposal.spi = {1, 2, static_cast<std::uint8_t>(i / 100), static_cast<std::uint8_t>(i)};
      }
    }
    say(ladder, kB, ExchangeType::create_child_sa, false, request);
  }
  CHECK(on_record(ladder, kB).children.size() == kMost);
  CHECK(ladder.gateway(kB).data_plane.leased.empty());
  CHECK(ladder.connection(kB).last_failure == Failure::no_additional_sas);
}

TEST_CASE("peer: it rekeys a child that we do not have: CHILD_SA_NOT_FOUND, by its name (§2.25)") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  Payloads request = heard(ladder, kB);
  const std::vector<std::uint8_t> unknown = {9, 8, 7, 6};
  for (auto& payload : request) {
    auto* notify = std::get_if<wire::ike::Notify>(&payload);
    if (notify != nullptr && notify->type == NotifyType::rekey_sa) notify->spi = unknown;
  }
  ask(ladder, kB, ExchangeType::create_child_sa, false, request);
  const Payloads answer = heard(ladder, kA);
  REQUIRE(answer.size() == 1);
  const auto* error = std::get_if<wire::ike::Notify>(&answer.front());
  REQUIRE(error != nullptr);
  CHECK(error->type == NotifyType::child_sa_not_found);
  CHECK(error->protocol == Protocol::esp);
  CHECK(error->spi == unknown);
  CHECK(on_record(ladder, kB).children.size() == 1);
}

TEST_CASE("peer: a configuration payload that it adds to a rekey unasked is overlooked (§3.15)") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  Payloads request = heard(ladder, kB);
  // CFG_REQUEST for an IPv4 address
  request.emplace_back(
      wire::ike::Opaque{wire::ike::PayloadType::configuration, {1, 0, 0, 0, 0, 1, 0, 0}});
  ask(ladder, kB, ExchangeType::create_child_sa, false, request);
  const Payloads answer = heard(ladder, kA);
  CHECK(ike::find_error(answer) == nullptr);
  CHECK(ike::find_payload<wire::ike::SecurityAssociation>(answer) != nullptr);
  CHECK(on_record(ladder, kB).children.size() == 2);  // the new one beside the old
}

TEST_CASE("peer: the record of one with a long identity can be read") {
  // Longer than a configuration may have it; a peer that may be anybody says what it likes.
  config::Identity name;
  name.type = config::Identity::Type::key_id;
  name.encoded.assign(2048, 0xab);
  name.text = "@#";
  for (std::size_t i = 0; i < name.encoded.size(); ++i) name.text += "ab";
  Ladder ladder;
  ladder.gateway(kA).config->connections.front().local.id = name;
  ladder.gateway(kB).config->connections.front().remote.id = name;
  for (const int side : {kA, kB}) ladder.gateway(side).boot();
  ladder.initiate(kA);
  ladder.run();
  REQUIRE(ladder.world.why_not_usable(0) == "");
  CHECK(on_record(ladder, kB).ike->remote_id.text == name.text);
  ladder.world.kill(kB);
  ladder.world.resume(kB);
  ladder.run();
  ladder.converged();
}

}  // namespace
}  // namespace culvert::ladder
