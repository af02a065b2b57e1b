// What outlives an exchange: a refusal on its way to the peer and the log, and what a connection
// remembers between its IKE SAs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "ike/machine/machine.hpp"
#include "ike/machine/payload_access.hpp"
#include "ike/machine/record_codec.hpp"

namespace culvert::ike {

/// Why we say no: what the peer gets to hear, and what our operator does.
struct Refusal {
  wire::ike::NotifyType notify{};
  Failure failure{};
  std::string detail;
  Octets data;
  std::optional<config::ChildId> child{};  ///< whom it is about
  bool silent = false;                     ///< not answered: the request comes again
  std::string awaits{};                    ///< not decided yet: see held_auth.hpp
};

/// What failed for a whole connection, whose children may stay up meanwhile: shown until the same
/// succeeds.
enum class Attempt : std::uint8_t {
  none,      ///< over with what it was about, or the failure is a child's
  standing,  ///< nothing was tried: the IKE SA that stands is not as configured
  ike_sa,    ///< another IKE SA: re-authentication, as a rule
  knock,     ///< the same, by somebody who has not proved himself: may be anybody
  ike_rekey,
  addresses,  ///< MOBIKE
};
/// Whom or what a failure concerns.
struct Concern {
  Concern() = default;
  Concern(config::ChildId child_id) : child(child_id) {}
  Concern(std::optional<config::ChildId> child_id) : child(child_id) {}
  Concern(Attempt whole) : attempt(whole) {}
  std::optional<config::ChildId> child;  ///< nullopt: the whole connection
  Attempt attempt{};
};

/// How many rekeys of a child there were since the start.
struct RekeyCount {
  std::uint64_t ok = 0, failed = 0;
};
/// What a connection remembers between its IKE SAs.
struct ConnectionState {
  const config::Connection* connection = nullptr;
  std::optional<Fingerprint> fingerprint{};  ///< of `connection`, once a record needed it
  std::optional<Failure> last_failure;
  std::string last_failure_detail;
  Concern concern;
  Instant failed_at{};
  Instant retry_at{};  ///< 0: not planned
  std::chrono::seconds backoff{};
  bool held_down = false;  ///< the operator terminated it
  /// What `connection` points to when it is not configured any more.
  std::unique_ptr<config::Connection> ghost{};
  std::set<config::ChildId> held_children;
  std::set<config::ChildId> keep;  ///< were up and shall be again
  std::map<config::ChildId, RekeyCount> rekeys{};
};
inline void clear_failure(ConnectionState& state) {
  state.last_failure.reset();
  state.last_failure_detail.clear();
  state.concern = {};
  state.failed_at = {};
}
/// A command that waits for children to come up.
struct WaitingCommand {
  CommandId id{};
  std::set<config::ChildId> children;
};

}  // namespace culvert::ike
