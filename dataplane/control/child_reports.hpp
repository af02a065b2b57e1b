// What is reported of children: at once, for who asks, and in slices, for what is published again
// and again while the main thread has other things to do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/control/acquires.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/child_directory.hpp"
#include "dataplane/control/child_round.hpp"
#include "dataplane/control/report.hpp"

namespace culvert::dataplane::control {

/// The reasons that packets were dropped for, and how many.
template <typename Counts>
std::vector<std::pair<std::string, std::uint64_t>> named_drops(const Counts& drops) {
  std::vector<std::pair<std::string, std::uint64_t>> result;
  for (const DropReasonInfo& reason : all_drop_reasons()) {
    const std::uint64_t packets = drops[static_cast<std::size_t>(reason.reason)];
    if (packets != 0) result.emplace_back(reason.name, packets);
  }
  return result;
}

/// Ages as of `now_tsc`.
std::optional<RefusalReport> refusal_report(const std::optional<SaRefusal>& refusal,
                                            std::uint64_t now_tsc);
ChildReport child_report(ChildId id, const ChildName& name, const ChildSums& sums,
                         const std::optional<Unreachable>& unreachable, std::uint64_t now_tsc);

/// Whether it is to be up now: the configuration says so, or packets ask for it.
bool is_wanted(ChildId id, const ChildName& name, const Acquires* acquires);

/// Every child's report by one round over all SAs, in slices.
class ChildReports {
 public:
  /// A call looks at so many SAs and makes so many reports at most.
  static constexpr std::size_t kSasAtOnce = 1024, kChildrenAtOnce = 1024;

  /// All outlive it. Without `acquires` no packet asks for a child.
  ChildReports(Associations& associations, const ChildDirectory& children,
               const Acquires* acquires = nullptr)
      : associations_(associations), children_(children), acquires_(acquires) {}

  /// Goes on with a round, or begins one. True: it is over, and `reports` has all children, in the
  /// order of the directory. Until then call with the same `reports`; what they held before is
  /// overwritten as the round goes on, not at once.
  bool work(std::vector<ChildReport>& reports);
  /// The moment that their ages are of.
  [[nodiscard]] std::uint64_t as_of_tsc() const { return as_of_tsc_; }

 private:
  Associations& associations_;
  const ChildDirectory& children_;
  const Acquires* acquires_;
  std::size_t reported_ = 0;
  std::uint64_t as_of_tsc_ = 0;
};

}  // namespace culvert::dataplane::control
