#include <catch2/catch.hpp>

#include "tests/unit/wire/ike_samples.hpp"
#include "wire/ike/limits.hpp"

namespace culvert::wire::ike {
namespace {

/// `count` times the hex text.
std::string repeat(std::string_view hex, std::size_t count) {
  std::string text;
  for (std::size_t index = 0; index < count; ++index) text += hex;
  return text;
}

template <typename T>
T parse_one(PayloadType type, std::string_view hex_body) {
  auto parsed = parse_payloads(type, chain_of(from_hex(hex_body)));
  if (!parsed) throw std::runtime_error(std::string(parsed.error().field));
  return std::get<T>(parsed->at(0));
}

void check_refused(PayloadType type, std::string_view hex_body, std::string_view field,
                   std::string_view problem) {
  INFO(std::string(hex_body.substr(0, 120)));
  const ParseError error = error_of(type, hex_body);
  CHECK(error.field == field);
  CHECK(error.problem == problem);
}

}  // namespace

TEST_CASE("ike payload: every kind parses from and builds to the RFC's figure") {
  for (const Sample& sample : samples()) {
    INFO(std::string(sample.name));
    const auto body = from_hex(sample.body);
    const auto parsed = parse_payloads(sample.type, chain_of(body));
    REQUIRE(parsed);
    REQUIRE(parsed->size() == 1);
    CHECK((*parsed)[0] == sample.value);
    CHECK(type_of((*parsed)[0]) == sample.type);
    PayloadType first{};
    CHECK(to_hex(encode_payloads({sample.value}, first)) == to_hex(chain_of(body)));
    CHECK(first == sample.type);
  }
}

TEST_CASE("ike payload: reserved fields are ignored on receipt and zero when sent") {
  const auto sa = parse_one<SecurityAssociation>(
      PayloadType::security_association, "00 ff 0014 01 03 04 01 c0ffee01 00 ff 0008 05 ff 0001");
  CHECK(sa.proposals.at(0).transforms.at(0) == Transform{TransformType::esn, 1, {}, false});
  PayloadType first{};
  CHECK(to_hex(encode_payloads({sa}, first)) ==
        to_hex(chain_of(from_hex("00 00 0014 01 03 04 01 c0ffee01 00 00 0008 05 00 0001"))));
  CHECK(parse_one<KeyExchange>(PayloadType::key_exchange, "0013 ffff 01").group == 19);
  CHECK(parse_one<Authentication>(PayloadType::authentication, "02 ffffff 01").method == 2);
}

TEST_CASE("identification: AUTH covers the reserved bytes as they were received (§2.15)") {
  const auto id = parse_one<Identification>(PayloadType::id_initiator, "02 a1a2a3 6871");
  CHECK(to_hex(id.body()) == "02a1a2a36871");
}

TEST_CASE("security association: proposals are numbered from one, without gaps (§3.3.1)") {
  const auto type = PayloadType::security_association;
  const auto proposal = [](std::string_view last, std::string_view number) {
    return std::string(last) + " 00 0010 " + std::string(number) + " 01 00 01 00000008 0100000c ";
  };
  CHECK(error_of(type, proposal("02", "01") + proposal("00", "02")).field == "no error");
  // An answer carries the chosen proposal alone, under its number in the offer (§3.3.1).
  CHECK(error_of(type, proposal("00", "07")).field == "no error");
  for (const std::string& wrong :
       {proposal("00", "00"), proposal("02", "02") + proposal("00", "03"),
        proposal("02", "01") + proposal("00", "01"), proposal("02", "01") + proposal("00", "03")}) {
    check_refused(type, wrong, "proposal number", "not consecutive from one");
  }
}

TEST_CASE("security association: last and more bits must tell the truth") {
  const auto type = PayloadType::security_association;
  check_refused(type, "00000010 01010001 00000008 0100000c ff", "security association",
                "trailing bytes");
  check_refused(type, "01000010 01010001 00000008 0100000c", "proposal last substructure",
                "neither last nor more");
  check_refused(type, "02000010 01010001 00000008 0100000c", "proposal last substructure",
                "truncated");
  check_refused(type, "00000010 01010001 03000008 0100000c", "transform last substructure",
                "disagrees with the number of transforms");
  check_refused(type, "00000018 01010002 00000008 0100000c 00000008 0100000c",
                "transform last substructure", "disagrees with the number of transforms");
  check_refused(type, "00000018 01010001 00000008 0100000c 00000008 0100000c", "proposal",
                "trailing bytes");
}

TEST_CASE("security association: SPI sizes fit the protocol") {
  const auto type = PayloadType::security_association;
  const std::string_view field = "proposal SPI size";
  const std::string_view problem = "does not fit the protocol";
  CHECK(error_of(type, "00000018 01010801 0011223344556677 00000008 0100000c").field == "no error");
  check_refused(type, "00000014 01010401 00112233 00000008 0100000c", field, problem);
  check_refused(type, "00000010 01030001 00000008 0100000c", field, problem);
  check_refused(type, "00000018 01030801 0011223344556677 00000008 0100000c", field, problem);
  check_refused(type, "00000010 01000001 00000008 0100000c", field, problem);
  // A protocol from the future is kept, and never chosen.
  CHECK(error_of(type, "00000012 01090201 aabb 00000008 0100000c").field == "no error");
}

TEST_CASE("security association: lengths inside cannot reach outside") {
  const auto type = PayloadType::security_association;
  check_refused(type, "00000007 01010001 00000008 0100000c", "proposal length", "below its header");
  check_refused(type, "00000000 01010001 00000008 0100000c", "proposal length", "below its header");
  check_refused(type, "0000ffff 01010001 00000008 0100000c", "proposal", "truncated");
  check_refused(type, "00000010 01010001 00000007 0100000c", "transform length",
                "below its header");
  check_refused(type, "00000010 01010001 00000009 0100000c", "transform", "truncated");
  check_refused(type, "00000010 0101ff01 00000008 0100000c", "proposal SPI size",
                "does not fit the protocol");
  check_refused(type, "00000010 0109ff01 00000008 0100000c", "proposal SPI", "truncated");
  check_refused(type, "00000008 01010000", "number of transforms", "none");
  check_refused(type, "", "proposal last substructure", "truncated");
}

TEST_CASE("security association: attributes (§3.3.5, §3.3.6)") {
  const auto transform = [](std::string_view attributes, std::uint8_t length) {
    const std::array<std::uint8_t, 2> lengths{static_cast<std::uint8_t>(16 + length),
                                              static_cast<std::uint8_t>(8 + length)};
    return parse_one<SecurityAssociation>(PayloadType::security_association,
                                          "000000" + to_hex(Bytes(lengths).first(1)) +
                                              "01010001 000000" + to_hex(Bytes(lengths).last(1)) +
                                              " 0100000c" + std::string(attributes))
        .proposals.at(0)
        .transforms.at(0);
  };
  CHECK(transform("800e0100", 4) == Transform{TransformType::encryption, 12, 256, false});
  CHECK(transform("", 0).key_bits == std::nullopt);
  // One that is not known: the transform stays readable but must not be chosen.
  CHECK(transform("80110001", 4).unknown_attribute);
  CHECK(transform("0011 0003 aabbcc", 7).unknown_attribute);
  CHECK(transform("0011 0000", 4).unknown_attribute);
  // A key length is fixed-size and stands once.
  CHECK(transform("000e 0002 0100", 6).unknown_attribute);
  CHECK(transform("800e0100 800e0080", 8).unknown_attribute);
  check_refused(PayloadType::security_association, "00000012 01010001 0000000a 0100000c 800e",
                "attribute value", "truncated");
  check_refused(PayloadType::security_association, "00000014 01010001 0000000c 0100000c 0011ffff",
                "attribute value", "truncated");
  check_refused(PayloadType::security_association, "00000011 01010001 00000009 0100000c 80",
                "attribute type", "truncated");
}

TEST_CASE("security association: no more than the limits") {
  const auto type = PayloadType::security_association;
  std::string proposals = repeat("02000010 01010001 00000008 0100000c", kMaxProposals);
  check_refused(type, proposals, "proposals", "too many");
  const std::size_t count = kMaxTransforms + 1;
  check_refused(type,
                "00000330 01010065" + repeat("03000008 0100000c", count - 1) + "00000008 0100000c",
                "number of transforms", "too many");
  static_assert(kMaxTransforms + 1 == 0x65);
  check_refused(type, "00000054 01010001 0000004c 0100000c" + repeat("80110001", 17), "attributes",
                "too many");
}

TEST_CASE("key exchange: never empty, never longer than any group needs") {
  check_refused(PayloadType::key_exchange, "0013 0000", "key exchange data", "empty");
  check_refused(PayloadType::key_exchange, "0013 0000" + repeat("00", kMaxKeyExchangeBytes + 1),
                "key exchange data", "too long");
}

TEST_CASE("identification: addresses are as long as their type") {
  check_refused(PayloadType::id_initiator, "01 000000 c00002", "identification data",
                "not as long as its type is");
  check_refused(PayloadType::id_responder, "05 000000 c0000201", "identification data",
                "not as long as its type is");
  check_refused(PayloadType::id_initiator, "02 000000" + repeat("61", kMaxIdentityBytes + 1),
                "identification data", "too long");
}

TEST_CASE("nonce: 16 to 256 bytes (§3.9)") {
  check_refused(PayloadType::nonce, repeat("00", 15), "nonce data", "below 16 bytes");
  check_refused(PayloadType::nonce, "", "nonce data", "below 16 bytes");
  check_refused(PayloadType::nonce, repeat("00", 257), "nonce data", "above 256 bytes");
  CHECK(parse_one<Nonce>(PayloadType::nonce, repeat("00", 256)).data.size() == 256);
}

TEST_CASE("notify: one that nobody knows is kept as it is (§3.10.1)") {
  const auto notify = parse_one<Notify>(PayloadType::notify, "00 03 fffe aabbcc 0102");
  CHECK(notify.type == static_cast<NotifyType>(0xfffe));
  CHECK(to_hex(notify.spi) == "aabbcc");
  CHECK(to_hex(notify.data) == "0102");
  check_refused(PayloadType::notify, "03 08 4009 0011223344556677", "notify SPI size",
                "does not fit the protocol");
  check_refused(PayloadType::notify, "01 04 4009 00112233", "notify SPI size",
                "does not fit the protocol");
}

TEST_CASE("delete: SPI size and count fit the protocol (§3.11)") {
  const auto type = PayloadType::delete_;
  check_refused(type, "01 08 0001 0011223344556677", "delete SPI size",
                "does not fit the protocol");
  check_refused(type, "01 00 0001", "number of SPIs", "not zero for the IKE SA");
  check_refused(type, "03 08 0001 0011223344556677", "delete SPI size",
                "does not fit the protocol");
  check_refused(type, "03 04 0001 00112233 44", "delete", "trailing bytes");
  check_refused(type, "03 04 0002 00112233", "deleted SPI", "truncated");
  check_refused(type, "03 04 ffff 00112233", "number of SPIs", "too many");
  check_refused(type, "00 00 0000", "delete protocol ID", "neither IKE, AH nor ESP");
  check_refused(type, "04 04 0001 00112233", "delete protocol ID", "neither IKE, AH nor ESP");
}

TEST_CASE("traffic selectors: a type we do not know is skipped and said (§3.13.1)") {
  const auto selectors = parse_one<TrafficSelectors>(
      PayloadType::ts_initiator,
      "02 000000 09 00 000c aabbccdd eeff0011 07 00 0010 0000 ffff 0a000000 0affffff");
  CHECK(selectors.skipped_unknown);
  CHECK(to_string(selectors.selectors) == "10.0.0.0/8");
  check_refused(PayloadType::ts_initiator, "01 000000 09 00 000d aabbccdd eeff0011",
                "traffic selector", "truncated");
  check_refused(PayloadType::ts_initiator, "01 000000 09 00 0007 aabbcc", "selector length",
                "below its header");
}

TEST_CASE(
    "traffic selectors: ICMP's type is the high octet of a port, its code the low one (§3.13.1)") {
  const TrafficSelectors echo_and_too_big{
      false, {selector_of("10.0.0.0/8[icmp/8]"), selector_of("10.0.0.0/8[icmp/3.4]")}};
  PayloadType first{};
  CHECK(to_hex(encode_payloads({echo_and_too_big}, first)) ==
        to_hex(chain_of(from_hex("02 000000 07 01 0010 0800 08ff 0a000000 0affffff"
                                 "07 01 0010 0304 0304 0a000000 0affffff"))));
  CHECK(first == PayloadType::ts_responder);
  const auto read = parse_one<TrafficSelectors>(PayloadType::ts_initiator,
                                                "01 000000 07 01 0010 0301 0304 0a000000 0affffff");
  CHECK(to_string(read.selectors) == "10.0.0.0/8[icmp/3.1-3.4]");
}

TEST_CASE("traffic selectors: what can match no packet is refused") {
  const auto type = PayloadType::ts_responder;
  check_refused(type, "00 000000", "number of traffic selectors", "none");
  check_refused(type, "01 000000 07 00 0010 0000 ffff 0affffff 0a000000", "address range",
                "end before start");
  check_refused(type, "01 000000 07 06 0010 0051 0050 0a000000 0affffff", "port range",
                "end before start");
  check_refused(type, "01 000000 07 00 0010 0050 0050 0a000000 0affffff", "port range",
                "without a protocol");
  check_refused(type, "01 000000 07 06 0028 0000 ffff 0a000000 0affffff", "traffic selector",
                "truncated");
  check_refused(type, "01 000000 08 06 0010 0000 ffff 0a000000 0affffff", "selector length",
                "does not fit its type");
  check_refused(type, "02 000000 07 06 0010 0000 ffff 0a000000 0affffff", "traffic selector type",
                "truncated");
  check_refused(type, "01 000000 07 06 0010 0000 ffff 0a000000 0affffff 00", "traffic selectors",
                "trailing bytes");
  check_refused(type, "41 000000" + repeat("07 06 0010 0000 ffff 0a000000 0affffff", 65),
                "number of traffic selectors", "too many");
}

}  // namespace culvert::wire::ike
