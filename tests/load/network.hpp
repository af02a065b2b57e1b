// IKE's two UDP ports and ESP for as many addresses of ours as there are: the kernel names the one
// that a packet was for, and is told the one that it comes from. IPv4.
#pragma once

#include <array>
#include <expected>
#include <functional>
#include <string>

#include "channel/mapping.hpp"
#include "ike/machine/machine.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::load {

struct Received {
  wire::Endpoint local, remote;
  wire::Bytes message;  ///< IKE without non-ESP marker; ESP from the SPI on
};

class Network {
 public:
  using OnReceived = std::function<void(const Received&)>;

  /// Binds UDP 500 and 4500, and protocol 50, on all addresses.
  std::expected<void, std::string> open(runtime::EventLoop& loop, OnReceived on_ike,
                                        OnReceived on_esp);
  void send(const ike::SendDatagram& datagram);
  /// As protocol 50, or in UDP between the endpoints' ports (RFC 3948).
  void send_esp(const wire::Endpoint& local, const wire::Endpoint& remote, bool udp_encapsulation,
                wire::Bytes esp);

  /// Packets that the kernel did not take from us.
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  /// Packets that the kernel had for us and no room: our receive buffers were full.
  [[nodiscard]] std::uint64_t overrun() const;

 private:
  static constexpr std::size_t kMostBytes = 8192;  ///< of a datagram
  struct Packet {
    std::array<std::uint8_t, kMostBytes> bytes;
    std::size_t length = 0;
    wire::Endpoint local, remote;  ///< as the socket's kind has ports
  };
  std::expected<channel::Descriptor, std::string> open_socket(int type, int protocol,
                                                              std::uint16_t port);
  /// False: there is none.
  static bool receive(int descriptor, std::uint16_t port, Packet& packet);
  void receive_ike();
  void receive_nat();
  void receive_esp();
  void send(int descriptor, const wire::Endpoint& local, const wire::Endpoint& remote,
            wire::Bytes front, wire::Bytes content);

  OnReceived on_ike_, on_esp_;
  channel::Descriptor ike_, nat_, esp_;
  std::uint64_t refused_ = 0;
};

}  // namespace culvert::load
