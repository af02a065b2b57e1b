// A peer with the keys of an IKE SA: opens what it is sent and says what the test wants it to say.
#pragma once

#include "ike/machine/payload_access.hpp"
#include "ike/machine/record_codec.hpp"
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {

using Payloads = std::vector<wire::ike::Payload>;
using wire::ike::ExchangeType;

/// The only IKE SA of a side, as it is on record; its keys are the peer's too.
inline ike::RecordedIkeSa on_record(Ladder& ladder, int side) {
  const auto& recorded = ladder.gateway(side).recorded;
  REQUIRE(recorded.size() == 1);
  const auto& [name, octets] = *recorded.begin();
  auto ike = ike::decode_ike_sa({name, crypto::SecretBytes(crypto::Bytes(octets))});
  REQUIRE(ike.has_value());
  return *std::move(ike);
}

/// To `side`: the message that it expects next, with these payloads in it. What it says to that is
/// on the wire.
inline void ask(Ladder& ladder, int side, ExchangeType exchange, bool response,
                const Payloads& payloads) {
  const ike::RecordedIkeSa recorded = on_record(ladder, side);
  const ike::IkeSa& ike = *recorded.ike;
  wire::ike::Header header;
  header.initiator_spi = ike.initiator_spi();
  header.responder_spi = ike.responder_spi();
  header.exchange = exchange;
  header.from_initiator = !ike.initiator;
  header.response = response;
  header.message_id =
      response ? ike.window.pending.value().message_id : ike.window.expected_request();
  wire::ike::PayloadType first{};
  const auto chain = wire::ike::encode_payloads(payloads, first);
  auto bytes = wire::ike::encode_encrypted_prefix(header, first,
                                                  ike.keys.inbound->sealed_bytes(chain.size()));
  const std::size_t prefix = bytes.size();
  bytes.resize(prefix + ike.keys.inbound->sealed_bytes(chain.size()));
  const crypto::MutableBytes whole(bytes);
  const auto random = crypto::ike::make_seeded_random(ike.window.expected_request());
  REQUIRE(ike.keys.inbound->seal(whole.first(prefix), chain, *random, whole.subspan(prefix)));
  ladder.world.deliver({1 - side, ike.remote, ike.local, std::move(bytes), {}});
}
/// The same, and nobody listens.
inline void say(Ladder& ladder, int side, ExchangeType exchange, bool response,
                const Payloads& payloads) {
  ask(ladder, side, exchange, response, payloads);
  ladder.wire.clear();
}

/// What the other side sends to `side` next, opened.
inline Payloads heard(Ladder& ladder, int side) {
  REQUIRE(ladder.wire.size() == 1);
  const Flying datagram = ladder.wire.front();
  ladder.wire.clear();
  const auto message = wire::ike::parse_message(datagram.bytes);
  REQUIRE(message.has_value());
  const auto* sealed = std::get_if<wire::ike::Encrypted>(&message->payloads.back());
  REQUIRE(sealed != nullptr);
  const ike::RecordedIkeSa recorded = on_record(ladder, side);
  const auto chain = recorded.ike->keys.inbound->open(
      wire::Bytes(datagram.bytes).first(sealed->associated_bytes), sealed->sealed);
  REQUIRE(chain.has_value());
  const auto payloads = wire::ike::parse_payloads(sealed->first_inner, chain->view());
  REQUIRE(payloads.has_value());
  return *payloads;
}

}  // namespace culvert::ladder
