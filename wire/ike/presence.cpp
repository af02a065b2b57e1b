// Which payloads stand in which message, and how often (RFC 7296 §1.2 to §1.4): a table of shapes.
// A message must fit one of the shapes of its exchange and direction.
#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "wire/ike/limits.hpp"
#include "wire/ike/message.hpp"

namespace culvert::wire::ike {
namespace {

using enum PayloadType;

struct Count {
  PayloadType type;
  std::size_t least, most;
};
constexpr std::size_t kAny = kMaxPayloads;

/// Payload types a shape does not list are not allowed in it, but for vendor IDs and payloads we do
/// not know and may ignore (§2.5, §3.12).
struct Shape {
  ExchangeType exchange;
  bool response;
  std::span<const Count> counts;
};

// §1.2: HDR, SAi1, KEi, Ni, and a cookie or NAT detection as notifies.
constexpr std::array kInitRequest = std::to_array<Count>(
    {{security_association, 1, 1}, {key_exchange, 1, 1}, {nonce, 1, 1}, {notify, 0, kAny}});
// §1.2: HDR, SAr1, KEr, Nr, [CERTREQ].
constexpr std::array kInitResponse = std::to_array<Count>({{security_association, 1, 1},
                                                           {key_exchange, 1, 1},
                                                           {nonce, 1, 1},
                                                           {certificate_request, 0, kAny},
                                                           {notify, 0, kAny}});
// §1.2: SK {IDi, [CERT,] [CERTREQ,] [IDr,] AUTH, SAi2, TSi, TSr}. An absent AUTH asks for EAP,
// which we do not offer.
constexpr std::array kAuthRequest = std::to_array<Count>({{id_initiator, 1, 1},
                                                          {id_responder, 0, 1},
                                                          {certificate, 0, kAny},
                                                          {certificate_request, 0, kAny},
                                                          {authentication, 1, 1},
                                                          {configuration, 0, 1},
                                                          {security_association, 1, 1},
                                                          {ts_initiator, 1, 1},
                                                          {ts_responder, 1, 1},
                                                          {notify, 0, kAny}});
// RFC 6023 §4: SK {IDi, [CERT,] [CERTREQ,] [IDr,] AUTH}, and no child.
constexpr std::array kChildlessRequest = std::to_array<Count>({{id_initiator, 1, 1},
                                                               {id_responder, 0, 1},
                                                               {certificate, 0, kAny},
                                                               {certificate_request, 0, kAny},
                                                               {authentication, 1, 1},
                                                               {configuration, 0, 1},
                                                               {notify, 0, kAny}});
// §1.2: SK {IDr, [CERT,] AUTH, SAr2, TSi, TSr}.
constexpr std::array kAuthResponse = std::to_array<Count>({{id_responder, 1, 1},
                                                           {certificate, 0, kAny},
                                                           {authentication, 1, 1},
                                                           {configuration, 0, 1},
                                                           {security_association, 1, 1},
                                                           {ts_initiator, 1, 1},
                                                           {ts_responder, 1, 1},
                                                           {notify, 0, kAny}});
// §1.2: the IKE SA stands though its first child was refused: SK {IDr, AUTH, N}; RFC 6023 §4: or
// none was asked for.
constexpr std::array kAuthResponseWithoutChild = std::to_array<Count>({{id_responder, 1, 1},
                                                                       {certificate, 0, kAny},
                                                                       {authentication, 1, 1},
                                                                       {configuration, 0, 1},
                                                                       {notify, 0, kAny}});
// §1.3.1 and §1.3.3: SK {[N(REKEY_SA),] SA, Ni, [KEi,] TSi, TSr}; the answer has the same. Some
// peers add a configuration payload unasked (§3.15 allows to ignore it).
constexpr std::array kChild = std::to_array<Count>({{security_association, 1, 1},
                                                    {nonce, 1, 1},
                                                    {key_exchange, 0, 1},
                                                    {ts_initiator, 1, 1},
                                                    {ts_responder, 1, 1},
                                                    {configuration, 0, 1},
                                                    {notify, 0, kAny}});
// §1.3.2: SK {SA, Ni, KEi}; the answer has the same.
constexpr std::array kIkeRekey = std::to_array<Count>({{security_association, 1, 1},
                                                       {nonce, 1, 1},
                                                       {key_exchange, 1, 1},
                                                       {configuration, 0, 1},
                                                       {notify, 0, kAny}});
// §1.4: SK {[N,] [D,] [CP,] …}, empty for a liveness check.
constexpr std::array kInformational =
    std::to_array<Count>({{notify, 0, kAny}, {delete_, 0, kAny}, {configuration, 0, 1}});
// §2.21, §2.6, §1.3: a refusal or a demand (COOKIE, INVALID_KE_PAYLOAD) has notifies alone.
constexpr std::array kRefusal = std::to_array<Count>({{notify, 1, kAny}});

constexpr std::array kShapes = std::to_array<Shape>({
    {ExchangeType::ike_sa_init, false, kInitRequest},
    {ExchangeType::ike_sa_init, true, kInitResponse},
    {ExchangeType::ike_sa_init, true, kRefusal},
    {ExchangeType::ike_auth, false, kAuthRequest},
    {ExchangeType::ike_auth, false, kChildlessRequest},
    {ExchangeType::ike_auth, true, kAuthResponse},
    {ExchangeType::ike_auth, true, kAuthResponseWithoutChild},
    {ExchangeType::ike_auth, true, kRefusal},
    {ExchangeType::create_child_sa, false, kChild},
    {ExchangeType::create_child_sa, false, kIkeRekey},
    {ExchangeType::create_child_sa, true, kChild},
    {ExchangeType::create_child_sa, true, kIkeRekey},
    {ExchangeType::create_child_sa, true, kRefusal},
    {ExchangeType::informational, false, kInformational},
    {ExchangeType::informational, true, kInformational},
});

bool may_be_ignored(const Payload& payload) {
  if (const auto* unknown = std::get_if<Unknown>(&payload)) return !unknown->critical;
  return std::holds_alternative<VendorId>(payload);
}

std::size_t occurrences(PayloadType type, const std::vector<Payload>& payloads) {
  return static_cast<std::size_t>(
      std::ranges::count(payloads, type, [](const Payload& payload) { return type_of(payload); }));
}

std::expected<void, PresenceError> fit(const Shape& shape, const std::vector<Payload>& payloads) {
  for (const Payload& payload : payloads) {
    const PayloadType type = type_of(payload);
    const bool listed = std::ranges::find(shape.counts, type, &Count::type) != shape.counts.end();
    if (!listed && !may_be_ignored(payload)) {
      return std::unexpected(PresenceError{type, "not allowed here"});
    }
  }
  for (const Count& count : shape.counts) {
    const std::size_t seen = occurrences(count.type, payloads);
    if (seen < count.least) return std::unexpected(PresenceError{count.type, "missing"});
    if (seen > count.most) {
      return std::unexpected(PresenceError{count.type, "more often than allowed"});
    }
  }
  return {};
}

}  // namespace

std::expected<void, PresenceError> check_presence(ExchangeType exchange, bool response,
                                                  const std::vector<Payload>& payloads) {
  std::expected<void, PresenceError> result =
      std::unexpected(PresenceError{none, "not allowed here"});
  bool first = true;
  for (const Shape& shape : kShapes) {
    if (shape.exchange != exchange || shape.response != response) continue;
    const auto fitted = fit(shape, payloads);
    if (fitted) return fitted;
    // The first shape is the usual one: its complaint tells the most.
    if (std::exchange(first, false)) result = fitted;
  }
  return result;
}

}  // namespace culvert::wire::ike
