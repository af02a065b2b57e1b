// What the machine is and has: said beside every figure, for figures belong to machines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace culvert::benchmarks {

[[nodiscard]] std::string cpu_model();
[[nodiscard]] std::string kernel_release();
/// The main thread's core, then those for what is measured. Call before the EAL pins the main
/// thread.
[[nodiscard]] std::vector<unsigned> usable_cores();

/// Starts DPDK without PCI and files: a main lcore and `workers` others on the cores that there
/// are, in turn from the second. With ordinary pages all of `memory_mib` must be told beforehand.
[[nodiscard]] bool start_eal(std::size_t workers, const std::vector<unsigned>& cores,
                             bool huge_pages, std::uint32_t memory_mib);

}  // namespace culvert::benchmarks
