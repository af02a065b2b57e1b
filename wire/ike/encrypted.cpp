// SK payload (RFC 7296 §3.14). What is inside needs keys and is the caller's to open.
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {

Parsed<Encrypted> parse_encrypted(Reader body, PayloadType first_inner) {
  Fields fields(body);
  Encrypted payload;
  payload.first_inner = first_inner;
  payload.associated_bytes = fields.offset();
  payload.sealed = fields.rest("encrypted data");
  return fields.finish(std::move(payload), "encrypted");
}

void build(const Encrypted& payload, Writer& writer) { writer.bytes(payload.sealed); }

}  // namespace culvert::wire::ike
