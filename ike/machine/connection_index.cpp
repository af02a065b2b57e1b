#include "ike/machine/connection_index.hpp"

namespace culvert::ike {

void ConnectionIndex::rebuild(const std::vector<ConnectionState>& connections) {
  *this = {};
  for (std::size_t place = 0; place < connections.size(); ++place) {
    const config::Connection& connection = *connections[place].connection;
    places_.emplace(&connection, place);
    // One that is not configured any more takes nobody in.
    if (connections[place].ghost) continue;
    names_.emplace(connection.name, &connection);
    ids_.emplace(config::connection_id(connection.name), &connection);
    for (const config::Child& child : connection.children) {
      children_.emplace(child.id, Place{&connection, &child});
    }
    auto& group = connection.remote.address ? by_remote_[*connection.remote.address] : any_remote_;
    group.push_back(&connection);
  }
}

std::optional<std::size_t> ConnectionIndex::place_of(const config::Connection& connection) const {
  const auto found = places_.find(&connection);
  if (found == places_.end()) return std::nullopt;
  return found->second;
}

const config::Connection* ConnectionIndex::find(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : found->second;
}

const config::Connection* ConnectionIndex::find(config::ConnectionId id) const {
  const auto found = ids_.find(id);
  return found == ids_.end() ? nullptr : found->second;
}

const config::Child* ConnectionIndex::find_child(config::ChildId child) const {
  const auto found = children_.find(child);
  return found == children_.end() ? nullptr : found->second.child;
}

const config::Connection* ConnectionIndex::connection_of_child(config::ChildId child) const {
  const auto found = children_.find(child);
  return found == children_.end() ? nullptr : found->second.connection;
}

std::vector<const config::Connection*> ConnectionIndex::between(
    const wire::IpAddress& local, const wire::IpAddress& remote) const {
  std::vector<const config::Connection*> all;
  const auto take = [&](const std::vector<const config::Connection*>& group) {
    for (const config::Connection* connection : group) {
      if (connection->local.address && *connection->local.address != local) continue;
      all.push_back(connection);
    }
  };
  if (const auto exact = by_remote_.find(remote); exact != by_remote_.end()) take(exact->second);
  take(any_remote_);
  return all;
}

}  // namespace culvert::ike
