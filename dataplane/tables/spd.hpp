// The security policy database (RFC 4301 §4.4.1): ordered, first match wins. A new version is built
// aside and swapped; workers read an immutable snapshot. Single writer: main.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane {

enum class PolicyOrigin : std::uint8_t { configured, negotiated, trap, manual };
enum class PolicyAction : std::uint8_t { bypass, discard, protect };

/// One policy as the main thread has it. `protect` without an outbound SA is a trap: packets are
/// held and an SA is asked for, or dropped; never sent in clear. bypass and discard match both
/// directions of a flow; protect matches local → remote, and its reverse is what must not arrive in
/// clear (RFC 4301 §5.2).
struct PolicyEntry {
  PolicyOrigin origin = PolicyOrigin::configured;
  PolicyAction action = PolicyAction::discard;
  std::uint32_t child_index = 0;              ///< protect only
  channel::PolicyId policy{};                 ///< negotiated only
  std::vector<wire::TrafficSelector> local;   ///< configured: source
  std::vector<wire::TrafficSelector> remote;  ///< configured: destination
  SlotIndex outbound = kNoSlot;
  std::uint64_t packets = 0;  ///< carried over by `replace` for entries that stay
};

/// What a packet meets.
enum class Verdict : std::uint8_t {
  bypass,
  discard,
  protect,
  trap,                 ///< protect, but no SA
  cleartext_violation,  ///< in clear although its reverse is protected
  no_match,             ///< default_policy decides
};
struct PolicyMatch {
  Verdict verdict = Verdict::no_match;
  std::uint32_t entry = 0;        ///< position in the snapshot, for counters
  SlotIndex outbound = kNoSlot;   ///< protect
  std::uint32_t child_index = 0;  ///< protect, trap
};

/// A packet's selectors (RFC 4301 §4.4.1.1). Ports in host order; ICMP: type << 8 | code in both.
struct FlowKey {
  wire::IpAddress source, destination;
  std::uint16_t source_port = 0, destination_port = 0;
  std::uint8_t protocol = 0;
  bool ports_known = true;  ///< false for non-first fragments: only any-port and OPAQUE match
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

class Spd {
 public:
  Spd(std::uint32_t workers, Reclaimer& reclaimer);
  ~Spd();
  Spd(const Spd&) = delete;
  Spd& operator=(const Spd&) = delete;

  // ---- main thread ----

  /// The whole ordered list. Packet counts of entries that stay (same origin, child, policy id and
  /// selectors) are kept.
  void replace(std::vector<PolicyEntry> entries);
  /// One pointer store: the negotiated policy's traffic goes to another SA. False: no such policy.
  bool rebind(channel::PolicyId policy, SlotIndex outbound);
  /// No policy may name `outbound` any more; those that did become traps.
  void unbind(SlotIndex outbound);
  /// The current list with summed packet counts.
  [[nodiscard]] std::vector<PolicyEntry> entries() const;

  // ---- workers ----

  /// First match. `count_for` counts the packet on that worker's counter of the entry.
  [[nodiscard]] PolicyMatch lookup(const FlowKey& flow) const;
  void count(const PolicyMatch& match, WorkerId worker, std::uint32_t packets) const;
  /// Changes whenever any verdict may have changed: what flow caches compare.
  [[nodiscard]] std::uint64_t generation() const;

 private:
  struct Snapshot;
  std::atomic<const Snapshot*> current_;
  std::uint32_t workers_;
  Reclaimer& reclaimer_;
};

}  // namespace culvert::dataplane
