#include "dataplane/tables/tables.hpp"

#include <bit>
#include <utility>

namespace culvert::dataplane {

std::expected<std::unique_ptr<Tables>, std::string> Tables::create(
    const config::Limits& limits, std::uint32_t workers, const crypto::esp::Engine& engine,
    std::unique_ptr<Fib> fib, std::optional<std::uint32_t> numa_node) {
  auto tables = std::make_unique<Tables>();
  tables->workers = workers;
  tables->flows_remembered = std::bit_ceil(limits.flows);
  tables->reclaimer = std::make_unique<Reclaimer>(workers);
  tables->adjacencies = std::make_unique<Adjacencies>(kMaxAdjacencies);
  if (fib == nullptr) {
    auto made = Fib::create(kMaxRoutes, *tables->reclaimer, numa_node);
    if (!made) return std::unexpected(made.error());
    fib = std::move(*made);
  }
  tables->fib = std::move(fib);
  auto sad = Sad::create(limits.sas, workers, engine, *tables->reclaimer);
  if (!sad) return std::unexpected(sad.error());
  tables->sad = std::move(*sad);
  tables->spd = std::make_unique<Spd>(workers, *tables->reclaimer, limits.policies);
  tables->ike_spis = std::make_unique<IkeSpis>(limits.sas);
  tables->counters = std::make_unique<WorkerCounters[]>(workers + 1);
  return tables;
}

}  // namespace culvert::dataplane
