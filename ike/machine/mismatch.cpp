// What does not fit: one line in the log and one in status, with the cause, what we have, what the
// peer has, and what to change.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

/// Strangers get one log line in this time, however many packets they send.
constexpr std::chrono::seconds kStrangerReportInterval{1};
/// Connections that one line lists.
constexpr std::size_t kMostListed = 8;

}  // namespace

void Core::report(Level level, std::string event, Fields fields) {
  actions_->emplace_back(Report{level, std::move(event), std::move(fields)});
}

void Core::fail(const config::Connection* connection, Failure failure, const std::string& detail,
                Level level, Concern concern) {
  const FailureInfo& row = info(failure);
  Fields fields;
  if (connection != nullptr) {
    fields.emplace_back("connection", connection->name);
    remember(state_of(*connection), failure, detail, concern);
  }
  if (concern.child) fields.emplace_back("child", child_config(*concern.child).name);
  fields.emplace_back("failure", std::string(row.name));
  fields.emplace_back("detail", detail);
  fields.emplace_back("remedy", std::string(row.remedy));
  report(level, "negotiation_failed", std::move(fields));
}

void Core::remember(ConnectionState& state, Failure failure, std::string detail, Concern concern) {
  // Whoever has proved nothing takes the place of nothing that is known of a peer that has.
  const bool knocks = concern.attempt == Attempt::knock;
  const Attempt before = state.concern.attempt;
  const bool known = state.concern.child || (before != Attempt::none && before != Attempt::knock);
  if (knocks && known && has_usable_ike(*state.connection)) return;
  state.last_failure = failure;
  state.last_failure_detail = std::move(detail);
  state.concern = concern;
  state.failed_at = now_;
}

void Core::succeeded(const IkeSa& ike, Attempt attempt) {
  ConnectionState& state = state_of(*ike.connection);
  if (state.concern.attempt == attempt) clear_failure(state);
}

/// From somebody we know nothing of, so at most a line in a while.
void Core::fail_stranger(Failure failure, const std::string& detail, const wire::Endpoint& local,
                         const wire::Endpoint& remote) {
  if (now_ - last_stranger_report_ < kStrangerReportInterval) return;
  last_stranger_report_ = now_;
  last_stranger_ = StrangerStatus{failure, detail, {}};
  last_stranger_at_ = now_;
  report(Level::warning, "negotiation_failed",
         {{"failure", std::string(info(failure).name)},
          {"detail", detail},
          {"remedy", std::string(info(failure).remedy)},
          {"local", local.to_string()},
          {"remote", remote.to_string()}});
}

std::string Core::known_pairs() const {
  std::string text;
  std::size_t listed = 0;
  for (const ConnectionState& state : connections_) {
    if (state.ghost) continue;
    if (++listed > kMostListed) return text + ", …";
    const config::Connection& connection = *state.connection;
    const auto address = [](const std::optional<wire::IpAddress>& one) {
      return one ? one->to_string() : std::string("%any");
    };
    text += (text.empty() ? "" : ", ") + connection.name + ": " +
            address(connection.local.address) + " with " + address(connection.remote.address);
  }
  return text.empty() ? "no connection" : text;
}

/// The peer began and went no further. Anybody can send an IKE_SA_INIT: it takes the place of no
/// other failure, and is no news beside an IKE SA that stands.
void Core::never_authenticated(const IkeSa& ike) {
  const config::Connection& connection = *ike.connection;
  if (ike.connection->remote.address != ike.remote.address || has_usable_ike(connection) ||
      now_ - last_stranger_report_ < kStrangerReportInterval) {
    return;
  }
  ConnectionState& state = state_of(connection);
  if (state.last_failure && *state.last_failure != Failure::no_auth_request) return;
  last_stranger_report_ = now_;
  fail(&connection, Failure::no_auth_request,
       "ours: IKE_SA_INIT of " + ike.remote.to_string() +
           " was answered; the peer's: no IKE_AUTH within " +
           std::to_string(tuning_.half_open_timeout.count()) + " s");
}

/// An IKE SA that has just been authenticated, and how ESP will go.
void Core::note_nat_traversal(const IkeSa& ike) {
  const config::Encapsulation encapsulation = ike.connection->encapsulation;
  std::string detail;
  if (ike.nat_ignored) {
    detail = "ours: encap: no; the peer's: its notifies show a NAT on the way to " +
             ike.local.to_string() + ", or it forces encapsulation: ESP may not pass";
  } else if (encapsulation == config::Encapsulation::forced && !ike.nat_detection) {
    detail = "ours: encap: yes; the peer's: it does no NAT traversal: ESP goes without UDP";
  } else {
    return;
  }
  fail(ike.connection, Failure::nat_traversal_mismatch, detail, Level::warning, Attempt::standing);
}

/// A child that is up for less than the configuration says (RFC 7296 §2.9).
void Core::note_narrowing(const IkeSa& ike, ChildSa& child) {
  const config::Child& config = child_config(child.child_id);
  const SelectorPair ours = configured_selectors(config, ike);
  const SelectorPair agreed{child.local_selectors, child.remote_selectors};
  child.notice.reset();
  if (covers(agreed, ours)) return;
  child.notice = Failure::selectors_narrowed;
  child.notice_detail =
      "ours: " + text_of(ours) + "; agreed upon with the peer: " + text_of(agreed);
  if (child.redundant || child.replaces) return;
  report(Level::info, "child_narrowed",
         {{"connection", ike.connection->name},
          {"child", config.name},
          {"failure", std::string(info(*child.notice).name)},
          {"detail", child.notice_detail},
          {"remedy", std::string(info(*child.notice).remedy)}});
}

}  // namespace culvert::ike
