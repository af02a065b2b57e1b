// SK and SKF payloads (RFC 7296 §3.14, RFC 7383 §2.5). What is inside needs keys and is the caller's to open.
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

Parsed<EncryptedFragment> parse_encrypted_fragment(Reader body, PayloadType first_inner) {
  Fields fields(body);
  EncryptedFragment payload;
  payload.first_inner = first_inner;
  payload.number = fields.u16("fragment number");
  payload.total = fields.u16("total fragments");
  // RFC 7383 §2.6: neither is zero, and the number is at most the total.
  fields.require(payload.number != 0, "fragment number", "zero");
  fields.require(payload.total != 0, "total fragments", "zero");
  fields.require(payload.number <= payload.total, "fragment number", "above the total");
  payload.associated_bytes = fields.offset();
  payload.sealed = fields.rest("encrypted data");
  return fields.finish(std::move(payload), "encrypted fragment");
}

void build(const Encrypted& payload, Writer& writer) { writer.bytes(payload.sealed); }

void build(const EncryptedFragment& payload, Writer& writer) {
  writer.u16(payload.number);
  writer.u16(payload.total);
  writer.bytes(payload.sealed);
}

}  // namespace culvert::wire::ike
