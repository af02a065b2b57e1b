// AUTH payload (RFC 7296 §3.8).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {

Parsed<Authentication> parse_authentication(Reader body) {
  Fields fields(body);
  Authentication payload;
  payload.method = fields.u8("auth method");
  fields.reserved(3);
  fields.require(fields.remaining() != 0, "authentication data", "empty");
  payload.data = fields.rest("authentication data");
  return fields.finish(std::move(payload), "authentication");
}

void build(const Authentication& payload, Writer& writer) {
  writer.u8(payload.method);
  writer.zeros(3);
  writer.bytes(payload.data);
}

}  // namespace culvert::wire::ike
