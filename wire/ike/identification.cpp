// IDi and IDr payloads (RFC 7296 §3.5).
#include <algorithm>
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {
namespace {

constexpr std::uint8_t kIpv4Address = 1, kIpv6Address = 5;

bool length_fits(std::uint8_t type, std::size_t length) {
  if (type == kIpv4Address) return length == 4;
  if (type == kIpv6Address) return length == 16;
  return true;
}

}  // namespace

Parsed<Identification> parse_identification(Reader body, PayloadType type) {
  Fields fields(body);
  Identification payload;
  payload.initiator = type == PayloadType::id_initiator;
  payload.type = fields.u8("ID type");
  for (std::uint8_t& byte : payload.reserved) byte = fields.u8("reserved");
  fields.require(fields.remaining() <= kMaxIdentityBytes, "identification data", "too long");
  fields.require(length_fits(payload.type, fields.remaining()), "identification data",
                 "not as long as its type is");
  payload.data = fields.rest("identification data");
  return fields.finish(std::move(payload), "identification");
}

void build(const Identification& payload, Writer& writer) { writer.bytes(payload.body()); }

std::vector<std::uint8_t> Identification::body() const {
  std::vector<std::uint8_t> bytes(1 + reserved.size() + data.size());
  Writer writer(bytes);
  writer.u8(type);
  writer.bytes(reserved);
  writer.bytes(data);
  return bytes;
}

}  // namespace culvert::wire::ike
