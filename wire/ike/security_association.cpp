// SA payload: proposals, transforms, attributes (RFC 7296 §3.3).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {
namespace {

constexpr std::uint8_t kLast = 0;
constexpr std::uint8_t kMoreProposals = 2;   // §3.3.1
constexpr std::uint8_t kMoreTransforms = 3;  // §3.3.2
constexpr std::size_t kProposalHeaderBytes = 8;
constexpr std::size_t kTransformHeaderBytes = 8;
constexpr std::uint16_t kKeyLength = 14;      // §3.3.5, the one attribute that is defined
constexpr std::uint16_t kFixedSize = 0x8000;  // AF bit: two bytes of value, no length

/// The SPI sizes that §3.3.1 gives; a protocol we do not know keeps what it has and is not chosen.
bool proposal_spi_fits(Protocol protocol, std::size_t size) {
  switch (protocol) {
    case Protocol::none:
      return false;
    case Protocol::ike:
      return size == 0 || size == 8;
    case Protocol::ah:
    case Protocol::esp:
      return size == 4;
  }
  return true;
}

/// §3.3.6: a transform with an attribute we do not understand must not be chosen, but does not
/// spoil the message. A key length given twice or with a length field is one as well.
void parse_attribute(Fields& fields, Transform& transform) {
  const std::uint16_t format_and_type = fields.u16("attribute type");
  const auto type = static_cast<std::uint16_t>(format_and_type & ~kFixedSize);
  if ((format_and_type & kFixedSize) != 0) {
    const std::uint16_t value = fields.u16("attribute value");
    if (type == kKeyLength && !transform.key_bits) {
      transform.key_bits = value;
    } else {
      transform.unknown_attribute = true;
    }
    return;
  }
  const std::uint16_t length = fields.u16("attribute length");
  static_cast<void>(fields.sub(length, "attribute value"));
  transform.unknown_attribute = true;
}

Transform parse_transform(Fields& proposal, bool last) {
  Transform transform;
  const std::uint8_t more = proposal.u8("transform last substructure");
  proposal.require(more == (last ? kLast : kMoreTransforms), "transform last substructure",
                   "disagrees with the number of transforms");
  proposal.reserved(1);
  const std::uint16_t length = proposal.u16("transform length");
  proposal.require(length >= kTransformHeaderBytes, "transform length", "below its header");
  if (!proposal.ok()) return transform;
  Fields fields = proposal.sub(length - 4U, "transform");
  transform.type = static_cast<TransformType>(fields.u8("transform type"));
  fields.reserved(1);
  transform.id = fields.u16("transform ID");
  for (std::size_t count = 0; fields.ok() && fields.remaining() != 0; ++count) {
    fields.require(count < kMaxAttributes, "attributes", "too many");
    parse_attribute(fields, transform);
  }
  proposal.join(fields);
  return transform;
}

SaProposal parse_proposal(Fields& payload, bool& last) {
  SaProposal proposal;
  const std::uint8_t more = payload.u8("proposal last substructure");
  payload.require(more == kLast || more == kMoreProposals, "proposal last substructure",
                  "neither last nor more");
  last = more == kLast;
  payload.reserved(1);
  const std::uint16_t length = payload.u16("proposal length");
  payload.require(length >= kProposalHeaderBytes, "proposal length", "below its header");
  if (!payload.ok()) return proposal;
  Fields fields = payload.sub(length - 4U, "proposal");
  proposal.number = fields.u8("proposal number");
  proposal.protocol = static_cast<Protocol>(fields.u8("proposal protocol ID"));
  const std::uint8_t spi_size = fields.u8("proposal SPI size");
  const std::uint8_t transforms = fields.u8("number of transforms");
  fields.require(proposal_spi_fits(proposal.protocol, spi_size), "proposal SPI size",
                 "does not fit the protocol");
  fields.require(transforms != 0, "number of transforms", "none");
  fields.require(transforms <= kMaxTransforms, "number of transforms", "too many");
  proposal.spi = fields.bytes(spi_size, "proposal SPI");
  for (std::size_t index = 1; fields.ok() && index <= transforms; ++index) {
    proposal.transforms.push_back(parse_transform(fields, index == transforms));
  }
  fields.require(fields.remaining() == 0, "proposal", "trailing bytes");
  payload.join(fields);
  return proposal;
}

/// §3.3.1: a list is numbered 1, 2, 3, …; an answer is one proposal under the number it chose.
bool numbering_fits(const std::vector<SaProposal>& proposals) {
  if (proposals.size() == 1) return proposals.front().number != 0;
  std::size_t expected = 1;
  for (const SaProposal& proposal : proposals) {
    if (proposal.number != expected++) return false;
  }
  return true;
}

void build_transform(const Transform& transform, bool last, Writer& writer) {
  writer.u8(last ? kLast : kMoreTransforms);
  writer.u8(0);
  writer.u16(static_cast<std::uint16_t>(kTransformHeaderBytes + (transform.key_bits ? 4 : 0)));
  writer.u8(std::to_underlying(transform.type));
  writer.u8(0);
  writer.u16(transform.id);
  if (!transform.key_bits) return;
  writer.u16(kFixedSize | kKeyLength);
  writer.u16(*transform.key_bits);
}

}  // namespace

Parsed<SecurityAssociation> parse_security_association(Reader body) {
  Fields fields(body);
  SecurityAssociation payload;
  bool last = false;
  while (fields.ok() && !last) {
    payload.proposals.push_back(parse_proposal(fields, last));
    fields.require(last || payload.proposals.size() < kMaxProposals, "proposals", "too many");
  }
  fields.require(numbering_fits(payload.proposals), "proposal number", "not consecutive from one");
  return fields.finish(std::move(payload), "security association");
}

void build(const SecurityAssociation& payload, Writer& writer) {
  for (const SaProposal& proposal : payload.proposals) {
    const std::size_t start = writer.size();
    writer.u8(&proposal == &payload.proposals.back() ? kLast : kMoreProposals);
    writer.u8(0);
    writer.u16(0);  // length, known below
    writer.u8(proposal.number);
    writer.u8(std::to_underlying(proposal.protocol));
    writer.u8(static_cast<std::uint8_t>(proposal.spi.size()));
    writer.u8(static_cast<std::uint8_t>(proposal.transforms.size()));
    writer.bytes(proposal.spi);
    for (const Transform& transform : proposal.transforms) {
      build_transform(transform, &transform == &proposal.transforms.back(), writer);
    }
    writer.patch_u16(start + 2, static_cast<std::uint16_t>(writer.size() - start));
  }
}

}  // namespace culvert::wire::ike
