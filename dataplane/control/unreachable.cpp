#include "dataplane/control/unreachable.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "wire/icmp.hpp"

namespace culvert::dataplane::control {
namespace {

/// What is to be done, by what is said.
enum class Cause : std::uint8_t {
  prohibited,   ///< a firewall's word
  no_way,       ///< a router's
  no_protocol,  ///< a host's
  no_port,      ///< a host's, or of ESP without ports a firewall's
  source,       ///< a filter's, of our address
};
struct Code {
  std::uint8_t code;
  std::string_view meaning;
  Cause cause;
};

/// RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1. 4 is fragmentation needed.
constexpr std::array kCodesV4{
    Code{0, "network unreachable", Cause::no_way},
    Code{1, "host unreachable", Cause::no_way},
    Code{2, "protocol unreachable", Cause::no_protocol},
    Code{3, "port unreachable", Cause::no_port},
    Code{5, "source route failed", Cause::no_way},
    Code{6, "destination network unknown", Cause::no_way},
    Code{7, "destination host unknown", Cause::no_way},
    Code{8, "source host isolated", Cause::source},
    Code{9, "network administratively prohibited", Cause::prohibited},
    Code{10, "host administratively prohibited", Cause::prohibited},
    Code{11, "network unreachable for the type of service", Cause::no_way},
    Code{12, "host unreachable for the type of service", Cause::no_way},
    Code{13, "communication administratively prohibited", Cause::prohibited},
    Code{14, "host precedence violation", Cause::prohibited},
    Code{15, "precedence cutoff in effect", Cause::prohibited},
};
/// RFC 4443 §3.1.
constexpr std::array kCodesV6{
    Code{0, "no route to destination", Cause::no_way},
    Code{1, "communication administratively prohibited", Cause::prohibited},
    Code{2, "beyond scope of source address", Cause::source},
    Code{3, "address unreachable", Cause::no_way},
    Code{4, "port unreachable", Cause::no_port},
    Code{5, "source address failed ingress/egress policy", Cause::source},
    Code{6, "reject route to destination", Cause::prohibited},
};

constexpr Code kUnknown{0, "destination unreachable", Cause::no_way};

std::string_view remedy_of(Cause cause, bool is_in_udp) {
  switch (cause) {
    case Cause::prohibited:
      return is_in_udp ? "let UDP port 4500 pass the firewall there, both ways"
                       : "let protocol 50 (ESP) pass the firewall there, both ways, or send it in "
                         "UDP port 4500: encap: yes (of a manual SA: udp)";
    case Cause::no_way:
      return "look there at the route to the peer, and whether the peer is up";
    case Cause::no_protocol:
      return "let protocol 50 (ESP) pass the firewall there, or if that is the peer itself, start "
             "its IPsec";
    case Cause::no_port:
      // A port of ESP's that is unreachable is how firewalls reject by default.
      return is_in_udp
                 ? "let UDP port 4500 pass the firewall there, or if that is the peer itself, "
                   "start its IKE daemon"
                 : remedy_of(Cause::prohibited, false);
    case Cause::source:
      return "a filter there does not take packets from our address: look at its rules, and at "
             "the connection's local address";
  }
  return "";
}

}  // namespace

std::optional<IcmpAboutEsp> read_unreachable(wire::Bytes packet) {
  auto message = read_icmp_about_esp(packet);
  if (!message) return std::nullopt;
  const bool is_such = message->from.is_v4() ? message->type == wire::icmp::kUnreachable &&
                                                   message->code != wire::icmp::kFragmentationNeeded
                                             : message->type == wire::icmpv6::kUnreachable;
  if (!is_such) return std::nullopt;
  return message;
}

UnreachableText text_of(const Unreachable& message) {
  const std::span<const Code> codes =
      message.from.is_v4() ? std::span<const Code>(kCodesV4) : std::span<const Code>(kCodesV6);
  const auto found = std::ranges::find(codes, message.code, &Code::code);
  const Code& code = found == codes.end() ? kUnknown : *found;
  return {code.meaning, remedy_of(code.cause, message.is_in_udp)};
}

void Unreachables::told(config::ChildId child, const IcmpAboutEsp& message, std::uint64_t tsc) {
  Unreachable& last = last_[child];
  const std::uint64_t before = last.messages;
  last = {message.from, message.quoted.remote, message.quoted.is_in_udp,
          message.type, message.code,          tsc,
          before + 1};
}

std::optional<Unreachable> Unreachables::of(config::ChildId child) const {
  const auto found = last_.find(child);
  if (found == last_.end()) return std::nullopt;
  return found->second;
}

}  // namespace culvert::dataplane::control
