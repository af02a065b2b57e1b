// KE payload (RFC 7296 §3.4).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {

Parsed<KeyExchange> parse_key_exchange(Reader body) {
  Fields fields(body);
  KeyExchange payload;
  payload.group = fields.u16("key exchange group");
  fields.reserved(2);
  fields.require(fields.remaining() != 0, "key exchange data", "empty");
  fields.require(fields.remaining() <= kMaxKeyExchangeBytes, "key exchange data", "too long");
  payload.data = fields.rest("key exchange data");
  return fields.finish(std::move(payload), "key exchange");
}

void build(const KeyExchange& payload, Writer& writer) {
  writer.u16(payload.group);
  writer.u16(0);
  writer.bytes(payload.data);
}

}  // namespace culvert::wire::ike
