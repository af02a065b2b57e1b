// The shapes of a table's rules in the order in which a search asks for them, and which of them
// have rules around a packet's addresses.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dataplane/tables/compiled_rule.hpp"
#include "dataplane/tables/prefix_filter.hpp"

namespace culvert::dataplane {

/// Leading bits that the packets of a rule have in common, as masks.
template <typename Address>
struct RuleShape {
  Address source, destination;
  std::uint16_t source_port, destination_port;
  std::uint8_t protocol;
  friend constexpr auto operator<=>(const RuleShape&, const RuleShape&) = default;
};

/// Made by the main thread, read by workers.
template <typename Address>
class ShapeProbes {
 public:
  using Shape = RuleShape<Address>;
  struct Probe {
    Shape shape;
    std::uint32_t salt;
    PolicyRank first;  ///< no rule of this shape stands before it
  };
  /// Shapes that are looked at together.
  static constexpr std::size_t kBlock = 64;
  /// So few are all asked for: to tell which are in vain would take as long.
  static constexpr std::size_t kFew = 16;

  ShapeProbes() = default;
  explicit ShapeProbes(std::vector<Probe> probes) : probes_(std::move(probes)) {
    std::ranges::sort(probes_, {}, &Probe::first);
    for (const Probe& probe : probes_) {
      place_of(sources_, probe.shape.source);
      place_of(destinations_, probe.shape.destination);
    }
    const std::size_t masks = sources_.size() + destinations_.size();
    if (probes_.size() <= std::max(kFew, masks)) return;
    having_.resize(blocks() * masks);
    for (std::size_t at = 0; at < probes_.size(); ++at) {
      const std::uint64_t bit = std::uint64_t{1} << at % kBlock;
      const Shape& shape = probes_[at].shape;
      std::uint64_t* const block = &having_[at / kBlock * masks];
      block[place_of(sources_, shape.source)] |= bit;
      block[sources_.size() + place_of(destinations_, shape.destination)] |= bit;
    }
  }

  [[nodiscard]] std::size_t size() const { return probes_.size(); }
  [[nodiscard]] std::size_t blocks() const { return (probes_.size() + kBlock - 1) / kBlock; }
  /// The one of a block that the lowest of these bits is for.
  [[nodiscard]] const Probe& at(std::size_t block, std::uint64_t bits) const {
    return probes_[block * kBlock + static_cast<std::size_t>(std::countr_zero(bits))];
  }

  /// Which of them may have a rule for a packet with such addresses.
  class Around {
   public:
    Around(const ShapeProbes& probes, const PrefixFilter& prefixes, Address source,
           Address destination)
        : probes_(probes) {
      if (probes.having_.empty()) return;
      find(prefixes, PrefixFilter::Side::source, probes.sources_, source, 0, sources_);
      find(prefixes, PrefixFilter::Side::destination, probes.destinations_, destination,
           probes.sources_.size(), destinations_);
    }
    /// A bit for each of a block, the lowest for the first.
    [[nodiscard]] std::uint64_t in(std::size_t block) const {
      if (probes_.having_.empty()) {
        const std::size_t left = probes_.size() - block * kBlock;
        return left >= kBlock ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
      }
      const std::size_t masks = probes_.sources_.size() + probes_.destinations_.size();
      const std::uint64_t* const having = &probes_.having_[block * masks];
      return sources_.any_of(having) & destinations_.any_of(having);
    }

   private:
    /// Every length of prefix, none included.
    static constexpr std::size_t kLengths = sizeof(Address) * 8 + 1;
    struct Found {
      [[nodiscard]] std::uint64_t any_of(const std::uint64_t* having) const {
        std::uint64_t any = 0;
        for (std::size_t at = 0; at < count; ++at) any |= having[places[at]];
        return any;
      }
      std::size_t count = 0;
      std::array<std::uint16_t, kLengths> places;
    };

    static void find(const PrefixFilter& prefixes, PrefixFilter::Side side,
                     const std::vector<Address>& masks, Address address, std::size_t first_place,
                     Found& found) {
      std::array<std::size_t, kLengths> cells;
      for (std::size_t at = 0; at < masks.size(); ++at) {
        cells[at] = prefixes.cell_of(side, masks[at], address);
        prefixes.prefetch(cells[at]);
      }
      for (std::size_t at = 0; at < masks.size(); ++at) {
        found.places[found.count] = static_cast<std::uint16_t>(first_place + at);
        found.count += prefixes.has(cells[at]) ? 1 : 0;
      }
    }

    const ShapeProbes& probes_;
    Found sources_, destinations_;
  };

 private:
  /// A mask's place among others; it gets one if it has none.
  static std::size_t place_of(std::vector<Address>& masks, Address mask) {
    const auto found = std::ranges::find(masks, mask);
    const auto place = static_cast<std::size_t>(found - masks.begin());
    if (found == masks.end()) masks.push_back(mask);
    return place;
  }

  std::vector<Probe> probes_;                    ///< by `first`
  std::vector<Address> sources_, destinations_;  ///< masks, each once
  /// Of each block a word for each mask, which of its shapes have it. Empty: few shapes.
  std::vector<std::uint64_t> having_;
};

}  // namespace culvert::dataplane
