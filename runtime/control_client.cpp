#include "runtime/control_client.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/event_loop.hpp"
#include "runtime/unix_socket.hpp"

namespace culvert::runtime {
namespace {

/// An answer past this is no answer of ours.
constexpr std::size_t kMaxAnswerBytes = 512U << 20U;

std::unexpected<ControlError> error(std::string_view code, std::string message) {
  return std::unexpected(ControlError{std::string(code), std::move(message)});
}

/// A connection on which something has to come within a time.
class Connection {
 public:
  Connection(std::string name, std::chrono::milliseconds timeout)
      : name_(std::move(name)), timeout_(timeout), deadline_(now() + timeout) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  std::expected<void, ControlError> connect(const sockaddr_un& address) {
    descriptor_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor_ < 0) return system_error("socket");
    while (::connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
           0) {
      switch (errno) {
        case ENOENT:
        case ECONNREFUSED:
          return error("not_running",
                       "nothing answers at " + name_ + ": the daemon is not running");
        case EACCES:
        case EPERM:
          return error("permission_denied",
                       "no permission to open " + name_ + ": run as root or as the service user");
        case EAGAIN:  // its backlog is full: it may catch up
          if (remaining() <= 0) return timed_out();
          ::poll(nullptr, 0, std::min(remaining(), 10));
          continue;
        case EINTR:
          continue;
        default:
          return system_error("connect");
      }
    }
    return {};
  }

  std::expected<void, ControlError> send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count =
          ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(count));
      } else if (errno == EAGAIN) {
        if (auto ready = wait(POLLOUT); !ready) return ready;
      } else if (errno != EINTR) {
        return disconnected();
      }
    }
    return {};
  }

  /// Up to the first newline.
  std::expected<std::string, ControlError> receive_line() {
    std::string line;
    std::array<char, 65536> buffer;
    while (line.size() <= kMaxAnswerBytes) {
      const ssize_t count = ::recv(descriptor_, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (count > 0) {
        deadline_ = now() + timeout_;
        const std::string_view chunk(buffer.data(), static_cast<std::size_t>(count));
        const std::size_t end = chunk.find('\n');
        line += chunk.substr(0, end);
        if (end != std::string_view::npos) return line;
      } else if (count == 0) {
        return disconnected();
      } else if (errno == EAGAIN) {
        if (auto ready = wait(POLLIN); !ready) return std::unexpected(ready.error());
      } else if (errno != EINTR) {
        return disconnected();
      }
    }
    return error("bad_answer", name_ + " answered with more than a control socket carries");
  }

 private:
  [[nodiscard]] int remaining() const {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000));
  }

  std::expected<void, ControlError> wait(short events) {
    pollfd descriptor{descriptor_, events, 0};
    const int milliseconds = remaining();
    const int ready = milliseconds > 0 ? ::poll(&descriptor, 1, milliseconds) : 0;
    if (ready == 0) return timed_out();
    return {};  // ready, or EINTR: the caller tries again and comes back here
  }

  std::unexpected<ControlError> timed_out() const {
    return error("timeout", "the daemon behind " + name_ + " did not answer in time");
  }
  std::unexpected<ControlError> disconnected() const {
    return error("disconnected", "the daemon behind " + name_ + " closed the connection");
  }
  std::unexpected<ControlError> system_error(const char* call) const {
    return error("system", name_ + ": " + call + ": " + std::strerror(errno));
  }

  std::string name_;
  std::chrono::milliseconds timeout_;
  Instant deadline_;
  int descriptor_ = -1;
};

std::expected<nlohmann::json, ControlError> read_answer(const std::string& name,
                                                        const std::string& line) {
  const nlohmann::json answer = nlohmann::json::parse(line, nullptr, false);
  const auto bad = [&] { return error("bad_answer", name + " answered with something else"); };
  if (!answer.is_object() || !answer.contains("ok") || !answer["ok"].is_boolean()) return bad();
  if (answer["ok"].get<bool>()) return answer.value("result", nlohmann::json::object());
  const nlohmann::json& reason = answer.value("error", nlohmann::json::object());
  if (!reason.is_object() || !reason.contains("code") || !reason["code"].is_string() ||
      !reason.contains("message") || !reason["message"].is_string()) {
    return bad();
  }
  return error(reason["code"].get<std::string>(), reason["message"].get<std::string>());
}

}  // namespace

std::expected<nlohmann::json, ControlError> control_request(const std::filesystem::path& socket,
                                                            std::string_view verb,
                                                            const nlohmann::json& args,
                                                            std::chrono::milliseconds timeout) {
  const auto address = unix_address(socket);
  if (!address) return error("system", address.error());
  const nlohmann::json request = {{"verb", verb}, {"args", args}};
  const std::string line =
      request.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  Connection connection(socket.string(), timeout);
  if (auto connected = connection.connect(*address); !connected) {
    return std::unexpected(std::move(connected.error()));
  }
  if (auto sent = connection.send(line); !sent) return std::unexpected(std::move(sent.error()));
  auto answer = connection.receive_line();
  if (!answer) return std::unexpected(std::move(answer.error()));
  return read_answer(socket.string(), *answer);
}

}  // namespace culvert::runtime
