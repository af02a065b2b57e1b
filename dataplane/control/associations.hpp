// Security associations as the main thread keeps them: installed and removed as the key daemon
// asks, watched until they expire, their traffic credited to their child for good.
#pragma once

#include <array>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "channel/server.hpp"
#include "dataplane/control/child_accounts.hpp"
#include "dataplane/control/child_count.hpp"
#include "dataplane/control/child_directory.hpp"
#include "dataplane/control/child_round.hpp"
#include "dataplane/control/dummy_packets.hpp"
#include "dataplane/control/lifetime.hpp"
#include "dataplane/control/outbound_index.hpp"
#include "dataplane/control/path_mtu.hpp"
#include "dataplane/control/steering.hpp"
#include "dataplane/control/token_bucket.hpp"
#include "dataplane/control/topology.hpp"
#include "dataplane/control/unreachable.hpp"
#include "dataplane/tables/tables.hpp"

namespace culvert::dataplane::control {

class Packets;

class Associations {
 public:
  /// SAs examined for expiry in one scan: 64 k SAs are gone through three times a second, a million
  /// in ten seconds, and a scan takes well under a millisecond. Workers end an SA at its very time;
  /// what waits for the scan is the key daemon's word of it.
  static constexpr std::size_t kScannedAtOnce = 4096;
  /// Of what routers say of packets too big, what is believed and news: each is logged.
  static constexpr Rate kTooBigMessages{1000, 1000};

  Associations(Tables& tables, const Topology& topology, const ChildDirectory& children,
               Steering& steering)
      : tables_(tables), topology_(topology), children_(children), steering_(steering) {}

  /// Installs an SA that the key daemon negotiated. The caller wipes the key.
  channel::Outcome install(const channel::InstallSa& request, Instant now);
  /// What stands against a manual SA, in words; nullopt: neither addresses nor routes.
  [[nodiscard]] std::optional<std::string> why_not_manual(const channel::InstallSa& request) const;
  /// `settings`: but for what `configured` says and the path MTU, which are filled in. The error is
  /// a sentence.
  std::expected<SlotIndex, std::string> install_manual(const channel::InstallSa& request,
                                                       const config::ManualSa& configured,
                                                       Instant now, SaSettings settings = {});
  /// As `remove`, for the configuration to ask. `then`: Sad::remove's.
  channel::Outcome remove_manual(channel::SaId sa, TakeLastNumbers then);
  /// The same of an inbound one that another follows under its SPI.
  channel::Outcome remove_for_successor(channel::SaId sa, TakeLastNumbers then);
  /// Its policies become traps first: not a packet leaves in clear meanwhile.
  channel::Outcome remove(channel::SaId sa);
  channel::Outcome update_endpoints(const channel::UpdateEndpoints& request, Instant now);
  [[nodiscard]] std::expected<channel::SaTraffic, channel::Outcome> query(channel::SaId sa) const;

  /// An ICMP message to us that may say that packets of an SA are too big for their path. The SA
  /// sends smaller ones, or why it was not believed.
  [[nodiscard]] std::expected<void, DropReason> too_big(wire::Bytes packet, Instant now);
  /// An ICMP message to us that may say that packets of an SA do not arrive: it is remembered for
  /// the SA's child, and nothing else is done about it. Whether it was.
  [[nodiscard]] bool unreachable(wire::Bytes packet);
  /// What was said last of the child's packets.
  [[nodiscard]] std::optional<Unreachable> unreachable_of(ChildId child) const {
    return unreachables_.of(child);
  }
  /// SAs whose learnt path MTU is old try the link's again. Call now and then.
  void expire_path_mtus(Instant now);

  /// SAs whose children want it send dummy packets where they have sent nothing of their own
  /// (RFC 4303 §2.6). Call at `next_dummy`, or some milliseconds later.
  void send_dummies(Packets& packets, Instant now);
  /// nullopt: no SA sends any.
  [[nodiscard]] std::optional<Instant> next_dummy() const { return dummies_.next(); }

  /// Announces what expires; stops what is over by time and carries nothing. Call about fifty times
  /// a second.
  void scan(channel::Server& channel, Instant now);
  /// A new key daemon is to be told again what is over.
  void forget_announcements() { ++listener_; }
  /// Children and manual SAs that SAs bear, configured or not.
  [[nodiscard]] std::set<ChildId> borne() const;
  /// The directory is another one: what a child carried is forgotten when nobody knows it any more.
  void children_changed();
  /// Our addresses may be on other ports than before: inbound SAs come by those now. As many at
  /// once as a scan examines, by `steer_some`.
  void steer_again();
  /// Call as often as `scan`.
  void steer_some();

  [[nodiscard]] bool is_live(const SaRecord& record) const;
  /// How many pass packets, as far as scans have seen.
  [[nodiscard]] std::uint32_t live(channel::Direction direction) const;
  [[nodiscard]] bool is_manual(const SaRecord& record) const {
    return children_.is_manual(record.spec.child_id);
  }
  [[nodiscard]] const ChildAccounts& accounts() const { return *accounts_; }
  /// Whoever began it goes on with it by `count_some`, and ends it.
  [[nodiscard]] ChildRound& round() { return round_; }
  /// Up to `count` SAs more have their turn in the round.
  void count_some(std::size_t count);
  /// Up to `most` SAs of its child have their turn. How many had.
  std::size_t count_some(ChildCount& count, std::size_t most);
  /// It is told of SAs that come and end from here on, until it is `left_alone`.
  void keep_whole(ChildCount& count) { counts_.push_back(&count); }
  void left_alone(ChildCount& count) { std::erase(counts_, &count); }
  /// Visits up to `most` SAs by falling identifier, as a rule the newest first: those below `below`
  /// (nullopt: all), which becomes the last one's. True: there are no more. SAs may come and go
  /// between two calls.
  bool visit_some(std::optional<channel::SaId>& below, std::size_t most,
                  const std::function<void(const SaRecord&)>& visit) const;
  /// When it was installed.
  [[nodiscard]] std::optional<Instant> installed(channel::SaId sa) const;

 private:
  [[nodiscard]] std::optional<channel::Outcome> refuse(const channel::InstallSa& request) const;
  [[nodiscard]] const SaRecord* find_outbound(std::uint32_t spi,
                                              const wire::IpAddress& remote) const;
  [[nodiscard]] SaSettings settings_of(const channel::InstallSa& request,
                                       const config::HeaderOptions& headers, Instant now);
  void take_links_mtu(const std::vector<channel::SaId>& sas);
  /// The SA sends to another peer than `before`, or from elsewhere: what is known of its path now.
  void move_path_mtu(const channel::InstallSa& spec, const wire::Endpoint& before, Instant now);
  void index_outbound(const channel::InstallSa& request);
  void unindex_outbound(const channel::InstallSa& spec);
  void watch(const channel::InstallSa& request, Instant now);
  void schedule_dummies(const channel::InstallSa& request, const SaSettings& settings, Instant now);
  void fill_turns(Packets& packets, const SaRecord& record, DummySource& source,
                  std::uint64_t turns, Instant now);
  [[nodiscard]] std::size_t dummy_bytes(const Packets& packets, const SaRecord& record,
                                        const DummySource& source);
  [[nodiscard]] bool send_dummy(Packets& packets, const SaRecord& record, std::size_t bytes);
  void steer(const channel::InstallSa& spec, SlotIndex slot);
  void set_end(const SaRecord& record, const LifetimeWatch& watch, Instant now);
  /// All but the SA itself.
  [[nodiscard]] TakeTraffic take_out(const SaRecord& record);
  void examine(channel::SaId sa, LifetimeWatch& watch, channel::Server& channel, Instant now);

  Tables& tables_;
  const Topology& topology_;
  const ChildDirectory& children_;
  Steering& steering_;
  /// Shared with SAs in their grace, which may outlive this.
  std::shared_ptr<ChildAccounts> accounts_ = std::make_shared<ChildAccounts>();
  ChildRound round_{*accounts_};
  std::vector<ChildCount*> counts_;  ///< one a client who asks
  std::set<std::pair<ChildId, channel::SaId>> by_child_;
  std::map<channel::SaId, LifetimeWatch> watches_;
  std::array<std::uint32_t, 2> over_{};  ///< installed SAs that are over, by direction
  channel::SaId scan_from_{}, steer_from_{};
  bool steers_again_ = false;
  std::uint32_t listener_ = 0;  ///< how many key daemons there have been
  OutboundIndex outbound_;
  PathMtus path_mtus_;
  TokenBucket too_big_{kTooBigMessages, Instant{}};
  Unreachables unreachables_;
  DummySchedule dummies_;
  TokenBucket dummy_rate_{{}, Instant{}};  ///< of all SAs together
  bool dummies_bounded_ = false;           ///< and said so
};

/// Milliseconds since an SA's last packet; ~0 when there never was one, or nobody knows.
[[nodiscard]] std::uint64_t idle_milliseconds(std::uint64_t last_packet_tsc);
/// Seconds since a reading of the time-stamp counter; nullopt for 0, and for one that is of another
/// count: a guest that was reset, or a machine that hibernated, begins anew.
[[nodiscard]] std::optional<double> seconds_since(std::uint64_t tsc);
/// The same as of another reading.
[[nodiscard]] std::optional<double> seconds_between(std::uint64_t tsc, std::uint64_t now);

}  // namespace culvert::dataplane::control
