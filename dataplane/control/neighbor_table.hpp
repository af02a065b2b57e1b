// Who is on the link: the state of every neighbour that ARP (RFC 826) or neighbour discovery
// (RFC 4861 §7) resolves. Pure: time comes in, actions go out; packets and tables are the caller's.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "dataplane/control/token_bucket.hpp"
#include "dataplane/control/topology.hpp"
#include "dataplane/ports/packet_holders.hpp"
#include "dataplane/tables/ids.hpp"
#include "runtime/event_loop.hpp"
#include "wire/arp.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

using runtime::Instant;

enum class NeighborState : std::uint8_t {
  stale,  ///< it asked for us, and said where it is: nobody has wanted it yet (RFC 4861 §7.3.2)
  incomplete,  ///< asked, no answer yet
  reachable,   ///< answered lately
  probing,     ///< in use, being asked again because the answer is old or contradicted
  failed,      ///< did not answer; not asked again for a while
  fixed,       ///< the operator wrote its MAC down: nothing on the link changes it
};
/// "stale", "incomplete", "reachable" (probing too: it is still used), "failed" or "static".
std::string_view to_string(NeighborState state);

/// Why a packet goes to a neighbour: anybody can send to any address of a connected network, while
/// the next hops of routes, and the peers on a link, are the operator's.
enum class WantedBy : std::uint8_t { packet, route };

/// What becomes of a packet for a neighbour.
enum class Wanted : std::uint8_t {
  hold,     ///< it is asked for
  failed,   ///< nobody answered lately
  refused,  ///< as many are asked for as may be, or are there: whether it is, nobody knows
};

/// Ask the link for `key`; straight to `unicast` when it is set (RFC 4861 §7.3.3, RFC 1122
/// §2.3.2.1).
struct Solicit {
  NeighborKey key;
  std::optional<wire::MacAddress> unicast;
};
/// From now on packets go to `mac`; waiting ones too.
struct Resolved {
  NeighborKey key;
  wire::MacAddress mac;
};
/// A neighbour that was reachable is no more; the next packet asks again.
struct Lost {
  NeighborKey key;
};
/// Nobody answered: what waits is dropped.
struct Failed {
  NeighborKey key;
};
/// It was asked for, and is forgotten before it answered or failed: what waits is dropped.
struct GaveWay {
  NeighborKey key;
};
using NeighborAction = std::variant<Solicit, Resolved, Lost, Failed, GaveWay>;

class NeighborTable {
 public:
  static constexpr std::size_t kMaxNeighbors = 8192;
  /// Of these, such as have not answered: packets to every address of a network make as many as
  /// they like (RFC 6583). The one that was asked for longest ago gives way to a new one when it
  /// has had kRetransmit to answer, and a table of those who did has room. A port with fewer than
  /// its share of the places takes one of the port with the most at once: who scans some links
  /// takes nothing from the others. A route's gives way to a route's alone.
  static constexpr std::size_t kMaxUnresolved = ports::kUnresolvedNeighbors;
  /// Of these, such as asked for us and are nobody's next hop: a host on the link makes up as many
  /// as it has addresses to say. The oldest gives way to a new one, and to whoever is wanted; they
  /// are in nobody else's way.
  static constexpr std::size_t kMaxStale = 1024;
  /// Places that nobody takes but the next hops of routes, of all and of the unresolved.
  static constexpr std::size_t kKeptForRoutes = 64;
  /// Neighbours that a port asks for anew because of a packet, a second (RFC 6583): each is a frame
  /// to everybody on the link. A place among kMaxUnresolved is its own for kRetransmit at this
  /// rate.
  static constexpr Rate kNewResolutions{400, 100};
  /// Such as asked for us that a port asks in turn because of a packet, a second. What goes there
  /// goes anyway; each that answers takes a place and makes workers look up their flows anew, and a
  /// host on the link is as many as it has addresses to say.
  static constexpr Rate kStaleAsked{50, 50};
  static constexpr int kMaxAttempts = 3;                           ///< RFC 4861 §10
  static constexpr Instant kRetransmit = std::chrono::seconds{1};  ///< RFC 4861 §10 RetransTimer
  static constexpr Instant kReachable = std::chrono::seconds{30};  ///< RFC 4861 §10
  static constexpr Instant kFailedHold = std::chrono::seconds{3};
  /// A neighbour that failed is still named so long, also when packets for it are rare.
  static constexpr Instant kFailedKnown = std::chrono::minutes{2};
  /// One that asked for us is remembered so long.
  static constexpr Instant kStaleKnown = std::chrono::minutes{2};

  struct Entry {
    NeighborState state = NeighborState::incomplete;
    /// Where packets go; of one that is incomplete, what it said itself before we asked.
    std::optional<wire::MacAddress> mac{};
    int attempts = 0;
    Instant since{};  ///< when the state was entered or confirmed
    Instant due{};    ///< when something happens next without a message
    /// Its place among the unresolved, the stale or those who answered; 0: it is none of them.
    std::uint64_t place = 0;
    WantedBy by = WantedBy::packet;  ///< once a route's, always
  };

  /// A packet wants to go there. Starts a resolution unless one is going on, or the neighbour
  /// failed lately.
  [[nodiscard]] Wanted want(const NeighborKey& key, WantedBy by, Instant now,
                            std::vector<NeighborAction>& out);
  /// A packet goes to the MAC that is known. Of one that is stale it is asked whether it is there
  /// (RFC 4861 §7.3.3).
  void used(const NeighborKey& key, WantedBy by, Instant now, std::vector<NeighborAction>& out);

  /// It answered. Believed only while we are asking, or when it repeats what we know: nobody tells
  /// us unasked (ARP spoofing).
  void answered(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                std::vector<NeighborAction>& out);
  /// It asked for one of our addresses, and wants the answer there (RFC 826). If there is no entry
  /// "the node SHOULD create a new one and set its reachability state to STALE" (RFC 4861 §7.2.3).
  /// One that claims another MAC than we know is probed.
  void asked_us(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                std::vector<NeighborAction>& out);
  /// It announced itself to everybody (gratuitous ARP, unsolicited advertisement): if it
  /// contradicts what we know, ask.
  void announced(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                 std::vector<NeighborAction>& out);
  /// From now on these have the MACs that the operator wrote down and nobody else has; one that was
  /// among them before and is no more is lost.
  void fix(const std::map<NeighborKey, wire::MacAddress>& neighbors, Instant now,
           std::vector<NeighborAction>& out);
  /// Retries, ages, forgets.
  void tick(Instant now, std::vector<NeighborAction>& out);
  /// Forgets everything on ports or addresses for which `gone` says so.
  template <typename Gone>
  void forget_if(Gone gone) {
    std::erase_if(entries_, [&](const auto& item) {
      if (!gone(item.first)) return false;
      settle(item.first, item.second);
      return true;
    });
  }

  [[nodiscard]] const std::map<NeighborKey, Entry>& entries() const { return entries_; }
  [[nodiscard]] const Entry* find(const NeighborKey& key) const;

 private:
  struct PortRate {
    Rate rate;
    std::map<PortId, TokenBucket> buckets{};
    /// Routes' are not counted.
    bool take(PortId port, WantedBy by, Instant now);
  };
  void confirm(const NeighborKey& key, Entry& entry, const wire::MacAddress& mac, Instant now,
               std::vector<NeighborAction>& out);
  void ask(const NeighborKey& key, WantedBy by, Instant now, std::vector<NeighborAction>& out);
  void probe(const NeighborKey& key, Entry& entry, Instant now, std::vector<NeighborAction>& out);
  void enter_stale(const NeighborKey& key, const wire::MacAddress& mac, Instant now);
  /// Whether the entry is to be erased.
  bool expire(const NeighborKey& key, Entry& entry, Instant now, std::vector<NeighborAction>& out);
  bool may_ask(const NeighborKey& key, WantedBy by, PortRate& rate, Instant now,
               std::vector<NeighborAction>& out);
  [[nodiscard]] bool has_room(WantedBy by) const;
  [[nodiscard]] std::optional<NeighborKey> to_give_way(PortId port, WantedBy by, Instant now) const;
  [[nodiscard]] bool had_its_time(const NeighborKey& key, Instant now) const;
  void give_way(const NeighborKey& key, std::vector<NeighborAction>& out);
  void forget_oldest_stale();
  void lose_oldest_answered(std::vector<NeighborAction>& out);
  /// It is none of the unresolved, the stale or those who answered any more.
  void settle(const NeighborKey& key, const Entry& entry);

  using Places = std::map<std::uint64_t, NeighborKey>;
  std::map<NeighborKey, Entry> entries_;
  /// Entries that are incomplete or failed, in the order in which they were asked for last: because
  /// of packets, of ports that have such, and because of routes.
  std::map<PortId, Places> unresolved_;
  std::size_t unresolved_count_ = 0;  ///< on all ports
  Places unresolved_of_routes_;
  /// Entries that are stale, in the order in which they first asked for us.
  Places stale_;
  /// Entries that are reachable or probing and no route's, in the order in which they answered
  /// last: in a full table the first gives way.
  Places answered_;
  std::uint64_t last_place_ = 0;
  PortRate new_resolutions_{kNewResolutions}, stale_asked_{kStaleAsked};
};

}  // namespace culvert::dataplane::control
