#include "cli/next_hop.hpp"

#include <array>
#include <string_view>

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/problems.hpp"
#include "wire/ip_address.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

/// "192.0.2.1", "192.0.2.1:500", "2001:db8::1", "[2001:db8::1]:4500".
std::optional<wire::IpAddress> address_of(std::string_view peer) {
  if (peer.starts_with('[')) return wire::IpAddress::parse(peer.substr(1, peer.find(']') - 1));
  const std::size_t colon = peer.find(':');
  const bool is_v4_with_port = colon != std::string_view::npos && colon == peer.rfind(':');
  return wire::IpAddress::parse(is_v4_with_port ? peer.substr(0, colon) : peer);
}

/// The most specific route there; null.
const json& route_to(const wire::IpAddress& address, const json& routes) {
  static const json nothing;
  const json* best = &nothing;
  int best_length = -1;
  for (const json& route : routes) {
    const auto to = wire::Prefix::parse(text(route, "to"));
    if (!to || to->length <= best_length || !to->contains(address)) continue;
    best = &route;
    best_length = to->length;
  }
  return *best;
}

const json& named(const json& list, const char* key, const std::string& value) {
  static const json nothing;
  for (const json& candidate : list) {
    if (text(candidate, key) == value) return candidate;
  }
  return nothing;
}

/// Asked, and has not answered: after three questions it is left alone for a while, and asked again
/// by the next packet.
bool is_silent(const json& neighbors, const std::string& hop, const std::string& interface) {
  for (const json& neighbor : neighbors) {
    if (text(neighbor, "address") != hop || text(neighbor, "interface") != interface) continue;
    const std::string state = text(neighbor, "state");
    return state == "incomplete" || state == "failed";
  }
  return false;
}

}  // namespace

std::optional<DeadWay> dead_way(const std::string& peer, const json& links) {
  const json& routes = member(links, "routes");
  const auto address = address_of(peer);
  if (!address || !routes.is_array()) return std::nullopt;
  const json& route = route_to(*address, routes);
  if (route.is_null()) {
    return DeadWay{fmt::format("no route leads to {}", address->to_string()),
                   "add a route to dataplane.routes, or a default route"};
  }
  if (text(route, "kind") == "local") return std::nullopt;
  const std::string interface = text(route, "interface");
  const json& via = member(route, "via");
  const std::string hop = via.is_string() ? text(via) : address->to_string();
  if (text(named(member(links, "interfaces"), "name", interface), "link") == "down") {
    return DeadWay{fmt::format("{}, which leads to {}, has no link", interface, hop),
                   "check the cable, the switch port and the device on the other end"};
  }
  if (!is_silent(member(links, "neighbors"), hop, interface)) return std::nullopt;
  return DeadWay{
      fmt::format("the next hop {} on {} does not answer {}", hop, interface,
                  address->is_v4() ? "ARP" : "neighbour solicitations"),
      "check that it is up and on that interface's network; `culvert neighbors` shows its state"};
}

std::optional<DeadWay> never_left(const std::string& peer, const json& links, const json& out,
                                  const json& counters) {
  // The gateway's figures are of all its ways: of a known one dead_way knows better.
  if (address_of(peer) && member(links, "routes").is_array()) return std::nullopt;
  constexpr std::array<std::string_view, 4> kBehindSas{"neighbor_unresolved", "neighbor_queue_full",
                                                       "tx_queue_full", "no_route"};
  constexpr double kShare = 0.5;
  for (const std::string_view reason : kBehindSas) {
    for (const json& drop : member(counters, "drops")) {
      if (text(drop, "reason") != reason || text(drop, "direction") != "out") continue;
      const double packets = number(drop, "packets");
      if (packets < kFewPackets || packets < kShare * with_contents(out)) continue;
      return DeadWay{fmt::format("{} packets of this gateway never left: {}", packets, reason),
                     text(drop, "remedy")};
    }
  }
  return std::nullopt;
}

}  // namespace culvert::cli
