// Notify payload (RFC 7296 §3.10).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {
namespace {

/// §3.10: 4 bytes for ESP and AH, none about the IKE SA itself. What carries no protocol is not
/// interpreted: a notify that we do not know must not spoil the message.
bool notify_spi_fits(Protocol protocol, std::size_t size) {
  switch (protocol) {
    case Protocol::none:
      return true;
    case Protocol::ike:
      return size == 0 || size == 8;
    case Protocol::ah:
    case Protocol::esp:
      return size == 0 || size == 4;
  }
  return true;
}

}  // namespace

Parsed<Notify> parse_notify(Reader body) {
  Fields fields(body);
  Notify payload;
  payload.protocol = static_cast<Protocol>(fields.u8("notify protocol ID"));
  const std::uint8_t spi_size = fields.u8("notify SPI size");
  payload.type = static_cast<NotifyType>(fields.u16("notify message type"));
  fields.require(notify_spi_fits(payload.protocol, spi_size), "notify SPI size",
                 "does not fit the protocol");
  payload.spi = fields.bytes(spi_size, "notify SPI");
  payload.data = fields.rest("notification data");
  return fields.finish(std::move(payload), "notify");
}

void build(const Notify& payload, Writer& writer) {
  writer.u8(std::to_underlying(payload.protocol));
  writer.u8(static_cast<std::uint8_t>(payload.spi.size()));
  writer.u16(std::to_underlying(payload.type));
  writer.bytes(payload.spi);
  writer.bytes(payload.data);
}

}  // namespace culvert::wire::ike
