// The policy table is ordered and the first match wins (RFC 4301 §4.4.1): explicit policies, then
// children, then manual SAs. An entry behind one that covers it is never used; two children whose
// selectors meet split their traffic in a way nobody reads off the file, unless they are of
// different peers and the first is an exception within the second. So it is with a bypass policy
// that takes a part of what a child protects: within the child's selectors it is an exception,
// beyond them an accident that nothing shows.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "config/checks.hpp"
#include "config/limits.hpp"

namespace culvert::config {
namespace {

using wire::TrafficSelector;

/// In the order of the table, wherever they stand in the file.
enum class Section : std::uint8_t { policies, children, manual_sas };

/// One pair of selectors as outbound packets meet it.
struct Entry {
  TrafficSelector local, remote;
  std::size_t order = 0;   ///< of the policy, child or manual SA in the table
  std::string_view peers;  ///< equal for children of the same peers; empty for others
  bool protects = false;   ///< of a child or a manual SA
  bool bypasses = false;   ///< of a bypass policy
  bool mirrored = false;   ///< a policy's other direction: covers, but is not reported itself
  Location location;
};
/// Who stands at an order, in words.
struct Owner {
  Section section = Section::policies;
  std::string path;  ///< "connections[0].children[1]"
  std::string name;  ///< "child office"
  Location location;
};
/// The worst that an earlier entry does to a later one.
struct Meeting {
  std::size_t earlier = 0;
  bool covered = false;
  bool same_peers = false;
  Location location;
  std::string selectors;
};
/// What a bypass policy takes beside what else it is for.
struct Leak {
  std::string selectors;
  std::set<std::size_t> of;  ///< orders of those that protect it
};

class PolicyTable {
 public:
  PolicyTable(const Config& config, Diagnostics& diagnostics) : diagnostics_(diagnostics) {
    add_policies(config.policies);
    add_children(config.connections);
    add_manual_sas(config.manual_sas);
  }

  void check() {
    sweep();
    report();
  }

 private:
  void add_policies(const std::vector<Policy>& policies) {
    for (const Policy& policy : policies) {
      const bool bypasses = policy.action == PolicyAction::bypass;
      owners_.push_back({Section::policies, "policies",
                         bypasses ? "the bypass policy" : "the discard policy", policy.location});
      const std::size_t order = owners_.size() - 1;
      add({policy.source, policy.destination, order, {}, false, bypasses, false, policy.location});
      add({policy.destination, policy.source, order, {}, false, bypasses, true, policy.location});
    }
  }

  void add_children(const std::vector<Connection>& connections) {
    for (std::size_t index = 0; index < connections.size(); ++index) {
      const Connection& connection = connections[index];
      const std::string_view peers = peers_of(connection);
      for (std::size_t at = 0; at < connection.children.size(); ++at) {
        const Child& child = connection.children[at];
        const std::string path = child_path(index, at);
        owners_.push_back({Section::children, path, "child " + child.name, child.location});
        if (!diagnostics_.has_error_under(path)) {
          add_pairs(child.local_ts, child.remote_ts, path, peers);
        }
      }
    }
  }

  void add_manual_sas(const std::vector<ManualSa>& manual_sas) {
    for (std::size_t index = 0; index < manual_sas.size(); ++index) {
      const ManualSa& sa = manual_sas[index];
      const std::string path = indexed("manual_sas", index);
      // Only outbound SAs stand in the table; inbound ones are found by their SPI.
      owners_.push_back({Section::manual_sas, path, "manual SA " + sa.name, sa.location});
      if (sa.direction != ManualSa::Direction::out || diagnostics_.has_error_under(path)) continue;
      add_pairs(sa.local_ts, sa.remote_ts, path, {});
    }
  }

  void add_pairs(const std::vector<TrafficSelector>& local,
                 const std::vector<TrafficSelector>& remote, const std::string& path,
                 std::string_view peers) {
    for (std::size_t index = 0; index < remote.size(); ++index) {
      const Location location = diagnostics_.place_of(indexed(path + ".remote_ts", index));
      for (const TrafficSelector& one : local) {
        if (one.first.family != remote[index].first.family) continue;
        add({one, remote[index], owners_.size() - 1, peers, true, false, false, location});
      }
    }
  }

  void add(const Entry& entry) {
    if (entries_.size() < limits::kComparedSelectors) {
      entries_.push_back(entry);
    } else {
      incomplete_ = true;
    }
  }

  std::string_view peers_of(const Connection& connection) {
    const auto text = [](const Peer& peer) {
      return (peer.address ? peer.address->to_string() : "%any") + "/" +
             (peer.id ? peer.id->text : peer.id_pattern);
    };
    const std::string peers = text(connection.local) + " " + text(connection.remote);
    return peers_.try_emplace(peers, true).first->first;
  }

  /// Entries sorted by their remote range meet only those that begin before they end.
  void sweep() {
    const auto start = [](const Entry& entry) {
      return std::tuple(entry.remote.first, entry.order);
    };
    std::ranges::sort(entries_, {}, start);
    std::size_t comparisons = 0;
    for (std::size_t index = 0; index < entries_.size(); ++index) {
      for (std::size_t other = index + 1; other < entries_.size(); ++other) {
        if (entries_[index].remote.last < entries_[other].remote.first) break;
        if (++comparisons > limits::kSelectorComparisons) {
          incomplete_ = true;
          return;
        }
        const bool in_order = entries_[index].order < entries_[other].order;
        meet(entries_[in_order ? index : other], entries_[in_order ? other : index]);
      }
    }
  }

  void meet(const Entry& earlier, const Entry& later) {
    if (earlier.order == later.order || later.mirrored) return;
    const bool covered = earlier.local.covers(later.local) && earlier.remote.covers(later.remote);
    const bool same_peers = !later.peers.empty() && earlier.peers == later.peers;
    const bool is_exception =
        later.local.covers(earlier.local) && later.remote.covers(earlier.remote);
    const bool splits = earlier.protects && (same_peers || !is_exception);
    const bool leaks = earlier.bypasses && later.protects && !covered && !is_exception;
    if (!covered && !splits && !leaks) return;
    if (!earlier.local.overlaps(later.local) || !earlier.remote.overlaps(later.remote)) return;
    if (leaks) {
      const TrafficSelector& source = earlier.mirrored ? earlier.remote : earlier.local;
      const TrafficSelector& destination = earlier.mirrored ? earlier.local : earlier.remote;
      Leak& leak = leaks_[earlier.order];
      leak.selectors = source.to_string() + " to " + destination.to_string();
      leak.of.insert(later.order);
      return;
    }
    const auto [place, is_new] = meetings_.try_emplace(later.order);
    Meeting& worst = place->second;
    const bool worse = is_new || (covered && !worst.covered) ||
                       (covered == worst.covered && earlier.order < worst.earlier);
    if (!worse) return;
    worst = {earlier.order, covered, same_peers, later.location,
             later.local.to_string() + " to " + later.remote.to_string()};
  }

  void report() {
    for (const auto& [order, meeting] : meetings_) {
      const Owner& later = owners_[order];
      const Owner& earlier = owners_[meeting.earlier];
      const std::string where = earlier.name + " in line " + std::to_string(earlier.location.line);
      if (meeting.covered) {
        diagnostics_.error(meeting.location, later.path,
                           {quote(meeting.selectors) + ", all of which " + where + " takes",
                            "selectors that no earlier entry covers (the first match wins)",
                            advice_for_covered(later, earlier)});
      } else {
        diagnostics_.warning(
            meeting.location, later.path,
            {quote(meeting.selectors) + ", which overlaps " + where,
             meeting.same_peers ? "children of the same peers with disjoint selectors"
                                : "disjoint selectors, or the narrower ones first",
             "the earlier one takes what both match; narrow one of them"});
      }
    }
    report_leaks();
    if (incomplete_) {
      diagnostics_.warning({1, 1}, "",
                           {"more selectors than can be compared with each other",
                            "fewer or more distinct selectors", "overlaps may go unnoticed"});
    }
  }

  static std::string advice_for_covered(const Owner& later, const Owner& earlier) {
    if (later.section == earlier.section) {
      return "move it in front of " + earlier.name + ", or remove it";
    }
    const char* order = earlier.section == Section::policies
                            ? ", because policies are looked at before all others"
                            : ", because children are looked at before manual SAs";
    return "narrow " + earlier.name + order + ", or remove this one";
  }

  void report_leaks() {
    for (const auto& [order, leak] : leaks_) {
      const Owner& first = owners_[*leak.of.begin()];
      std::string whose = first.name + " in line " + std::to_string(first.location.line);
      if (leak.of.size() > 1) whose += " and of " + std::to_string(leak.of.size() - 1) + " more";
      diagnostics_.warning(
          owners_[order].location, owners_[order].path,
          {quote(leak.selectors) + ", which lets a part of " + whose + " out in clear",
           "selectors within those that are protected, as an exception, or beside them",
           "narrow source and destination to what may leave in clear"});
    }
  }

  Diagnostics& diagnostics_;
  std::vector<Entry> entries_;
  std::vector<Owner> owners_;
  std::map<std::string, bool> peers_;
  std::map<std::size_t, Meeting> meetings_;  ///< by the order of the later one
  std::map<std::size_t, Leak> leaks_;        ///< by the order of the bypass policy
  bool incomplete_ = false;
};

}  // namespace

void check_policy_order(const Config& config, Diagnostics& diagnostics) {
  PolicyTable(config, diagnostics).check();
}

}  // namespace culvert::config
