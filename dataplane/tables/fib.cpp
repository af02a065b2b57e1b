#include "dataplane/tables/fib.hpp"

#include <atomic>
#include <set>

#include <rte_errno.h>
#include <rte_lpm.h>

#include "dataplane/tables/adjacency.hpp"
#include "dataplane/tables/route_trie.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint32_t kTableGroups = 4096;  ///< of 256 entries, for prefixes longer than 24 bits

class DpdkFib final : public Fib {
 public:
  DpdkFib(std::uint32_t max_routes, Reclaimer& reclaimer)
      : max_routes_(max_routes), reclaimer_(reclaimer), v6_(reclaimer) {}
  ~DpdkFib() override { rte_lpm_free(v4_); }

  [[nodiscard]] bool create(Reclaimer& reclaimer, std::optional<std::uint32_t> numa_node) {
    // DPDK keeps tables by name; a process may hold several (tests).
    static std::atomic<int> instances{0};
    const std::string name = "fib" + std::to_string(instances++) + "_";
    rte_lpm_config configuration{};
    configuration.max_rules = max_routes_;
    configuration.number_tbl8s = kTableGroups;
    const auto make_on = [&](int node) {
      return rte_lpm_create((name + "v4").c_str(), node, &configuration);
    };
    if (numa_node) v4_ = make_on(static_cast<int>(*numa_node));
    if (v4_ == nullptr) v4_ = make_on(SOCKET_ID_ANY);
    if (v4_ == nullptr) return false;
    rte_lpm_rcu_config grace{};
    grace.v = reclaimer.handle();
    grace.mode = RTE_LPM_QSBR_MODE_DQ;
    return rte_lpm_rcu_qsbr_add(v4_, &grace) == 0 && v6_.create();
  }

  std::expected<void, std::string> add(const wire::Prefix& prefix,
                                       AdjacencyIndex adjacency) override {
    const wire::Prefix network{prefix.first(), prefix.length};
    auto& known = prefix.address.is_v4() ? known_v4_ : known_v6_;
    if (!known.contains(network) && known.size() >= max_routes_) {
      return std::unexpected("the routing table is full (" + std::to_string(max_routes_) +
                             " routes and neighbours)");
    }
    if (network.length == 0) {
      default_of(network).store(adjacency, std::memory_order_release);
    } else if (network.address.is_v4()) {
      const int error = rte_lpm_add(v4_, network.address.v4_host(), network.length,
                                    static_cast<std::uint32_t>(adjacency));
      if (error != 0) {
        return std::unexpected("the routing table took no " + network.to_string() + ": " +
                               rte_strerror(-error));
      }
    } else if (!v6_.add(network, adjacency)) {
      return std::unexpected("the IPv6 routing table has no room for " + network.to_string() +
                             ": too many long prefixes and neighbours");
    }
    known.insert(network);
    reclaimer_.outdate();
    return {};
  }

  void remove(const wire::Prefix& prefix) override {
    const wire::Prefix network{prefix.first(), prefix.length};
    auto& known = prefix.address.is_v4() ? known_v4_ : known_v6_;
    if (known.erase(network) == 0) return;
    if (network.length == 0) {
      default_of(network).store(Adjacencies::kDrop, std::memory_order_release);
    } else if (network.address.is_v4()) {
      rte_lpm_delete(v4_, network.address.v4_host(), network.length);
    } else {
      v6_.remove(network);
    }
    reclaimer_.outdate();
  }

  [[nodiscard]] AdjacencyIndex lookup_v4(std::uint32_t address) const override {
    std::uint32_t next_hop = 0;
    if (rte_lpm_lookup(v4_, address, &next_hop) == 0) return AdjacencyIndex{next_hop};
    return default_v4_.load(std::memory_order_acquire);
  }

  [[nodiscard]] AdjacencyIndex lookup_v6(const std::uint8_t* address) const override {
    const AdjacencyIndex found = v6_.lookup(address);
    return found == Adjacencies::kDrop ? default_v6_.load(std::memory_order_acquire) : found;
  }

 private:
  std::atomic<AdjacencyIndex>& default_of(const wire::Prefix& network) {
    return network.address.is_v4() ? default_v4_ : default_v6_;
  }

  std::uint32_t max_routes_;
  Reclaimer& reclaimer_;
  rte_lpm* v4_ = nullptr;
  RouteTrie v6_;
  /// DPDK's LPM has no prefix of length 0.
  std::atomic<AdjacencyIndex> default_v4_{Adjacencies::kDrop}, default_v6_{Adjacencies::kDrop};
  std::set<wire::Prefix> known_v4_, known_v6_;
};

}  // namespace

std::expected<std::unique_ptr<Fib>, std::string> Fib::create(
    std::uint32_t max_routes, Reclaimer& reclaimer, std::optional<std::uint32_t> numa_node) {
  auto fib = std::make_unique<DpdkFib>(max_routes, reclaimer);
  if (!fib->create(reclaimer, numa_node)) {
    return std::unexpected(
        "no memory for the routing tables; more huge pages would help, or without them a larger "
        "dataplane.memory_mib");
  }
  return fib;
}

}  // namespace culvert::dataplane
