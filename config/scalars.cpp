#include "config/scalars.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "config/limits.hpp"

namespace culvert::config {
namespace {

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

/// Six octets of two hexadecimal digits, colons between.
std::optional<wire::MacAddress> parse_mac(std::string_view text) {
  wire::MacAddress mac{};
  if (text.size() != mac.size() * 3 - 1) return std::nullopt;
  for (std::size_t octet = 0; octet < mac.size(); ++octet) {
    const std::string_view digits = text.substr(octet * 3, 2);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), mac[octet], 16);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    if (octet + 1 < mac.size() && *end != ':') return std::nullopt;
  }
  return mac;
}

/// A number and the unit behind it: "64GiB" is 64 and "GiB".
struct Quantity {
  std::uint64_t number = 0;
  std::string_view unit;
};
std::optional<Quantity> parse_quantity(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = parse_unsigned(text.substr(0, digits));
  if (!number) return std::nullopt;
  std::string_view unit = text.substr(digits);
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  return Quantity{*number, unit};
}

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array kTimeUnits{Unit{"s", 1}, Unit{"m", 60}, Unit{"min", 60}, Unit{"h", 3600},
                                Unit{"d", 86400}};
constexpr std::array kSizeUnits{Unit{"", 1},
                                Unit{"B", 1},
                                Unit{"KiB", 1U << 10U},
                                Unit{"MiB", 1U << 20U},
                                Unit{"GiB", 1U << 30U},
                                Unit{"TiB", std::uint64_t{1} << 40U},
                                Unit{"kB", 1000},
                                Unit{"KB", 1000},
                                Unit{"MB", 1000000},
                                Unit{"GB", 1000000000},
                                Unit{"TB", 1000000000000}};

/// The product, or nullopt when it does not fit.
std::optional<std::uint64_t> scale(const Quantity& quantity, std::span<const Unit> units) {
  const auto unit = std::ranges::find(units, quantity.unit, &Unit::name);
  if (unit == units.end()) return std::nullopt;
  if (quantity.number > std::numeric_limits<std::uint64_t>::max() / unit->factor) {
    return std::nullopt;
  }
  return quantity.number * unit->factor;
}

/// A time in parts, or in weeks: as one number; empty: it is neither.
std::string time_advice(std::string_view text) {
  static constexpr std::array kUnits{Unit{"s", 1},    Unit{"m", 60},    Unit{"min", 60},
                                     Unit{"h", 3600}, Unit{"d", 86400}, Unit{"w", 604800}};
  constexpr std::string_view kDigits = "0123456789";
  std::uint64_t seconds = 0;
  while (!text.empty()) {
    const std::size_t unit = std::min(text.find_first_not_of(kDigits), text.size());
    const std::size_t end = std::min(text.find_first_of(kDigits, unit), text.size());
    const auto part = parse_quantity(text.substr(0, end));
    const auto value = part ? scale(*part, kUnits) : std::nullopt;
    const auto most = static_cast<std::uint64_t>(limits::kTimeMax.count());
    if (!value || *value > most || seconds + *value > most) return "";
    seconds += *value;
    text.remove_prefix(end);
  }
  for (const Unit& unit : {Unit{"d", 86400}, Unit{"h", 3600}, Unit{"m", 60}, Unit{"s", 1}}) {
    if (seconds != 0 && seconds % unit.factor == 0) {
      return "write " + std::to_string(seconds / unit.factor) + std::string(unit.name);
    }
  }
  return "";
}

/// A unit in other letters, or its first alone, as it is written here; empty: none is near.
std::string size_advice(const Quantity& quantity) {
  const auto lower = [](char c) { return static_cast<char>(c | 0x20); };
  const auto is_meant = [&](const Unit& unit) {
    return std::ranges::equal(unit.name, quantity.unit, {}, lower, lower) ||
           (quantity.unit.size() == 1 && unit.name.size() == 3 &&
            lower(unit.name[0]) == lower(quantity.unit[0]));
  };
  const auto meant = std::ranges::find_if(kSizeUnits, is_meant);
  if (quantity.unit.empty() || meant == kSizeUnits.end()) return "";
  return "write " + std::to_string(quantity.number) + std::string(meant->name);
}

/// The one of `words` that says what a switch of another file says; empty when none of them does,
/// nullopt when it is no switch. A letter away from "on" there is only "no".
std::optional<std::string_view> switch_meant(std::string_view word,
                                             std::span<const std::string_view> words) {
  static constexpr std::array<std::string_view, 7> kOn{"on", "1",   "enabled", "enable",
                                                       "y",  "yes", "true"};
  static constexpr std::array<std::string_view, 7> kOff{"off", "0",  "disabled", "disable",
                                                        "n",   "no", "false"};
  static constexpr std::array<std::string_view, 2> kOurOn{"yes", "true"};
  static constexpr std::array<std::string_view, 3> kOurOff{"no", "false", "off"};
  std::string lower(word);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  });
  const auto ours = [&](auto first, auto last) {
    const auto found = std::find_first_of(first, last, words.begin(), words.end());
    return found == last ? std::string_view{} : *found;
  };
  if (std::ranges::find(kOn, lower) != kOn.end()) return ours(kOurOn.begin(), kOurOn.end());
  if (std::ranges::find(kOff, lower) != kOff.end()) return ours(kOurOff.begin(), kOurOff.end());
  return std::nullopt;
}

/// An address that stands where another form was expected, for the advice.
std::string network_advice(std::string_view text) {
  const std::size_t bracket = std::min(text.find('['), text.size());
  const auto prefix = wire::Prefix::parse(text.substr(0, bracket));
  if (!prefix || !prefix->has_host_bits()) return "";
  return "write \"" + wire::Prefix{prefix->first(), prefix->length}.to_string() +
         std::string(text.substr(bracket)) + "\"";
}

/// What is wrong with a selector, as far as it can be told; empty: it cannot.
std::string selector_advice(std::string_view text) {
  if (text.find(',') != std::string_view::npos) {
    return "write several as a list: [" + std::string(text) + "]";
  }
  const std::size_t bracket = text.find('[');
  if (bracket == std::string_view::npos || !text.ends_with(']')) return network_advice(text);
  const std::string_view inside = text.substr(bracket + 1, text.size() - bracket - 2);
  const std::size_t slash = std::min(inside.find('/'), inside.size());
  const std::string protocol(inside.substr(0, slash));
  if (!wire::protocol::parse(protocol)) {
    static constexpr std::array<std::string_view, 6> kNames{"icmp", "icmpv6", "tcp",
                                                            "udp",  "sctp",   "esp"};
    const std::string_view near = nearest(protocol, kNames);
    return near.empty() ? "write the protocol's number"
                        : "write \"" + std::string(near) + "\" for the protocol";
  }
  if (!wire::TrafficSelector::parse(text.substr(0, bracket))) return network_advice(text);
  const std::uint8_t number = *wire::protocol::parse(protocol);
  if (number == 0) return "write which protocol has these ports";
  if (!wire::protocol::has_ports(number)) {
    return "write \"" + std::string(text.substr(0, bracket + 1)) + protocol +
           "]\", because this protocol has no ports to select by";
  }
  return "write ports as numbers from 0 to 65535, the lower one first";
}

/// What to write where ICMP's types and codes are not as we read them; nullopt: another thing is
/// wrong.
std::optional<std::string> icmp_advice(std::string_view text) {
  const std::size_t slash = text.find('/', text.find('['));
  if (slash == std::string_view::npos) return std::nullopt;
  const auto without = wire::TrafficSelector::parse(std::string(text.substr(0, slash)) + "]");
  if (!without || !without->is_icmp()) return std::nullopt;
  const std::string front = std::string(text.substr(0, slash + 1));
  return "write \"" + front + "8]\" for a type, \"" + front + "3.4]\" for one code of it, or \"" +
         front + "8-10]\" for several types";
}

/// ICMP belongs to IPv4 and ICMPv6 to IPv6; the wrong one matches nothing, and their types differ.
bool is_of_right_icmp(const wire::TrafficSelector& selector, const Field& field) {
  const bool is_v4 = selector.first.is_v4();
  const std::uint8_t wrong = is_v4 ? wire::protocol::kIcmpv6 : wire::protocol::kIcmp;
  if (selector.protocol != wrong) return true;
  field.error({quote(selector.to_string()),
               is_v4 ? "icmp with IPv4 addresses" : "icmpv6 with IPv6 addresses",
               is_v4 ? "write \"icmp\", and its types" : "write \"icmpv6\", and its types"});
  return false;
}

}  // namespace

std::optional<std::string> read_text(const Field& field, std::string_view expected) {
  if (!field.present()) return std::nullopt;
  if (field.node->kind == Node::Kind::scalar && !field.node->text.empty()) return field.node->text;
  field.error({describe(field), std::string(expected),
               field.node->kind == Node::Kind::null ? "write a value or remove the key" : ""});
  return std::nullopt;
}

std::optional<std::uint64_t> read_number(const Field& field, const Bounds& bounds) {
  std::string expected =
      "a number from " + std::to_string(bounds.least) + " to " + std::to_string(bounds.most);
  if (!bounds.unit.empty()) expected += " " + std::string(bounds.unit);
  const auto text = read_text(field, expected);
  if (!text) return std::nullopt;
  const auto value = parse_unsigned(*text);
  if (value && *value >= bounds.least && *value <= bounds.most) return value;
  std::string advice;
  if (value) advice = "write " + std::to_string(std::clamp(*value, bounds.least, bounds.most));
  field.error({quote(*text), expected, advice});
  return std::nullopt;
}

std::optional<bool> read_boolean(const Field& field) {
  static constexpr std::array kWords{Word<bool>{"true", true}, Word<bool>{"false", false},
                                     Word<bool>{"yes", true}, Word<bool>{"no", false}};
  return read_choice(field, kWords);
}

std::optional<std::chrono::seconds> read_duration(const Field& field) {
  constexpr std::string_view kExpected = "a time such as 30s, 90m, 4h or 1d";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  if (*text == "0") return std::chrono::seconds{0};
  const auto quantity = parse_quantity(*text);
  const auto seconds = quantity ? scale(*quantity, kTimeUnits) : std::nullopt;
  const auto most = static_cast<std::uint64_t>(limits::kTimeMax.count());
  if (seconds && *seconds <= most) {
    return std::chrono::seconds{static_cast<std::int64_t>(*seconds)};
  }
  if (seconds) {
    field.error({quote(*text), "at most 365d", "write 0 for never"});
  } else {
    const bool bare = quantity && quantity->unit.empty();
    field.error({quote(*text), std::string(kExpected),
                 bare ? "write \"" + *text + "s\" for seconds" : time_advice(*text)});
  }
  return std::nullopt;
}

std::optional<std::uint64_t> read_size(const Field& field) {
  constexpr std::string_view kExpected = "a size such as 64GiB, 500MB or 0";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  const auto quantity = parse_quantity(*text);
  const auto bytes = quantity ? scale(*quantity, kSizeUnits) : std::nullopt;
  if (bytes) return bytes;
  const bool is_too_large =
      quantity && std::ranges::find(kSizeUnits, quantity->unit, &Unit::name) != kSizeUnits.end();
  field.error({quote(*text),
               is_too_large ? "a size of less than 2^64 bytes" : std::string(kExpected),
               is_too_large ? "write 0 for none"
               : quantity   ? size_advice(*quantity)
                            : ""});
  return std::nullopt;
}

std::optional<std::string> read_name(const Field& field, std::size_t longest) {
  const std::string expected = "a name of letters, digits, '.', '_' and '-', at most " +
                               std::to_string(longest) + " characters";
  auto text = read_text(field, expected);
  if (!text) return std::nullopt;
  const auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const bool well_formed = alphanumeric(text->front()) && text->size() <= longest &&
                           std::ranges::all_of(*text, [&](char c) {
                             return alphanumeric(c) || c == '.' || c == '_' || c == '-';
                           });
  if (well_formed) return text;
  field.error({quote(*text), expected, ""});
  return std::nullopt;
}

std::optional<wire::IpAddress> read_address(const Field& field) {
  const auto text = read_text(field, "an IPv4 or IPv6 address");
  if (!text) return std::nullopt;
  if (auto address = wire::IpAddress::parse(*text)) return address;
  const std::size_t slash = text->find('/');
  const bool prefix = slash != std::string::npos && wire::Prefix::parse(*text);
  const bool is_name = std::ranges::any_of(*text, [](char c) { return c >= 'g' && c <= 'z'; });
  field.error({quote(*text), "an IPv4 or IPv6 address",
               prefix    ? "write \"" + text->substr(0, slash) + "\""
               : is_name ? "names are not resolved: write the address"
                         : ""});
  return std::nullopt;
}

std::optional<wire::MacAddress> read_mac(const Field& field) {
  constexpr std::string_view kExpected = "a MAC address such as 02:00:00:00:00:01";
  auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  const auto mac = parse_mac(*text);
  if (!mac) {
    const std::string found = *text;
    std::ranges::replace(*text, '-', ':');
    const bool dashes = parse_mac(*text).has_value();
    field.error({quote(found), std::string(kExpected), dashes ? "write \"" + *text + "\"" : ""});
    return std::nullopt;
  }
  const bool is_group = wire::is_group(*mac);
  if (!is_group && *mac != wire::MacAddress{}) return mac;
  field.error({quote(*text) + (is_group ? ", a multicast address" : ", nobody's address"),
               "one neighbour's MAC address", "write the neighbour's own"});
  return std::nullopt;
}

std::optional<wire::Prefix> read_interface_address(const Field& field) {
  constexpr std::string_view kExpected = "an address with its prefix length, such as 192.0.2.1/24";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  const bool has_length = text->find('/') != std::string::npos;
  const auto prefix = wire::Prefix::parse(*text);
  if (prefix && has_length) return prefix;
  field.error({quote(*text), std::string(kExpected),
               prefix ? "write \"" + *text + (prefix->address.is_v4() ? "/24\"" : "/64\"") +
                            " or the length that the network has"
                      : ""});
  return std::nullopt;
}

std::optional<wire::Prefix> read_network(const Field& field) {
  constexpr std::string_view kExpected = "a network such as 10.2.0.0/16";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  const auto prefix = wire::Prefix::parse(*text);
  if (prefix && !prefix->has_host_bits()) return prefix;
  field.error({quote(*text), prefix ? "a network without host bits" : std::string(kExpected),
               network_advice(*text)});
  return std::nullopt;
}

std::optional<wire::TrafficSelector> read_selector(const Field& field) {
  constexpr std::string_view kExpected =
      "a selector such as 10.2.0.0/24, 10.2.0.0/24[tcp/443] or 10.2.0.4-10.2.0.9[udp/5000-6000]";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  if (auto selector = wire::TrafficSelector::parse(*text)) {
    if (is_of_right_icmp(*selector, field)) return selector;
    return std::nullopt;
  }
  if (const auto advice = icmp_advice(*text)) {
    field.error(
        {quote(*text), "ICMP types from 0 to 255, each with all its codes or one", *advice});
    return std::nullopt;
  }
  field.error({quote(*text), std::string(kExpected), selector_advice(*text)});
  return std::nullopt;
}

std::optional<wire::Endpoint> read_endpoint(const Field& field) {
  constexpr std::string_view kExpected = "an address and port such as 127.0.0.1:9464";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  const std::size_t colon = text->rfind(':');
  std::string_view host = std::string_view(*text).substr(0, std::min(colon, text->size()));
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = wire::IpAddress::parse(host);
  const std::uint64_t port =
      colon == std::string::npos
          ? 0
          : parse_unsigned(std::string_view(*text).substr(colon + 1)).value_or(0);
  if (address && address->is_v4() != bracketed && port >= 1 && port <= 65535) {
    return wire::Endpoint{*address, static_cast<std::uint16_t>(port)};
  }
  std::string advice;
  if (address && colon == std::string::npos) advice = "write \"" + *text + ":9464\"";
  // A port by itself, or behind a name.
  const auto alone = colon == std::string::npos ? parse_unsigned(*text) : std::optional(port);
  if (!address && alone && *alone >= 1 && *alone <= 65535 &&
      (host.empty() || host == *text || host == "localhost")) {
    advice = "write \"127.0.0.1:" + std::to_string(*alone) + "\"";
  }
  field.error({quote(*text), std::string(kExpected), advice});
  return std::nullopt;
}

void report_choice(const Field& field, std::string_view word,
                   std::span<const std::string_view> words) {
  const auto meant = switch_meant(word, words);
  const std::string_view near = meant ? *meant : nearest(word, words);
  field.error({quote(word), alternatives(words),
               near.empty() ? "" : "write \"" + std::string(near) + "\""});
}

}  // namespace culvert::config
