// culvert-fetch: fetches over HTTP for the key daemon, in its place: what parses a stranger's
// answer has no key, no file and no right. Its standard input is the socket to the key daemon,
// which starts it; each transfer is a process of its own, so that one that dies is one that failed.
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ike/fetch/confine.hpp"
#include "ike/fetch/frames.hpp"
#include "ike/fetch/transfer.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/log.hpp"

namespace {

using culvert::ike::fetch::Answer;
using culvert::ike::fetch::Frames;
using culvert::ike::fetch::Request;
namespace fetch = culvert::ike::fetch;
namespace runtime = culvert::runtime;

constexpr int kSocket = STDIN_FILENO;
constexpr std::size_t kMostAtOnce = 16;
/// Beyond a transfer's own time: it was killed for hanging.
constexpr int kOverdueMilliseconds = 1000;

/// A transfer under way: its process, and the pipe from it.
struct Running {
  pid_t process = 0;
  std::uint64_t id = 0;
  std::size_t most = 0;
  runtime::Instant deadline{};
  std::vector<std::uint8_t> output;  ///< one octet of result, then the body
};

void write_all(int descriptor, const std::vector<std::uint8_t>& bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::write(descriptor, bytes.data() + done, bytes.size() - done);
    if (count <= 0) return;
    done += static_cast<std::size_t>(count);
  }
}

/// In a process of its own; the socket is not its business.
[[noreturn]] void run_transfer(const Request& request, int pipe) {
  ::close(kSocket);
  std::vector<std::uint8_t> output;
  auto result = fetch::transfer(request);
  output.push_back(result ? 1 : 0);
  if (result) {
    output.insert(output.end(), result->begin(), result->end());
  } else {
    output.insert(output.end(), result.error().begin(), result.error().end());
  }
  write_all(pipe, output);
  ::_exit(0);
}

class Helper {
 public:
  /// Until the key daemon closes the socket.
  void run() {
    while (true) {
      std::vector<pollfd> watched{{kSocket, POLLIN, 0}};
      for (const auto& [pipe, one] : running_) watched.push_back({pipe, POLLIN, 0});
      if (::poll(watched.data(), watched.size(), running_.empty() ? -1 : kOverdueMilliseconds) <
              0 &&
          errno != EINTR) {
        return;
      }
      for (std::size_t index = 1; index < watched.size(); ++index) {
        if (watched[index].revents != 0) read_pipe(watched[index].fd);
      }
      end_overdue();
      if (watched[0].revents != 0 && !read_socket()) return;
    }
  }

 private:
  [[nodiscard]] bool read_socket() {
    std::vector<std::uint8_t> bytes(fetch::kMostRequestBytes);
    const ssize_t count = ::read(kSocket, bytes.data(), bytes.size());
    if (count <= 0) return count < 0 && errno == EINTR;
    if (!frames_.add({bytes.data(), static_cast<std::size_t>(count)})) return false;
    while (const auto frame = frames_.next()) {
      const auto request = fetch::parse_request(*frame);
      if (!request) return false;
      begin(*request);
    }
    return true;
  }

  void begin(const Request& request) {
    int pipe[2];
    if (running_.size() >= kMostAtOnce || ::pipe(pipe) != 0) {
      answer(request.id, false, "too many transfers at once");
      return;
    }
    const pid_t process = ::fork();
    if (process == 0) {
      ::close(pipe[0]);
      run_transfer(request, pipe[1]);
    }
    ::close(pipe[1]);
    if (process < 0) {
      ::close(pipe[0]);
      answer(request.id, false, std::string("fork: ") + std::strerror(errno));
      return;
    }
    const std::chrono::milliseconds time(request.most_milliseconds + kOverdueMilliseconds);
    running_.emplace(pipe[0],
                     Running{process, request.id, request.most_bytes, runtime::now() + time, {}});
  }

  void read_pipe(int pipe) {
    const auto found = running_.find(pipe);
    if (found == running_.end()) return;
    Running& one = found->second;
    std::vector<std::uint8_t> piece(64U << 10U);
    const ssize_t count = ::read(pipe, piece.data(), piece.size());
    if (count > 0) {
      one.output.insert(one.output.end(), piece.begin(), piece.begin() + count);
      if (one.output.size() <= one.most + 1 + kTextRoom) return;
      finish(pipe, "the transfer wrote too much");
      return;
    }
    finish(pipe, one.output.empty() ? "the transfer died" : "");
  }

  void end_overdue() {
    const runtime::Instant now = runtime::now();
    std::vector<int> late;
    for (const auto& [pipe, one] : running_) {
      if (one.deadline < now) late.push_back(pipe);
    }
    for (const int pipe : late) finish(pipe, "the transfer hung");
  }

  /// `problem` empty: what it wrote is the answer.
  void finish(int pipe, const std::string& problem) {
    const auto node = running_.extract(pipe);
    const Running& one = node.mapped();
    ::close(pipe);
    ::kill(one.process, SIGKILL);
    ::waitpid(one.process, nullptr, 0);
    if (!problem.empty()) {
      answer(one.id, false, problem);
      return;
    }
    answer(one.id, one.output.front() == 1, std::string(one.output.begin() + 1, one.output.end()));
  }

  static void answer(std::uint64_t id, bool ok, const std::string& body) {
    write_all(kSocket, fetch::encode(Answer{id, ok, {body.begin(), body.end()}}));
  }

  /// Room for a problem in words.
  static constexpr std::size_t kTextRoom = 1024;
  Frames frames_{fetch::kMostRequestBytes};
  std::map<int, Running> running_;  ///< by the pipe's end
};

}  // namespace

int main() {
  // Started by hand it has nobody to talk to.
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(kSocket, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    std::cerr << "culvert-fetch is started by culvert-ike\n";
    return 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  if (!fetch::prepare_transfers()) return 1;
  if (auto done = fetch::confine(); !done) {
    runtime::log(runtime::Level::error, "fetch_helper_not_confined", {{"why", done.error()}});
    return 1;
  }
  Helper().run();
  return 0;
}
