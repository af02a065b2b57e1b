// A data plane's main thread without ports and workers, and a key daemon at the other end of its
// channel that comes and goes as it is told to.
#pragma once

#include <optional>
#include <vector>

#include <catch2/catch.hpp>
#include <rte_mbuf.h>
#include <unistd.h>

#include "channel/client.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/control/requests.hpp"
#include "dataplane/control/steering.hpp"
#include "runtime/log.hpp"
#include "tests/model/packet.hpp"
#include "tests/unit/channel/fixture.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"

namespace culvert::dataplane::control::requests {

using namespace std::chrono_literals;
using channel::Direction;
using channel::EventType;
using channel::RequestType;
using channel::SaId;
using channel::Spi;

inline config::Config configuration() {
  config::Config file;
  file.dataplane.limits.sas = 16384;
  file.dataplane.limits.policies = file.dataplane.limits.flows = 16;
  file.dataplane.interfaces.resize(1);
  file.dataplane.interfaces[0].name = "wan";
  file.dataplane.interfaces[0].addresses = {test::prefix("198.51.100.1/24")};
  config::Connection& connection = file.connections.emplace_back();
  connection.name = "branch";
  config::Child& child = connection.children.emplace_back();
  child.name = "net";
  child.id = config::child_id(connection.name, child.name);
  child.local_ts = {*wire::TrafficSelector::parse("10.1.0.0/16")};
  child.remote_ts = {*wire::TrafficSelector::parse("10.2.0.0/16")};
  child.esp_proposals = {*crypto::parse_esp_proposal("aes256gcm16")};
  return file;
}

inline rte_mempool* pool() {
  static rte_mempool* const made = rte_pktmbuf_pool_create("requests", 127, 0, kPuntPrivateBytes,
                                                           2048 + RTE_PKTMBUF_HEADROOM, 0);
  return made;
}

/// A data plane's main thread without ports and workers.
class Site {
 public:
  Site() {
    runtime::set_log_level(runtime::Level::error);
    look = {};
  }
  ~Site() { runtime::set_log_level(runtime::Level::info); }
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  /// As the gateway does when a descriptor of the channel is readable.
  std::optional<Instant> turn() {
    if (server->poll()) main.peer_changed(now);
    const auto pause = main.handle_waiting(now);
    server->flush();
    return pause;
  }
  /// The key daemon connects; the main thread has not looked yet.
  void knock() { knocking = channel::Client::begin(folder.socket()).value(); }
  void enter() { client = channel::Client::finish(folder.socket(), std::move(knocking)).value(); }
  void connect() {
    knock();
    turn();
    enter();
  }
  channel::Completion ask(const channel::Request& request) {
    REQUIRE(client->send(request));
    turn();
    const auto event = client->next_event();
    REQUIRE(event.has_value());
    REQUIRE(event->type == EventType::completion);
    return event->body.completion;
  }
  std::vector<Spi> lease(std::uint32_t count) {
    auto request = channel::test::request(RequestType::lease_spis);
    request.body.lease_spis = {count};
    const auto done = ask(request);
    return {done.spis.begin(), done.spis.begin() + done.spi_count};
  }
  std::vector<Spi> keep(std::vector<Spi> spis) {
    auto request = channel::test::request(RequestType::keep_spis);
    request.body.keep_spis = channel::KeepSpis{};
    for (const Spi spi : spis) {
      request.body.keep_spis.spis[request.body.keep_spis.count++] = spi;
    }
    const auto done = ask(request);
    return {done.spis.begin(), done.spis.begin() + done.spi_count};
  }
  channel::Request install_request(std::uint64_t id, Direction direction, Spi spi) {
    auto request = channel::test::install_sa();
    channel::InstallSa& sa = request.body.install_sa;
    sa.sa = SaId{id};
    sa.child_id = child();
    sa.direction = direction;
    sa.spi = spi;
    sa.local = {test::address("198.51.100.1"), 0};
    sa.remote = {test::address("198.51.100.2"), 0};
    return request;
  }
  /// A datagram of the child's meets its trap.
  void meet_trap() {
    const auto bytes = model::ip({.source = "10.1.0.5", .destination = "10.2.0.9"},
                                 model::udp(1000, 53, model::counting(8)));
    Packet packet = packets.make(bytes);
    REQUIRE(packet != nullptr);
    PuntedPacket origin;
    origin.child_id = child();
    acquires.arrived(std::move(packet), origin, now);
  }
  /// Until the key daemon reads nothing more goes in.
  void fill_events() {
    while (server->event_room() > 0) REQUIRE(server->send(channel::test::soft_expire(1)));
  }
  /// What the key daemon reads of that type.
  std::vector<channel::Event> read(EventType type) {
    std::vector<channel::Event> found;
    while (const auto event = client->next_event()) {
      if (event->type == type) found.push_back(*event);
    }
    return found;
  }
  void install(std::uint64_t id) {
    const auto request = install_request(
        id, Direction::out, Spi{static_cast<std::uint32_t>(id + channel::kFirstFreeSpi)});
    REQUIRE(associations.install(request.body.install_sa, now) == channel::Outcome::ok);
  }
  void install(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t id = first; id <= last; ++id) install(id);
  }
  /// Of turns: each look at it takes as long as `look`.
  static Instant clock() { return time += look; }
  static inline Instant time{}, look{};

  [[nodiscard]] config::ChildId child() const { return directory.in_order()[0]; }
  [[nodiscard]] std::uint32_t free_slots() const { return tables->sad->free_slots(Direction::in); }

  struct Dpdk {
    Dpdk() { test::need_dpdk(); }
  } dpdk;  ///< first
  Instant now = 1h;
  config::Config file = configuration();
  std::unique_ptr<crypto::esp::Engine> engine = crypto::esp::make_engine();
  std::unique_ptr<Tables> tables = *Tables::create(file.dataplane.limits, 1, *engine);
  Topology topology{file.dataplane};
  ChildDirectory directory{file};
  std::unique_ptr<Steering> steering = Steering::create({}, 1, tables->sad->slots()).value();
  Associations associations{*tables, topology, directory, *steering};
  PolicyBook policies{*tables, file, directory};
  channel::test::Folder folder;
  std::unique_ptr<channel::Server> server =
      channel::Server::create({folder.socket(), ::geteuid()}).value();
  Packets packets{*tables, pool(), nullptr};
  Acquires acquires{directory, packets, *server};
  Requests main{*tables, associations, policies, acquires, *server, &Site::clock};
  channel::Descriptor knocking;
  std::unique_ptr<channel::Client> client;
};

}  // namespace culvert::dataplane::control::requests
