// IKE's two UDP ports for as many addresses of ours as there are: the kernel names the one that a
// datagram was for, and is told the one that it comes from. IPv4.
#pragma once

#include <expected>
#include <functional>
#include <string>

#include "channel/mapping.hpp"
#include "ike/machine/machine.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::load {

struct Received {
  wire::Endpoint local, remote;
  wire::Bytes message;  ///< without non-ESP marker
};

class Network {
 public:
  /// Binds UDP 500 and 4500 on all addresses.
  std::expected<void, std::string> open(runtime::EventLoop& loop,
                                        std::function<void(const Received&)> on_datagram);
  void send(const ike::SendDatagram& datagram);
  [[nodiscard]] std::uint64_t refused() const { return refused_; }

 private:
  std::expected<int, std::string> bind_port(std::uint16_t port);
  void receive(int descriptor, std::uint16_t port);

  std::function<void(const Received&)> on_datagram_;
  channel::Descriptor ike_, nat_;
  std::uint64_t refused_ = 0;  ///< datagrams that the kernel did not take
};

}  // namespace culvert::load
