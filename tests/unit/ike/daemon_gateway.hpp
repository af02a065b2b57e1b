// A key daemon around its machine, a scripted data plane at the other end of the real channel, and
// a client of the real control socket.
#pragma once

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel/layout.hpp"
#include "channel/server.hpp"
#include "ike/daemon/daemon.hpp"
#include "runtime/control_client.hpp"

namespace culvert::ike {

using namespace std::chrono_literals;

/// A run directory of its own, gone at the end.
struct RunDirectory {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("culvert-ike-test-" + std::to_string(::getpid()));
  RunDirectory() {
    std::filesystem::create_directories(path / "default");
    ::setenv("CULVERT_RUN_DIR", path.c_str(), 1);
  }
  ~RunDirectory() {
    ::unsetenv("CULVERT_RUN_DIR");
    std::filesystem::remove_all(path);
  }
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;
  [[nodiscard]] std::filesystem::path file(const char* name) const {
    return path / "default" / name;
  }
};

inline config::Config one_child() {
  config::Config result;
  config::Connection branch;
  branch.name = "branch";
  branch.local.address = wire::IpAddress::parse("192.0.2.1");
  branch.local.id = config::parse_identity("hq.example.org");
  branch.remote.address = wire::IpAddress::parse("192.0.2.2");
  branch.remote.id = config::parse_identity("branch.example.org");
  branch.proposals = {crypto::parse_ike_proposal("aes128gcm16-prfsha256-x25519").value()};
  config::Child office;
  office.name = "office";
  office.local_ts = {wire::TrafficSelector::parse("10.1.0.0/24").value()};
  office.remote_ts = {wire::TrafficSelector::parse("10.2.0.0/24").value()};
  office.esp_proposals = {crypto::parse_esp_proposal("aes128gcm16").value()};
  office.start_action = config::StartAction::start;
  branch.children = {office};
  result.connections = {branch};
  return result;
}

/// What the data plane has seen so far.
struct Seen {
  int leases = 0, snapshots = 0;
  std::set<channel::SaId> deleted_sas;
  std::vector<channel::Datagram> datagrams;
};

/// Answers what the key daemon asks, and keeps what it sends. In a thread of its own: the handshake
/// at the channel's beginning waits for its other end.
class ScriptedDataPlane {
 public:
  /// `snapshot`: what comes before a snapshot's completion.
  ScriptedDataPlane(const RunDirectory& directory, channel::Outcome lease_outcome,
                    std::vector<channel::Event> snapshot)
      : server_(channel::Server::create({directory.file("channel.sock"), ::geteuid()}).value()),
        lease_outcome_(lease_outcome),
        snapshot_(std::move(snapshot)),
        thread_([this](const std::stop_token& stop) {
          while (!stop.stop_requested()) turn();
        }) {}

  [[nodiscard]] Seen seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  /// Writes what cannot be where the data plane says how many events it has put in, or how many
  /// datagrams it has taken out; wakes the key daemon in the former case.
  void tear(bool events) {
    const std::lock_guard lock(mutex_);
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const auto target = std::filesystem::read_symlink(entry.path(), gone).string();
      if (target.find("memfd:culvert-channel") == std::string::npos) continue;
      void* const mapped = ::mmap(nullptr, sizeof(channel::Memory), PROT_READ | PROT_WRITE,
                                  MAP_SHARED, std::stoi(entry.path().filename()), 0);
      REQUIRE(mapped != MAP_FAILED);
      auto& memory = *static_cast<channel::Memory*>(mapped);
      (events ? memory.events.indices.produced : memory.to_network.indices.consumed) = 1ULL << 40U;
      ::munmap(mapped, sizeof(channel::Memory));
    }
    if (!events) return;
    server_->send(seen_.datagrams.at(0));
    server_->flush();
  }

 private:
  void turn() {
    std::vector<pollfd> waiting;
    for (const int descriptor : server_->descriptors()) waiting.push_back({descriptor, POLLIN, 0});
    ::poll(waiting.data(), waiting.size(), 5);
    if (server_->poll()) outgoing_.clear();
    const std::lock_guard lock(mutex_);
    while (const auto request = server_->next_request()) answer(*request);
    while (!outgoing_.empty() && server_->send(outgoing_.front())) outgoing_.pop_front();
    while (const auto datagram = server_->next_datagram()) seen_.datagrams.push_back(*datagram);
    server_->flush();
  }
  void answer(const channel::Request& request) {
    channel::Event event;
    event.type = channel::EventType::completion;
    event.body.completion = {};
    event.body.completion.request = request.id;
    if (request.type == channel::RequestType::take_snapshot) {
      ++seen_.snapshots;
      outgoing_.assign(snapshot_.begin(), snapshot_.end());
    }
    if (request.type == channel::RequestType::lease_spis) lease(event.body.completion);
    if (request.type == channel::RequestType::delete_sa) {
      seen_.deleted_sas.insert(request.body.delete_sa.sa);
    }
    outgoing_.push_back(event);
  }
  void lease(channel::Completion& completion) {
    ++seen_.leases;
    completion.outcome = lease_outcome_;
    if (lease_outcome_ != channel::Outcome::ok) return;
    completion.spi_count = channel::kMaxLeasedSpis;
    for (std::size_t index = 0; index < channel::kMaxLeasedSpis; ++index) {
      completion.spis[index] = channel::Spi{static_cast<std::uint32_t>(0x1000 + index)};
    }
  }

  std::unique_ptr<channel::Server> server_;
  channel::Outcome lease_outcome_;
  std::vector<channel::Event> snapshot_;
  std::deque<channel::Event> outgoing_;
  mutable std::mutex mutex_;
  Seen seen_;
  std::jthread thread_;  ///< last: it uses all of the above
};

inline std::unique_ptr<PreSharedKeys> one_key() {
  auto keys = std::make_unique<PreSharedKeys>();
  keys->add({}, crypto::SecretBytes(16));
  return keys;
}

class DaemonGateway {
 public:
  explicit DaemonGateway(config::Config configuration = one_child())
      : configuration_(std::move(configuration)) {
    REQUIRE(daemon_.bind());
  }
  RunDirectory directory;
  std::unique_ptr<ScriptedDataPlane> dataplane;

  void start_dataplane(channel::Outcome lease_outcome = channel::Outcome::ok,
                       std::vector<channel::Event> snapshot = {}) {
    dataplane = std::make_unique<ScriptedDataPlane>(directory, lease_outcome, std::move(snapshot));
  }
  [[nodiscard]] bool has_sent() const { return !dataplane->seen().datagrams.empty(); }
  void start() { daemon_.start(); }
  /// Turns the loop until `done` holds; false when a generous time did not do.
  bool until(const std::function<bool()>& done) {
    const auto deadline = runtime::now() + 20s;
    while (!done()) {
      if (runtime::now() > deadline) return false;
      loop_->run_once(5ms);
    }
    return true;
  }
  std::expected<nlohmann::json, runtime::ControlError> ask(const char* verb,
                                                           const nlohmann::json& args) {
    auto answer = std::async(std::launch::async, [&] {
      return runtime::control_request(directory.file("ike.sock"), verb, args, 10s);
    });
    CHECK(until([&] { return answer.wait_for(0s) == std::future_status::ready; }));
    return answer.get();
  }

 private:
  std::unique_ptr<runtime::EventLoop> loop_ = runtime::EventLoop::create().value();
  config::Config configuration_;
  Certificates certificates_{configuration_.pki};
  Daemon daemon_{*loop_, configuration_, one_key(), certificates_};
};

}  // namespace culvert::ike
