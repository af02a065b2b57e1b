// The operator's commands: initiate, terminate, rekey; start and shut down.
#include <algorithm>

#include "ike/machine/core.hpp"
#include "ike/machine/named.hpp"

namespace culvert::ike {

void Core::start(Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  for (ConnectionState& state : connections_) retry_connection(state);
}

void Core::on_command(const Command& command, Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  std::vector<const config::Connection*> connections;
  for (const ConnectionState& state : connections_) {
    if (state.ghost == nullptr) connections.push_back(state.connection);
  }
  const auto named = find_named(connections, command.verb, command.name);
  if (!named) {
    finish_commands({command.id}, false, named.error());
    return;
  }
  ConnectionState& state =
      *std::ranges::find(connections_, named->connection, &ConnectionState::connection);
  switch (command.verb) {
    case CommandVerb::initiate:
      initiate_target(state, named->child, command.id);
      return;
    case CommandVerb::terminate:
      terminate_target(state, named->child, command.id);
      return;
    case CommandVerb::rekey_child:
    case CommandVerb::rekey_ike:
      rekey_target(state, named->child, command);
      return;
  }
}

void Core::initiate_target(ConnectionState& state, const config::Child* only, CommandId id) {
  WaitingCommand waiting{id, {}};
  touch(state);
  state.held_down = false;
  for (const config::Child& child : state.connection->children) {
    if (only != nullptr && only != &child) continue;
    state.held_children.erase(child.id);
    if (live_child(child.id) == nullptr) waiting.children.insert(child.id);
  }
  if (waiting.children.empty()) {
    finish_commands({id}, true, "already up");
    return;
  }
  const std::set<config::ChildId> children = waiting.children;
  waiting_.push_back(std::move(waiting));
  for (const config::ChildId child_id : children) {
    if (ensure(child_id)) continue;
    child_is_not_coming(child_id, state.last_failure ? std::string(info(*state.last_failure).name) +
                                                           ": " + state.last_failure_detail
                                                     : "cannot be initiated from here");
    return;
  }
}

void Core::terminate_target(ConnectionState& state, const config::Child* only, CommandId id) {
  const auto of_interest = [&](config::ChildId child_id) {
    return only != nullptr ? only->id == child_id
                           : connection_index_.connection_of_child(child_id) == state.connection;
  };
  bool waits = false;
  touch(state);
  if (only != nullptr) {
    state.held_children.insert(only->id);
    state.keep.erase(only->id);
    for (const ChildSa* child : children_.of(only->id)) {
      if (!is_live(*child)) continue;
      Task task{.kind = TaskKind::delete_child, .child = child->inbound_sa};
      task.commands.push_back(id);
      IkeSa& ike = *find_ike(child->ike_spi);
      ike.queue.push_front(std::move(task));
      pump(ike);
      waits = true;
      break;
    }
  } else {
    state.held_down = true;
    state.keep.clear();
    state.retry_at = {};
    std::vector<std::uint64_t> unfinished;
    for (IkeSa* ike : peers_.of(*state.connection)) {
      if (ike->state == IkeState::init_sent || ike->state == IkeState::auth_sent ||
          ike->state == IkeState::half_open || ike->state == IkeState::superseded) {
        unfinished.push_back(ike->local_spi);
      } else if (ike->state == IkeState::established) {
        Task task{.kind = TaskKind::delete_ike};
        if (!waits && !ike->redundant) {
          task.commands.push_back(id);
          waits = true;
        }
        enqueue(*ike, std::move(task), true);
      }
    }
    for (const std::uint64_t spi : unfinished) {
      tell_responder(*find_ike(spi));
      close(*find_ike(spi), false, "terminated");
      remove(spi);
    }
  }
  for (const config::Child& child : state.connection->children) {
    if (!of_interest(child.id)) continue;
    child_is_not_coming(child.id, "terminated");
    retire_adopted(child.id, now_);
  }
  if (!waits) finish_commands({id}, true, "was not up");
}

void Core::rekey_target(ConnectionState& state, const config::Child* only, const Command& command) {
  IkeSa* ike = usable_ike(*state.connection);
  if (command.verb == CommandVerb::rekey_ike) {
    if (ike == nullptr) {
      finish_commands({command.id}, false, state.connection->name + " has no IKE SA");
      return;
    }
    Task task{.kind = TaskKind::rekey_ike};
    task.commands.push_back(command.id);
    enqueue(*ike, std::move(task));
    return;
  }
  const ChildSa* const child = live_child(only->id);
  if (child == nullptr) {
    finish_commands({command.id}, false, only->name + " is not up");
    return;
  }
  Task task{.kind = TaskKind::rekey_child, .child_id = child->child_id, .child = child->inbound_sa};
  task.commands.push_back(command.id);
  enqueue(*find_ike(child->ike_spi), std::move(task));
}

void Core::shut_down(Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  shutting_down_ = true;
  std::vector<std::uint64_t> unfinished;
  for (auto& [spi, ike] : ike_sas_) {
    if (ike->state == IkeState::established) {
      enqueue(*ike, Task{.kind = TaskKind::delete_ike}, true);
    } else if (ike->state == IkeState::init_sent || ike->state == IkeState::auth_sent ||
               ike->state == IkeState::half_open) {
      unfinished.push_back(spi);
    }
  }
  for (const std::uint64_t spi : unfinished) {
    tell_responder(*find_ike(spi));
    remove(spi);
  }
}

}  // namespace culvert::ike
