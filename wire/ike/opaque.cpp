// Payloads whose body is carried as it is: vendor IDs (RFC 7296 §3.12), what we do not interpret
// (CP, EAP) and what we do not know (§2.5).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {

Parsed<VendorId> parse_vendor_id(Reader body) {
  Fields fields(body);
  VendorId payload{fields.rest("vendor ID")};
  return fields.finish(std::move(payload), "vendor ID");
}

Parsed<Opaque> parse_opaque(Reader body, PayloadType type) {
  Fields fields(body);
  Opaque payload{type, fields.rest("payload body")};
  return fields.finish(std::move(payload), "payload");
}

Parsed<Unknown> parse_unknown(Reader body, PayloadType type, bool critical) {
  Fields fields(body);
  Unknown payload{type, critical, fields.rest("payload body")};
  return fields.finish(std::move(payload), "payload");
}

void build(const VendorId& payload, Writer& writer) { writer.bytes(payload.data); }
void build(const Opaque& payload, Writer& writer) { writer.bytes(payload.data); }
void build(const Unknown& payload, Writer& writer) { writer.bytes(payload.data); }

}  // namespace culvert::wire::ike
