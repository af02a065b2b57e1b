#include <catch2/catch.hpp>

#include "tests/unit/wire/ike_samples.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/message.hpp"
#include "wire/ike/recipient_spi.hpp"

namespace culvert::wire::ike {
namespace {

/// A message whose header is right but for what a test changes: its length is filled in.
std::vector<std::uint8_t> message_of(std::string_view next_payload, std::string_view chain,
                                     std::string_view version_exchange_flags = "202208") {
  auto bytes =
      from_hex("1111111111111111 0000000000000000" + std::string(next_payload) +
               std::string(version_exchange_flags) + "00000000 00000000" + std::string(chain));
  bytes[26] = static_cast<std::uint8_t>(bytes.size() >> 8U);
  bytes[27] = static_cast<std::uint8_t>(bytes.size());
  return bytes;
}

std::string field_of(const std::expected<Message, MessageError>& parsed) {
  return parsed ? "no error" : std::string(parsed.error().error.field);
}

}  // namespace

TEST_CASE("ike header: every field has its place (§3.1)") {
  const auto bytes = from_hex("0102030405060708 1112131415161718 2e 20 25 20 0000000a 0000001c");
  const auto header = parse_header(bytes);
  REQUIRE(header);
  CHECK(header->initiator_spi == 0x0102030405060708);
  CHECK(header->responder_spi == 0x1112131415161718);
  CHECK(header->next_payload == PayloadType::encrypted);
  CHECK(header->major_version == 2);
  CHECK(header->minor_version == 0);
  CHECK(header->exchange == ExchangeType::informational);
  CHECK(header->response);
  CHECK_FALSE(header->from_initiator);
  CHECK_FALSE(header->higher_version);
  CHECK(header->message_id == 10);
  CHECK(header->length == 28);
}

TEST_CASE("ike header: each flag is a bit of its own, the others are ignored (§3.1)") {
  const auto with_flags = [](std::string_view flags) {
    return parse_header(message_of("00", "", "2025" + std::string(flags))).value();
  };
  CHECK(with_flags("08").from_initiator);
  CHECK_FALSE(with_flags("f7").from_initiator);
  CHECK(with_flags("10").higher_version);
  CHECK_FALSE(with_flags("ef").higher_version);
  CHECK(with_flags("20").response);
  CHECK_FALSE(with_flags("df").response);
}

TEST_CASE(
    "ike header: by the Initiator flag it names the recipient's SPI, when it is all there (§3.1)") {
  const auto bytes = from_hex("0102030405060708 1112131415161718 2e 20 25 20 0000000a 0000001c");
  CHECK(recipient_spi(bytes) == 0x0102030405060708);
  auto from_initiator = bytes;
  from_initiator[19] = 0x28;
  CHECK(recipient_spi(from_initiator) == 0x1112131415161718);
  CHECK(recipient_spi(Bytes(bytes).first(20)) == 0x0102030405060708);
  for (std::size_t length = 0; length < 20; ++length) {
    CHECK(recipient_spi(Bytes(bytes).first(length)) == 0);
  }
}

TEST_CASE("ike message: another major version is refused with its own notify (§2.5)") {
  for (const std::string_view version : {"30", "f0", "10", "00"}) {
    const auto parsed = parse_message(message_of("ff", "ffff", std::string(version) + "2208"));
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().notify == NotifyType::invalid_major_version);
    REQUIRE(parsed.error().header);
    CHECK(parsed.error().header->initiator_spi == 0x1111111111111111);
  }
}

TEST_CASE("ike message: a higher minor version is read as ours (§2.5)") {
  CHECK(parse_message(message_of("00", "", "2f2208")));
}

TEST_CASE("ike message: bytes behind the length that the header says are refused") {
  auto bytes = message_of("00", "");
  bytes.push_back(0);
  const auto parsed = parse_message(bytes);
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().error.problem == "trailing bytes");
  CHECK(parsed.error().notify == NotifyType::invalid_syntax);
}

TEST_CASE("ike message: a length below the header is refused") {
  auto bytes = message_of("00", "");
  bytes[27] = 27;
  CHECK(field_of(parse_message(bytes)) == "length");
  bytes[24] = 0xff;  // four gigabytes
  CHECK(field_of(parse_message(bytes)) == "length");
}

TEST_CASE("ike chain: an unknown payload is kept with its critical bit (§2.5)") {
  const auto parsed = parse_message(message_of("c8", "c9 80 0005 aa 00 00 0004"));
  REQUIRE(parsed);
  REQUIRE(parsed->payloads.size() == 2);
  CHECK(parsed->payloads[0] == Payload{Unknown{static_cast<PayloadType>(200), true, {0xaa}}});
  CHECK(parsed->payloads[1] == Payload{Unknown{static_cast<PayloadType>(201), false, {}}});
  CHECK(to_hex(encode_message(parsed->header, parsed->payloads)) ==
        to_hex(message_of("c8", "c9 80 0005 aa 00 00 0004")));
}

TEST_CASE("ike chain: the critical bit of a payload we know means nothing (§2.5)") {
  const auto parsed = parse_message(message_of("2b", "00 ff 0005 aa"));
  REQUIRE(parsed);
  CHECK(parsed->payloads.at(0) == Payload{VendorId{{0xaa}}});
  CHECK(to_hex(encode_message(parsed->header, parsed->payloads)) ==
        to_hex(message_of("2b", "00 00 0005 aa")));
}

TEST_CASE("ike chain: a payload length below its own header is refused") {
  for (const std::string_view length : {"0000", "0003"}) {
    CHECK(field_of(parse_message(message_of("2b", "00 00" + std::string(length)))) ==
          "payload length");
  }
}

TEST_CASE("ike chain: it ends where the next payload is none, and nothing follows") {
  CHECK(field_of(parse_message(message_of("2b", "00 00 0004 00"))) == "message");
  CHECK(field_of(parse_message(message_of("00", "00 00 0004"))) == "message");
  CHECK(field_of(parse_message(message_of("2b", "2b 00 0004"))) == "next payload");
}

TEST_CASE("ike chain: SK is the last payload, its header names the first inner one (§3.14)") {
  const auto parsed = parse_message(message_of("29", "2e 00 0008 00 00 4004 23 00 0007 aabbcc"));
  REQUIRE(parsed);
  REQUIRE(parsed->payloads.size() == 2);
  CHECK(parsed->payloads[1] ==
        Payload{Encrypted{PayloadType::id_initiator, 28 + 8 + 4, {0xaa, 0xbb, 0xcc}}});
  CHECK(field_of(parse_message(message_of("2e", "29 00 0005 aa 00 00 0008 00 00 4004"))) ==
        "encrypted");
}

TEST_CASE("ike chain: SK inside SK is refused, fragments too") {
  for (const PayloadType type : {PayloadType::encrypted, PayloadType::encrypted_fragment}) {
    const auto parsed = parse_payloads(type, chain_of(from_hex("00010002aabb")));
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().field == "encrypted");
  }
}

TEST_CASE("ike fragment: number and total stand between header and data (RFC 7383 §2.5)") {
  const auto parsed = parse_message(message_of("35", "23 00 000b 0001 0003 aabbcc"));
  REQUIRE(parsed);
  CHECK(
      parsed->payloads.at(0) ==
      Payload{EncryptedFragment{PayloadType::id_initiator, 1, 3, 28 + 4 + 4, {0xaa, 0xbb, 0xcc}}});
  auto built = encode_fragment_prefix(parsed->header,
                                      std::get<EncryptedFragment>(parsed->payloads.at(0)), 3);
  built.insert(built.end(), {0xaa, 0xbb, 0xcc});
  CHECK(to_hex(built) == to_hex(message_of("35", "23 00 000b 0001 0003 aabbcc")));
}

TEST_CASE("ike fragment: zero, or a number above the total, is no fragment (RFC 7383 §2.6)") {
  CHECK(field_of(parse_message(message_of("35", "23 00 0009 0000 0003 aa"))) == "fragment number");
  CHECK(field_of(parse_message(message_of("35", "23 00 0009 0001 0000 aa"))) == "total fragments");
  CHECK(field_of(parse_message(message_of("35", "23 00 0009 0004 0003 aa"))) == "fragment number");
  CHECK(parse_message(message_of("35", "00 00 0009 0003 0003 aa")));
}

TEST_CASE("ike fragment: a body cut short names what is missing") {
  CHECK(field_of(parse_message(message_of("35", "23 00 0005 00"))) == "fragment number");
  CHECK(field_of(parse_message(message_of("35", "23 00 0007 0001 00"))) == "total fragments");
  CHECK(field_of(parse_message(message_of("35", "23 00 0009 0001 0002 aa 00"))) == "encrypted");
}

TEST_CASE("ike chain: no more payloads than the limit") {
  const auto chain_of_vendors = [](std::size_t count) {
    std::string chain;
    for (std::size_t index = 1; index < count; ++index) chain += "2b 00 0004 ";
    return chain + "00 00 0004";
  };
  const auto most = parse_message(message_of("2b", chain_of_vendors(kMaxPayloads)));
  REQUIRE(most);
  CHECK(most->payloads.size() == kMaxPayloads);
  CHECK(field_of(parse_message(message_of("2b", chain_of_vendors(kMaxPayloads + 1)))) ==
        "payloads");
}

TEST_CASE("ike chain: every kind in one chain, there and back") {
  std::vector<Payload> payloads;
  for (const Sample& sample : samples()) payloads.push_back(sample.value);
  PayloadType first{};
  const auto chain = encode_payloads(payloads, first);
  const auto parsed = parse_payloads(first, chain);
  REQUIRE(parsed);
  CHECK(*parsed == payloads);
}

TEST_CASE("ike chain: offsets in errors count from the message's start") {
  const auto parsed = parse_message(message_of("2b", "28 00 0005 aa 00 00 0005 4e"));
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().error.field == "nonce data");
  CHECK(parsed.error().error.offset == 28 + 5 + 4);
}

TEST_CASE("ike message: an empty chain encodes to nothing, a huge one to nothing valid") {
  PayloadType first = PayloadType::nonce;
  CHECK(encode_payloads({}, first).empty());
  CHECK(first == PayloadType::none);
  CHECK(encode_message(Header{}, {}).size() == kHeaderBytes);
  const Certificate half{CertificateEncoding::x509_signature, std::vector<std::uint8_t>(40000)};
  CHECK(encode_payloads({half, half}, first).empty());
  CHECK(encode_message(Header{}, {half, half}).empty());
}

TEST_CASE("ike message: the prefix of a sealed message is what its parse sees") {
  Header header;
  header.initiator_spi = 1;
  header.responder_spi = 2;
  header.exchange = ExchangeType::ike_auth;
  header.from_initiator = true;
  header.message_id = 1;
  auto bytes = encode_encrypted_prefix(header, PayloadType::id_initiator, 40);
  REQUIRE(bytes.size() == kHeaderBytes + kGenericHeaderBytes);
  bytes.resize(bytes.size() + 40, 0x5a);
  const auto parsed = parse_message(bytes);
  REQUIRE(parsed);
  CHECK(parsed->header.length == bytes.size());
  const auto& sealed = std::get<Encrypted>(parsed->payloads.at(0));
  CHECK(sealed.first_inner == PayloadType::id_initiator);
  CHECK(sealed.associated_bytes == kHeaderBytes + kGenericHeaderBytes);
  CHECK(sealed.sealed == std::vector<std::uint8_t>(40, 0x5a));
}

TEST_CASE("ike names: what has a name is spelled as the RFC does, the rest are numbers") {
  CHECK(to_string(NotifyType::no_proposal_chosen) == "NO_PROPOSAL_CHOSEN");
  CHECK(to_string(static_cast<NotifyType>(40000)) == "40000");
  CHECK(to_string(PayloadType::ts_initiator) == "TSi");
  CHECK(to_string(static_cast<PayloadType>(200)) == "200");
  CHECK(to_string(ExchangeType::create_child_sa) == "CREATE_CHILD_SA");
  CHECK(to_string(static_cast<ExchangeType>(99)) == "unknown exchange");
  CHECK(is_error(NotifyType::child_sa_not_found));
  CHECK_FALSE(is_error(NotifyType::initial_contact));
}

}  // namespace culvert::wire::ike
