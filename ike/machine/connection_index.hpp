// Configured connections by what one has of them: the object, a name, a pair of addresses.
#pragma once

#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ike/machine/connection_state.hpp"

namespace culvert::ike {

class ConnectionIndex {
 public:
  /// `connections` have become others. Their configurations outlive the next call of this.
  void rebuild(const std::vector<ConnectionState>& connections);
  /// Its position.
  [[nodiscard]] std::optional<std::size_t> place_of(const config::Connection& connection) const;
  /// nullptr: none of that name is configured.
  [[nodiscard]] const config::Connection* find(std::string_view name) const;
  [[nodiscard]] const config::Connection* find(config::ConnectionId id) const;
  /// nullptr: it is not configured, or not any more.
  [[nodiscard]] const config::Child* find_child(config::ChildId child) const;
  [[nodiscard]] const config::Connection* connection_of_child(config::ChildId child) const;
  /// Those that a message between these may be for: first what names the peer's address, then what
  /// takes any, in the order of the configuration.
  [[nodiscard]] std::vector<const config::Connection*> between(const wire::IpAddress& local,
                                                               const wire::IpAddress& remote) const;

 private:
  std::unordered_map<const config::Connection*, std::size_t> places_;
  std::unordered_map<std::string_view, const config::Connection*> names_;
  std::unordered_map<config::ConnectionId, const config::Connection*> ids_;
  struct Place {
    const config::Connection* connection = nullptr;
    const config::Child* child = nullptr;
  };
  std::unordered_map<config::ChildId, Place> children_;
  std::map<wire::IpAddress, std::vector<const config::Connection*>> by_remote_;
  std::vector<const config::Connection*> any_remote_;
};

}  // namespace culvert::ike
