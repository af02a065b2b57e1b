#include "dataplane/control/newcomers.hpp"

#include <utility>

namespace culvert::dataplane::control {

bool SeenSources::see(const wire::IpAddress& source) {
  std::uint64_t hash = secret_;
  for (const std::uint8_t byte : source.view()) {
    hash = (hash ^ byte) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29U;
  }
  std::uint16_t& place = places_[hash % places_.size()];
  const auto mark = static_cast<std::uint16_t>(hash >> 48U | 1U);  // 0: nobody yet
  return std::exchange(place, mark) == mark;
}

bool Newcomers::admit(const wire::IpAddress& source, Instant now) {
  // 1. configured peers  2. who comes again, each within its share  3. all others together
  if (per_source_.keeps(source)) return per_source_.admit(source, now);
  if (seen_.see(source)) {
    if (!per_source_.admit(source, now)) return false;
    if (returning_.take(kReturning, now)) return true;
  }
  return unknown_.take(kUnknown, now);
}

}  // namespace culvert::dataplane::control
