#include "ike/daemon/outbox.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace culvert::ike {

void Outbox::push(channel::Request& request) {
  requests_.push_back({++last_position_, DataplaneRequest(request)});
  if (request.type == channel::RequestType::install_sa) request.body.install_sa.key.wipe();
}

void Outbox::push(SendDatagram datagram) {
  datagrams_.push_back({last_position_, std::move(datagram)});
}

void Outbox::completed(channel::RequestId request) {
  const auto found = open_.find(request);
  if (found == open_.end()) return;
  open_positions_.erase(found->second);
  open_.erase(found);
}

Outbox::Position Outbox::oldest_unfinished() const {
  Position oldest = std::numeric_limits<Position>::max();
  if (!open_positions_.empty()) oldest = *open_positions_.begin();
  if (!requests_.empty()) oldest = std::min(oldest, requests_.front().position);
  return oldest;
}

void Outbox::drain(const std::function<bool(const channel::Request&)>& send_request,
                   const std::function<bool(const SendDatagram&)>& send_datagram) {
  while (!requests_.empty() && send_request(requests_.front().wanted.request)) {
    const HeldRequest& sent = requests_.front();
    if (open_.emplace(sent.wanted.request.id, sent.position).second) {
      open_positions_.insert(sent.position);
    }
    requests_.pop_front();
  }
  const Position oldest = oldest_unfinished();
  while (!datagrams_.empty() && datagrams_.front().after < oldest &&
         send_datagram(datagrams_.front().datagram)) {
    datagrams_.pop_front();
  }
}

void Outbox::clear() {
  requests_.clear();
  open_.clear();
  open_positions_.clear();
  datagrams_.clear();
}

}  // namespace culvert::ike
