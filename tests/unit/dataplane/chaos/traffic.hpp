// What the clients, the peers and strangers send, and the judge of what leaves.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/dataplane/chaos/known.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class Traffic {
 public:
  Traffic(Gateway& gateway, Known& known, std::uint64_t seed)
      : gateway_(gateway), known_(known), random_(seed) {}

  /// A burst from either side through the worker, and a look at all that leaves.
  void turn();
  /// What has left in a turn: every frame must be one that something lets pass.
  void judge(std::uint64_t turn, const Result& result);

  /// How often each kind was seen.
  [[nodiscard]] const std::map<std::string, std::uint64_t>& violations() const {
    return violations_;
  }
  std::uint64_t given = 0, sealed = 0, opened = 0, bypassed = 0, dropped = 0, punted = 0;

 private:
  std::vector<Packet> from_clients();
  std::vector<Packet> from_peers();
  Packet sealed_for(const KnownSa& sa, const Packet& inner);
  [[nodiscard]] std::string why_not_on_wan(std::uint64_t turn, const Packet& frame);
  [[nodiscard]] std::string why_not_on_lan(std::uint64_t turn, const Packet& frame);
  [[nodiscard]] std::string why_not_sealed(std::uint64_t turn, Packet frame);
  [[nodiscard]] std::uint32_t below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(random_() % bound);
  }

  Gateway& gateway_;
  Known& known_;
  std::mt19937_64 random_;
  std::map<channel::Spi, std::uint32_t> sent_;  ///< by peers
  std::map<std::string, std::uint64_t> violations_;
};

}  // namespace culvert::test
