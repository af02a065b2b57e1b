#include "tests/load/network.hpp"

#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "wire/ip.hpp"
#include "wire/udp.hpp"

namespace culvert::load {
namespace {

/// RFC 3948 §2.2: in front of IKE on port 4500.
constexpr std::array<std::uint8_t, wire::udp::kMarkerBytes> kMarker{};
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

std::expected<channel::Descriptor, std::string> Network::open_socket(int type, int protocol,
                                                                     std::uint16_t port) {
  channel::Descriptor descriptor(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (!descriptor.valid()) return std::unexpected(failed("socket"));
  const int yes = 1;
  ::setsockopt(descriptor.number(), IPPROTO_IP, IP_PKTINFO, &yes, sizeof(yes));
  ::setsockopt(descriptor.number(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes,
               sizeof(kReceiveBufferBytes));
  const sockaddr_in any = address_of({wire::IpAddress::v4(0), port});
  if (::bind(descriptor.number(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)) != 0) {
    return std::unexpected(failed("bind"));
  }
  return descriptor;
}

std::expected<void, std::string> Network::open(runtime::EventLoop& loop, OnReceived on_ike,
                                               OnReceived on_esp) {
  on_ike_ = std::move(on_ike);
  on_esp_ = std::move(on_esp);
  const auto take = [&](channel::Descriptor& into, int type, int protocol, std::uint16_t port,
                        void (Network::*on_readable)()) -> std::expected<void, std::string> {
    auto opened = open_socket(type, protocol, port);
    if (!opened) return std::unexpected(opened.error());
    into = std::move(*opened);
    return loop.add(into.number(), [this, on_readable] { (this->*on_readable)(); });
  };
  if (auto ok = take(esp_, SOCK_RAW, IPPROTO_ESP, 0, &Network::receive_esp); !ok) return ok;
  if (auto ok = take(ike_, SOCK_DGRAM, 0, wire::udp::kIkePort, &Network::receive_ike); !ok) {
    return ok;
  }
  return take(nat_, SOCK_DGRAM, 0, wire::udp::kNatTraversalPort, &Network::receive_nat);
}

bool Network::receive(int descriptor, std::uint16_t port, Packet& packet) {
  for (;;) {
    sockaddr_in from{};
    PacketInfo info{};
    iovec piece{packet.bytes.data(), packet.bytes.size()};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = &info;
    message.msg_controllen = sizeof(info);
    const ssize_t length = ::recvmsg(descriptor, &message, 0);
    if (length < 0) return false;
    const cmsghdr* const control = CMSG_FIRSTHDR(&message);
    if (control == nullptr || control->cmsg_type != IP_PKTINFO) continue;
    in_pktinfo to{};
    std::memcpy(&to, CMSG_DATA(control), sizeof(to));
    packet.length = static_cast<std::size_t>(length);
    packet.local = {wire::IpAddress::v4(ntohl(to.ipi_addr.s_addr)), port};
    packet.remote = {wire::IpAddress::v4(ntohl(from.sin_addr.s_addr)), ntohs(from.sin_port)};
    return true;
  }
}

void Network::receive_ike() {
  // What came on an SA before the message that ends it is opened before: a data plane, whose
  // packets do not wait for the key daemon, has seen it by then.
  receive_esp();
  Packet packet;
  for (int taken = 0; taken < kAtOnce && receive(ike_.number(), wire::udp::kIkePort, packet);
       ++taken) {
    on_ike_({packet.local, packet.remote, wire::Bytes(packet.bytes).first(packet.length)});
  }
}

void Network::receive_nat() {
  Packet packet;
  for (int taken = 0;
       taken < kAtOnce && receive(nat_.number(), wire::udp::kNatTraversalPort, packet); ++taken) {
    const auto content = wire::Bytes(packet.bytes).first(packet.length);
    switch (wire::udp::classify_nat_traversal(content)) {
      case wire::udp::Encapsulated::ike:
        on_ike_({packet.local, packet.remote, content.subspan(kMarker.size())});
        break;
      case wire::udp::Encapsulated::esp:
        on_esp_({packet.local, packet.remote, content});
        break;
      case wire::udp::Encapsulated::keepalive:
      case wire::udp::Encapsulated::truncated:
        break;
    }
  }
}

/// All there is: it is the answers to what we send, and we do not send meanwhile.
void Network::receive_esp() {
  Packet packet;
  while (receive(esp_.number(), 0, packet)) {
    const auto whole = wire::Bytes(packet.bytes).first(packet.length);
    const auto header = wire::parse_ipv4(whole);
    if (!header) continue;
    on_esp_({packet.local, packet.remote,
             whole.first(header->total_bytes).subspan(header->payload_offset)});
  }
}

void Network::send(const ike::SendDatagram& datagram) {
  if (datagram.keepalive) return;
  const bool marked = datagram.local.port == wire::udp::kNatTraversalPort;
  send(marked ? nat_.number() : ike_.number(), datagram.local, datagram.remote,
       marked ? wire::Bytes(kMarker) : wire::Bytes(), datagram.bytes);
}

void Network::send_esp(const wire::Endpoint& local, const wire::Endpoint& remote,
                       bool udp_encapsulation, wire::Bytes esp) {
  send(udp_encapsulation ? nat_.number() : esp_.number(), local,
       {remote.address, udp_encapsulation ? remote.port : std::uint16_t{0}}, {}, esp);
}

void Network::send(int descriptor, const wire::Endpoint& local, const wire::Endpoint& remote,
                   wire::Bytes front, wire::Bytes content) {
  // sendmsg does not write to what it sends.
  const auto piece = [](wire::Bytes bytes) {
    return iovec{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
  };
  std::array<iovec, 2> pieces{piece(front), piece(content)};
  sockaddr_in to = address_of(remote);
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
  from.ipi_spec_dst.s_addr = htonl(local.address.v4_host());
  std::memcpy(CMSG_DATA(control), &from, sizeof(from));
  if (::sendmsg(descriptor, &message, 0) < 0) ++refused_;
}

std::uint64_t Network::overrun() const {
  std::uint64_t sum = 0;
  for (const channel::Descriptor* socket : {&ike_, &nat_, &esp_}) {
    std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
    socklen_t bytes = sizeof(memory);
    if (::getsockopt(socket->number(), SOL_SOCKET, SO_MEMINFO, memory.data(), &bytes) == 0) {
      sum += memory[SK_MEMINFO_DROPS];
    }
  }
  return sum;
}

}  // namespace culvert::load
