#include <catch2/catch.hpp>

#include "wire/ike/message.hpp"

namespace culvert::wire::ike {
namespace {

using Types = std::vector<PayloadType>;
using enum PayloadType;

/// Payloads of these types; only the type counts here.
std::vector<Payload> payloads_of(const Types& types) {
  std::vector<Payload> payloads;
  for (const PayloadType type : types) {
    switch (type) {
      case security_association:
        payloads.emplace_back(SecurityAssociation{});
        break;
      case key_exchange:
        payloads.emplace_back(KeyExchange{});
        break;
      case id_initiator:
      case id_responder:
        payloads.emplace_back(Identification{type == id_initiator, 0, {}, {}});
        break;
      case authentication:
        payloads.emplace_back(Authentication{});
        break;
      case nonce:
        payloads.emplace_back(Nonce{});
        break;
      case notify:
        payloads.emplace_back(Notify{});
        break;
      case delete_:
        payloads.emplace_back(Delete{});
        break;
      case vendor_id:
        payloads.emplace_back(VendorId{});
        break;
      case ts_initiator:
      case ts_responder:
        payloads.emplace_back(TrafficSelectors{type == ts_initiator, {}, false});
        break;
      case encrypted:
        payloads.emplace_back(Encrypted{});
        break;
      case certificate:
        payloads.emplace_back(Certificate{});
        break;
      case certificate_request:
        payloads.emplace_back(CertificateRequest{});
        break;
      case configuration:
      case eap:
        payloads.emplace_back(Opaque{type, {}});
        break;
      case encrypted_fragment:
        payloads.emplace_back(EncryptedFragment{});
        break;
      case none:
        payloads.emplace_back(Unknown{type, false, {}});
        break;
    }
  }
  return payloads;
}

struct Row {
  const char* message;
  ExchangeType exchange;
  bool response;
  Types full;      ///< a message as the RFC draws it
  Types required;  ///< those of `full` that may not be missing
  Types singular;  ///< those that may not stand twice
};

const std::vector<Row> kRows{
    {"IKE_SA_INIT request (§1.2)",
     ExchangeType::ike_sa_init,
     false,
     {notify, security_association, key_exchange, nonce, notify, notify, vendor_id},
     {security_association, key_exchange, nonce},
     {security_association, key_exchange, nonce}},
    {"IKE_SA_INIT response (§1.2)",
     ExchangeType::ike_sa_init,
     true,
     {security_association, key_exchange, nonce, notify, certificate_request, vendor_id},
     {security_association, key_exchange, nonce},
     {security_association, key_exchange, nonce}},
    {"IKE_AUTH request (§1.2)",
     ExchangeType::ike_auth,
     false,
     {id_initiator, certificate, certificate, certificate_request, id_responder, authentication,
      configuration, security_association, ts_initiator, ts_responder, notify, vendor_id},
     {id_initiator, authentication, security_association, ts_initiator, ts_responder},
     {id_initiator, id_responder, authentication, configuration, security_association, ts_initiator,
      ts_responder}},
    {"IKE_AUTH response (§1.2)",
     ExchangeType::ike_auth,
     true,
     {id_responder, certificate, authentication, configuration, security_association, ts_initiator,
      ts_responder, notify},
     {id_responder, authentication, ts_initiator, ts_responder},
     {id_responder, authentication, security_association, ts_initiator, ts_responder}},
    {"CREATE_CHILD_SA request for a child (§1.3.1)",
     ExchangeType::create_child_sa,
     false,
     {notify, security_association, nonce, key_exchange, ts_initiator, ts_responder},
     {security_association, nonce, ts_initiator, ts_responder},
     {security_association, nonce, key_exchange, ts_initiator, ts_responder}},
    {"CREATE_CHILD_SA response for the IKE SA (§1.3.2)",
     ExchangeType::create_child_sa,
     true,
     {security_association, nonce, key_exchange},
     {security_association, nonce, key_exchange},
     {security_association, nonce, key_exchange}},
    {"INFORMATIONAL request (§1.4)",
     ExchangeType::informational,
     false,
     {notify, delete_, delete_, configuration, vendor_id},
     {},
     {configuration}},
};

Types without(Types types, PayloadType type) {
  std::erase(types, type);
  return types;
}

Types with(Types types, PayloadType type) {
  types.push_back(type);
  return types;
}

}  // namespace

TEST_CASE("ike presence: the messages as the RFC draws them pass") {
  for (const Row& row : kRows) {
    INFO(row.message);
    CHECK(check_presence(row.exchange, row.response, payloads_of(row.full)));
  }
}

TEST_CASE("ike presence: what must stand there is missed by its name") {
  for (const Row& row : kRows) {
    for (const PayloadType type : row.required) {
      INFO(row.message << " without " << to_string(type));
      const auto result =
          check_presence(row.exchange, row.response, payloads_of(without(row.full, type)));
      REQUIRE_FALSE(result);
    }
  }
  const auto no_nonce = check_presence(ExchangeType::ike_sa_init, false,
                                       payloads_of({security_association, key_exchange}));
  REQUIRE_FALSE(no_nonce);
  CHECK(no_nonce.error().type == nonce);
  CHECK(no_nonce.error().problem == "missing");
}

TEST_CASE("ike presence: what stands once may not stand twice") {
  for (const Row& row : kRows) {
    for (const PayloadType type : row.singular) {
      INFO(row.message << " with two " << to_string(type));
      const auto result =
          check_presence(row.exchange, row.response, payloads_of(with(row.full, type)));
      REQUIRE_FALSE(result);
      CHECK(result.error().type == type);
      CHECK(result.error().problem == "more often than allowed");
    }
  }
}

TEST_CASE("ike presence: what does not belong is refused") {
  for (const Row& row : kRows) {
    for (const PayloadType stranger : {encrypted, eap}) {
      INFO(row.message << " with " << to_string(stranger));
      const auto result =
          check_presence(row.exchange, row.response, payloads_of(with(row.full, stranger)));
      REQUIRE_FALSE(result);
      CHECK(result.error().type == stranger);
      CHECK(result.error().problem == "not allowed here");
    }
  }
  CHECK_FALSE(check_presence(ExchangeType::ike_sa_init, false,
                             payloads_of(with(kRows[0].full, authentication))));
  CHECK_FALSE(check_presence(ExchangeType::informational, false, payloads_of({nonce})));
}

TEST_CASE("ike presence: a refusal is notifies alone, in answers only (§2.21)") {
  for (const ExchangeType exchange :
       {ExchangeType::ike_sa_init, ExchangeType::ike_auth, ExchangeType::create_child_sa}) {
    INFO(std::string(to_string(exchange)));
    CHECK(check_presence(exchange, true, payloads_of({notify})));
    CHECK(check_presence(exchange, true, payloads_of({notify, vendor_id})));
    CHECK_FALSE(check_presence(exchange, true, {}));
    CHECK_FALSE(check_presence(exchange, false, payloads_of({notify})));
  }
}

TEST_CASE("ike presence: an IKE SA may stand though its first child was refused (§1.2)") {
  CHECK(check_presence(ExchangeType::ike_auth, true,
                       payloads_of({id_responder, authentication, notify})));
  CHECK_FALSE(check_presence(ExchangeType::ike_auth, true,
                             payloads_of({id_responder, authentication, notify, ts_initiator})));
}

TEST_CASE("ike presence: an IKE SA may be made without a child (RFC 6023 §4)") {
  CHECK(check_presence(ExchangeType::ike_auth, false,
                       payloads_of({id_initiator, id_responder, authentication, notify})));
  CHECK(check_presence(ExchangeType::ike_auth, true, payloads_of({id_responder, authentication})));
  // but not with half of one
  CHECK_FALSE(check_presence(ExchangeType::ike_auth, false,
                             payloads_of({id_initiator, authentication, security_association})));
}

TEST_CASE("ike presence: a configuration payload that was not asked for is tolerated (§3.15)") {
  for (const bool response : {false, true}) {
    CHECK(check_presence(ExchangeType::create_child_sa, response,
                         payloads_of({configuration, security_association, nonce, ts_initiator,
                                      ts_responder})));
    CHECK(check_presence(ExchangeType::create_child_sa, response,
                         payloads_of({configuration, security_association, nonce, key_exchange})));
  }
}

TEST_CASE("ike presence: a liveness check is empty both ways (§1.4)") {
  CHECK(check_presence(ExchangeType::informational, false, {}));
  CHECK(check_presence(ExchangeType::informational, true, {}));
}

TEST_CASE("ike presence: unknown payloads may be ignored unless they are critical (§2.5)") {
  auto payloads = payloads_of(kRows[0].full);
  payloads.emplace_back(Unknown{static_cast<PayloadType>(200), false, {}});
  CHECK(check_presence(ExchangeType::ike_sa_init, false, payloads));
  payloads.back() = Unknown{static_cast<PayloadType>(200), true, {}};
  CHECK_FALSE(check_presence(ExchangeType::ike_sa_init, false, payloads));
}

TEST_CASE("ike presence: an exchange nobody knows permits nothing") {
  CHECK_FALSE(check_presence(static_cast<ExchangeType>(99), false, {}));
}

}  // namespace culvert::wire::ike
