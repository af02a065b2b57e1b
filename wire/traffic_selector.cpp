#include "wire/traffic_selector.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <utility>

#include "wire/ip.hpp"

namespace culvert::wire {
namespace {

struct ProtocolName {
  std::string_view name;
  std::uint8_t number;
};
constexpr std::array kProtocolNames{
    ProtocolName{"icmp", protocol::kIcmp},
    ProtocolName{"tcp", protocol::kTcp},
    ProtocolName{"udp", protocol::kUdp},
    ProtocolName{"icmpv6", protocol::kIcmpv6},
    ProtocolName{"sctp", protocol::kSctp},
    ProtocolName{"ipip", protocol::kIpv4},
    ProtocolName{"esp", protocol::kEsp},
    ProtocolName{"ipv6-icmp", protocol::kIcmpv6},  // as IANA writes it; printed as the other
};

template <typename T>
std::optional<T> number(std::string_view digits) {
  T value{};
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), value);
  if (digits.empty() || error != std::errc{} || end != digits.end()) return std::nullopt;
  return value;
}

/// The prefix that is exactly [first, last], if there is one.
std::optional<Prefix> as_prefix(const IpAddress& first, const IpAddress& last) {
  std::uint8_t common = 0;
  for (std::size_t index = 0; index < first.size(); ++index) {
    const auto difference = static_cast<std::uint8_t>(first.bytes[index] ^ last.bytes[index]);
    common = static_cast<std::uint8_t>(common + std::countl_zero(difference));
    if (difference != 0) break;
  }
  const Prefix prefix{first, common};
  if (prefix.first() == first && prefix.last() == last) return prefix;
  return std::nullopt;
}

bool parse_addresses(std::string_view text, TrafficSelector& selector) {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) {
    const auto prefix = Prefix::parse(text);
    if (!prefix || prefix->has_host_bits()) return false;
    selector.first = prefix->first();
    selector.last = prefix->last();
    return true;
  }
  const auto first = IpAddress::parse(text.substr(0, dash));
  const auto last = IpAddress::parse(text.substr(dash + 1));
  if (!first || !last || first->family != last->family || *last < *first) return false;
  selector.first = *first;
  selector.last = *last;
  return true;
}

/// RFC 4301 §4.4.1.1: "a single 8-bit ICMP type and an ICMP 8-bit code" make one 16-bit value, the
/// type "in the more significant 8 bits".
constexpr std::uint16_t icmp_value(std::uint8_t type, std::uint8_t code) {
  return static_cast<std::uint16_t>(type << 8U | code);
}

/// "3" is every code of the type, "3.4" one code.
struct IcmpMessages {
  std::uint16_t first = 0, last = 0;
  bool has_code = false;
};
std::optional<IcmpMessages> parse_icmp_messages(std::string_view text) {
  const std::size_t dot = text.find('.');
  const auto type = number<std::uint8_t>(text.substr(0, dot));
  if (!type) return std::nullopt;
  if (dot == std::string_view::npos) {
    return IcmpMessages{icmp_value(*type, 0), icmp_value(*type, 0xff), false};
  }
  const auto code = number<std::uint8_t>(text.substr(dot + 1));
  if (!code) return std::nullopt;
  return IcmpMessages{icmp_value(*type, *code), icmp_value(*type, *code), true};
}

bool parse_icmp(std::string_view text, TrafficSelector& selector) {
  const std::size_t dash = text.find('-');
  const auto first = parse_icmp_messages(text.substr(0, dash));
  const auto last =
      dash == std::string_view::npos ? first : parse_icmp_messages(text.substr(dash + 1));
  if (!first || !last || first->has_code != last->has_code || last->last < first->first) {
    return false;
  }
  selector.port_first = first->first;
  selector.port_last = last->last;
  return true;
}

std::string icmp_to_string(std::uint16_t first, std::uint16_t last) {
  const auto type = [](std::uint16_t value) { return std::to_string(value >> 8U); };
  const auto both = [&](std::uint16_t value) {
    return type(value) + "." + std::to_string(value & 0xffU);
  };
  const bool whole_types = (first & 0xffU) == 0 && (last & 0xffU) == 0xff;
  const std::string from = whole_types ? type(first) : both(first);
  const std::string to = whole_types ? type(last) : both(last);
  return from == to ? from : from + "-" + to;
}

bool parse_ports(std::string_view text, TrafficSelector& selector) {
  if (text == "opaque") {
    selector.port_first = 65535;
    selector.port_last = 0;
    return true;
  }
  if (selector.is_icmp()) return parse_icmp(text, selector);
  const std::size_t dash = text.find('-');
  const auto first = number<std::uint16_t>(text.substr(0, dash));
  const auto last =
      dash == std::string_view::npos ? first : number<std::uint16_t>(text.substr(dash + 1));
  if (!first || !last || *last < *first) return false;
  selector.port_first = *first;
  selector.port_last = *last;
  return true;
}

}  // namespace

TrafficSelector TrafficSelector::of(const Prefix& prefix) {
  return {prefix.first(), prefix.last(), 0, 65535, 0};
}

TrafficSelector TrafficSelector::everything(Family family) {
  return {lowest(family), highest(family), 0, 65535, 0};
}

bool TrafficSelector::contains(const IpAddress& address) const {
  return address.family == first.family && first <= address && address <= last;
}

bool TrafficSelector::matches(const IpAddress& address, std::uint8_t packet_protocol,
                              std::uint16_t port) const {
  if (!contains(address)) return false;
  if (any_protocol()) return any_port();
  if (packet_protocol != protocol) return false;
  return any_port() || (port_first <= port && port <= port_last);
}

bool TrafficSelector::covers(const TrafficSelector& inner) const {
  const auto common = intersect(inner);
  return common && *common == inner;
}

bool TrafficSelector::overlaps(const TrafficSelector& other) const {
  return intersect(other).has_value();
}

std::optional<TrafficSelector> TrafficSelector::intersect(const TrafficSelector& other) const {
  if (first.family != other.first.family) return std::nullopt;
  TrafficSelector result;
  result.first = std::max(first, other.first);
  result.last = std::min(last, other.last);
  if (result.last < result.first) return std::nullopt;
  if (!any_protocol() && !other.any_protocol() && protocol != other.protocol) return std::nullopt;
  result.protocol = any_protocol() ? other.protocol : protocol;
  if (opaque_port() || other.opaque_port()) {
    // OPAQUE meets OPAQUE and ANY only (RFC 4301 §4.4.1.2).
    if (!(opaque_port() || any_port()) || !(other.opaque_port() || other.any_port())) {
      return std::nullopt;
    }
    result.port_first = 65535;
    result.port_last = 0;
    return result;
  }
  result.port_first = std::max(port_first, other.port_first);
  result.port_last = std::min(port_last, other.port_last);
  if (result.port_last < result.port_first) return std::nullopt;
  // Packets of protocols without ports count as of port 0: beyond it there are none.
  if (result.port_first != 0 && !protocol::has_ports(result.protocol)) return std::nullopt;
  return result;
}

std::optional<TrafficSelector> TrafficSelector::parse(std::string_view text) {
  TrafficSelector selector;
  const std::size_t bracket = text.find('[');
  if (!parse_addresses(text.substr(0, bracket), selector)) return std::nullopt;
  if (bracket == std::string_view::npos) return selector;
  if (text.back() != ']') return std::nullopt;
  const std::string_view inside = text.substr(bracket + 1, text.size() - bracket - 2);
  const std::size_t slash = inside.find('/');
  const auto parsed_protocol = protocol::parse(inside.substr(0, slash));
  if (!parsed_protocol) return std::nullopt;
  selector.protocol = *parsed_protocol;
  if (slash == std::string_view::npos) return selector;
  if (!parse_ports(inside.substr(slash + 1), selector)) return std::nullopt;
  // A port without a protocol means nothing (RFC 7296 §3.13.1), nor does one of such as has none.
  const bool has_ports = protocol::has_ports(selector.protocol) || selector.opaque_port();
  if ((selector.any_protocol() || !has_ports) && !selector.any_port()) return std::nullopt;
  return selector;
}

std::string TrafficSelector::to_string() const {
  const auto prefix = as_prefix(first, last);
  std::string text = prefix ? prefix->to_string() : first.to_string() + "-" + last.to_string();
  if (any_protocol() && any_port()) return text;
  text += "[" + protocol::to_string(protocol);
  if (opaque_port()) {
    text += "/opaque";
  } else if (is_icmp() && !any_port()) {
    text += "/" + icmp_to_string(port_first, port_last);
  } else if (!any_port()) {
    text += "/" + std::to_string(port_first);
    if (port_last != port_first) text += "-" + std::to_string(port_last);
  }
  return text + "]";
}

std::vector<TrafficSelector> narrow(const std::vector<TrafficSelector>& proposed,
                                    const std::vector<TrafficSelector>& configured) {
  std::vector<TrafficSelector> result;
  for (const TrafficSelector& theirs : proposed) {
    for (const TrafficSelector& ours : configured) {
      const auto common = theirs.intersect(ours);
      if (!common) continue;
      const auto covered_by_common = [&](const TrafficSelector& kept) {
        return common->covers(kept);
      };
      if (std::ranges::any_of(result, [&](const auto& kept) { return kept.covers(*common); }))
        continue;
      std::erase_if(result, covered_by_common);
      result.push_back(*common);
    }
  }
  return result;
}

bool covers(const std::vector<TrafficSelector>& outer, const std::vector<TrafficSelector>& inner) {
  return !inner.empty() && std::ranges::all_of(inner, [&](const TrafficSelector& one) {
    return std::ranges::any_of(outer, [&](const auto& wide) { return wide.covers(one); });
  });
}

std::string to_string(const std::vector<TrafficSelector>& selectors) {
  std::string text;
  for (const TrafficSelector& selector : selectors) {
    if (!text.empty()) text += ", ";
    text += selector.to_string();
  }
  return text;
}

bool may_be_of_one_packet(const TrafficSelector& one, const TrafficSelector& other) {
  if (one.first.family != other.first.family) return false;
  if (one.any_protocol() || other.any_protocol()) return true;
  if (one.protocol != other.protocol) return false;
  if (one.any_port() || other.any_port()) return true;
  if (one.opaque_port() || other.opaque_port()) return one.opaque_port() && other.opaque_port();
  // A packet has two ports, and one type with its code.
  return !one.is_icmp() || (one.port_first <= other.port_last && other.port_first <= one.port_last);
}

namespace protocol {

std::optional<std::uint8_t> parse(std::string_view name) {
  for (const ProtocolName& row : kProtocolNames) {
    if (row.name == name) return row.number;
  }
  return number<std::uint8_t>(name);
}

std::string to_string(std::uint8_t number) {
  for (const ProtocolName& row : kProtocolNames) {
    if (row.number == number) return std::string(row.name);
  }
  return std::to_string(static_cast<unsigned>(number));
}

bool has_ports(std::uint8_t number) { return kPortsOfProtocol[number] != PortsAt::none; }

}  // namespace protocol
}  // namespace culvert::wire
