#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dataplane/ports/memory_placement.hpp"

namespace culvert::dataplane::ports {
namespace {

using Workers = std::vector<std::optional<std::uint32_t>>;
using Nodes = std::vector<std::uint32_t>;
constexpr std::size_t kBits = 1024;
using Mask = std::array<unsigned long, kBits / 64>;

/// No machine has so many.
constexpr std::uint32_t kNoSuchNode = kBits - 1;

/// The kernel's own words for the calling thread: the mode, and the first 64 nodes.
struct InForce {
  int mode = -1;
  unsigned long nodes = 0;
};
InForce in_force() {
  InForce policy;
  Mask mask{};
  if (::syscall(SYS_get_mempolicy, &policy.mode, mask.data(), kBits, nullptr, 0UL) != 0) return {};
  policy.nodes = mask[0];
  return policy;
}

bool set(int mode, unsigned long nodes) {
  Mask mask{nodes};
  return ::syscall(SYS_set_mempolicy, mode, mask.data(), kBits) == 0;
}

/// Some containers let nobody say where memory comes from; and whoever started us may have said.
bool may_place() {
  bool may = false;
  std::thread([&] {
    const int mode = in_force().mode;
    may = (mode == MPOL_DEFAULT || mode == MPOL_LOCAL) && set(MPOL_PREFERRED, 1) &&
          in_force().mode == MPOL_PREFERRED;
  }).join();
  return may;
}

/// Kernels differ in how many nodes there may be at most.
bool may_name_no_such_node() {
  bool may = false;
  std::thread([&] {
    Mask mask{1};
    mask[kNoSuchNode / 64] |= 1UL << (kNoSuchNode % 64);
    may = ::syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask.data(), kBits) == 0;
  }).join();
  return may;
}

struct Seen {
  Placement placement;
  InForce before, after;
};
/// On a thread of its own: the policy goes with it.
template <typename Prepare>
Seen place(const Placement& wanted, Prepare prepare) {
  Seen seen;
  std::thread([&] {
    prepare();
    seen.before = in_force();
    seen.placement = place_memory(wanted);
    seen.after = in_force();
  }).join();
  return seen;
}
Seen place(const Placement& wanted) {
  return place(wanted, [] {});
}

/// As a container's filter does, for the calling thread and nothing else.
void refuse_set_mempolicy() {
  std::array<sock_filter, 4> program{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_set_mempolicy, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  sock_fprog filter{program.size(), program.data()};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

const Placement kOnNodeZero{.policy = MemoryPolicy::preferred, .nodes = {0}};

}  // namespace

TEST_CASE("memory placement: the node that all workers are on is preferred") {
  for (const std::uint32_t node : {0U, 1U, 5U}) {
    const Placement placement = placement_for(Workers{node, node, node});
    CHECK(placement.policy == MemoryPolicy::preferred);
    CHECK(placement.nodes == Nodes{node});
    CHECK(placement.nodes_text() == std::to_string(node));
    CHECK(placement.reason.empty());
  }
}

TEST_CASE("memory placement: workers of several nodes share the pages, each node once") {
  const Placement placement = placement_for(Workers{3U, 0U, 3U, 1U});
  CHECK(placement.policy == MemoryPolicy::interleaved);
  CHECK(placement.nodes == Nodes{0, 1, 3});
  CHECK(placement.nodes_text() == "0,1,3");
}

TEST_CASE("memory placement: of a worker that floats over several nodes nothing is known") {
  const Placement placement = placement_for(Workers{1U, std::nullopt});
  CHECK(placement.policy == MemoryPolicy::kernel);
  CHECK(placement.nodes.empty());
  CHECK(placement.reason == "a worker floats over several nodes");
}

TEST_CASE("memory placement: what was decided is the thread's policy") {
  if (!may_place()) {
    WARN("set_mempolicy is refused here");
    return;
  }
  const Seen preferred = place(kOnNodeZero);
  CHECK(preferred.after.mode == MPOL_PREFERRED);
  CHECK(preferred.after.nodes == 1);
  CHECK(preferred.placement == kOnNodeZero);

  // A node that has no memory is left out, and told.
  if (!may_name_no_such_node()) return;
  const Seen interleaved = place({.policy = MemoryPolicy::interleaved, .nodes = {0, kNoSuchNode}});
  CHECK(interleaved.after.mode == MPOL_INTERLEAVE);
  CHECK(interleaved.after.nodes == 1);
  CHECK(interleaved.placement == Placement{.policy = MemoryPolicy::interleaved, .nodes = {0}});
}

TEST_CASE("memory placement: DPDK's way of leaving it to the kernel is no policy of anybody") {
  if (!may_place()) return;
  const Seen seen = place(kOnNodeZero, [] { REQUIRE(set(MPOL_LOCAL, 0)); });
  CHECK(seen.after.mode == MPOL_PREFERRED);
  CHECK(seen.placement == kOnNodeZero);
}

TEST_CASE("memory placement: without a decision the kernel's stays") {
  const Seen seen = place(placement_for(Workers{std::nullopt}));
  CHECK(seen.after.mode == seen.before.mode);
  CHECK(seen.placement.policy == MemoryPolicy::kernel);
}

TEST_CASE("memory placement: a node without memory, or a container that refuses, is told of") {
  const Seen empty = place({.policy = MemoryPolicy::preferred, .nodes = {kNoSuchNode}});
  CHECK(empty.after.mode == empty.before.mode);
  CHECK(empty.placement.policy == MemoryPolicy::kernel);
  CHECK(empty.placement.nodes.empty());
  CHECK(empty.placement.reason.starts_with("set_mempolicy: "));

  const Seen refused = place(kOnNodeZero, refuse_set_mempolicy);
  CHECK(refused.after.mode == refused.before.mode);
  CHECK(refused.placement.policy == MemoryPolicy::kernel);
  CHECK(refused.placement.nodes.empty());
  CHECK(refused.placement.reason == "set_mempolicy: Operation not permitted");
}

TEST_CASE("memory placement: what the process was started with stays, as by numactl") {
  if (!may_place()) return;
  const Seen seen = place(kOnNodeZero, [] { REQUIRE(set(MPOL_INTERLEAVE, 1)); });
  CHECK(seen.after.mode == MPOL_INTERLEAVE);
  CHECK(seen.placement.policy == MemoryPolicy::inherited);
  CHECK(seen.placement.nodes == Nodes{0});
}

}  // namespace culvert::dataplane::ports
