#include "dataplane/control/ike_path.hpp"

#include <algorithm>
#include <array>
#include <random>

#include "channel/layout.hpp"
#include "dataplane/control/icmp_sender.hpp"
#include "dataplane/control/ike_datagram.hpp"
#include "dataplane/control/ip_fragments.hpp"
#include "runtime/log.hpp"
#include "wire/ike/recipient_spi.hpp"

namespace culvert::dataplane::control {
namespace {

/// Datagrams from the key daemon sent in one turn of the loop.
constexpr int kSendAtOnce = 256;
/// "IPv6 requires that every link in the Internet have an MTU of 1280 octets or greater" (RFC 8200
/// §5). IPv4 has no such rule: what is longer than the link is cut (RFC 791 §3.2).
constexpr std::uint16_t kSmallestIpv6Mtu = 1280;
/// Places to the key daemon that no newcomer takes but configured peers, so that a rekey finds one.
constexpr std::size_t kKeptForKnown = channel::kDatagramSlots / 2;

std::uint64_t drawn_secret() {
  std::random_device entropy;
  return std::uint64_t{entropy()} << 32U | entropy();
}

}  // namespace

IkePath::IkePath(const Topology& topology, Neighbors& neighbors, Packets& packets,
                 channel::Server& channel, IkeSpis& known, Instant now)
    : topology_(topology),
      neighbors_(neighbors),
      packets_(packets),
      channel_(channel),
      known_(known),
      policer_(kPerIkeSa, known.places(), now),
      newcomers_(drawn_secret(), now) {}

void IkePath::arrived(Packet packet, Instant now) {
  const auto datagram = parse_ike_packet(bytes_of(packet));
  const std::uint64_t ike_sa =
      datagram ? wire::ike::recipient_spi(wire::Bytes(datagram->bytes).first(datagram->length)) : 0;
  if (ike_sa != 0 && !policer_.admit(ike_sa, now)) return police(std::move(packet));
  pass_on(std::move(packet), datagram);
}

void IkePath::newcomer_arrived(Packet packet, Instant now) {
  const auto pair = addresses_of(bytes_of(packet));
  if (!pair || !newcomers_.admit(pair->source, now)) return police(std::move(packet));
  if (!newcomers_.is_peer(pair->source) && channel_.datagram_room() <= kKeptForKnown) {
    packets_.drop(std::move(packet), DropDirection::local, DropReason::ike_not_connected);
    return;
  }
  const auto datagram = parse_ike_packet(bytes_of(packet));
  pass_on(std::move(packet), datagram);
}

void IkePath::police(Packet packet) {
  packets_.drop(std::move(packet), DropDirection::local, DropReason::ike_policed);
}

void IkePath::pass_on(Packet packet, const wire::Parsed<channel::Datagram>& datagram) {
  if (!datagram || !topology_.is_own(datagram->local.address)) {
    packets_.drop(std::move(packet), DropDirection::local, DropReason::ike_datagram_invalid);
    return;
  }
  if (!channel_.connected() || !channel_.send(*datagram)) {
    packets_.drop(std::move(packet), DropDirection::local, DropReason::ike_not_connected);
    return;
  }
  packets_.deliver(std::move(packet));
}

void IkePath::send_waiting(Instant now) {
  for (int sent = 0; sent < kSendAtOnce; ++sent) {
    const auto datagram = channel_.next_datagram();
    if (!datagram) return;
    send(*datagram, now);
  }
}

/// The key daemon may speak only from our addresses and IKE's ports, to somewhere we have a route.
void IkePath::send(const channel::Datagram& datagram, Instant now) {
  const std::uint16_t port = datagram.local.port;
  const auto next = topology_.next_hop(datagram.remote.address);
  if (!topology_.is_own(datagram.local.address) || (port != kIkePort && port != kIkeNatPort) ||
      datagram.local.address.family != datagram.remote.address.family || !next) {
    packets_.suppress(DropReason::ike_datagram_refused);
    ++refused_;
    if (refused_ == 1 || refused_ % 1000 == 0) {
      runtime::log(runtime::Level::warning, "ike_datagram_refused",
                   {{"local", datagram.local.to_string()},
                    {"remote", datagram.remote.to_string()},
                    {"reason", next ? "local endpoint is not ours" : "no route"},
                    {"refused", refused_}});
    }
    return;
  }
  // Before the answer to what leaves now.
  if (datagram.ike_spi != 0) known_.put(datagram.ike_spi);
  send_fragments(datagram, *next, now);
}

void IkePath::send_fragments(const channel::Datagram& datagram, const NextHop& next, Instant now) {
  std::array<std::uint8_t, channel::kMaxDatagramBytes + kMaxIkeHeaderBytes> buffer{};
  wire::Writer writer(buffer);
  build_ike_packet(writer, datagram, ++identification_);
  PuntedPacket ours;
  ours.originated = true;
  if (next.address != datagram.remote.address) ours.next_hop = next.address;
  const std::uint16_t of_link = packets_.mtu(next.port);
  const std::uint16_t mtu =
      datagram.local.address.is_v4() ? of_link : std::max(kSmallestIpv6Mtu, of_link);
  for (const auto& fragment : fragments_of(writer.written(), mtu, identification_)) {
    Packet packet = packets_.make(fragment);
    if (!packet) return;
    neighbors_.send({next.port, next.address}, std::move(packet), ours, now);
  }
}

}  // namespace culvert::dataplane::control
