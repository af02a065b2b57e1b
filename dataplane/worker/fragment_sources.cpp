#include "dataplane/worker/fragment_sources.hpp"

#include <bit>
#include <cassert>

namespace culvert::dataplane {
namespace {

/// Calls `see` with the index of each bit.
template <typename See>
void for_each_bit(std::uint64_t bits, const See& see) {
  for (; bits != 0; bits &= bits - 1) see(static_cast<std::size_t>(std::countr_zero(bits)));
}

}  // namespace

std::size_t FragmentSources::source_of(std::uint64_t name) {
  for (std::uint64_t left = used_; left != 0; left &= left - 1) {
    const auto index = static_cast<std::size_t>(std::countr_zero(left));
    if (sources_[index].name == name) return index;
  }
  const auto fresh = static_cast<std::size_t>(std::countr_one(used_));
  assert(fresh < kPackets);  // each of the others has a packet
  used_ |= std::uint64_t{1} << fresh;
  sources_[fresh] = {.name = name};
  return fresh;
}

void FragmentSources::begin(std::size_t packet, std::uint64_t name) {
  const std::size_t index = source_of(name);
  Source& source = sources_[index];
  packets_[packet] = {
      .begun = ++begun_, .source = static_cast<std::uint8_t>(index), .before = source.last};
  const auto here = static_cast<std::uint8_t>(packet);
  if (source.first == kNone) {
    source.first = here;
    source.first_begun = begun_;
  } else {
    packets_[source.last].behind = here;
  }
  source.last = here;
  ++source.packets;
}

void FragmentSources::end(std::size_t packet) {
  set_pieces(packet, 0);
  const Packet& gone = packets_[packet];
  Source& source = sources_[gone.source];
  assert(source.packets != 0);
  if (--source.packets == 0) {
    used_ &= ~(std::uint64_t{1} << gone.source);
    return;
  }
  if (gone.before == kNone) {
    source.first = gone.behind;
    source.first_begun = packets_[gone.behind].begun;
  } else {
    packets_[gone.before].behind = gone.behind;
  }
  if (gone.behind == kNone) {
    source.last = gone.before;
  } else {
    packets_[gone.behind].before = gone.before;
  }
}

void FragmentSources::set_pieces(std::size_t packet, std::uint8_t pieces) {
  Packet& changed = packets_[packet];
  std::uint32_t& together = sources_[changed.source].pieces;
  together = together - changed.pieces + pieces;
  changed.pieces = pieces;
}

std::size_t FragmentSources::first_of_most_packets() const {
  const Source* chosen = nullptr;
  for_each_bit(used_, [&](std::size_t index) {
    const Source& source = sources_[index];
    if (chosen == nullptr || source.packets > chosen->packets ||
        (source.packets == chosen->packets && source.first_begun < chosen->first_begun)) {
      chosen = &source;
    }
  });
  assert(chosen != nullptr);
  return chosen->first;
}

std::size_t FragmentSources::first_of_most_pieces(std::size_t newcomer) const {
  std::size_t chosen = kNone;
  std::uint32_t most = 0;
  for_each_bit(used_, [&](std::size_t index) {
    const bool is_newcomers = packets_[newcomer].source == index;
    const std::uint32_t pieces =
        sources_[index].pieces - (is_newcomers ? packets_[newcomer].pieces : 0U);
    if (pieces == 0 || pieces < most) return;
    std::size_t first = sources_[index].first;
    while (first == newcomer || packets_[first].pieces == 0) first = packets_[first].behind;
    if (pieces > most || packets_[first].begun < packets_[chosen].begun) chosen = first;
    most = pieces;
  });
  assert(chosen != kNone);
  return chosen;
}

}  // namespace culvert::dataplane
