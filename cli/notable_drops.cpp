// Which drops belong into a status: those that say that something is wrong somewhere.
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/json_text.hpp"
#include "cli/render.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kShown = 3;
/// What a healthy network always drops, or what the operator asked to drop.
constexpr std::array<std::string_view, 6> kOrdinary{"dummy_packet", "nat_keepalive",
                                                    "arp_ignored",  "neighbor_discovery_ignored",
                                                    "icmp_ignored", "policy_discard"};

}  // namespace

json notable_drops(const json& counters) {
  std::vector<json> notable;
  for (const json& drop : member(counters, "drops")) {
    const bool ordinary = std::ranges::find(kOrdinary, text(drop, "reason")) != kOrdinary.end();
    if (!ordinary && number(drop, "packets") > 0) notable.push_back(drop);
  }
  std::ranges::sort(notable, {}, [](const json& drop) {
    return std::pair(-number(drop, "packets"), text(drop, "reason"));
  });
  if (notable.size() > kShown) notable.resize(kShown);
  return notable;
}

}  // namespace culvert::cli
