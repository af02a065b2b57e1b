// What the data plane says before the machine goes on: its snapshot, in pieces, and events between
// them. Bounded by what any data plane can hold, not by what our file says: the data plane may be
// running by another one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "channel/messages.hpp"

namespace culvert::ike {

class EarlyEvents {
 public:
  /// A piece of the snapshot, or an event that the machine wants to know.
  void add(const channel::Event& event);

  [[nodiscard]] const std::vector<channel::SnapshotSa>& sas() const { return sas_; }
  [[nodiscard]] const std::vector<channel::SnapshotPolicy>& policies() const { return policies_; }
  /// Pieces and expiries beyond all bounds.
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  /// The events that are no pieces; expiries before what asks for something.
  void hand_over(const std::function<void(const channel::Event&)>& take) const;

 private:
  struct Expiry {
    channel::SaId sa{};
    channel::ExpiryCause cause{};
    bool is_hard = false;
  };
  std::vector<channel::SnapshotSa> sas_;
  std::vector<channel::SnapshotPolicy> policies_;
  std::vector<Expiry> expiries_;  ///< a data plane says each once: none may be lost
  std::vector<channel::Event> others_;
  std::uint64_t refused_ = 0;
};

}  // namespace culvert::ike
