#include "ike/daemon/fetcher.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/log.hpp"

namespace culvert::ike {
namespace {

constexpr unsigned kFirstOther = 3;
/// Of a problem in the helper's words.
constexpr std::size_t kMostProblemCharacters = 200;

std::unexpected<std::string> failed(const std::string& call) {
  return std::unexpected(call + ": " + std::strerror(errno));
}

/// What a stranger may have written, for a log.
std::string printable(const std::vector<std::uint8_t>& bytes) {
  std::string text;
  for (const std::uint8_t octet : bytes) {
    if (text.size() == kMostProblemCharacters) break;
    text += octet >= 0x20 && octet < 0x7f ? static_cast<char>(octet) : '?';
  }
  return text;
}

/// In the child, between fork and exec: nothing but system calls.
[[noreturn]] void become(const char* program, int socket) {
  const int nowhere = ::open("/dev/null", O_RDWR);
  ::dup2(socket, STDIN_FILENO);
  ::dup2(nowhere, STDOUT_FILENO);
  ::close_range(kFirstOther, ~0U, 0);
  ::signal(SIGCHLD, SIG_DFL);
  char name[] = "culvert-fetch";
  char* const arguments[] = {name, nullptr};
  // Without an environment: no proxy, no other configuration of a library.
  char* const environment[] = {nullptr};
  ::execve(program, arguments, environment);
  ::_exit(127);
}

}  // namespace

std::expected<channel::Descriptor, std::string> start_fetch_helper() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return std::unexpected("/proc/self/exe: " + error.message());
  const std::string program = self.parent_path() / "culvert-fetch";
  if (::access(program.c_str(), X_OK) != 0) return failed(program);
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return failed("socketpair");
  channel::Descriptor ours(pair[0]), theirs(pair[1]);
  // Nobody waits for it: its end is seen at the socket.
  ::signal(SIGCHLD, SIG_IGN);
  const pid_t process = ::fork();
  if (process == 0) become(program.c_str(), theirs.number());
  if (process < 0) return failed("fork");
  if (::fcntl(ours.number(), F_SETFL, O_NONBLOCK) != 0) return failed("O_NONBLOCK");
  return ours;
}

Fetcher::Fetcher(runtime::EventLoop& loop, channel::Descriptor socket, Finished finished)
    : loop_(loop), socket_(std::move(socket)), finished_(std::move(finished)) {
  const auto watched = loop_.add(socket_.number(), [this] { on_readable(); });
  if (!watched) lost(watched.error());
}

Fetcher::~Fetcher() {
  if (socket_.valid()) loop_.remove(socket_.number());
}

void Fetcher::send(const fetch::Request& request) {
  under_way_.insert(request.id);
  const auto bytes = fetch::encode(request);
  // The few that are under way at once fit into the socket's buffer.
  const bool sent = socket_.valid() && bytes.size() <= fetch::kMostRequestBytes &&
                    ::send(socket_.number(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
                        static_cast<ssize_t>(bytes.size());
  if (sent) return;
  loop_.set_timer(runtime::now(), [this, id = request.id] {
    if (under_way_.erase(id) != 0) {
      finished_(id, std::unexpected("culvert-fetch is not there; restart culvert-ike"));
    }
  });
}

void Fetcher::on_readable() {
  std::vector<std::uint8_t> bytes(64U << 10U);
  const ssize_t count = ::recv(socket_.number(), bytes.data(), bytes.size(), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    lost("it ended");
    return;
  }
  if (!frames_.add({bytes.data(), static_cast<std::size_t>(count)})) {
    lost("it sent more than it may");
    return;
  }
  while (const auto frame = frames_.next()) {
    auto answer = fetch::parse_answer(*frame);
    if (!answer || under_way_.erase(answer->id) == 0) {
      lost("it sent what is no answer");
      return;
    }
    if (answer->ok) {
      finished_(answer->id, std::move(answer->body));
    } else {
      finished_(answer->id, std::unexpected(printable(answer->body)));
    }
  }
}

void Fetcher::lost(const std::string& why) {
  loop_.remove(socket_.number());
  socket_.reset();
  runtime::log(runtime::Level::error, "fetch_helper_lost",
               {{"why", why},
                {"effect", "no revocation list and no OCSP response is fetched"},
                {"remedy", "restart culvert-ike"}});
  for (const std::uint64_t id : std::exchange(under_way_, {})) {
    finished_(id, std::unexpected("culvert-fetch ended; restart culvert-ike"));
  }
}

}  // namespace culvert::ike
