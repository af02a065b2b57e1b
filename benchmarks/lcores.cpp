#include "benchmarks/lcores.hpp"

#include <cstdlib>
#include <iostream>

#include <rte_lcore.h>

namespace culvert::benchmarks {

void give_up(const std::string& why) {
  std::cerr << "packet_rate: " << why << '\n';
  std::exit(1);
}

unsigned lcore_of(std::size_t worker) {
  unsigned lcore = rte_get_next_lcore(~0U, 1, 0);
  for (std::size_t n = 0; n < worker && lcore < RTE_MAX_LCORE; ++n) {
    lcore = rte_get_next_lcore(lcore, 1, 0);
  }
  if (lcore >= RTE_MAX_LCORE) give_up("no lcore for worker " + std::to_string(worker));
  return lcore;
}

}  // namespace culvert::benchmarks
