// TSi and TSr payloads (RFC 7296 §3.13).
#include <utility>

#include "wire/ike/fields.hpp"
#include "wire/ike/limits.hpp"
#include "wire/ike/payloads.hpp"

namespace culvert::wire::ike {
namespace {

constexpr std::uint8_t kIpv4Range = 7, kIpv6Range = 8;  // §3.13.1
constexpr std::size_t kSelectorHeaderBytes = 8;

IpAddress address_of(Family family, const std::vector<std::uint8_t>& bytes) {
  return family == Family::v4 ? IpAddress::v4(bytes) : IpAddress::v6(bytes);
}

/// What can match no packet, or means something else at each end, is refused rather than kept.
void check_selector(Fields& fields, const TrafficSelector& selector) {
  fields.require(selector.first <= selector.last, "address range", "end before start");
  fields.require(selector.port_first <= selector.port_last || selector.opaque_port(), "port range",
                 "end before start");
  fields.require(!selector.any_protocol() || selector.any_port(), "port range",
                 "without a protocol");
}

/// False when the selector's type is one we do not know; its bytes are skipped then.
bool parse_selector(Fields& payload, TrafficSelector& selector) {
  const std::uint8_t type = payload.u8("traffic selector type");
  selector.protocol = payload.u8("IP protocol ID");
  const std::uint16_t length = payload.u16("selector length");
  payload.require(length >= kSelectorHeaderBytes, "selector length", "below its header");
  if (!payload.ok()) return false;
  Fields fields = payload.sub(length - 4U, "traffic selector");
  if (type != kIpv4Range && type != kIpv6Range) {
    payload.join(fields);
    return false;
  }
  const Family family = type == kIpv4Range ? Family::v4 : Family::v6;
  const std::size_t address_bytes = lowest(family).size();
  fields.require(length == kSelectorHeaderBytes + 2 * address_bytes, "selector length",
                 "does not fit its type");
  selector.port_first = fields.u16("start port");
  selector.port_last = fields.u16("end port");
  const auto first = fields.bytes(address_bytes, "starting address");
  const auto last = fields.bytes(address_bytes, "ending address");
  if (fields.ok()) {
    selector.first = address_of(family, first);
    selector.last = address_of(family, last);
    check_selector(fields, selector);
  }
  payload.join(fields);
  return true;
}

}  // namespace

Parsed<TrafficSelectors> parse_traffic_selectors(Reader body, PayloadType type) {
  Fields fields(body);
  TrafficSelectors payload;
  payload.initiator = type == PayloadType::ts_initiator;
  const std::uint8_t count = fields.u8("number of traffic selectors");
  fields.reserved(3);
  fields.require(count != 0, "number of traffic selectors", "none");
  fields.require(count <= kMaxTrafficSelectors, "number of traffic selectors", "too many");
  for (std::uint8_t index = 0; fields.ok() && index < count; ++index) {
    TrafficSelector selector;
    if (parse_selector(fields, selector)) {
      payload.selectors.push_back(selector);
    } else {
      payload.skipped_unknown = true;
    }
  }
  return fields.finish(std::move(payload), "traffic selectors");
}

void build(const TrafficSelectors& payload, Writer& writer) {
  writer.u8(static_cast<std::uint8_t>(payload.selectors.size()));
  writer.zeros(3);
  for (const TrafficSelector& selector : payload.selectors) {
    writer.u8(selector.first.is_v4() ? kIpv4Range : kIpv6Range);
    writer.u8(selector.protocol);
    writer.u16(static_cast<std::uint16_t>(kSelectorHeaderBytes + 2 * selector.first.size()));
    writer.u16(selector.port_first);
    writer.u16(selector.port_last);
    writer.bytes(selector.first.view());
    writer.bytes(selector.last.view());
  }
}

}  // namespace culvert::wire::ike
