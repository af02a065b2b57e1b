// Which pages a case's packets can lie in: what it wants beside what is free.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace culvert::benchmarks {

/// Of the kernel, a folder for each size of its huge pages: hugepages-2048kB/free_hugepages.
inline constexpr const char* kHugePages = "/sys/kernel/mm/hugepages";

/// Free, in MiB.
struct Memory {
  std::uint64_t ordinary = 0;  ///< to be had without swapping; huge pages are not in it
  std::uint64_t huge = 0;      ///< huge pages of all sizes
};
[[nodiscard]] Memory free_memory(const std::filesystem::path& huge_pages = kHugePages);

/// What makes `mib` MiB of free huge pages. /proc/sys/vm/nr_hugepages counts pages of the default
/// size, which may be 1 GiB.
[[nodiscard]] std::string how_to_reserve(std::uint64_t mib,
                                         const std::filesystem::path& huge_pages = kHugePages);

/// Of one case, in MiB.
struct Need {
  std::uint64_t packets = 0;
  std::uint64_t tables = 0;  ///< lie in huge pages or ordinary ones, each as it finds room
};
enum class Pages : std::uint8_t {
  none,
  ordinary,  ///< all of it
  huge,      ///< the packets; of the tables what finds room
};
[[nodiscard]] Pages pages_for(const Need& need, const Memory& there);

}  // namespace culvert::benchmarks
