#include "dataplane/tables/fib.hpp"

#include <atomic>
#include <set>
#include <utility>
#include <vector>

#include <rte_errno.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_rib6.h>
#include <rte_version.h>

#include "dataplane/tables/adjacency.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint32_t kTableGroups = 4096;  ///< of 256 entries, for prefixes longer than 24 bits
/// As many as two-byte entries can name; 16 MiB a copy.
constexpr std::uint32_t kTableGroupsV6 = 32767;

/// Groups that DPDK's IPv6 trie sets aside for a prefix at most: one for each byte behind the
/// third.
std::uint32_t groups_of(const wire::Prefix& network) {
  if (network.address.is_v4() || network.length <= 24) return 0;
  return (network.length - 24U + 7U) / 8U;
}

// DPDK 24.11 gave IPv6 addresses a type of their own.
#if RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
const rte_ipv6_addr* fib_key(const std::uint8_t* address) {
  return reinterpret_cast<const rte_ipv6_addr*>(address);
}
std::uint64_t find_next_hop(rte_fib6* table, const std::uint8_t* address) {
  std::uint64_t next_hop = 0;
  rte_fib6_lookup_bulk(table, fib_key(address), &next_hop, 1);
  return next_hop;
}
#else
const std::uint8_t* fib_key(const std::uint8_t* address) { return address; }
std::uint64_t find_next_hop(rte_fib6* table, const std::uint8_t* address) {
  std::uint8_t key[1][RTE_FIB6_IPV6_ADDR_SIZE];
  std::memcpy(key[0], address, sizeof(key[0]));
  std::uint64_t next_hop = 0;
  rte_fib6_lookup_bulk(table, key, &next_hop, 1);
  return next_hop;
}
#endif

/// IPv6: two copies of DPDK's trie. The writer changes the one nobody reads, publishes it, and
/// brings the other up to date after a grace period (the trie itself reuses groups at once).
class Fib6Pair {
 public:
  explicit Fib6Pair(Reclaimer& reclaimer) : reclaimer_(reclaimer) {}
  ~Fib6Pair() {
    for (rte_fib6* copy : copies_) rte_fib6_free(copy);
  }
  Fib6Pair(const Fib6Pair&) = delete;
  Fib6Pair& operator=(const Fib6Pair&) = delete;

  [[nodiscard]] bool create(const std::string& name, std::uint32_t max_routes) {
    for (std::size_t index = 0; index < 2; ++index) {
      rte_fib6_conf configuration{};
      configuration.type = RTE_FIB6_TRIE;
      configuration.default_nh = raw(Adjacencies::kDrop);
      configuration.max_routes = static_cast<int>(max_routes);
      configuration.rib_ext_sz = 0;
      configuration.trie.nh_sz = RTE_FIB6_TRIE_2B;
      configuration.trie.num_tbl8 = kTableGroupsV6;
      copies_[index] =
          rte_fib6_create((name + std::to_string(index)).c_str(), SOCKET_ID_ANY, &configuration);
      if (copies_[index] == nullptr) return false;
    }
    active_.store(copies_[0], std::memory_order_relaxed);
    return true;
  }

  struct Change {
    wire::Prefix prefix;
    AdjacencyIndex adjacency{};
    bool add = false;
  };
  void change(const Change& change) {
    queued_.push_back(change);
    publish();
  }

  [[nodiscard]] AdjacencyIndex lookup(const std::uint8_t* address) const {
    // Acquire pairs with the release in `publish`: the copy's contents before its pointer.
    rte_fib6* const table = active_.load(std::memory_order_acquire);
    return AdjacencyIndex{static_cast<std::uint32_t>(find_next_hop(table, address))};
  }

 private:
  static void apply(rte_fib6* copy, const Change& change) {
    const wire::IpAddress network = change.prefix.first();
    if (change.add) {
      rte_fib6_add(copy, fib_key(network.bytes.data()), change.prefix.length,
                   raw(change.adjacency));
    } else {
      rte_fib6_delete(copy, fib_key(network.bytes.data()), change.prefix.length);
    }
  }

  void publish() {
    if (!spare_is_free_ || queued_.empty()) return;
    rte_fib6* spare =
        active_.load(std::memory_order_relaxed) == copies_[0] ? copies_[1] : copies_[0];
    for (const Change& change : missing_) apply(spare, change);
    for (const Change& change : queued_) apply(spare, change);
    missing_ = std::exchange(queued_, {});
    active_.store(spare, std::memory_order_release);
    reclaimer_.outdate();
    spare_is_free_ = false;
    reclaimer_.retire([this] {
      spare_is_free_ = true;
      publish();
    });
  }

  Reclaimer& reclaimer_;
  rte_fib6* copies_[2] = {nullptr, nullptr};
  std::atomic<rte_fib6*> active_{nullptr};
  std::vector<Change> queued_;   ///< not published yet
  std::vector<Change> missing_;  ///< published, but not in the spare copy
  bool spare_is_free_ = true;
};

class DpdkFib final : public Fib {
 public:
  DpdkFib(std::uint32_t max_routes, Reclaimer& reclaimer)
      : max_routes_(max_routes), reclaimer_(reclaimer), v6_(reclaimer) {}
  ~DpdkFib() override { rte_lpm_free(v4_); }

  [[nodiscard]] bool create(Reclaimer& reclaimer) {
    // DPDK keeps tables by name; a process may hold several (tests).
    static std::atomic<int> instances{0};
    const std::string name = "fib" + std::to_string(instances++) + "_";
    rte_lpm_config configuration{};
    configuration.max_rules = max_routes_;
    configuration.number_tbl8s = kTableGroups;
    v4_ = rte_lpm_create((name + "v4").c_str(), SOCKET_ID_ANY, &configuration);
    if (v4_ == nullptr) return false;
    rte_lpm_rcu_config grace{};
    grace.v = reclaimer.handle();
    grace.mode = RTE_LPM_QSBR_MODE_DQ;
    return rte_lpm_rcu_qsbr_add(v4_, &grace) == 0 && v6_.create(name + "v6", max_routes_);
  }

  std::expected<void, std::string> add(const wire::Prefix& prefix,
                                       AdjacencyIndex adjacency) override {
    const wire::Prefix network{prefix.first(), prefix.length};
    auto& known = prefix.address.is_v4() ? known_v4_ : known_v6_;
    if (!known.contains(network) && known.size() >= max_routes_) {
      return std::unexpected("the routing table is full (" + std::to_string(max_routes_) +
                             " routes and neighbours)");
    }
    // Asked here, for a change reaches both copies of the trie later and must not fail then.
    const std::uint32_t groups = known.contains(network) ? 0 : groups_of(network);
    if (used_groups_v6_ + groups >= kTableGroupsV6) {
      return std::unexpected("the IPv6 routing table has no room for " + network.to_string() +
                             ": too many long prefixes and neighbours");
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
    } else {
      v6_.change({network, adjacency, true});
    }
    known.insert(network);
    used_groups_v6_ += groups;
    reclaimer_.outdate();
    return {};
  }

  void remove(const wire::Prefix& prefix) override {
    const wire::Prefix network{prefix.first(), prefix.length};
    auto& known = prefix.address.is_v4() ? known_v4_ : known_v6_;
    if (known.erase(network) == 0) return;
    used_groups_v6_ -= groups_of(network);
    if (network.length == 0) {
      default_of(network).store(Adjacencies::kDrop, std::memory_order_release);
    } else if (network.address.is_v4()) {
      rte_lpm_delete(v4_, network.address.v4_host(), network.length);
    } else {
      v6_.change({network, Adjacencies::kDrop, false});
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
  Fib6Pair v6_;
  /// DPDK's LPM has no prefix of length 0.
  std::atomic<AdjacencyIndex> default_v4_{Adjacencies::kDrop}, default_v6_{Adjacencies::kDrop};
  std::set<wire::Prefix> known_v4_, known_v6_;
  std::uint32_t used_groups_v6_ = 0;
};

}  // namespace

std::expected<std::unique_ptr<Fib>, std::string> Fib::create(std::uint32_t max_routes,
                                                             Reclaimer& reclaimer) {
  auto fib = std::make_unique<DpdkFib>(max_routes, reclaimer);
  if (!fib->create(reclaimer)) {
    return std::unexpected(std::string("no memory for the routing tables: ") +
                           rte_strerror(rte_errno) + "; raise dataplane.memory_mib");
  }
  return fib;
}

}  // namespace culvert::dataplane
