// Packets of policies, counted by each worker for itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/ids.hpp"

namespace culvert::dataplane {

/// Those of one worker stand side by side and on cache lines of its own: with a thousand policies
/// in turn, each beside its policy, every packet met another page of memory for its count.
class PolicyCounters {
 public:
  static constexpr std::size_t kInRow = 512;
  struct alignas(64) Row {
    std::array<Counter, kInRow> counters;
  };
  /// Where the counters of one policy are: a row for each worker.
  struct Place {
    Row* rows = nullptr;
    std::uint16_t at = 0;
    [[nodiscard]] Counter& of(WorkerId worker) const { return rows[raw(worker)].counters[at]; }
  };
  /// Of one policy until the last copy is gone, which must not be before workers have let go of it.
  struct Taken {
    Place place;
    std::shared_ptr<void> returns;
  };

  explicit PolicyCounters(std::uint32_t workers) : pool_(std::make_shared<Pool>()) {
    pool_->workers = workers;
  }

  /// Zero. Main thread, as all that holds what was taken. Throws std::bad_alloc.
  [[nodiscard]] Taken take() {
    if (pool_->free.empty()) pool_->grow();
    const Place place = pool_->free.back();
    pool_->free.pop_back();
    for (std::uint32_t worker = 0; worker < pool_->workers; ++worker) {
      std::construct_at(&place.of(static_cast<WorkerId>(worker)));
    }
    // Its memory was reserved when the pool grew: returning cannot fail.
    return {place, std::shared_ptr<void>(
                       nullptr, [pool = pool_, place](void*) { pool->free.push_back(place); })};
  }

 private:
  struct Pool {
    std::uint32_t workers = 0;
    std::vector<std::unique_ptr<Row[]>> blocks;
    std::vector<Place> free;

    void grow() {
      blocks.push_back(std::make_unique<Row[]>(workers));
      free.reserve(blocks.size() * kInRow);
      for (std::size_t at = kInRow; at-- > 0;) {
        free.push_back({blocks.back().get(), static_cast<std::uint16_t>(at)});
      }
    }
  };
  std::shared_ptr<Pool> pool_;
};

}  // namespace culvert::dataplane
