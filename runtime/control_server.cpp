#include "runtime/control_server.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/control_connection.hpp"
#include "runtime/unix_socket.hpp"

namespace culvert::runtime {
namespace {

constexpr int kEventsPerPoll = 64;
constexpr int kAcceptsPerPoll = 8;
/// Requests of one connection in one poll; the rest in the next.
constexpr int kRequestsPerPoll = 16;

class EpollControlServer final : public ControlServer {
 public:
  EpollControlServer(std::filesystem::path socket, int listener, int epoll, int wake,
                     ControlLimits limits)
      : socket_(std::move(socket)),
        listener_(listener),
        epoll_(epoll),
        wake_(wake),
        limits_(limits) {}
  EpollControlServer(const EpollControlServer&) = delete;
  EpollControlServer& operator=(const EpollControlServer&) = delete;
  ~EpollControlServer() override {
    connections_.clear();  // before wake_ closes: a last answer may still use it
    ::unlink(socket_.c_str());
    ::close(listener_);
    ::close(epoll_);
    ::close(wake_);
  }

  void handle(std::string verb, Handler handler) override {
    handlers_[std::move(verb)] = std::move(handler);
  }

  [[nodiscard]] int descriptor() const override { return epoll_; }
  [[nodiscard]] const ControlStatistics& statistics() const override { return statistics_; }

  void poll() override {
    std::array<epoll_event, kEventsPerPoll> events{};
    const int count = ::epoll_wait(epoll_, events.data(), kEventsPerPoll, 0);
    bool somebody_knocks = false;
    for (int index = 0; index < count; ++index) {
      const epoll_event& event = events[static_cast<std::size_t>(index)];
      if (event.data.fd == listener_) {
        somebody_knocks = true;
      } else if (event.data.fd == wake_) {
        std::uint64_t value = 0;
        (void)!::read(wake_, &value, sizeof(value));
      } else {
        transfer(event.data.fd, event.events);
      }
    }
    // Last: a new connection may get the number of one closed here, whose events are then stale.
    if (somebody_knocks) accept_some();
    // Serving may close the connection: walk a copy.
    std::vector<std::shared_ptr<ControlConnection>> served;
    served.reserve(connections_.size());
    for (const auto& [descriptor, connection] : connections_) served.push_back(connection.client);
    for (const auto& connection : served) serve(connection);
    slice();
  }

  /// Registers a descriptor of the server's own.
  [[nodiscard]] bool watch(int descriptor) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = descriptor;
    return ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0;
  }

 private:
  struct Entry {
    std::shared_ptr<ControlConnection> client;
    std::uint32_t interest = 0;  ///< epoll events asked for
  };

  void accept_some() {
    for (int accepted = 0; accepted < kAcceptsPerPoll; ++accepted) {
      const int descriptor = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor < 0) return;
      if (connections_.size() >= limits_.connections && !make_room()) {
        ++statistics_.refused_connections;
        ::close(descriptor);
        continue;
      }
      ++statistics_.connections;
      auto client = std::make_shared<ControlConnection>(descriptor, limits_.answer_bytes,
                                                        [this] { wake_later(); });
      if (!watch(descriptor)) continue;  // the connection closes itself
      connections_[descriptor] = {std::move(client), EPOLLIN};
    }
  }

  /// Closes the connection that has done nothing for longest, if that is long enough.
  bool make_room() {
    auto stalest = connections_.end();
    for (auto entry = connections_.begin(); entry != connections_.end(); ++entry) {
      if (entry->second.client->waits_for_answer()) continue;
      if (stalest == connections_.end() ||
          entry->second.client->last_progress() < stalest->second.client->last_progress()) {
        stalest = entry;
      }
    }
    if (stalest == connections_.end()) return false;
    if (now() - stalest->second.client->last_progress() < limits_.stalled) return false;
    ++statistics_.dropped_stalled;
    close(stalest->first);
    return true;
  }

  void transfer(int descriptor, std::uint32_t events) {
    const auto found = connections_.find(descriptor);
    if (found == connections_.end()) return;
    // Gone in both directions: what it asked has no reader any more.
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
      close(descriptor);
      return;
    }
    if ((events & EPOLLOUT) != 0) found->second.client->write_some();
    if ((events & EPOLLIN) != 0) found->second.client->read_some(limits_.line_bytes);
  }

  void serve(const std::shared_ptr<ControlConnection>& client) {
    for (int requests = 0; requests < kRequestsPerPoll; ++requests) {
      if (client->line_too_long(limits_.line_bytes)) {
        ++statistics_.bad_lines;
        client->refuse(control_error(
            "line_too_long",
            "a request has at most " + std::to_string(limits_.line_bytes) + " bytes"));
        break;
      }
      const std::optional<std::string> line = client->take_line();
      if (!line) break;
      dispatch(client, *line);
    }
    if (client->is_done()) {
      close(client->descriptor());
      return;
    }
    update_interest(*client);
  }

  /// Who waits for a slice has his turn: one each time, whoever asked for how much.
  void slice() {
    const auto client = next_to_slice();
    if (client == nullptr) return;
    last_sliced_ = client->descriptor();
    client->make_slice();
    serve(client);
    if (next_to_slice() != nullptr) wake_later();
  }

  [[nodiscard]] std::shared_ptr<ControlConnection> next_to_slice() const {
    const auto first = connections_.upper_bound(last_sliced_);
    const auto wants = [](const auto& entry) { return entry.second.client->wants_slice(); };
    auto found = std::find_if(first, connections_.end(), wants);
    if (found != connections_.end()) return found->second.client;
    found = std::find_if(connections_.begin(), first, wants);
    return found != first ? found->second.client : nullptr;
  }

  void dispatch(const std::shared_ptr<ControlConnection>& client, const std::string& line) {
    const nlohmann::json request = nlohmann::json::parse(line, nullptr, false);
    const auto refuse = [&](std::string_view message) {
      ++statistics_.bad_lines;
      client->refuse(control_error("bad_request", message));
    };
    if (request.is_discarded()) return refuse("the line is not JSON");
    if (!request.is_object() || !request.contains("verb") || !request["verb"].is_string()) {
      return refuse("a request is an object with a \"verb\"");
    }
    nlohmann::json args = request.value("args", nlohmann::json::object());
    if (args.is_null()) args = nlohmann::json::object();  // `{}` in C++ is null in JSON
    if (!args.is_object()) return refuse("\"args\" is an object");
    ++statistics_.requests;
    const auto& verb = request["verb"].get_ref<const std::string&>();
    const Responder responder(std::make_shared<Responder::Pending>(client));
    const auto handler = handlers_.find(verb);
    if (handler == handlers_.end()) {
      return responder.fail("unknown_verb", "this daemon answers to " + verbs());
    }
    try {
      handler->second(args, responder);
    } catch (const nlohmann::json::exception& error) {
      responder.fail("bad_request", error.what());
    }
  }

  [[nodiscard]] std::string verbs() const {
    std::string list;
    for (const auto& [verb, handler] : handlers_) {
      if (!list.empty()) list += ", ";
      list += verb;
    }
    return list;
  }

  void update_interest(const ControlConnection& client) {
    Entry& entry = connections_.at(client.descriptor());
    std::uint32_t interest = 0;
    if (client.wants_input()) interest |= EPOLLIN;
    if (client.wants_output()) interest |= EPOLLOUT;
    if (interest == entry.interest) return;
    epoll_event event{};
    event.events = interest;
    event.data.fd = client.descriptor();
    if (::epoll_ctl(epoll_, EPOLL_CTL_MOD, client.descriptor(), &event) == 0) {
      entry.interest = interest;
    }
  }

  void close(int descriptor) {
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
    connections_.erase(descriptor);
  }

  void wake_later() const {
    const std::uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof(one));
  }

  std::filesystem::path socket_;
  int listener_;
  int epoll_;
  int wake_;
  ControlLimits limits_;
  std::map<std::string, Handler, std::less<>> handlers_;
  std::map<int, Entry> connections_;
  int last_sliced_ = -1;  ///< the descriptor that had the last slice
  ControlStatistics statistics_;
};

}  // namespace

std::expected<std::unique_ptr<ControlServer>, std::string> ControlServer::create(
    const std::filesystem::path& socket, mode_t mode, uid_t owner, ControlLimits limits) {
  const auto listener = listen_unix(socket, mode, owner);
  if (!listener) return std::unexpected(listener.error());
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const int wake = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  auto server = std::make_unique<EpollControlServer>(socket, *listener, epoll, wake, limits);
  if (epoll < 0 || wake < 0 || !server->watch(*listener) || !server->watch(wake)) {
    return std::unexpected(std::string("control socket: ") + std::strerror(errno));
  }
  return server;
}

}  // namespace culvert::runtime
