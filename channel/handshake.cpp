#include "channel/handshake.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace culvert::channel {
namespace {

constexpr int kBacklog = 8;
constexpr int kGreetingMilliseconds = 2000;
constexpr std::size_t kDescriptors = 3;  ///< memory, bell, held memory
constexpr std::size_t kControlBytes = CMSG_SPACE(kDescriptors * sizeof(int));

std::unexpected<std::string> failed(const std::filesystem::path& path, const std::string& what) {
  return std::unexpected(path.string() + ": " + what);
}

std::unexpected<std::string> system_failed(const std::filesystem::path& path, const char* call) {
  return failed(path, std::string(call) + ": " + std::strerror(errno));
}

std::optional<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (text.empty() || text.size() >= sizeof(address.sun_path)) return std::nullopt;
  text.copy(address.sun_path, text.size());
  return address;
}

int connect_to(int descriptor, const sockaddr_un& address) {
  return ::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

/// Whether somebody accepts connections there.
bool answers(const sockaddr_un& address) {
  const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  return connect_to(probe.number(), address) == 0 || errno == EAGAIN;
}

/// By a descriptor, and only a socket of ours with one name: what somebody has put in its place, be
/// it a link to another's file or to his socket, stays whose it is.
std::expected<void, std::string> give_away(const std::filesystem::path& path, uid_t owner) {
  const Descriptor place(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!place.valid()) return system_failed(path, "open");
  struct stat status{};
  if (::fstat(place.number(), &status) != 0) return system_failed(path, "stat");
  if (!S_ISSOCK(status.st_mode) || status.st_nlink != 1 || status.st_uid != ::geteuid()) {
    return failed(path, "somebody has put something else in the new socket's place");
  }
  if (::fchownat(place.number(), "", owner, static_cast<gid_t>(-1), AT_EMPTY_PATH) != 0) {
    return system_failed(path, "chown");
  }
  return {};
}

/// Takes the descriptors that came with a message; closes any beyond those we expect.
std::array<Descriptor, kDescriptors> take_descriptors(msghdr& message) {
  std::array<Descriptor, kDescriptors> taken;
  std::size_t next = 0;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t index = 0; index < count; ++index) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(control) + index * sizeof(int), sizeof(number));
      Descriptor descriptor(number);
      if (next < kDescriptors) taken[next++] = std::move(descriptor);
    }
  }
  return taken;
}

std::string refusal(Welcome welcome) {
  switch (welcome) {
    case Welcome::ok:
      return "";
    case Welcome::uid_refused:
      return "the data plane refuses this user: run the key daemon as root or as `user:`";
    case Welcome::busy:
      return "another key daemon is connected to the data plane";
    case Welcome::no_memory:
      return "the data plane could not make the channel's memory";
  }
  return "the data plane answered with an unknown refusal";
}

}  // namespace

std::expected<Descriptor, std::string> listen_at(const std::filesystem::path& path, uid_t owner) {
  const auto address = address_of(path);
  if (!address) return failed(path, "a socket's path has 1 to 107 bytes");
  struct stat status{};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) return failed(path, "is in the way and is not a socket");
    if (answers(*address)) return failed(path, "another data plane of this instance answers there");
    if (::unlink(path.c_str()) != 0) return system_failed(path, "unlink");
  }
  Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener.valid()) return system_failed(path, "socket");
  // Before bind: the file never exists with wider permissions.
  if (::fchmod(listener.number(), 0600) != 0) return system_failed(path, "fchmod");
  if (::bind(listener.number(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) !=
      0) {
    return system_failed(path, "bind");
  }
  if (owner != ::geteuid()) {
    if (auto given = give_away(path, owner); !given) {
      return std::unexpected(std::move(given.error()));
    }
  }
  if (::listen(listener.number(), kBacklog) != 0) return system_failed(path, "listen");
  return listener;
}

std::expected<Descriptor, std::string> knock(const std::filesystem::path& path) {
  const auto address = address_of(path);
  if (!address) return failed(path, "a socket's path has 1 to 107 bytes");
  Descriptor connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!connection.valid()) return system_failed(path, "socket");
  if (connect_to(connection.number(), *address) != 0) {
    return failed(path, errno == ENOENT || errno == ECONNREFUSED
                            ? "the data plane is not running"
                            : std::string("connect: ") + std::strerror(errno));
  }
  const uid_t server = peer_uid(connection.number());
  if (server != 0 && server != ::geteuid()) {
    return failed(path,
                  "served by uid " + std::to_string(server) + ", which is neither root nor us");
  }
  return connection;
}

std::expected<Admission, std::string> take_greeting(const std::filesystem::path& path,
                                                    Descriptor connection) {
  Greeting greeting{};
  iovec part{&greeting, sizeof(greeting)};
  alignas(cmsghdr) std::array<char, kControlBytes> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t count = ::recvmsg(connection.number(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  auto descriptors = take_descriptors(message);

  if (count != static_cast<ssize_t>(sizeof(greeting)) || greeting.magic != kMagic) {
    return failed(path, "what answers there is not Culvert's data plane");
  }
  if (greeting.layout_version != kLayoutVersion) {
    return failed(path, "the data plane speaks channel layout " +
                            std::to_string(greeting.layout_version) + ", this key daemon " +
                            std::to_string(kLayoutVersion) + ": run both from the same release");
  }
  if (greeting.welcome != Welcome::ok) return failed(path, refusal(greeting.welcome));
  Admission admission;
  admission.connection = std::move(connection);
  admission.memory = std::move(descriptors[0]);
  admission.bell = std::move(descriptors[1]);
  admission.held = std::move(descriptors[2]);
  if (!admission.memory.valid() || !admission.bell.valid()) {
    return failed(path, "the data plane passed no memory");
  }
  return admission;
}

std::expected<Admission, std::string> enter(const std::filesystem::path& path) {
  auto connection = knock(path);
  if (!connection) return std::unexpected(std::move(connection.error()));
  pollfd waiting{connection->number(), POLLIN, 0};
  if (::poll(&waiting, 1, kGreetingMilliseconds) <= 0) {
    return failed(path, "the data plane did not answer in two seconds");
  }
  return take_greeting(path, std::move(*connection));
}

bool greet(int connection, Welcome welcome, int memory, int bell, int held) {
  Greeting greeting{kMagic, kLayoutVersion, welcome};
  iovec part{&greeting, sizeof(greeting)};
  alignas(cmsghdr) std::array<char, kControlBytes> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (welcome == Welcome::ok) {
    message.msg_control = control.data();
    const std::size_t count = held >= 0 ? kDescriptors : kDescriptors - 1;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    const std::array<int, kDescriptors> passed{memory, bell, held};
    std::memcpy(CMSG_DATA(header), passed.data(), count * sizeof(int));
  }
  return ::sendmsg(connection, &message, MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(sizeof(greeting));
}

uid_t peer_uid(int connection) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return static_cast<uid_t>(-1);
  }
  return credentials.uid;
}

bool is_over(int connection) {
  char byte = 0;
  const ssize_t count = ::recv(connection, &byte, 1, MSG_DONTWAIT);
  return count >= 0 || (errno != EAGAIN && errno != EINTR);
}

void ring_bell(int bell) {
  const char ding = 1;
  // A full buffer means that rings are waiting already; a vanished peer shows on the connection.
  (void)!::send(bell, &ding, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void hear_bell(int bell) {
  std::array<char, 4096> rings;
  (void)!::recv(bell, rings.data(), rings.size(), MSG_DONTWAIT);
}

}  // namespace culvert::channel
