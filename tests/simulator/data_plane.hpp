// A data plane that only remembers: SAs and policies as the machine's requests made them, and every
// request that must not have been made.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::simulation {

using ike::Instant;

class DataPlane final : public ike::SpiSource {
 public:
  explicit DataPlane(std::uint32_t first_spi) : next_spi_(first_spi) {}

  struct InstalledSa {
    channel::InstallSa sa;
    Instant installed{};
    bool soft_raised = false, hard_raised = false;
  };
  struct InstalledPolicy {
    channel::InstallPolicy policy;
    channel::SaId outbound{};
  };

  [[nodiscard]] channel::Completion execute(const channel::Request& request, Instant now);
  /// Soft and hard expiry by time that is due.
  [[nodiscard]] std::vector<channel::Event> expire(Instant now);
  [[nodiscard]] std::optional<Instant> next_expiry() const;

  std::optional<channel::Spi> take() override;
  void give_back(channel::Spi spi) override;
  /// The key daemon disconnected: what it leased and did not use returns.
  void forget_leases() { leased.clear(); }
  /// A key daemon connected: what is due is said once more.
  void announce_again() {
    for (auto& [id, sa] : sas) sa.soft_raised = sa.hard_raised = false;
  }
  /// The data plane itself starts again, empty.
  void restart();

  [[nodiscard]] const InstalledSa* inbound(channel::Spi spi) const;
  [[nodiscard]] const InstalledSa* find(channel::SaId sa) const;
  /// Where a child's traffic goes: the outbound SA of its newest policy.
  [[nodiscard]] const InstalledSa* outbound_of(config::ChildId child_id) const;
  [[nodiscard]] const InstalledSa* outbound_of(std::uint32_t child) const {
    return outbound_of(config::ChildId{child});
  }
  [[nodiscard]] bool sends_with(channel::Spi spi) const;
  [[nodiscard]] std::vector<channel::SnapshotSa> snapshot_sas() const;
  [[nodiscard]] std::vector<channel::SnapshotPolicy> snapshot_policies() const;

  std::map<channel::SaId, InstalledSa> sas;
  std::map<channel::PolicyId, InstalledPolicy> policies;
  std::vector<channel::PolicyId> policy_order;  ///< as installed; the newest decides
  std::set<channel::Spi> leased;
  std::set<std::vector<std::uint8_t>> outbound_keys_used;
  std::vector<std::string> violations;
  std::uint64_t idle_milliseconds = ~0ULL;               ///< what QuerySa answers
  channel::Outcome next_install = channel::Outcome::ok;  ///< refuse the next InstallSa with this
  std::optional<channel::Direction> refuse_install;      ///< the next one of that direction
  channel::Outcome next_policy = channel::Outcome::ok;  ///< refuse the next InstallPolicy with this
  channel::Outcome next_switch = channel::Outcome::ok;  ///< refuse the next SwitchOutbound
  std::size_t most_policies = ~std::size_t{0};          ///< beyond: no room
  bool spis_exhausted = false;
  std::set<wire::IpAddress> gone_addresses;  ///< refused as local ones

 private:
  channel::Outcome install(const channel::InstallSa& sa, Instant now);
  channel::Outcome apply(const channel::Request& request, Instant now);
  channel::Outcome refuse(channel::Outcome outcome, const std::string& why);
  std::uint32_t next_spi_;
};

}  // namespace culvert::simulation
