#include "dataplane/ports/memory_remedy.hpp"

#include <rte_eal.h>
#include <rte_memory.h>

namespace culvert::dataplane::ports {

std::string memory_remedy(bool in_huge_pages, std::uint64_t memory_mib) {
  if (in_huge_pages) return "reserve more huge pages (vm.nr_hugepages)";
  return "write more than the " + std::to_string(memory_mib) +
         " there are now into dataplane.memory_mib";
}

std::string memory_remedy() {
  constexpr unsigned kMebibyteBits = 20;
  return memory_remedy(rte_eal_has_hugepages() != 0, rte_eal_get_physmem_size() >> kMebibyteBits);
}

}  // namespace culvert::dataplane::ports
