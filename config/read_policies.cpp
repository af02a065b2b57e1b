// policies and default_policy: what passes in clear and what is discarded.
#include <array>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

constexpr std::array kActions{Word<PolicyAction>{"bypass", PolicyAction::bypass},
                              Word<PolicyAction>{"discard", PolicyAction::discard}};

std::optional<PolicyAction> read_action(const Field& field) {
  if (field.present() && (field.node->text == "protect" || field.node->text == "ipsec")) {
    field.error({quote(field.node->text), "bypass or discard",
                 "write a connection with a child for traffic to protect"});
    return std::nullopt;
  }
  return read_choice(field, kActions);
}

std::optional<std::uint8_t> read_protocol(const Field& field) {
  constexpr std::string_view kExpected =
      "a protocol: icmp, icmpv6, tcp, udp, sctp, esp or a number from 0 to 255";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  if (const auto number = wire::protocol::parse(*text)) return number;
  static constexpr std::array<std::string_view, 6> kNames{"icmp", "icmpv6", "tcp",
                                                          "udp",  "sctp",   "esp"};
  const std::string_view near = nearest(*text, kNames);
  field.error({quote(*text), std::string(kExpected),
               near.empty() ? "" : "write \"" + std::string(near) + "\""});
  return std::nullopt;
}

/// ICMP belongs to IPv4 and ICMPv6 to IPv6; the wrong one matches nothing.
void check_icmp_family(const Field& field, std::uint8_t protocol, wire::Family family) {
  const bool wrong = family == wire::Family::v6 ? protocol == wire::protocol::kIcmp
                                                : protocol == wire::protocol::kIcmpv6;
  if (!wrong) return;
  const std::string right = family == wire::Family::v6 ? "icmpv6" : "icmp";
  field.diagnostics->error(
      field.path + ".protocol",
      {quote(wire::protocol::to_string(protocol)),
       right + (family == wire::Family::v6 ? " with IPv6" : " with IPv4") + " addresses",
       "write \"" + right + "\""});
}

/// The written protocol joins both selectors; false after a contradiction.
bool apply_protocol(const Field& field, std::uint8_t protocol, Policy& policy) {
  for (wire::TrafficSelector* selector : {&policy.source, &policy.destination}) {
    if (!selector->any_protocol() && selector->protocol != protocol) {
      field.diagnostics->error(
          field.path + ".protocol",
          {quote(wire::protocol::to_string(protocol)),
           wire::protocol::to_string(selector->protocol) + ", as the selector says",
           "leave protocol out, or the protocol in brackets"});
      return false;
    }
    selector->protocol = protocol;
  }
  return true;
}

void read_policy(const Field& field, std::vector<Policy>& policies) {
  MapReader map(field, "a policy: {action: …, source: …, destination: …}");
  const auto action = read_action(
      map.require("action", "bypass or discard", "write action: bypass or action: discard"));
  const Field protocol_field = map.take("protocol");
  const auto protocol = read_protocol(protocol_field);
  const Field source_field = map.take("source");
  const Field destination_field = map.take("destination");
  const auto source = read_selector(source_field);
  const auto destination = read_selector(destination_field);
  map.finish();
  const bool failed = (source_field.present() && !source) ||
                      (destination_field.present() && !destination) ||
                      (protocol_field.present() && !protocol) || !action;
  if (failed) return;
  if (source && destination && source->first.family != destination->first.family) {
    destination_field.error({quote(destination->to_string()), "addresses of the source's family",
                             "write a policy for each family"});
    return;
  }
  if (source && destination && !wire::may_be_of_one_packet(*source, *destination)) {
    destination_field.error({quote(destination->to_string()) + " beside " + source->to_string() +
                                 ", and no packet matches both",
                             "one protocol, and of ICMP common types, in both",
                             "write what the source has in brackets, or nothing there"});
    return;
  }
  // Without any address the policy is meant for both families.
  std::vector<wire::Family> families{wire::Family::v4, wire::Family::v6};
  if (source || destination) families = {(source ? source : destination)->first.family};
  for (const wire::Family family : families) {
    const auto everything = wire::TrafficSelector::everything(family);
    Policy policy{*action, source.value_or(everything), destination.value_or(everything),
                  field.location};
    const bool other_family_only =
        families.size() == 2 && protocol &&
        *protocol == (family == wire::Family::v4 ? wire::protocol::kIcmpv6 : wire::protocol::kIcmp);
    if (other_family_only) continue;
    if (protocol && *protocol != 0) {
      check_icmp_family(field, *protocol, family);
      if (!apply_protocol(field, *protocol, policy)) return;
    }
    policies.push_back(policy);
  }
}

}  // namespace

void read_policies(const Field& field, std::vector<Policy>& policies) {
  for (const Field& item : read_items(field, "policies", limits::kPolicies)) {
    read_policy(item, policies);
  }
}

void read_default_policy(const Field& field, PolicyAction& action) {
  set(action, read_action(field));
  if (field.present() && action == PolicyAction::bypass) {
    field.warning({"\"bypass\"", "discard (fail closed)",
                   "with bypass, what no policy matches leaves in clear"});
  }
}

}  // namespace culvert::config
