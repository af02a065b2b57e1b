// One payload of every kind beside its bytes, written by hand from the figures of RFC 7296 §3.
#pragma once

#include <string_view>
#include <vector>

#include "tests/unit/wire/bytes.hpp"
#include "wire/ike/message.hpp"

namespace culvert::wire::ike {

/// A field of a payload body and the offset of the first byte behind it.
struct FieldEnd {
  std::string_view field;
  std::size_t end;
};

struct Sample {
  std::string_view name;
  PayloadType type;
  Payload value;
  std::string_view body;         ///< hex, without the generic header
  std::vector<FieldEnd> fields;  ///< in order: which field a shorter body lacks
};

inline TrafficSelector selector_of(std::string_view text) {
  return TrafficSelector::parse(text).value();
}

inline Sample sample_of_security_association() {
  return {"SA (§3.3): two ESP proposals, the first with a key length",
          PayloadType::security_association,
          SecurityAssociation{{{1,
                                Protocol::esp,
                                {0xc0, 0xff, 0xee, 0x01},
                                {{TransformType::encryption, 20, 128, false},
                                 {TransformType::esn, 0, std::nullopt, false}}},
                               {2,
                                Protocol::esp,
                                {0xc0, 0xff, 0xee, 0x01},
                                {{TransformType::integrity, 12, std::nullopt, false}}}}},
          "02 00 0020 01 03 04 02 c0ffee01"
          "03 00 000c 01 00 0014 800e 0080"
          "00 00 0008 05 00 0000"
          "00 00 0014 02 03 04 01 c0ffee01"
          "00 00 0008 03 00 000c",
          {{"proposal last substructure", 1},
           {"reserved", 2},
           {"proposal length", 4},
           {"proposal", 32},
           {"proposal last substructure", 33},
           {"reserved", 34},
           {"proposal length", 36},
           {"proposal", 52}}};
}

inline std::vector<Sample> samples() {
  std::vector<Sample> all{sample_of_security_association()};
  all.push_back({"KE (§3.4)",
                 PayloadType::key_exchange,
                 KeyExchange{31, {1, 2, 3}},
                 "001f 0000 010203",
                 {{"key exchange group", 2}, {"reserved", 4}}});
  all.push_back({"IDi (§3.5): ID_FQDN",
                 PayloadType::id_initiator,
                 Identification{true, 2, {'h', 'q'}, {}},
                 "02 000000 6871",
                 {{"ID type", 1}, {"reserved", 4}}});
  all.push_back({"IDr (§3.5): ID_IPV4_ADDR",
                 PayloadType::id_responder,
                 Identification{false, 1, {192, 0, 2, 1}, {}},
                 "01 000000 c0000201",
                 {{"ID type", 1}, {"reserved", 4}, {"identification data", 8}}});
  all.push_back({"AUTH (§3.8): shared key MIC",
                 PayloadType::authentication,
                 Authentication{2, {0xaa, 0xbb}},
                 "02 000000 aabb",
                 {{"auth method", 1}, {"reserved", 4}, {"authentication data", 5}}});
  all.push_back({"Nonce (§3.9): the shortest",
                 PayloadType::nonce,
                 Nonce{std::vector<std::uint8_t>(16, 0x4e)},
                 "4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e",
                 {{"nonce data", 16}}});
  all.push_back({"N (§3.10): REKEY_SA",
                 PayloadType::notify,
                 Notify{Protocol::esp, NotifyType::rekey_sa, {1, 2, 3, 4}, {}},
                 "03 04 4009 01020304",
                 {{"notify protocol ID", 1},
                  {"notify SPI size", 2},
                  {"notify message type", 4},
                  {"notify SPI", 8}}});
  all.push_back({"D (§3.11): two ESP SPIs",
                 PayloadType::delete_,
                 Delete{Protocol::esp, {0x11223344, 0x55667788}},
                 "03 04 0002 11223344 55667788",
                 {{"delete protocol ID", 1},
                  {"delete SPI size", 2},
                  {"number of SPIs", 4},
                  {"deleted SPI", 12}}});
  all.push_back({"D (§3.11): the IKE SA",
                 PayloadType::delete_,
                 Delete{Protocol::ike, {}},
                 "01 00 0000",
                 {{"delete protocol ID", 1}, {"delete SPI size", 2}, {"number of SPIs", 4}}});
  all.push_back({"V (§3.12)", PayloadType::vendor_id, VendorId{{0x99}}, "99", {}});
  all.push_back(
      {"TSi (§3.13): both families",
       PayloadType::ts_initiator,
       TrafficSelectors{
           true, {selector_of("10.1.0.0/24[tcp/443]"), selector_of("2001:db8::/64")}, false},
       "02 000000"
       "07 06 0010 01bb 01bb 0a010000 0a0100ff"
       "08 00 0028 0000 ffff 20010db8000000000000000000000000"
       "20010db800000000ffffffffffffffff",
       {{"number of traffic selectors", 1},
        {"reserved", 4},
        {"traffic selector type", 5},
        {"IP protocol ID", 6},
        {"selector length", 8},
        {"traffic selector", 20},
        {"traffic selector type", 21},
        {"IP protocol ID", 22},
        {"selector length", 24},
        {"traffic selector", 60}}});
  all.push_back({"TSr (§3.13): OPAQUE ports",
                 PayloadType::ts_responder,
                 TrafficSelectors{false, {selector_of("10.1.0.0/24[tcp/opaque]")}, false},
                 "01 000000 07 06 0010 ffff 0000 0a010000 0a0100ff",
                 {{"number of traffic selectors", 1},
                  {"reserved", 4},
                  {"traffic selector type", 5},
                  {"IP protocol ID", 6},
                  {"selector length", 8},
                  {"traffic selector", 20}}});
  all.push_back({"CERT (§3.6): an X.509 certificate",
                 PayloadType::certificate,
                 Certificate{CertificateEncoding::x509_signature, {0x30, 0x01, 0x02}},
                 "04 300102",
                 {{"certificate encoding", 1}, {"certificate data", 2}}});
  all.push_back({"CERTREQ (§3.7): two authorities",
                 PayloadType::certificate_request,
                 CertificateRequest{CertificateEncoding::x509_signature,
                                    std::vector<std::uint8_t>(40, 0xab)},
                 "04 abababababababababababababababababababab"
                 "abababababababababababababababababababab",
                 {{"certificate encoding", 1}}});
  all.push_back({"CERTREQ (§3.7): an encoding nobody named, carried as it is",
                 PayloadType::certificate_request,
                 CertificateRequest{CertificateEncoding{99}, {1, 2}},
                 "63 0102",
                 {{"certificate encoding", 1}}});
  all.push_back({"CP (§3.15), carried as it is",
                 PayloadType::configuration,
                 Opaque{PayloadType::configuration, {1, 0, 0, 0}},
                 "01000000",
                 {}});
  all.push_back({"a payload type nobody assigned",
                 static_cast<PayloadType>(200),
                 Unknown{static_cast<PayloadType>(200), false, {7}},
                 "07",
                 {}});
  return all;
}

/// The body behind a generic header: a chain of one payload.
inline std::vector<std::uint8_t> chain_of(Bytes body, std::uint8_t flags = 0) {
  std::vector<std::uint8_t> chain(4 + body.size());
  Writer writer(chain);
  writer.u8(0);
  writer.u8(flags);
  writer.u16(static_cast<std::uint16_t>(4 + body.size()));
  writer.bytes(body);
  return chain;
}

/// The error that a chain of one payload with this body ends in.
inline ParseError error_of(PayloadType type, std::string_view hex_body) {
  const auto parsed = parse_payloads(type, chain_of(from_hex(hex_body)));
  return parsed ? ParseError{"no error", "none"} : parsed.error();
}

}  // namespace culvert::wire::ike
