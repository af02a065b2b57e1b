#include "dataplane/ports/memory_placement.hpp"

#include <array>
#include <cerrno>
#include <expected>
#include <set>
#include <system_error>

#include <linux/mempolicy.h>
#include <malloc.h>
#include <rte_lcore.h>
#include <rte_memory.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace culvert::dataplane::ports {
namespace {

constexpr std::size_t kBitsPerWord = 8 * sizeof(unsigned long);
constexpr std::size_t kMostNodes = 1024;  // the kernel's MAX_NUMNODES where it is largest
using NodeMask = std::array<unsigned long, kMostNodes / kBitsPerWord>;

/// A thread's policy as the kernel has it.
struct Policy {
  int mode = MPOL_DEFAULT;
  std::vector<std::uint32_t> nodes;

  /// "Local" has three spellings, and DPDK leaves one of them behind when it has taken memory.
  [[nodiscard]] bool is_kernels() const {
    return mode == MPOL_DEFAULT || mode == MPOL_LOCAL || (mode == MPOL_PREFERRED && nodes.empty());
  }
};

std::string last_error() { return std::generic_category().message(errno); }

std::expected<Policy, std::string> policy_in_force() {
  Policy policy;
  NodeMask mask{};
  if (::syscall(SYS_get_mempolicy, &policy.mode, mask.data(), kMostNodes, nullptr, 0UL) != 0) {
    return std::unexpected("get_mempolicy: " + last_error());
  }
  for (std::uint32_t node = 0; node < kMostNodes; ++node) {
    if ((mask[node / kBitsPerWord] >> node % kBitsPerWord & 1U) != 0) policy.nodes.push_back(node);
  }
  return policy;
}

std::expected<void, std::string> set_policy(const Placement& wanted) {
  const int mode = wanted.policy == MemoryPolicy::preferred ? MPOL_PREFERRED : MPOL_INTERLEAVE;
  NodeMask mask{};
  for (const std::uint32_t node : wanted.nodes) {
    mask.at(node / kBitsPerWord) |= 1UL << node % kBitsPerWord;
  }
  // The kernel takes one bit less than it is told.
  if (::syscall(SYS_set_mempolicy, mode, mask.data(), kMostNodes + 1) != 0) {
    return std::unexpected("set_mempolicy: " + last_error());
  }
  return {};
}

}  // namespace

std::optional<std::uint32_t> numa_node_of_lcore(unsigned int lcore) {
  const unsigned int node = rte_lcore_to_socket_id(lcore);
  if (static_cast<int>(node) == SOCKET_ID_ANY) return std::nullopt;
  return node;
}

std::vector<std::optional<std::uint32_t>> numa_nodes_of_workers(std::uint32_t workers) {
  std::vector<std::optional<std::uint32_t>> nodes;
  unsigned int lcore = rte_get_next_lcore(~0U, 1, 0);
  while (nodes.size() < workers && lcore < RTE_MAX_LCORE) {
    nodes.push_back(numa_node_of_lcore(lcore));
    lcore = rte_get_next_lcore(lcore, 1, 0);
  }
  return nodes;
}

std::string to_string(MemoryPolicy policy) {
  switch (policy) {
    case MemoryPolicy::kernel:
      return "kernel";
    case MemoryPolicy::preferred:
      return "preferred";
    case MemoryPolicy::interleaved:
      return "interleaved";
    case MemoryPolicy::inherited:
      return "inherited";
  }
  return "";
}

std::string Placement::nodes_text() const {
  std::string text;
  for (const std::uint32_t node : nodes) text += (text.empty() ? "" : ",") + std::to_string(node);
  return text;
}

Placement placement_for(std::span<const std::optional<std::uint32_t>> workers) {
  std::set<std::uint32_t> nodes;
  for (const auto& node : workers) {
    if (!node) return {.reason = "a worker floats over several nodes"};
    nodes.insert(*node);
  }
  if (nodes.empty()) return {};
  return {.policy = nodes.size() == 1 ? MemoryPolicy::preferred : MemoryPolicy::interleaved,
          .nodes = {nodes.begin(), nodes.end()}};
}

Placement place_memory(const Placement& wanted) {
  const auto before = policy_in_force();
  if (before && !before->is_kernels()) {
    return {MemoryPolicy::inherited, before->nodes, "the process was started with it"};
  }
  if (wanted.policy == MemoryPolicy::kernel) return wanted;
  // What the heap has free is on pages of this thread's node, and would be given out first.
  ::malloc_trim(0);
  if (auto done = set_policy(wanted); !done) return {.reason = done.error()};
  const auto now = policy_in_force();
  if (!now) return wanted;
  return {.policy = wanted.policy, .nodes = now->nodes};
}

}  // namespace culvert::dataplane::ports
