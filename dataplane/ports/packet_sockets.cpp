#include "dataplane/ports/packet_sockets.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace culvert::dataplane::ports {
namespace {

bool is_bound_to(int file, std::uint32_t interface_index) {
  sockaddr_ll address{};
  socklen_t size = sizeof address;
  // Not a socket: ENOTSOCK.
  if (::getsockname(file, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  return address.sll_family == AF_PACKET &&
         address.sll_ifindex == static_cast<int>(interface_index);
}

/// About the interface; nullopt where it is not in the sockets' namespace any more.
std::optional<ifreq> ask_kernel(const std::vector<int>& sockets, std::uint32_t interface_index,
                                unsigned long question) {
  if (sockets.empty()) return std::nullopt;
  ifreq request{};
  request.ifr_ifindex = static_cast<int>(interface_index);
  if (::ioctl(sockets.front(), SIOCGIFNAME, &request) != 0) return std::nullopt;
  if (::ioctl(sockets.front(), question, &request) != 0) return std::nullopt;
  return request;
}

}  // namespace

PacketSockets::PacketSockets(std::uint32_t interface_index) : interface_index_(interface_index) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
    const std::string name = entry.path().filename();
    int file = -1;
    std::from_chars(name.data(), name.data() + name.size(), file);
    if (file >= 0 && is_bound_to(file, interface_index)) sockets_.push_back(file);
  }
}

std::uint64_t PacketSockets::take_dropped() const {
  std::uint64_t dropped = 0;
  for (const int file : sockets_) {
    tpacket_stats counts{};
    socklen_t size = sizeof counts;
    if (::getsockopt(file, SOL_PACKET, PACKET_STATISTICS, &counts, &size) == 0) {
      dropped += counts.tp_drops;
    }
  }
  return dropped;
}

std::optional<std::uint16_t> PacketSockets::kernel_mtu() const {
  const auto answer = ask_kernel(sockets_, interface_index_, SIOCGIFMTU);
  if (!answer) return std::nullopt;
  return static_cast<std::uint16_t>(std::clamp(answer->ifr_mtu, 0, int{UINT16_MAX}));
}

std::optional<bool> PacketSockets::has_link() const {
  const auto answer = ask_kernel(sockets_, interface_index_, SIOCGIFFLAGS);
  if (!answer) return std::nullopt;
  return (answer->ifr_flags & IFF_UP) != 0 && (answer->ifr_flags & IFF_RUNNING) != 0;
}

}  // namespace culvert::dataplane::ports
