// What SAs, policies and counters hang on: the configured children and the names of manual SAs, by
// identifier (config/child_id.hpp), in the order of the file. A name that the file has no more
// stays known as long as SAs bear it. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/config.hpp"
#include "dataplane/control/child_terms.hpp"

namespace culvert::dataplane::control {

using config::ChildId;
using config::kManualConnection;

/// What brings a child up.
enum class StartedBy : std::uint8_t {
  configuration,  ///< start_action: start, and manual SAs
  traffic,        ///< start_action: trap
  command,        ///< start_action: none
  peer,           ///< whatever start_action says: nobody knows the peer's address
};
[[nodiscard]] std::string_view to_string(StartedBy started_by);

struct ChildName {
  std::string connection;
  std::string child;
  bool manual = false;
  bool in = true, out = true;  ///< the directions that have SAs: a manual one may have one alone
  StartedBy started_by = StartedBy::configuration;
  friend bool operator==(const ChildName&, const ChildName&) = default;
};

class ChildDirectory {
 public:
  ChildDirectory() = default;
  /// `config` outlives this, or the next `take`.
  explicit ChildDirectory(const config::Config& config) { take(config, {}); }

  /// Another configuration. Of what it does not name, what is `borne` by SAs stays known.
  void take(const config::Config& config, const std::set<ChildId>& borne);

  /// Whose it is; empty names for what nobody knows.
  [[nodiscard]] const ChildName& name(ChildId child) const;
  /// A connection's child; nullptr: it is not configured, or is a manual SA's.
  [[nodiscard]] const config::Child* find(ChildId child) const;
  /// What it may negotiate: as the configuration has it now and, behind that, as it had it before
  /// the child's last change. The key daemon may read the file later than we do, and answers rekeys
  /// by what it has read.
  [[nodiscard]] std::span<const ChildTerms> terms(ChildId child) const;
  /// Whether a manual SA bears it. The key daemon has no say in those.
  [[nodiscard]] bool is_manual(ChildId child) const { return name(child).manual; }
  /// Of a connection's child: which one of the file it is, from 0. Policy order.
  [[nodiscard]] std::optional<std::uint32_t> position(ChildId child) const;
  /// What is configured, in the order of the file, then the names of manual SAs.
  [[nodiscard]] const std::vector<ChildId>& in_order() const { return *in_order_; }
  /// The same, for whoever goes through it while another configuration may come.
  [[nodiscard]] std::shared_ptr<const std::vector<ChildId>> order() const { return in_order_; }

 private:
  struct Entry {
    ChildName name;
    const config::Child* configured = nullptr;
    std::uint32_t position = 0;  ///< of what is configured
    std::vector<ChildTerms> terms;
  };
  static std::vector<ChildTerms> after(const Entry* before, const config::Child& child);
  void take_manual(const config::ManualSa& sa, std::vector<ChildId>& order);

  std::unordered_map<ChildId, Entry> entries_;
  std::shared_ptr<const std::vector<ChildId>> in_order_ =
      std::make_shared<const std::vector<ChildId>>();
};

}  // namespace culvert::dataplane::control
