#include "tests/load/network.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace culvert::load {
namespace {

constexpr std::uint16_t kIkePort = 500, kNatPort = 4500;
constexpr std::size_t kMarkerBytes = 4;  ///< RFC 3948 §2.2: four zero octets before IKE
/// A burst of answers to all peers at once.
constexpr int kReceiveBufferBytes = 16 << 20;
/// Datagrams taken in one turn, so that timers get theirs.
constexpr int kAtOnce = 256;

std::string failed(const char* call) { return std::string(call) + ": " + std::strerror(errno); }

sockaddr_in address_of(const wire::Endpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(endpoint.port);
  address.sin_addr.s_addr = htonl(endpoint.address.v4_host());
  return address;
}

/// The one control message we speak of: which local address.
union PacketInfo {
  cmsghdr header;
  std::array<char, CMSG_SPACE(sizeof(in_pktinfo))> space;
};

}  // namespace

std::expected<int, std::string> Network::bind_port(std::uint16_t port) {
  const int descriptor = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return std::unexpected(failed("socket"));
  const int yes = 1;
  ::setsockopt(descriptor, IPPROTO_IP, IP_PKTINFO, &yes, sizeof(yes));
  ::setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes,
               sizeof(kReceiveBufferBytes));
  const sockaddr_in any = address_of({wire::IpAddress::v4(0), port});
  if (::bind(descriptor, reinterpret_cast<const sockaddr*>(&any), sizeof(any)) != 0) {
    auto error = failed("bind");
    ::close(descriptor);
    return std::unexpected(std::move(error));
  }
  return descriptor;
}

std::expected<void, std::string> Network::open(runtime::EventLoop& loop,
                                               std::function<void(const Received&)> on_datagram) {
  on_datagram_ = std::move(on_datagram);
  for (const std::uint16_t port : {kIkePort, kNatPort}) {
    const auto descriptor = bind_port(port);
    if (!descriptor) return std::unexpected(descriptor.error());
    (port == kIkePort ? ike_ : nat_) = channel::Descriptor(*descriptor);
    const auto watched =
        loop.add(*descriptor, [this, fd = *descriptor, port] { receive(fd, port); });
    if (!watched) return watched;
  }
  return {};
}

void Network::receive(int descriptor, std::uint16_t port) {
  std::array<std::uint8_t, 8192> bytes;
  for (int taken = 0; taken < kAtOnce; ++taken) {
    sockaddr_in from{};
    PacketInfo info{};
    iovec piece{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = &info;
    message.msg_controllen = sizeof(info);
    const ssize_t length = ::recvmsg(descriptor, &message, 0);
    if (length < 0) return;
    const cmsghdr* const control = CMSG_FIRSTHDR(&message);
    if (control == nullptr || control->cmsg_type != IP_PKTINFO) continue;
    in_pktinfo to{};
    std::memcpy(&to, CMSG_DATA(control), sizeof(to));
    wire::Bytes content(bytes.data(), static_cast<std::size_t>(length));
    if (port == kNatPort) {
      if (content.size() < kMarkerBytes) continue;  // a keepalive
      content = content.subspan(kMarkerBytes);
    }
    on_datagram_({{wire::IpAddress::v4(ntohl(to.ipi_addr.s_addr)), port},
                  {wire::IpAddress::v4(ntohl(from.sin_addr.s_addr)), ntohs(from.sin_port)},
                  content});
  }
}

void Network::send(const ike::SendDatagram& datagram) {
  if (datagram.keepalive) return;
  std::array<std::uint8_t, kMarkerBytes> marker{};
  const bool marked = datagram.local.port == kNatPort;
  // sendmsg does not write to what it sends.
  auto* const content = const_cast<std::uint8_t*>(datagram.bytes.data());
  std::array<iovec, 2> pieces{
      {{marker.data(), marked ? marker.size() : 0}, {content, datagram.bytes.size()}}};
  sockaddr_in to = address_of(datagram.remote);
  PacketInfo info{};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof(to);
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  message.msg_control = &info;
  message.msg_controllen = sizeof(info);
  cmsghdr* const control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = IPPROTO_IP;
  control->cmsg_type = IP_PKTINFO;
  control->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
  in_pktinfo from{};
  from.ipi_spec_dst.s_addr = htonl(datagram.local.address.v4_host());
  std::memcpy(CMSG_DATA(control), &from, sizeof(from));
  if (::sendmsg(marked ? nat_.number() : ike_.number(), &message, 0) < 0) ++refused_;
}

}  // namespace culvert::load
