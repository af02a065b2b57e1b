// What to change when DPDK has no memory for what a start asks for.
#pragma once

#include <cstdint>
#include <string>

namespace culvert::dataplane::ports {

/// Ends a sentence. In ordinary pages DPDK has `memory_mib` and no more; in huge pages it takes
/// what is free, and a larger dataplane.memory_mib would only make it want more before it begins.
std::string memory_remedy(bool in_huge_pages, std::uint64_t memory_mib);
/// Of the memory that DPDK was started with.
std::string memory_remedy();

}  // namespace culvert::dataplane::ports
