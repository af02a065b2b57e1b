// Delete payload (RFC 7296 §3.11).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {
namespace {

constexpr std::size_t kEspSpiBytes = 4;

/// §3.11: the IKE SA is named by the header alone, child SAs by four-byte SPIs.
void check_spis(Fields& fields, Protocol protocol, std::uint8_t size, std::uint16_t count) {
  switch (protocol) {
    case Protocol::ike:
      fields.require(size == 0, "delete SPI size", "does not fit the protocol");
      fields.require(count == 0, "number of SPIs", "not zero for the IKE SA");
      return;
    case Protocol::ah:
    case Protocol::esp:
      fields.require(size == kEspSpiBytes, "delete SPI size", "does not fit the protocol");
      fields.require(count <= kMaxDeletedSpis, "number of SPIs", "too many");
      return;
    case Protocol::none:
      break;
  }
  fields.refuse("delete protocol ID", "neither IKE, AH nor ESP");
}

}  // namespace

Parsed<Delete> parse_delete(Reader body) {
  Fields fields(body);
  Delete payload;
  payload.protocol = static_cast<Protocol>(fields.u8("delete protocol ID"));
  const std::uint8_t size = fields.u8("delete SPI size");
  const std::uint16_t count = fields.u16("number of SPIs");
  check_spis(fields, payload.protocol, size, count);
  for (std::uint16_t index = 0; fields.ok() && index < count; ++index) {
    payload.spis.push_back(fields.u32("deleted SPI"));
  }
  return fields.finish(std::move(payload), "delete");
}

void build(const Delete& payload, Writer& writer) {
  writer.u8(std::to_underlying(payload.protocol));
  writer.u8(payload.protocol == Protocol::ike ? 0 : kEspSpiBytes);
  writer.u16(static_cast<std::uint16_t>(payload.spis.size()));
  for (const std::uint32_t spi : payload.spis) writer.u32(spi);
}

}  // namespace culvert::wire::ike
