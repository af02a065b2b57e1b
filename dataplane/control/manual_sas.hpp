// Manually keyed SAs of the configuration (RFC 4301 §4.5.1): as the tables take them, and what a
// reload changes of them. Main thread.
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "crypto/ike/ike_crypto.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/manual_keys.hpp"
#include "dataplane/control/policy_book.hpp"

namespace culvert::dataplane::control {

/// Reads the key file. The caller wipes the key. The error is a sentence.
std::expected<channel::InstallSa, std::string> install_request(const config::ManualSa& sa,
                                                               channel::SaId id);

/// Whether two entries of a file describe the same SA, whatever their key files hold.
[[nodiscard]] bool same_manual_sa(const config::ManualSa& a, const config::ManualSa& b);

class ManualSas {
 public:
  ManualSas(Tables& tables, Associations& associations, PolicyBook& policies);

  using Digest = ManualKeys::Digest;
  /// An SA that is to come, its key read and expanded. Wiped at the end.
  struct Addition {
    channel::InstallSa request;
    Digest key{};
    std::size_t place = 0;  ///< in the configuration
    std::unique_ptr<crypto::esp::ExpandedKey> expanded;

    Addition() = default;
    Addition(const Addition&) = delete;
    Addition& operator=(const Addition&) = delete;
    Addition(Addition&& other) noexcept { *this = std::move(other); }
    Addition& operator=(Addition&& other) noexcept {
      request = other.request;
      key = other.key;
      place = other.place;
      std::swap(expanded, other.expanded);
      other.request.key.wipe();
      return *this;
    }
    ~Addition() {
      request.key.wipe();
      if (expanded) crypto::wipe(expanded.get(), sizeof(*expanded));
    }
  };
  using Plan = std::vector<Addition>;

  /// What has to come so that the SAs are those of `wanted`. One that is the same, key included, is
  /// none of it: it goes on with its sequence numbers. One that was there at any time since the
  /// start goes on behind them. Nothing is changed; the error is a sentence.
  std::expected<Plan, std::string> plan(const config::Config& wanted);
  /// The plan of this configuration, at once: what comes stands beside what it replaces, which
  /// `remove_replaced` takes away. Their policies are in force with the next PolicyBook::publish.
  /// With an error what came is gone again.
  std::expected<void, std::string> apply(const config::Config& wanted, Plan plan, Instant now);
  /// Directly before these policies are in force: what sends under a key and SPI that others sent
  /// under begins behind them, and they end there. Nothing is logged: what is sent until the
  /// policies are in force is counted.
  void begin_numbers();
  /// Call when they are: says where those began that go on behind others.
  void log_begun();
  /// Call when no policy names them any more; waits until no worker goes by one that did.
  void remove_replaced();

 private:
  struct Standing {
    config::ManualSa configured;
    channel::SaId id{};
    SlotIndex slot = kNoSlot;
    Digest key{};  ///< the key itself is in the SAD alone
    bool stays = false;
    bool has_begun = false;       ///< `begin_numbers` has seen it
    std::uint64_t begins_at = 0;  ///< its first number, until it is logged; 0: it is
  };
  /// Outbound SAs under one key and SPI: numbers of theirs follow each other.
  struct Succession {
    std::vector<Standing*> coming;
    std::vector<const SaRecord*> leaving;
  };
  using Successions = std::map<ManualKeys::Use, Succession>;
  using Failure = std::unexpected<std::string>;

  [[nodiscard]] static ManualKeys::Use use_of(const config::ManualSa& sa, const Digest& key);
  [[nodiscard]] Standing* find(const config::ManualSa& wanted);
  [[nodiscard]] std::expected<Plan, std::string> compare(const config::Config& wanted);
  [[nodiscard]] std::optional<std::string> why_not(const config::ManualSa& wanted,
                                                   const Addition& addition);
  [[nodiscard]] std::optional<std::string> lacks_room(const Plan& additions) const;
  std::expected<void, std::string> install(const config::Config& config, Plan& additions,
                                           Instant now);
  std::expected<SlotIndex, std::string> install_one(const config::ManualSa& wanted,
                                                    const Addition& addition, Instant now);
  [[nodiscard]] Successions successions();
  void begin_behind_others(const ManualKeys::Use& use, const Succession& of);
  void log_continued(const config::ManualSa& wanted, std::uint64_t first_sequence) const;
  void remember_leaving();
  void take_out(const std::vector<Standing>& leaving);
  [[nodiscard]] std::uint64_t first_sequence(const config::ManualSa& wanted,
                                             const Digest& key) const;
  [[nodiscard]] std::expected<config::ManualSa, std::string> continued(
      const config::ManualSa& wanted, const Digest& key) const;
  [[nodiscard]] LastNumbers make_way(const Addition& addition);
  void settle(const config::Config& config);

  Tables& tables_;
  Associations& associations_;
  PolicyBook& policies_;
  std::vector<Standing> standing_;
  std::vector<Standing> replaced_;
  std::unique_ptr<crypto::ike::Random> random_ = crypto::ike::make_system_random();
  ManualKeys keys_;
  std::uint64_t made_ = 0;  ///< SAs so far: each has a name of its own
};

}  // namespace culvert::dataplane::control
