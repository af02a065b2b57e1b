// The key daemon around its machine, against a scripted data plane over the real channel, and a
// client over the real control socket.
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include <catch2/catch.hpp>
#include <poll.h>
#include <unistd.h>

#include "channel/server.hpp"
#include "ike/daemon/daemon.hpp"
#include "runtime/control_client.hpp"
#include "wire/ike/message.hpp"

namespace culvert::ike {
namespace {

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

config::Config configuration() {
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
  std::vector<channel::Datagram> datagrams;
};

/// Answers what the key daemon asks, and keeps what it sends. In a thread of its own: the handshake
/// at the channel's beginning waits for its other end.
class ScriptedDataPlane {
 public:
  ScriptedDataPlane(const RunDirectory& directory, channel::Outcome lease_outcome)
      : server_(channel::Server::create({directory.file("channel.sock"), ::geteuid()}).value()),
        lease_outcome_(lease_outcome),
        thread_([this](const std::stop_token& stop) {
          while (!stop.stop_requested()) turn();
        }) {}

  [[nodiscard]] Seen seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

 private:
  void turn() {
    std::vector<pollfd> waiting;
    for (const int descriptor : server_->descriptors()) waiting.push_back({descriptor, POLLIN, 0});
    ::poll(waiting.data(), waiting.size(), 5);
    server_->poll();
    const std::lock_guard lock(mutex_);
    while (const auto request = server_->next_request()) answer(*request);
    while (const auto datagram = server_->next_datagram()) seen_.datagrams.push_back(*datagram);
    server_->flush();
  }
  void answer(const channel::Request& request) {
    channel::Event event;
    event.type = channel::EventType::completion;
    event.body.completion = {};
    event.body.completion.request = request.id;
    if (request.type == channel::RequestType::take_snapshot) ++seen_.snapshots;
    if (request.type == channel::RequestType::lease_spis) lease(event.body.completion);
    server_->send(event);
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
  mutable std::mutex mutex_;
  Seen seen_;
  std::jthread thread_;  ///< last: it uses all of the above
};

std::unique_ptr<PreSharedKeys> one_key() {
  auto keys = std::make_unique<PreSharedKeys>();
  keys->add({}, crypto::SecretBytes(16));
  return keys;
}

class Gateway {
 public:
  Gateway() { REQUIRE(daemon_.bind()); }
  RunDirectory directory;
  std::unique_ptr<ScriptedDataPlane> dataplane;

  void start_dataplane(channel::Outcome lease_outcome = channel::Outcome::ok) {
    dataplane = std::make_unique<ScriptedDataPlane>(directory, lease_outcome);
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
  config::Config configuration_ = configuration();
  Certificates certificates_{configuration_.pki};
  Daemon daemon_{*loop_, configuration_, one_key(), certificates_};
};

}  // namespace

TEST_CASE("key daemon: after the snapshot and a lease it begins what start_action says") {
  Gateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  CHECK(gateway.dataplane->seen().snapshots == 1);
  CHECK(gateway.dataplane->seen().leases >= 1);
  const channel::Datagram first = gateway.dataplane->seen().datagrams.at(0);
  CHECK(first.remote == wire::Endpoint{*wire::IpAddress::parse("192.0.2.2"), 500});
  const auto message = wire::ike::parse_message(wire::Bytes(first.bytes).first(first.length));
  REQUIRE(message);
  CHECK(message->header.exchange == wire::ike::ExchangeType::ike_sa_init);
}

TEST_CASE("key daemon: it waits for a data plane that comes later") {
  Gateway gateway;
  gateway.start();
  const auto status = gateway.ask("status", nlohmann::json::object());
  REQUIRE(status);
  CHECK((*status)["dataplane_connected"] == false);
  gateway.start_dataplane();
  CHECK(gateway.until([&] { return gateway.has_sent(); }));
}

TEST_CASE("key daemon: a data plane that restarts is found again and every child begins anew") {
  Gateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  gateway.dataplane.reset();
  gateway.start_dataplane();
  CHECK(gateway.until([&] { return gateway.has_sent(); }));
  CHECK(gateway.dataplane->seen().snapshots == 1);
}

TEST_CASE("key daemon: a refused lease is not asked for in a storm") {
  Gateway gateway;
  gateway.start_dataplane(channel::Outcome::no_room);
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.dataplane->seen().leases == 1; }));
  int turns = 0;
  gateway.until([&] { return ++turns == 20; });
  CHECK(gateway.dataplane->seen().leases == 1);
}

TEST_CASE("control socket: without a data plane a command says so") {
  Gateway gateway;
  gateway.start();
  const auto answer = gateway.ask("initiate", {{"name", "office"}});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == "dataplane_not_running");
}

TEST_CASE("control socket: an unknown name is answered with the names there are") {
  Gateway gateway;
  gateway.start();
  for (const char* verb : {"initiate", "terminate", "rekey"}) {
    const auto answer = gateway.ask(verb, {{"name", "ofice"}});
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == "unknown_name");
    CHECK(answer.error().message.find("office") != std::string::npos);
  }
  // The IKE SA is rekeyed by its connection's name, a child by its own.
  CHECK_FALSE(gateway.ask("rekey", {{"name", "office"}, {"ike", true}}));
  CHECK_FALSE(gateway.ask("initiate", {{"name", 7}}));
}

TEST_CASE("control socket: a negotiation that nobody answers ends with the caller's time") {
  Gateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  const auto answer = gateway.ask("initiate", {{"name", "office"}, {"timeout_seconds", 1}});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == "timeout");
}

TEST_CASE("control socket: status and counters have the fields of the reference") {
  Gateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  const auto status = gateway.ask("status", nlohmann::json::object());
  REQUIRE(status);
  CHECK((*status)["dataplane_connected"] == true);
  CHECK((*status)["connections"][0]["connection"] == "branch");
  CHECK((*status)["connections"][0]["state"] == "negotiating");
  CHECK((*status)["ike_sas"][0]["role"] == "initiator");
  const auto counters = gateway.ask("counters", nlohmann::json::object());
  REQUIRE(counters);
  CHECK((*counters)["channel"]["datagrams_out"] >= 1);
}

}  // namespace culvert::ike
