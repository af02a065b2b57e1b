// The one writer of the tables, without rest: SAs, policies, routes and neighbours come, change and
// go, one by one and as whole lists, in the order that the main thread keeps.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>

#include "tests/unit/dataplane/chaos/known.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class Changes {
 public:
  enum Kind : std::uint8_t { sas, policies, routes, kKinds };

  Changes(Gateway& gateway, Known& known, std::uint64_t seed);

  /// One change of any kind, and what is due is freed.
  void change();
  /// How many there were of each kind.
  [[nodiscard]] const std::array<std::uint32_t, kKinds>& made() const { return made_; }

 private:
  /// An SA pair, a policy and a peer behind a route of its own.
  struct Child {
    channel::InstallSa in, out;
    dataplane::SlotIndex slot = dataplane::kNoSlot;  ///< of `out`; kNoSlot: there is none
    bool has_inbound = false, has_policy = false, has_bypass = false, has_discard = false;
    bool has_route = false;
    dataplane::AdjacencyIndex next_hop{};
  };

  void change_sas(std::uint32_t number, std::uint32_t how);
  void change_policies(std::uint32_t number, std::uint32_t how);
  void change_routes(std::uint32_t number, std::uint32_t how);

  void install(std::uint32_t number);
  void remove_outbound(const channel::InstallSa& sa, dataplane::SlotIndex slot);
  void remove_inbound(const channel::InstallSa& sa);
  void lay_route(std::uint32_t number);
  void release_later(dataplane::AdjacencyIndex next_hop);
  [[nodiscard]] std::uint32_t below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(random_() % bound);
  }

  dataplane::Tables& tables_;
  Known& known_;
  std::mt19937_64 random_;
  std::array<Child, kChildren> children_;
  std::array<bool, 64> has_other_{};  ///< policies that no packet meets
  std::array<std::uint32_t, kKinds> made_{};
  std::uint32_t next_spi_ = 0x10000;
};

/// Of child n: 10.1.0.0/24 towards 10.2.n.0/24 is protected, towards 10.9.n.0/24 it may be
/// bypassed; its peer is 203.0.113.(n + 1).
[[nodiscard]] std::string text_of(const char* begin, std::uint32_t child, const char* end);

}  // namespace culvert::test
