// The IKE header (RFC 7296 §3.1) and the chain of payloads behind it (§3.2).
#include "wire/ike/message.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {
namespace {

constexpr std::uint8_t kFlagInitiator = 0x08, kFlagHigherVersion = 0x10, kFlagResponse = 0x20;
constexpr std::uint8_t kCritical = 0x80;
constexpr std::uint8_t kMajorVersion = 2;

template <typename T>
Parsed<Payload> as_payload(Parsed<T> parsed) {
  if (!parsed) return std::unexpected(parsed.error());
  return Payload{std::move(*parsed)};
}

struct GenericHeader {
  PayloadType next = PayloadType::none;
  bool critical = false;
};

/// The critical bit counts for payloads we do not know only (§2.5).
Parsed<Payload> parse_body(PayloadType type, GenericHeader header, Reader body) {
  switch (type) {
    case PayloadType::security_association:
      return as_payload(parse_security_association(body));
    case PayloadType::key_exchange:
      return as_payload(parse_key_exchange(body));
    case PayloadType::id_initiator:
    case PayloadType::id_responder:
      return as_payload(parse_identification(body, type));
    case PayloadType::authentication:
      return as_payload(parse_authentication(body));
    case PayloadType::nonce:
      return as_payload(parse_nonce(body));
    case PayloadType::notify:
      return as_payload(parse_notify(body));
    case PayloadType::delete_:
      return as_payload(parse_delete(body));
    case PayloadType::vendor_id:
      return as_payload(parse_vendor_id(body));
    case PayloadType::ts_initiator:
    case PayloadType::ts_responder:
      return as_payload(parse_traffic_selectors(body, type));
    case PayloadType::encrypted:
      return as_payload(parse_encrypted(body, header.next));
    case PayloadType::certificate:
      return as_payload(parse_certificate(body));
    case PayloadType::certificate_request:
      return as_payload(parse_certificate_request(body));
    case PayloadType::configuration:
    case PayloadType::eap:
      return as_payload(parse_opaque(body, type));
    case PayloadType::encrypted_fragment:
      return as_payload(parse_encrypted_fragment(body, header.next));
    case PayloadType::none:
      break;
  }
  return as_payload(parse_unknown(body, type, header.critical));
}

/// SK and SKF name their first inner payload where others name their successor, so nothing can
/// follow them (§3.14, RFC 7383 §2.5).
bool ends_chain(PayloadType type) {
  return type == PayloadType::encrypted || type == PayloadType::encrypted_fragment;
}

Parsed<std::vector<Payload>> parse_chain(PayloadType type, Fields fields) {
  std::vector<Payload> payloads;
  while (type != PayloadType::none && fields.ok()) {
    fields.require(payloads.size() < kMaxPayloads, "payloads", "too many");
    GenericHeader header;
    header.next = static_cast<PayloadType>(fields.u8("next payload"));
    header.critical = (fields.u8("critical bit") & kCritical) != 0;
    const std::uint16_t length = fields.u16("payload length");
    fields.require(length >= kGenericHeaderBytes, "payload length", "below its header");
    if (!fields.ok()) break;
    const std::size_t start = fields.offset();
    const auto body = fields.view(length - kGenericHeaderBytes, "payload body");
    if (!fields.ok()) break;
    auto payload = parse_body(type, header, Reader(body, start));
    if (!payload) return std::unexpected(payload.error());
    payloads.push_back(std::move(*payload));
    if (ends_chain(type)) {
      fields.require(fields.remaining() == 0, "encrypted", "not the last payload");
      break;
    }
    type = header.next;
  }
  return fields.finish(std::move(payloads), "message");
}

void build_header(const Header& header, Writer& writer) {
  writer.u64(header.initiator_spi);
  writer.u64(header.responder_spi);
  writer.u8(std::to_underlying(header.next_payload));
  writer.u8(static_cast<std::uint8_t>((header.major_version << 4U) | header.minor_version));
  writer.u8(std::to_underlying(header.exchange));
  writer.u8(static_cast<std::uint8_t>((header.from_initiator ? kFlagInitiator : 0) |
                                      (header.higher_version ? kFlagHigherVersion : 0) |
                                      (header.response ? kFlagResponse : 0)));
  writer.u32(header.message_id);
  writer.u32(header.length);
}

void build_payload(const Payload& payload, PayloadType next, Writer& writer) {
  const std::size_t start = writer.size();
  const auto* unknown = std::get_if<Unknown>(&payload);
  writer.u8(std::to_underlying(next));
  writer.u8(unknown != nullptr && unknown->critical ? kCritical : 0);
  writer.u16(0);  // length, known below
  std::visit([&](const auto& body) { build(body, writer); }, payload);
  writer.patch_u16(start + 2, static_cast<std::uint16_t>(writer.size() - start));
}

/// Header, generic header of SK or SKF, and what stands in front of the sealed bytes.
std::vector<std::uint8_t> encode_prefix(const Header& header, PayloadType type,
                                        PayloadType first_inner, Bytes numbers,
                                        std::size_t sealed_bytes) {
  const std::size_t payload_bytes = kGenericHeaderBytes + numbers.size() + sealed_bytes;
  assert(kHeaderBytes + payload_bytes <= kMaxMessageBytes);
  Header filled = header;
  filled.next_payload = type;
  filled.length = static_cast<std::uint32_t>(kHeaderBytes + payload_bytes);
  std::vector<std::uint8_t> prefix(kHeaderBytes + kGenericHeaderBytes + numbers.size());
  Writer writer(prefix);
  build_header(filled, writer);
  writer.u8(std::to_underlying(first_inner));
  writer.u8(0);
  writer.u16(static_cast<std::uint16_t>(payload_bytes));
  writer.bytes(numbers);
  return prefix;
}

PayloadType first_type(const std::vector<Payload>& payloads) {
  return payloads.empty() ? PayloadType::none : type_of(payloads.front());
}

}  // namespace

PayloadType type_of(const Payload& payload) {
  struct {
    PayloadType operator()(const SecurityAssociation&) { return PayloadType::security_association; }
    PayloadType operator()(const KeyExchange&) { return PayloadType::key_exchange; }
    PayloadType operator()(const Identification& id) {
      return id.initiator ? PayloadType::id_initiator : PayloadType::id_responder;
    }
    PayloadType operator()(const Authentication&) { return PayloadType::authentication; }
    PayloadType operator()(const Nonce&) { return PayloadType::nonce; }
    PayloadType operator()(const Notify&) { return PayloadType::notify; }
    PayloadType operator()(const Delete&) { return PayloadType::delete_; }
    PayloadType operator()(const VendorId&) { return PayloadType::vendor_id; }
    PayloadType operator()(const TrafficSelectors& selectors) {
      return selectors.initiator ? PayloadType::ts_initiator : PayloadType::ts_responder;
    }
    PayloadType operator()(const Certificate&) { return PayloadType::certificate; }
    PayloadType operator()(const CertificateRequest&) { return PayloadType::certificate_request; }
    PayloadType operator()(const Opaque& opaque) { return opaque.type; }
    PayloadType operator()(const Unknown& unknown) { return unknown.type; }
    PayloadType operator()(const EncryptedFragment&) { return PayloadType::encrypted_fragment; }
    PayloadType operator()(const Encrypted&) { return PayloadType::encrypted; }
  } type;
  return std::visit(type, payload);
}

Parsed<Header> parse_header(Bytes message) {
  Fields fields{Reader(message)};
  Header header;
  header.initiator_spi = fields.u64("initiator SPI");
  header.responder_spi = fields.u64("responder SPI");
  header.next_payload = static_cast<PayloadType>(fields.u8("next payload"));
  const std::uint8_t version = fields.u8("version");
  header.major_version = static_cast<std::uint8_t>(version >> 4U);
  header.minor_version = static_cast<std::uint8_t>(version & 0x0fU);
  header.exchange = static_cast<ExchangeType>(fields.u8("exchange type"));
  const std::uint8_t flags = fields.u8("flags");
  header.from_initiator = (flags & kFlagInitiator) != 0;
  header.higher_version = (flags & kFlagHigherVersion) != 0;
  header.response = (flags & kFlagResponse) != 0;
  header.message_id = fields.u32("message ID");
  header.length = fields.u32("length");
  fields.require(header.length >= kHeaderBytes, "length", "below the header");
  static_cast<void>(fields.view(fields.remaining(), "message"));
  return fields.finish(header, "header");
}

std::expected<Message, MessageError> parse_message(Bytes message) {
  auto header = parse_header(message);
  if (!header) {
    return std::unexpected(MessageError{header.error(), std::nullopt, NotifyType::invalid_syntax});
  }
  const auto refuse = [&](ParseError error, NotifyType notify) {
    return std::unexpected(MessageError{error, *header, notify});
  };
  // §2.5: another major version may lay out everything behind the header in another way.
  if (header->major_version != kMajorVersion) {
    return refuse({"version", "major version is not 2", 17, 0, message.size()},
                  NotifyType::invalid_major_version);
  }
  if (header->length > message.size()) {
    return refuse({"length", "truncated", 24, header->length, message.size()},
                  NotifyType::invalid_syntax);
  }
  if (header->length < message.size()) {
    return refuse({"length", "trailing bytes", 24, header->length, message.size()},
                  NotifyType::invalid_syntax);
  }
  auto payloads = parse_chain(header->next_payload,
                              Fields{Reader(message.subspan(kHeaderBytes), kHeaderBytes)});
  if (!payloads) return refuse(payloads.error(), NotifyType::invalid_syntax);
  return Message{*header, std::move(*payloads)};
}

Parsed<std::vector<Payload>> parse_payloads(PayloadType first, Bytes chain) {
  auto payloads = parse_chain(first, Fields{Reader(chain)});
  if (!payloads) return payloads;
  // §3.14: SK stands in the outer message only.
  if (std::ranges::any_of(*payloads,
                          [](const Payload& payload) { return ends_chain(type_of(payload)); })) {
    return std::unexpected(
        ParseError{"encrypted", "inside another payload chain", 0, 0, chain.size()});
  }
  return payloads;
}

std::vector<std::uint8_t> encode_payloads(const std::vector<Payload>& payloads,
                                          PayloadType& first) {
  std::vector<std::uint8_t> buffer(kMaxMessageBytes);
  Writer writer(buffer);
  for (std::size_t index = 0; index < payloads.size(); ++index) {
    assert(!ends_chain(type_of(payloads[index])));
    const bool last = index + 1 == payloads.size();
    build_payload(payloads[index], last ? PayloadType::none : type_of(payloads[index + 1]), writer);
  }
  first = first_type(payloads);
  buffer.resize(writer.overflowed() ? 0 : writer.size());
  return buffer;
}

std::vector<std::uint8_t> encode_message(const Header& header,
                                         const std::vector<Payload>& payloads) {
  Header filled = header;
  const std::vector<std::uint8_t> chain = encode_payloads(payloads, filled.next_payload);
  if (chain.empty() != payloads.empty()) return {};
  filled.length = static_cast<std::uint32_t>(kHeaderBytes + chain.size());
  std::vector<std::uint8_t> message(filled.length);
  Writer writer(message);
  build_header(filled, writer);
  writer.bytes(chain);
  return message;
}

std::vector<std::uint8_t> encode_encrypted_prefix(const Header& header, PayloadType first_inner,
                                                  std::size_t sealed_bytes) {
  return encode_prefix(header, PayloadType::encrypted, first_inner, {}, sealed_bytes);
}

std::vector<std::uint8_t> encode_fragment_prefix(const Header& header,
                                                 const EncryptedFragment& fragment,
                                                 std::size_t sealed_bytes) {
  std::array<std::uint8_t, kFragmentNumberBytes> numbers{};
  Writer writer(numbers);
  writer.u16(fragment.number);
  writer.u16(fragment.total);
  return encode_prefix(header, PayloadType::encrypted_fragment, fragment.first_inner, numbers,
                       sealed_bytes);
}

}  // namespace culvert::wire::ike
