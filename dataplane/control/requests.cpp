#include "dataplane/control/requests.hpp"

#include <algorithm>
#include <utility>

#include "runtime/log.hpp"

namespace culvert::dataplane::control {

using channel::Outcome;
using channel::RequestType;

std::optional<Instant> Requests::handle_waiting(Instant now) {
  // What is behind a snapshot waits for its end, as if that were one step.
  if (snapshot_) return go_on_with_snapshot();
  // Changes come faster than scans: what earlier ones have replaced would pile up.
  tables_.reclaimer->poll();
  const Instant end = clock_() + kTurn;
  for (int handled = 0; handled < kHandledAtOnce; ++handled) {
    if (handled > 0 && clock_() >= end) break;
    auto request = channel_.next_request();
    if (!request) return std::nullopt;
    if (request->type == RequestType::take_snapshot) {
      snapshot_.emplace(associations_, policies_, channel_, request->id);
      return go_on_with_snapshot();
    }
    const channel::Completion completion = handle(*request, now);
    // The key daemon asks for a lease ahead of need, every second where there is no room.
    if (completion.outcome != Outcome::ok && request->type != RequestType::lease_spis) {
      runtime::log(runtime::Level::warning, "request_refused",
                   {{"request", channel::to_string(request->type)},
                    {"outcome", channel::to_string(completion.outcome)}});
    }
    answer(request->id, completion);
  }
  return Instant::zero();
}

/// The ring has kept its place: it is lost only together with its key daemon.
void Requests::answer(channel::RequestId request, const channel::Completion& completion) {
  channel::Event event;
  event.type = channel::EventType::completion;
  event.body.completion = completion;
  event.body.completion.request = request;
  channel_.send(event);
}

std::optional<Instant> Requests::go_on_with_snapshot() {
  switch (snapshot_->work()) {
    case Snapshot::Progress::more:
      return Instant::zero();
    case Snapshot::Progress::full:
      return kReadingPause;
    case Snapshot::Progress::stuck:
      return std::nullopt;
    case Snapshot::Progress::ended:
      break;
  }
  answer(snapshot_->request(), {});
  snapshot_.reset();
  return Instant::zero();
}

channel::Completion Requests::handle(channel::Request& request, Instant now) {
  channel::Completion completion;
  switch (request.type) {
    case RequestType::none:
    case RequestType::take_snapshot:  // no single step
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

/// One may have gone and the next come since the last look: then this is called once, for both.
void Requests::peer_changed(Instant now) {
  if (std::exchange(is_connected_, false)) {
    runtime::log(runtime::Level::info, "key_daemon_disconnected");
  }
  // Whoever is there now has leased nothing yet: what is leased was somebody else's.
  tables_.sad->abandon_leases();
  snapshot_.reset();
  if (!channel_.connected()) return;
  is_connected_ = true;
  runtime::log(runtime::Level::info, "key_daemon_connected");
  associations_.forget_announcements();
  acquires_.key_daemon_connected(now);
}

}  // namespace culvert::dataplane::control
