// What the key daemon asks for: each request acted upon, and answered by one completion.
#pragma once

#include <deque>

#include "channel/server.hpp"
#include "dataplane/control/acquires.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/policy_book.hpp"

namespace culvert::dataplane::control {

class Requests {
 public:
  /// Requests handled in one turn of the loop; the rest waits for the next.
  static constexpr int kHandledAtOnce = 512;

  Requests(Tables& tables, Associations& associations, PolicyBook& policies, Acquires& acquires,
           channel::Server& channel)
      : tables_(tables),
        associations_(associations),
        policies_(policies),
        acquires_(acquires),
        channel_(channel) {}

  /// True when requests are left.
  bool handle_waiting(Instant now);
  /// Connected, gone, or both: leases wait to be kept, announcements start over. Before the first
  /// request of whoever is there now.
  void peer_changed(Instant now);

 private:
  channel::Completion handle(channel::Request& request, Instant now);
  channel::Outcome install_policy(const channel::InstallPolicy& request);
  void lease(const channel::LeaseSpis& request, channel::Completion& completion);
  void keep(const channel::KeepSpis& request, channel::Completion& completion);
  void collect_snapshot();
  bool send_waiting();

  Tables& tables_;
  Associations& associations_;
  PolicyBook& policies_;
  Acquires& acquires_;
  channel::Server& channel_;
  std::deque<channel::Event> waiting_;  ///< completions and snapshot pieces, in order
  bool is_connected_ = false;           ///< and said so
};

}  // namespace culvert::dataplane::control
