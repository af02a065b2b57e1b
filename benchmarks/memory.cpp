#include "benchmarks/memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <system_error>

namespace culvert::benchmarks {
namespace {

/// DPDK's own beside a case's packets, in MiB: routes of IPv4, rings, the devices' queues.
constexpr std::uint64_t kBesidePackets = 128;

constexpr const char* kTwoMebibytes = "hugepages-2048kB";

std::uint64_t number_in(const std::filesystem::path& file) {
  std::uint64_t number = 0;
  std::ifstream in(file);
  return in >> number ? number : 0;
}

std::uint64_t free_huge_mib(const std::filesystem::path& huge_pages) {
  std::uint64_t kibibytes = 0;
  std::error_code ignored;  // absent where the kernel has no huge pages
  for (const auto& size : std::filesystem::directory_iterator(huge_pages, ignored)) {
    const std::string name = size.path().filename().string();
    const std::size_t dash = name.find('-');
    if (dash == std::string::npos) continue;
    kibibytes += std::strtoull(name.c_str() + dash + 1, nullptr, 10) *
                 number_in(size.path() / "free_hugepages");
  }
  return kibibytes / 1024;
}

std::uint64_t available_mib() {
  std::ifstream file("/proc/meminfo");
  const std::string name = "MemAvailable:";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name)) return std::stoull(line.substr(name.size())) / 1024;
  }
  return 0;
}

}  // namespace

Memory free_memory(const std::filesystem::path& huge_pages) {
  return {available_mib(), free_huge_mib(huge_pages)};
}

std::string how_to_reserve(std::uint64_t mib, const std::filesystem::path& huge_pages) {
  const std::filesystem::path size = huge_pages / kTwoMebibytes;
  const std::uint64_t all = number_in(size / "nr_hugepages");
  const std::uint64_t taken = all - std::min(all, number_in(size / "free_hugepages"));
  return "echo " + std::to_string(taken + (mib + 1) / 2) + " > " + size.string() + "/nr_hugepages";
}

Pages pages_for(const Need& need, const Memory& there) {
  const std::uint64_t all = need.packets + need.tables;
  if (need.packets + kBesidePackets <= there.huge && all <= there.ordinary + there.huge) {
    return Pages::huge;
  }
  return all <= there.ordinary ? Pages::ordinary : Pages::none;
}

}  // namespace culvert::benchmarks
