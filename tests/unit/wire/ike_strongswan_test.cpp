// strongSwan's own messages, captured: we read them right and build the very same bytes.
#include <algorithm>

#include <catch2/catch.hpp>

#include "tests/unit/wire/bytes.hpp"
#include "tests/unit/wire/strongswan_exchange.hpp"
#include "wire/ike/message.hpp"

namespace culvert::wire::ike {
namespace {

Message message_of(std::string_view hex) {
  auto parsed = parse_message(from_hex(hex));
  REQUIRE(parsed);
  return std::move(*parsed);
}

template <typename T>
const T& first_of(const Message& message) {
  for (const Payload& payload : message.payloads) {
    if (const T* found = std::get_if<T>(&payload)) return *found;
  }
  throw std::runtime_error("no such payload");
}

std::vector<NotifyType> notifies_of(const Message& message) {
  std::vector<NotifyType> types;
  for (const Payload& payload : message.payloads) {
    if (const auto* notify = std::get_if<Notify>(&payload)) types.push_back(notify->type);
  }
  return types;
}

}  // namespace

TEST_CASE("strongswan: IKE_SA_INIT messages are re-encoded byte for byte") {
  for (const std::string_view hex : {strongswan::kFirstRequest, strongswan::kInvalidKeyExchange,
                                     strongswan::kSecondRequest, strongswan::kResponse}) {
    const Message message = message_of(hex);
    CHECK(to_hex(encode_message(message.header, message.payloads)) == hex);
    CHECK(check_presence(message.header.exchange, message.header.response, message.payloads));
  }
}

TEST_CASE("strongswan: the request's proposals and key exchange are read right") {
  const Message request = message_of(strongswan::kFirstRequest);
  CHECK(request.header.from_initiator);
  CHECK_FALSE(request.header.response);
  CHECK(request.header.responder_spi == 0);
  const auto& proposals = first_of<SecurityAssociation>(request).proposals;
  REQUIRE(proposals.size() >= 2);
  // aes256gcm16-prfsha384-ecp384
  CHECK(proposals[0].transforms ==
        std::vector<Transform>{{TransformType::encryption, 20, 256, false},
                               {TransformType::prf, 6, std::nullopt, false},
                               {TransformType::key_exchange, 20, std::nullopt, false}});
  CHECK(first_of<KeyExchange>(request).group == 20);
  CHECK(first_of<KeyExchange>(request).data.size() == 96);
  CHECK(first_of<Nonce>(request).data.size() == 32);
  const auto notifies = notifies_of(request);
  CHECK(std::ranges::count(notifies, NotifyType::nat_detection_source_ip) == 1);
  CHECK(std::ranges::count(notifies, NotifyType::nat_detection_destination_ip) == 1);
  CHECK(std::ranges::count(notifies, NotifyType::ikev2_fragmentation_supported) == 1);
}

TEST_CASE("strongswan: INVALID_KE_PAYLOAD names the group to use (§1.3)") {
  const Message answer = message_of(strongswan::kInvalidKeyExchange);
  CHECK(answer.header.response);
  const auto& notify = first_of<Notify>(answer);
  CHECK(notify.type == NotifyType::invalid_ke_payload);
  CHECK(to_hex(notify.data) == "001f");
  CHECK(first_of<KeyExchange>(message_of(strongswan::kSecondRequest)).group == 31);
}

TEST_CASE("strongswan: the answer is one proposal under the number it chose (§3.3.1)") {
  const Message answer = message_of(strongswan::kResponse);
  const auto& proposals = first_of<SecurityAssociation>(answer).proposals;
  REQUIRE(proposals.size() == 1);
  const Message request = message_of(strongswan::kSecondRequest);
  const auto& offered = first_of<SecurityAssociation>(request).proposals;
  const auto& chosen_from = offered.at(proposals[0].number - 1U);
  CHECK(chosen_from.number == proposals[0].number);
  for (const Transform& transform : proposals[0].transforms) {
    CHECK(std::ranges::count(chosen_from.transforms, transform) == 1);
  }
  CHECK(proposals[0].transforms.size() == 4);
  CHECK(answer.header.responder_spi != 0);
  CHECK(first_of<KeyExchange>(answer).data.size() == 32);
}

TEST_CASE("strongswan: a sealed message's prefix and sealed bytes are the message again") {
  for (const std::string_view hex : {strongswan::kAuthRequest, strongswan::kAuthResponse}) {
    const Message message = message_of(hex);
    REQUIRE(message.payloads.size() == 1);
    const auto& sealed = std::get<Encrypted>(message.payloads[0]);
    auto bytes = encode_encrypted_prefix(message.header, sealed.first_inner, sealed.sealed.size());
    CHECK(bytes.size() == sealed.associated_bytes);
    bytes.insert(bytes.end(), sealed.sealed.begin(), sealed.sealed.end());
    CHECK(to_hex(bytes) == hex);
  }
}

}  // namespace culvert::wire::ike
