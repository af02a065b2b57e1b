// What outlives an exchange: a refusal on its way to the peer and the log, and what a connection
// remembers between its IKE SAs.
#pragma once

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
  std::optional<std::uint32_t> child{};  ///< whom it is about
  bool silent = false;                   ///< not answered: the request comes again
  std::string awaits{};                  ///< not decided yet: see held_auth.hpp
};

/// What a connection remembers between its IKE SAs.
struct ConnectionState {
  const config::Connection* connection = nullptr;
  std::optional<Fingerprint> fingerprint{};  ///< of `connection`, once a record needed it
  std::optional<Failure> last_failure;
  std::string last_failure_detail;
  std::optional<std::uint32_t> failed_child;  ///< whom it is about; nullopt: the whole
  bool fails_while_up = false;                ///< it stands although children are up
  Instant retry_at{};                         ///< 0: not planned
  std::chrono::seconds backoff{};
  bool held_down = false;  ///< the operator terminated it
  /// What `connection` points to when it is not configured any more.
  std::unique_ptr<config::Connection> ghost{};
  std::set<std::uint32_t> held_children;
  std::set<std::uint32_t> keep;  ///< were up and shall be again
};
/// A command that waits for children to come up.
struct WaitingCommand {
  CommandId id{};
  std::set<std::uint32_t> children;
};

}  // namespace culvert::ike
