// Ni and Nr payloads (RFC 7296 §3.9).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {

Parsed<Nonce> parse_nonce(Reader body) {
  Fields fields(body);
  Nonce payload;
  fields.require(fields.remaining() >= kMinNonceBytes, "nonce data", "below 16 bytes");
  fields.require(fields.remaining() <= kMaxNonceBytes, "nonce data", "above 256 bytes");
  payload.data = fields.rest("nonce data");
  return fields.finish(std::move(payload), "nonce");
}

void build(const Nonce& payload, Writer& writer) { writer.bytes(payload.data); }

}  // namespace culvert::wire::ike
