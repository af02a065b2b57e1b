// A control socket's server that is polled by hand, and a client that sends raw bytes.
#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/control_client.hpp"
#include "runtime/control_server.hpp"
#include "runtime/unix_socket.hpp"

namespace culvert::runtime::test {

using namespace std::chrono_literals;
using nlohmann::json;

struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "control-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

/// A server with a few verbs, polled by hand.
struct Daemon {
  Folder folder;
  std::filesystem::path socket = folder.path / "test.sock";
  std::unique_ptr<ControlServer> server;
  std::vector<Responder> later;

  explicit Daemon(ControlLimits limits = {}) {
    server = *ControlServer::create(socket, 0600, ::geteuid(), limits);
    server->handle("echo", [](const json& args, const Responder& to) { to.ok(args); });
    server->handle("fail", [](const json&, const Responder& to) {
      to.fail("unknown_child", "there is no child \"ofice\"");
    });
    server->handle("later", [this](const json&, Responder to) { later.push_back(std::move(to)); });
    server->handle("forget", [](const json&, const Responder&) {});
    server->handle("number", [](const json& args, const Responder& to) {
      to.ok({{"twice", args.at("number").get<int>() * 2}});
    });
    server->handle("large", [](const json&, const Responder& to) {
      to.ok({{"text", std::string(8U << 20U, 'x')}});
    });
  }

  /// Polls until `done`.
  template <typename Done>
  void serve(Done done) const {
    for (int turns = 0; turns < 1'000'000 && !done(); ++turns) server->poll();
  }

  /// A request by the command's client while the server is polled.
  std::expected<json, ControlError> ask(std::string_view verb, const json& args = json::object()) {
    std::optional<std::expected<json, ControlError>> answer;
    std::atomic<bool> done = false;
    std::thread client([&] {
      answer = control_request(socket, verb, args, 20s);
      done = true;
    });
    while (!done) {
      server->poll();
      std::this_thread::yield();
    }
    client.join();
    return *answer;
  }
};

/// A client that sends raw bytes.
struct RawClient {
  int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  explicit RawClient(const std::filesystem::path& socket) {
    const auto address = *unix_address(socket);
    REQUIRE(::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
            0);
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { ::close(descriptor); }

  void send(std::string_view bytes) const {
    (void)!::send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  /// What has arrived up to now; nullopt once the server has closed and all was read.
  std::optional<std::string> received() const {
    std::string all(1U << 20U, '\0');
    const ssize_t count = ::recv(descriptor, all.data(), all.size(), MSG_DONTWAIT);
    if (count == 0) return std::nullopt;
    all.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return all;
  }
  /// Everything until the server closes, which it has to do.
  std::string until_closed(const Daemon& daemon) const {
    std::string all;
    bool closed = false;
    daemon.serve([&] {
      const auto part = received();
      if (part) all += *part;
      closed = !part;
      return closed;
    });
    REQUIRE(closed);
    return all;
  }
};

}  // namespace culvert::runtime::test
