// What the machine wants carried out, in order, across two rings that know nothing of each other: a
// datagram leaves only when every request emitted before it has completed. So an inbound SA exists
// before the peer learns its SPI (docs/decisions/0002).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>

#include "channel/messages.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

class Outbox {
 public:
  /// Takes the request and wipes the caller's copy of its key.
  void push(channel::Request& request);
  void push(SendDatagram datagram);

  /// The data plane answered `request`; unknown ids are ignored.
  void completed(channel::RequestId request);

  /// Hands over what may go now. Each callback returns false when it cannot take more (ring full);
  /// the entry stays. Keys are wiped here once their request is handed over.
  void drain(const std::function<bool(const channel::Request&)>& send_request,
             const std::function<bool(const SendDatagram&)>& send_datagram);

  /// The data plane is gone: nothing of this will ever complete.
  void clear();

  [[nodiscard]] std::size_t waiting_requests() const { return requests_.size(); }
  [[nodiscard]] std::size_t open_requests() const { return open_.size(); }
  [[nodiscard]] std::size_t waiting_datagrams() const { return datagrams_.size(); }

 private:
  using Position = std::uint64_t;
  struct HeldRequest {
    Position position;
    DataplaneRequest wanted;
  };
  struct HeldDatagram {
    Position after;  ///< the last request before it; 0: none
    SendDatagram datagram;
  };
  [[nodiscard]] Position oldest_unfinished() const;

  Position last_position_ = 0;
  std::deque<HeldRequest> requests_;
  std::map<channel::RequestId, Position> open_;  ///< sent, not completed
  std::set<Position> open_positions_;            ///< the same
  std::deque<HeldDatagram> datagrams_;
};

}  // namespace culvert::ike
