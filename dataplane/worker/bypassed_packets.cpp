#include "dataplane/worker/bypassed_packets.hpp"

namespace culvert::dataplane {
std::size_t BypassedPackets::index_of(const FragmentPlace& fragment) const {
  const std::uint32_t name = name_of(fragment);
  std::size_t index = 0;
  while (index < kPackets &&
         (names_[index] != name || !packets_[index].first.same_packet(fragment))) {
    ++index;
  }
  return index;
}

void BypassedPackets::remember(const FragmentPlace& first, const FragmentBypass& bypass,
                               std::uint64_t now) {
  has_any_ = true;
  forget(first);
  names_[next_] = name_of(first);
  packets_[next_] = {
      .first = first, .bypass = bypass, .deadline = now + lifetime_, .have = first.data_bytes};
  next_ = (next_ + 1) % kPackets;
}

std::size_t BypassedPackets::index_behind_first(const FragmentPlace& later, std::uint64_t now) {
  const std::size_t index = index_of(later);
  if (index == kPackets) return kPackets;
  if (packets_[index].deadline <= now) {
    names_[index] = 0;
    return kPackets;
  }
  // Over the headers that the policy looked at another one's could be written (RFC 1858 §4).
  return later.offset < packets_[index].first.data_bytes ? kPackets : index;
}

SpdSnapshot::Match BypassedPackets::pass(std::size_t index, const FragmentPlace& later) {
  Packet& packet = packets_[index];
  packet.have += later.data_bytes;
  if (later.is_last) packet.total = later.offset + later.data_bytes;
  if (packet.total != 0 && packet.have >= packet.total) names_[index] = 0;
  return packet.bypass.policy;
}

void BypassedPackets::forget(const FragmentPlace& first) {
  const std::size_t index = index_of(first);
  if (index != kPackets) names_[index] = 0;
}

}  // namespace culvert::dataplane
