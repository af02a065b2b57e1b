// Answers that tell of every SA, child or policy, made in slices. Between two, SAs, policies and
// children come and go: what is there when its turn comes is in the answer. Main thread.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/control/child_count.hpp"
#include "dataplane/control/child_reports.hpp"
#include "dataplane/control/list_reports.hpp"
#include "dataplane/tables/spd.hpp"
#include "runtime/listed_result.hpp"

namespace culvert::dataplane::control {

/// A slice looks at so many SAs and makes text of so many items at most.
inline constexpr std::size_t kSasASlice = ChildReports::kSasAtOnce, kItemsASlice = 128;

/// Children in the order of the directory as it was at the beginning, without those that nobody
/// knows any more; SAs by child, so that none is summed up for longer than its child's turn.
class StatusAnswer final : public runtime::ListedResult {
 public:
  /// `gateway`: without the children.
  StatusAnswer(const ListSources& sources, const StatusReport& gateway);
  ~StatusAnswer() override { sources_.associations.left_alone(count_); }
  StatusAnswer(const StatusAnswer&) = delete;
  StatusAnswer& operator=(const StatusAnswer&) = delete;

 private:
  bool add_some(std::size_t list, std::string& text) override;

  ListSources sources_;
  std::shared_ptr<const std::vector<ChildId>> order_;
  std::size_t next_ = 0;  ///< of `order_`, whose turn it is
  bool is_counting_ = false;
  ChildCount count_;
};

class SasAnswer final : public runtime::ListedResult {
 public:
  explicit SasAnswer(const ListSources& sources);

 private:
  bool add_some(std::size_t list, std::string& text) override;

  ListSources sources_;
  std::optional<channel::SaId> last_;
};

/// Behind a new list of policies (a reload) those of the new one go on from the same place.
class PoliciesAnswer final : public runtime::ListedResult {
 public:
  explicit PoliciesAnswer(const ListSources& sources);

 private:
  bool add_some(std::size_t list, std::string& text) override;

  ListSources sources_;
  std::optional<Spd::Place> last_;
  std::size_t position_ = 0;
};

}  // namespace culvert::dataplane::control
