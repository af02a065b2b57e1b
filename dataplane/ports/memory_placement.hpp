// On which NUMA nodes lies what the main thread makes and workers read: tables of SAs and policies,
// keys, replay windows, routes. By itself the kernel takes a page from the node of the thread that
// writes it first, which is the main thread's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace culvert::dataplane::ports {

/// The node of an lcore's processors; none: they are of several.
std::optional<std::uint32_t> numa_node_of_lcore(unsigned int lcore);
/// Of the first `workers` lcores after the main one.
std::vector<std::optional<std::uint32_t>> numa_nodes_of_workers(std::uint32_t workers);

/// A preference in all cases: where a node has no page free, one of another serves.
enum class MemoryPolicy : std::uint8_t {
  kernel,       ///< the node of whoever writes first
  preferred,    ///< one node
  interleaved,  ///< page by page over several
  inherited,    ///< as the process was started, by numactl or systemd's NUMAPolicy
};
[[nodiscard]] std::string to_string(MemoryPolicy policy);

struct Placement {
  MemoryPolicy policy = MemoryPolicy::kernel;
  std::vector<std::uint32_t> nodes{};  ///< ascending
  std::string reason{};                ///< why it is not by the workers' nodes; empty: it is

  friend bool operator==(const Placement&, const Placement&) = default;
  /// "1", "0,1"; empty: none is preferred.
  [[nodiscard]] std::string nodes_text() const;
};

/// What serves workers on these nodes: one for all is preferred, several share the pages.
[[nodiscard]] Placement placement_for(std::span<const std::optional<std::uint32_t>> workers);

/// The calling thread's memory from now on, and that of threads it starts; a page that is there
/// stays where it is. What a thread was started with it keeps. Returns what is in force: the kernel
/// may refuse, and leaves out nodes without memory.
[[nodiscard]] Placement place_memory(const Placement& wanted);

}  // namespace culvert::dataplane::ports
