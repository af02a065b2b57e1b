#include "wire/selector_rules.hpp"

#include <algorithm>
#include <bit>

namespace culvert::wire {
namespace {

std::uint32_t common_bits(const IpAddress& first, const IpAddress& last) {
  std::uint32_t bits = 0;
  for (std::size_t index = 0; index < first.size(); ++index) {
    const auto difference = static_cast<std::uint8_t>(first.bytes[index] ^ last.bytes[index]);
    bits += static_cast<std::uint32_t>(std::countl_zero(difference));
    if (difference != 0) break;
  }
  return bits;
}

/// No packet whose ports are known meets OPAQUE, nor ports without a protocol: no bit is asked for.
std::uint32_t common_bits(const TrafficSelector& selector) {
  const bool is_met = selector.port_first <= selector.port_last &&
                      (!selector.any_protocol() || selector.any_port());
  if (!is_met) return 0;
  return static_cast<std::uint32_t>(
      std::countl_zero(static_cast<std::uint16_t>(selector.port_first ^ selector.port_last)));
}

/// Of one side. The protocol is either side's and comes last, so that pairs are ORed.
std::uint32_t side_of(const TrafficSelector& selector) {
  return common_bits(selector.first, selector.last) << 5U | common_bits(selector);
}
std::uint32_t flags_of(const TrafficSelector& selector) {
  return (selector.first.is_v4() ? 2U : 0U) | (selector.any_protocol() ? 0U : 1U);
}

/// Each kind of side once, so that sixteen prefixes of one length are one.
struct Side {
  std::uint32_t bits, flags;
  friend auto operator<=>(const Side&, const Side&) = default;
};
std::vector<Side> sides_of(const std::vector<TrafficSelector>& selectors) {
  std::vector<Side> sides;
  for (const TrafficSelector& one : selectors) sides.push_back({side_of(one), flags_of(one)});
  std::ranges::sort(sides);
  const auto rest = std::ranges::unique(sides);
  sides.erase(rest.begin(), rest.end());
  return sides;
}

}  // namespace

std::size_t rules_between(const std::vector<TrafficSelector>& local,
                          const std::vector<TrafficSelector>& remote) {
  const auto in_v4 = [](const std::vector<TrafficSelector>& side) {
    return static_cast<std::size_t>(
        std::ranges::count_if(side, [](const auto& one) { return one.first.is_v4(); }));
  };
  const std::size_t local_v4 = in_v4(local), remote_v4 = in_v4(remote);
  return 2 * (local_v4 * remote_v4 + (local.size() - local_v4) * (remote.size() - remote_v4));
}

std::vector<RuleShape> shapes_between(const std::vector<TrafficSelector>& local,
                                      const std::vector<TrafficSelector>& remote) {
  std::vector<RuleShape> shapes;
  const auto remotes = sides_of(remote);
  for (const Side& here : sides_of(local)) {
    for (const Side& there : remotes) {
      if (((here.flags ^ there.flags) & 2U) != 0) continue;
      shapes.push_back(RuleShape{here.bits << 17U | there.bits << 4U | here.flags | there.flags});
    }
  }
  std::ranges::sort(shapes);
  const auto rest = std::ranges::unique(shapes);
  shapes.erase(rest.begin(), rest.end());
  return shapes;
}

}  // namespace culvert::wire
