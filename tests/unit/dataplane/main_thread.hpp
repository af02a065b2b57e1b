// A data plane's main thread without ports and workers, for tests of what it does about SAs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/tables/sa.hpp"
#include "runtime/log.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"

namespace culvert::dataplane::control::test_main {

using channel::Direction;
using channel::SaId;

inline config::Config configuration(std::size_t children, std::uint32_t policies) {
  config::Config file;
  file.dataplane.limits.sas = 8192;
  file.dataplane.limits.policies = policies;
  file.dataplane.limits.flows = 16;
  file.dataplane.interfaces.resize(1);
  file.dataplane.interfaces[0].name = "wan";
  file.dataplane.interfaces[0].addresses = {test::prefix("198.51.100.1/24")};
  config::Connection& connection = file.connections.emplace_back();
  connection.name = "branch";
  for (std::size_t index = 0; index < children; ++index) {
    config::Child& child = connection.children.emplace_back();
    child.name = "net" + std::to_string(index);
    child.id = config::child_id(connection.name, child.name);
    child.local_ts = {*wire::TrafficSelector::parse("10.1.0.0/16")};
    child.remote_ts = {*wire::TrafficSelector::parse("10.2.0.0/16")};
    child.esp_proposals = {*crypto::parse_esp_proposal("aes128gcm16")};
  }
  return file;
}

/// SAs are outbound unless said.
class MainThread {
 public:
  explicit MainThread(std::size_t children, std::uint32_t policies = 16)
      : file(configuration(children, policies)) {
    runtime::set_log_level(runtime::Level::warning);
  }
  ~MainThread() { runtime::set_log_level(runtime::Level::info); }
  MainThread(const MainThread&) = delete;
  MainThread& operator=(const MainThread&) = delete;

  void install(std::uint64_t id, std::size_t child, Direction direction = Direction::out) {
    channel::InstallSa request;
    request.sa = SaId{id};
    request.direction = direction;
    request.spi = direction == Direction::in ? tables->sad->lease_spis(1).at(0)
                                             : channel::Spi{static_cast<std::uint32_t>(id)};
    request.child_id = directory.in_order()[child];
    request.suite = {crypto::Encryption::aes_gcm_16, 128, crypto::Integrity::none};
    request.replay_window = 64;
    request.local_selectors.items[request.local_selectors.count++] =
        file.connections[0].children[child].local_ts[0];
    request.remote_selectors.items[request.remote_selectors.count++] =
        file.connections[0].children[child].remote_ts[0];
    request.local = {test::address("198.51.100.1"), 0};
    request.remote = {test::address("198.51.100.2"), 0};
    REQUIRE(request.key.assign(std::vector<std::uint8_t>(20, 7)));
    REQUIRE(associations.install(request, Instant{}) == channel::Outcome::ok);
  }
  void remove(std::uint64_t id) {
    REQUIRE(associations.remove(SaId{id}) == channel::Outcome::ok);
    tables->reclaimer->poll();
  }
  /// As a worker does.
  void carry(std::uint64_t id, std::uint64_t packets) {
    const SaRecord& record = *tables->sad->find(SaId{id});
    tables->sad->outbound(record.slot)->sequence += packets;
  }
  void stop(std::uint64_t id) { tables->sad->stop(SaId{id}, StopCause::hard_time); }

  struct Dpdk {
    Dpdk() { test::need_dpdk(); }
  } dpdk;  ///< first
  config::Config file;
  std::unique_ptr<crypto::esp::Engine> engine = crypto::esp::make_engine();
  std::unique_ptr<Tables> tables = *Tables::create(file.dataplane.limits, 1, *engine);
  Topology topology{file.dataplane};
  ChildDirectory directory{file};
  std::unique_ptr<Steering> steering = Steering::create({}, 1, tables->sad->slots()).value();
  Associations associations{*tables, topology, directory, *steering};
};

}  // namespace culvert::dataplane::control::test_main
