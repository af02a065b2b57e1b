#include "dataplane/control/route_index.hpp"

#include <algorithm>

namespace culvert::dataplane::control {

RouteIndex::RouteIndex(const std::vector<wire::Prefix>& networks) {
  entries_.reserve(networks.size());
  for (const wire::Prefix& network : networks) {
    entries_.push_back({network, static_cast<std::uint32_t>(entries_.size()), kNone});
  }
  std::ranges::stable_sort(entries_, {}, &Entry::network);
  const auto doubled = std::ranges::unique(entries_, {}, &Entry::network);
  entries_.erase(doubled.begin(), doubled.end());
  // Two prefixes are apart, or one contains the other.
  std::uint32_t around = kNone;
  for (std::uint32_t at = 0; at < entries_.size(); ++at) {
    while (around != kNone && !entries_[around].network.contains(entries_[at].network.address)) {
      around = entries_[around].around;
    }
    entries_[at].around = around;
    around = at;
  }
}

/// The last entry that begins at the address or before it lies within every one that contains the
/// address: one way up, of as many steps as prefixes are nested.
std::optional<std::size_t> RouteIndex::find(const wire::IpAddress& address) const {
  const auto behind = std::ranges::upper_bound(
      entries_, address, {}, [](const Entry& entry) { return entry.network.address; });
  auto at = static_cast<std::uint32_t>(behind - entries_.begin());
  if (at == 0) return std::nullopt;
  for (--at; at != kNone; at = entries_[at].around) {
    if (entries_[at].network.contains(address)) return entries_[at].place;
  }
  return std::nullopt;
}

}  // namespace culvert::dataplane::control
