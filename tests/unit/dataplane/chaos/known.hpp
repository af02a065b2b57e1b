// What the thread that changes tables tells the one that looks at packets: what may pass, and the
// SAs with which they are sealed and opened.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "channel/messages.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/tables/reclaimer.hpp"

namespace culvert::test {

inline constexpr std::uint32_t kChildren = 8;

/// Whether packets may pass by something (a policy, a route, an SA): from just before it comes to
/// the end of the grace period behind its going. Turns are those of the traffic.
struct Permission {
  bool given = false;
  std::uint64_t ended_in = 0;  ///< the turn in which it was last given
  std::uint64_t version = 0;

  [[nodiscard]] bool holds_in(std::uint64_t turn) const { return given || ended_in >= turn; }
};

struct KnownSa {
  channel::InstallSa spec;
  std::uint32_t child = 0;
  std::unique_ptr<crypto::esp::ExpandedKey> key;
  Permission permission;
};

/// Under one lock: no worker's iteration is in its way.
class Known {
 public:
  enum Kind : std::uint8_t { protect, bypass, route, kKinds };

  [[nodiscard]] std::uint64_t begin_turn() {
    const std::lock_guard lock(mutex_);
    return ++turn_;
  }
  /// A child's policies and the route to its peer.
  void give(Kind kind, std::uint32_t child) {
    const std::lock_guard lock(mutex_);
    begin(of_children_[kind][child]);
  }
  /// Call when it is gone from the tables.
  void take_away(Kind kind, std::uint32_t child, dataplane::Reclaimer& reclaimer) {
    end(of_children_[kind][child], reclaimer);
  }
  [[nodiscard]] bool holds(Kind kind, std::uint32_t child, std::uint64_t turn) {
    const std::lock_guard lock(mutex_);
    return of_children_[kind][child].holds_in(turn);
  }

  /// Before it is installed.
  void add(const channel::InstallSa& spec, std::uint32_t child) {
    auto key = std::make_unique<crypto::esp::ExpandedKey>();
    const auto keymat = spec.key.view();
    if (!engine_->expand(spec.suite, keymat.first(spec.suite.encryption_key_bytes()), *key)) {
      std::abort();
    }
    const std::lock_guard lock(mutex_);
    KnownSa& sa = sas_[{spec.direction, spec.spi}];
    sa = {spec, child, std::move(key), {}};
    begin(sa.permission);
  }
  /// Call when it is removed.
  void remove(const channel::InstallSa& spec, dataplane::Reclaimer& reclaimer) {
    KnownSa* sa = nullptr;
    {
      const std::lock_guard lock(mutex_);
      sa = &sas_.at({spec.direction, spec.spi});
    }
    end(sa->permission, reclaimer);
  }
  /// It stays as long as this does: nothing but its permission changes.
  [[nodiscard]] const KnownSa* find(channel::Direction direction, std::uint32_t spi) {
    const std::lock_guard lock(mutex_);
    const auto found = sas_.find({direction, channel::Spi{spi}});
    return found == sas_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] bool holds(const KnownSa& sa, std::uint64_t turn) {
    const std::lock_guard lock(mutex_);
    return sa.permission.holds_in(turn);
  }
  /// What a peer sends on at this moment, and one that was removed.
  [[nodiscard]] std::vector<const KnownSa*> inbound() {
    const std::lock_guard lock(mutex_);
    std::vector<const KnownSa*> all;
    const KnownSa* gone = nullptr;
    for (const auto& [name, sa] : sas_) {
      if (sa.spec.direction != channel::Direction::in) continue;
      if (sa.permission.given) {
        all.push_back(&sa);
      } else if (gone == nullptr || sa.permission.ended_in > gone->permission.ended_in) {
        gone = &sa;
      }
    }
    if (gone != nullptr) all.push_back(gone);
    return all;
  }

 private:
  static void begin(Permission& permission) {
    permission.given = true;
    ++permission.version;
  }
  void end(Permission& permission, dataplane::Reclaimer& reclaimer) {
    std::uint64_t version = 0;
    {
      const std::lock_guard lock(mutex_);
      version = permission.version;
    }
    reclaimer.retire([this, &permission, version] {
      const std::lock_guard lock(mutex_);
      if (permission.version != version) return;  // it has come again
      permission.given = false;
      permission.ended_in = turn_;
    });
  }

  std::unique_ptr<crypto::esp::Engine> engine_ = crypto::esp::make_engine();  ///< the writer's
  std::mutex mutex_;
  std::uint64_t turn_ = 0;
  std::array<std::array<Permission, kChildren>, kKinds> of_children_{};
  std::map<std::pair<channel::Direction, channel::Spi>, KnownSa> sas_;  ///< all there ever were
};

}  // namespace culvert::test
