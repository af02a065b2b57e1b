#include "dataplane/worker/header_fields.hpp"

#include "wire/checksum.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint8_t kEcnMask = 3;
constexpr std::uint32_t kFlowLabelMask = 0x000fffff;

std::uint8_t outer_traffic_class(std::uint8_t inner, const config::HeaderOptions& options) {
  const bool copy =
      options.copy_dscp == config::CopyDscp::out || options.copy_dscp == config::CopyDscp::both;
  const auto dscp = static_cast<std::uint8_t>(copy ? inner & ~kEcnMask : options.dscp << 2U);
  // RFC 6040 §4.3: "compatibility mode" clears the outer field; normal mode (§4.1) copies it.
  return static_cast<std::uint8_t>(dscp | (options.copy_ecn ? inner & kEcnMask : 0));
}

bool outer_dont_fragment(const std::uint8_t* inner, config::DontFragment df) {
  switch (df) {
    case config::DontFragment::copy:
      break;
    case config::DontFragment::set:
      return true;
    case config::DontFragment::clear:
      return false;
  }
  // What cannot be fragmented on its way inside may not be outside either (RFC 4301 §8.1).
  return !wire::is_v4(inner) ||
         (wire::load_u16(inner + wire::ipv4::kFragment) & wire::ipv4::kDontFragment) != 0;
}

}  // namespace

std::uint8_t traffic_class_at(const std::uint8_t* ip) {
  return wire::is_v4(ip) ? ip[1] : static_cast<std::uint8_t>(wire::load_u16(ip) >> 4U);
}

void set_traffic_class(std::uint8_t* ip, std::uint8_t traffic_class) {
  if (wire::is_v4(ip)) {
    const std::uint16_t before = wire::load_u16(ip);
    ip[1] = traffic_class;
    std::uint8_t* const checksum = ip + wire::ipv4::kChecksum;
    wire::store_u16(checksum,
                    wire::updated_checksum(wire::load_u16(checksum), before, wire::load_u16(ip)));
  } else {
    const std::uint16_t around = wire::load_u16(ip) & 0xf00fU;
    wire::store_u16(ip, static_cast<std::uint16_t>(around | traffic_class << 4U));
  }
}

void apply_to_outer(std::uint8_t* outer, const std::uint8_t* inner,
                    const config::HeaderOptions& options, std::uint16_t identification) {
  const std::uint8_t traffic_class = outer_traffic_class(traffic_class_at(inner), options);
  if (!wire::is_v4(outer)) {
    set_traffic_class(outer, traffic_class);
    if (options.copy_flow_label && !wire::is_v4(inner)) {
      const std::uint32_t label = wire::load_u32(inner) & kFlowLabelMask;
      wire::store_u32(outer, (wire::load_u32(outer) & ~kFlowLabelMask) | label);
    }
    return;
  }
  outer[1] = traffic_class;
  const bool dont_fragment = outer_dont_fragment(inner, options.df);
  wire::store_u16(outer + wire::ipv4::kFragment, dont_fragment ? wire::ipv4::kDontFragment : 0);
  // RFC 6864 §4: the identification matters only for what may be fragmented.
  wire::store_u16(outer + wire::ipv4::kIdentification, dont_fragment ? 0 : identification);
  wire::write_ipv4_checksum(outer, wire::ipv4::kHeaderBytes);
}

EcnVerdict apply_to_inner(std::uint8_t* inner, const std::uint8_t* outer, bool copy_dscp) {
  const std::uint8_t inside = traffic_class_at(inner);
  const std::uint8_t outside = traffic_class_at(outer);
  const EcnVerdict verdict =
      decapsulated_ecn(static_cast<Ecn>(inside & kEcnMask), static_cast<Ecn>(outside & kEcnMask));
  const unsigned dscp = (copy_dscp ? outside : inside) & ~unsigned{kEcnMask};
  const auto wanted = static_cast<std::uint8_t>(dscp | static_cast<unsigned>(verdict.inner));
  if (!verdict.drop && wanted != inside) set_traffic_class(inner, wanted);
  return verdict;
}

}  // namespace culvert::dataplane
