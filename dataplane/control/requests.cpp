#include "dataplane/control/requests.hpp"

#include <algorithm>
#include <utility>

#include "runtime/log.hpp"

namespace culvert::dataplane::control {

using channel::Outcome;
using channel::RequestType;

bool Requests::handle_waiting(Instant now) {
  for (int handled = 0; handled < kHandledAtOnce; ++handled) {
    if (!send_waiting()) return false;  // the key daemon reads first; we come back with the scan
    auto request = channel_.next_request();
    if (!request) return false;
    channel::Event event;
    event.type = channel::EventType::completion;
    event.body.completion = handle(*request, now);
    event.body.completion.request = request->id;
    // The key daemon asks for a lease ahead of need, every second where there is no room.
    if (event.body.completion.outcome != Outcome::ok && request->type != RequestType::lease_spis) {
      runtime::log(runtime::Level::warning, "request_refused",
                   {{"request", channel::to_string(request->type)},
                    {"outcome", channel::to_string(event.body.completion.outcome)}});
    }
    waiting_.push_back(event);
  }
  return send_waiting();
}

/// A snapshot may be longer than the ring. True: nothing waits any more.
bool Requests::send_waiting() {
  while (!waiting_.empty()) {
    if (!channel_.send(waiting_.front())) return false;
    waiting_.pop_front();
  }
  return true;
}

channel::Completion Requests::handle(channel::Request& request, Instant now) {
  channel::Completion completion;
  switch (request.type) {
    case RequestType::none:
      completion.outcome = Outcome::unknown_request;
      break;
    case RequestType::install_sa:
      completion.outcome = associations_.install(request.body.install_sa, now);
      request.body.install_sa.key.wipe();
      break;
    case RequestType::install_policy:
      completion.outcome = install_policy(request.body.install_policy);
      break;
    case RequestType::switch_outbound:
      completion.outcome = policies_.switch_outbound(request.body.switch_outbound);
      break;
    case RequestType::delete_policy:
      completion.outcome = policies_.remove(request.body.delete_policy.policy);
      break;
    case RequestType::delete_sa:
      completion.outcome = associations_.remove(request.body.delete_sa.sa);
      break;
    case RequestType::update_endpoints:
      completion.outcome = associations_.update_endpoints(request.body.update_endpoints, now);
      break;
    case RequestType::lease_spis:
      lease(request.body.lease_spis, completion);
      break;
    case RequestType::query_sa:
      if (const auto traffic = associations_.query(request.body.query_sa.sa)) {
        completion.traffic = *traffic;
      } else {
        completion.outcome = traffic.error();
      }
      break;
    case RequestType::take_snapshot:
      collect_snapshot();
      break;
    case RequestType::keep_spis:
      keep(request.body.keep_spis, completion);
      break;
  }
  return completion;
}

Outcome Requests::install_policy(const channel::InstallPolicy& request) {
  const Outcome outcome = policies_.install(request);
  if (outcome == Outcome::ok) acquires_.answered(request.child_id);
  return outcome;
}

void Requests::lease(const channel::LeaseSpis& request, channel::Completion& completion) {
  const auto count =
      std::min<std::uint32_t>(request.count, static_cast<std::uint32_t>(channel::kMaxLeasedSpis));
  const auto spis = tables_.sad->lease_spis(count);
  if (spis.empty()) completion.outcome = Outcome::no_room;
  completion.spi_count = static_cast<std::uint32_t>(std::min(spis.size(), completion.spis.size()));
  std::copy_n(spis.begin(), completion.spi_count, completion.spis.begin());
}

void Requests::keep(const channel::KeepSpis& request, channel::Completion& completion) {
  for (std::uint32_t at = 0; at < request.count; ++at) {
    if (!tables_.sad->keep_lease(request.spis[at])) continue;
    completion.spis[completion.spi_count++] = request.spis[at];
  }
}

/// What the key daemon made and may take over again; manual SAs are not its business.
void Requests::collect_snapshot() {
  tables_.sad->for_each([&](SaRecord& record) {
    if (associations_.is_manual(record)) return;
    const channel::InstallSa& spec = record.spec;
    channel::Event event;
    event.type = channel::EventType::snapshot_sa;
    event.body.snapshot_sa = {spec.sa,    spec.child_id, spec.direction,        spec.spi,
                              spec.local, spec.remote,   spec.udp_encapsulation};
    waiting_.push_back(event);
  });
  for (const auto& [id, policy] : policies_.negotiated()) {
    channel::Event event;
    event.type = channel::EventType::snapshot_policy;
    event.body.snapshot_policy = {id, policy.child_id, policy.outbound_sa};
    waiting_.push_back(event);
  }
}

/// One may have gone and the next come since the last look: then this is called once, for both.
void Requests::peer_changed(Instant now) {
  if (std::exchange(is_connected_, false)) {
    runtime::log(runtime::Level::info, "key_daemon_disconnected");
  }
  // Whoever is there now has leased nothing yet: what is leased was somebody else's.
  tables_.sad->abandon_leases();
  waiting_.clear();
  if (!channel_.connected()) return;
  is_connected_ = true;
  runtime::log(runtime::Level::info, "key_daemon_connected");
  associations_.forget_announcements();
  acquires_.key_daemon_connected(now);
}

}  // namespace culvert::dataplane::control
