// CERT and CERTREQ payloads (RFC 7296 §3.6, §3.7). What the certificates say is not read here.
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {

Parsed<Certificate> parse_certificate(Reader body) {
  Fields fields(body);
  Certificate payload;
  payload.encoding = static_cast<CertificateEncoding>(fields.u8("certificate encoding"));
  fields.require(fields.remaining() != 0, "certificate data", "empty");
  payload.data = fields.rest("certificate data");
  return fields.finish(std::move(payload), "certificate");
}

Parsed<CertificateRequest> parse_certificate_request(Reader body) {
  Fields fields(body);
  CertificateRequest payload;
  payload.encoding = static_cast<CertificateEncoding>(fields.u8("certificate encoding"));
  // A request is a hint (§3.7): one that names no whole hash is not worth refusing the message.
  payload.authorities = fields.rest("certification authorities");
  return fields.finish(std::move(payload), "certificate request");
}

void build(const Certificate& payload, Writer& writer) {
  writer.u8(std::to_underlying(payload.encoding));
  writer.bytes(payload.data);
}

void build(const CertificateRequest& payload, Writer& writer) {
  writer.u8(std::to_underlying(payload.encoding));
  writer.bytes(payload.authorities);
}

}  // namespace culvert::wire::ike
