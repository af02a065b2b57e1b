#include "dataplane/control/acquires.hpp"

#include "dataplane/control/flow_of.hpp"

namespace culvert::dataplane::control {

void Acquires::arrived(Packet packet, const PuntedPacket& origin, Instant now) {
  const config::Child* const child = children_.find(origin.child_id);
  // start_action none: the operator brings the child up; until then its traffic is refused.
  const bool wanted = child != nullptr && child->start_action != config::StartAction::none;
  if (!wanted) {
    packets_.drop(std::move(packet), DropDirection::out, DropReason::no_sa);
    return;
  }
  if (tracker_.want(origin.child_id, now)) ask(origin.child_id, bytes_of(packet));
  if (held_.is_full(origin.child_id)) {
    packets_.drop(std::move(packet), DropDirection::out, DropReason::acquire_queue_full);
    return;
  }
  held_.push(origin.child_id, {std::move(packet), origin});
}

void Acquires::ask(ChildId child_id, wire::Bytes packet) {
  // Without room the question waits: for a tick, or for the key daemon that connects.
  if (channel_.event_room() == 0) return;
  const auto flow = flow_of(packet);
  if (!flow) return;
  channel::Event event;
  event.type = channel::EventType::acquire;
  event.body.acquire = {child_id,       flow->source,      flow->destination,
                        flow->protocol, flow->source_port, flow->destination_port};
  if (channel_.send(event)) tracker_.asked(child_id);
}

void Acquires::answered(ChildId child_id) {
  tracker_.answered(child_id);
  for (Held& held : held_.take(child_id)) {
    packets_.resume(std::move(held.packet), held.origin);
  }
}

void Acquires::tick(Instant now) {
  for (const ChildId child_id : tracker_.expire(now)) {
    for (Held& held : held_.take(child_id)) {
      packets_.drop(std::move(held.packet), DropDirection::out, DropReason::no_sa);
    }
  }
  ask_again(now);
}

/// As long as the ring has room, and for as long as packets are held.
void Acquires::ask_again(Instant now) {
  if (channel_.event_room() == 0) return;
  for (const ChildId child_id : tracker_.unasked(now)) {
    const Held* const first = held_.first(child_id);
    if (first != nullptr) ask(child_id, bytes_of(first->packet));
  }
}

void Acquires::key_daemon_connected(Instant now) {
  for (const ChildId child : tracker_.pending()) {
    auto waiting = held_.take(child);
    tracker_.answered(child);
    for (Held& held : waiting) arrived(std::move(held.packet), held.origin, now);
  }
}

void Acquires::stop() {
  for (Held& held : held_.take_all()) {
    packets_.drop(std::move(held.packet), DropDirection::out, DropReason::shutting_down);
  }
}

}  // namespace culvert::dataplane::control
