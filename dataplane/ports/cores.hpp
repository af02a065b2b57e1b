// The cores that the system lets this process run on.
#pragma once

#include <cstdint>
#include <vector>

namespace culvert::dataplane::ports {

/// By number, ascending: where the calling thread runs now. What `isolcpus` takes out of the
/// affinity mask is not among them, for every process inherits the mask of the first one; nor is
/// what taskset or CPUAffinity= leaves out. Empty: the kernel does not tell.
std::vector<std::uint32_t> own_cores();

/// Where a thread may be pinned to: what is online and in the process's cpuset, whatever the
/// affinity mask it was started with. Call before the first thread is pinned.
std::vector<std::uint32_t> reachable_cores();

}  // namespace culvert::dataplane::ports
