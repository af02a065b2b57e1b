// A data plane's main thread with manual SAs, without ports and workers.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <utility>

#include <unistd.h>

#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/control/manual_sas.hpp"
#include "dataplane/control/steering.hpp"
#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"

namespace culvert::dataplane::control::manual_reload {
using config::ManualSa;
using runtime::Instant;

inline constexpr const char* kKey = "000102030405060708090a0b0c0d0e0f10111213";
inline constexpr const char* kOtherKey = "f00102030405060708090a0b0c0d0e0f10111213";

class KeyFolder {
 public:
  KeyFolder() { std::filesystem::create_directory(folder_); }
  ~KeyFolder() { std::filesystem::remove_all(folder_); }
  KeyFolder(const KeyFolder&) = delete;
  KeyFolder& operator=(const KeyFolder&) = delete;

  [[nodiscard]] std::string write(const std::string& name, const std::string& hex) const {
    const auto file = folder_ / name;
    std::ofstream(file) << hex << '\n';
    std::filesystem::permissions(
        file, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    return file.string();
  }

 private:
  std::filesystem::path folder_ = std::filesystem::temp_directory_path() /
                                  ("culvert_manual_reload_" + std::to_string(getpid()));
};

inline config::Limits few(std::uint32_t sas = 16) {
  config::Limits limits;
  limits.sas = sas;
  limits.policies = sas;
  limits.flows = 16;
  return limits;
}

inline config::Dataplane network() {
  config::Dataplane dataplane;
  dataplane.interfaces.resize(1);
  dataplane.interfaces[0].name = "wan";
  dataplane.interfaces[0].addresses = {test::prefix("198.51.100.1/24")};
  return dataplane;
}

class Gateway {
 public:
  explicit Gateway(std::unique_ptr<crypto::esp::Engine> with = crypto::esp::make_engine(),
                   config::Limits with_limits = few())
      : limits(with_limits), engine(std::move(with)) {
    file.dataplane = network();
    file.dataplane.limits = limits;
  }

  ManualSa& add(std::string name, ManualSa::Direction direction, std::uint32_t spi) {
    ManualSa& sa = file.manual_sas.emplace_back();
    sa.name = std::move(name);
    sa.id = config::manual_id(sa.name);
    sa.direction = direction;
    sa.spi = spi;
    sa.local = test::address("198.51.100.1");
    sa.remote = test::address("198.51.100.2");
    sa.local_ts = {wire::TrafficSelector::of(test::prefix("10.1.0.0/24"))};
    sa.remote_ts = {wire::TrafficSelector::of(test::prefix("10.2.0.0/24"))};
    sa.suite = {crypto::Encryption::aes_gcm_16, 128, crypto::Integrity::none};
    sa.key_file = keys.write("key", kKey);
    return sa;
  }
  /// What the gateway does of a reload; empty: it is done.
  std::string reload() {
    if (std::string error = apply(); !error.empty()) return error;
    publish();
    return {};
  }
  /// Its first half: the policies name what they named.
  std::string apply() {
    auto plan = manual_sas.plan(file);
    if (!plan) return plan.error();
    auto done = manual_sas.apply(file, *std::move(plan), Instant{});
    return done ? std::string() : done.error();
  }
  /// `meanwhile`: the policies are built, and workers go by those before them. `at_last`: the same,
  /// a moment before they do no more.
  void publish(
      const std::function<void()>& meanwhile = [] {},
      const std::function<void()>& at_last = [] {}) {
    put_in_force(meanwhile, at_last);
    manual_sas.remove_replaced();
  }
  void put_in_force(
      const std::function<void()>& meanwhile = [] {},
      const std::function<void()>& at_last = [] {}) {
    directory.take(file, associations.borne());
    policies.publish([&] {
      meanwhile();
      manual_sas.begin_numbers();
      at_last();
    });
  }
  [[nodiscard]] const SaRecord* inbound(std::uint32_t spi) {
    return tables->sad->find_inbound(channel::Spi{spi});
  }
  [[nodiscard]] ReplayVerdict verdict(std::uint64_t number, std::uint32_t spi = 0x1001) {
    return tables->sad->inbound(spi)->replay_window().check(number);
  }
  /// Received and verified.
  void receive(std::uint64_t number, std::uint32_t spi = 0x1001) {
    static_cast<void>(tables->sad->inbound(spi)->replay_window().commit(number));
  }
  /// Where the first policy's traffic goes.
  [[nodiscard]] OutboundSa& sends() {
    return *tables->sad->outbound(tables->spd->entries().front().outbound);
  }
  [[nodiscard]] std::uint32_t count(channel::Direction direction) const {
    return tables->sad->count(direction);
  }
  /// SPIs that traffic leaves with, in the order of the policies.
  [[nodiscard]] std::vector<std::uint32_t> outbound_spis() {
    std::vector<std::uint32_t> spis;
    for (const PolicyEntry& entry : tables->spd->entries()) {
      tables->sad->for_each([&](const SaRecord& record) {
        if (record.spec.direction != channel::Direction::out || record.slot != entry.outbound)
          return;
        spis.push_back(static_cast<std::uint32_t>(record.spec.spi));
      });
    }
    return spis;
  }

  struct Dpdk {
    Dpdk() { test::need_dpdk(); }
  } dpdk;  ///< first
  KeyFolder keys;
  config::Config file;
  config::Limits limits;
  std::unique_ptr<crypto::esp::Engine> engine;
  std::unique_ptr<Tables> tables = *Tables::create(limits, 1, *engine);
  Topology topology{network()};
  ChildDirectory directory{file};
  std::unique_ptr<Steering> steering = Steering::create({}, 1, tables->sad->slots()).value();
  Associations associations{*tables, topology, directory, *steering};
  PolicyBook policies{*tables, file, directory};
  ManualSas manual_sas{*tables, associations, policies};
};

inline constexpr auto kIn = ManualSa::Direction::in;
inline constexpr auto kOut = ManualSa::Direction::out;

}  // namespace culvert::dataplane::control::manual_reload
