// What the key daemon asks for: each request acted upon, and answered by one completion.
#pragma once

#include <optional>

#include "channel/server.hpp"
#include "dataplane/control/acquires.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/policy_book.hpp"
#include "dataplane/control/snapshot.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::dataplane::control {

class Requests {
 public:
  /// Requests handled in one turn of the loop; the rest waits for the next.
  static constexpr int kHandledAtOnce = 512;
  /// After this a turn ends, whatever it was asked for: an SA takes some µs, a policy of many
  /// selectors a hundred times that, and neighbours, punts and expiries wait for the end.
  static constexpr Instant kTurn = std::chrono::milliseconds{2};
  /// Until a key daemon that reads a snapshot has made room, for which it does not ring.
  static constexpr Instant kReadingPause = std::chrono::milliseconds{1};

  Requests(Tables& tables, Associations& associations, PolicyBook& policies, Acquires& acquires,
           channel::Server& channel, Instant (*clock)() = runtime::now)
      : tables_(tables),
        associations_(associations),
        policies_(policies),
        acquires_(acquires),
        channel_(channel),
        clock_(clock) {}

  /// How soon there is more to do; nullopt: when the key daemon rings, or with the next scan.
  std::optional<Instant> handle_waiting(Instant now);
  /// Connected, gone, or both: leases wait to be kept, announcements start over. Before the first
  /// request of whoever is there now.
  void peer_changed(Instant now);

 private:
  channel::Completion handle(channel::Request& request, Instant now);
  channel::Outcome install_policy(const channel::InstallPolicy& request);
  void lease(const channel::LeaseSpis& request, channel::Completion& completion);
  void keep(const channel::KeepSpis& request, channel::Completion& completion);
  void answer(channel::RequestId request, const channel::Completion& completion);
  std::optional<Instant> go_on_with_snapshot();

  Tables& tables_;
  Associations& associations_;
  PolicyBook& policies_;
  Acquires& acquires_;
  channel::Server& channel_;
  Instant (*clock_)();
  std::optional<Snapshot> snapshot_;  ///< that is being taken
  bool is_connected_ = false;         ///< and said so
};

}  // namespace culvert::dataplane::control
