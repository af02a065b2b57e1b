#include <catch2/catch.hpp>

#include "config/config_version.hpp"
#include "dataplane/control/reload.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

config::Child named_child(std::string name) {
  config::Child result;
  result.name = std::move(name);
  result.id = config::child_id("branch", result.name);
  return result;
}

config::Config running() {
  config::Config config;
  config::Interface wan;
  wan.name = "wan";
  wan.device = "net_af_packet0,iface=eth0";
  wan.addresses = {test::prefix("198.51.100.1/24")};
  config.dataplane.interfaces = {wan};
  config::Connection connection;
  connection.name = "branch";
  connection.children = {named_child("office"), named_child("lab")};
  config.connections = {connection};
  return config;
}

}  // namespace

TEST_CASE("reload: policies, addresses, routes and further children change in place") {
  config::Config wanted = running();
  wanted.dataplane.interfaces[0].addresses = {test::prefix("198.51.100.7/24"),
                                              test::prefix("2001:db8::7/64")};
  wanted.policies.emplace_back();
  wanted.dataplane.routes.emplace_back();
  wanted.connections[0].children.push_back(named_child("site"));
  wanted.connections[0].children[0].rekey_time = std::chrono::seconds{99};
  CHECK(needs_restart(running(), wanted).empty());
}

TEST_CASE("reload: children come, go and move anywhere in the file") {
  config::Config wanted = running();
  auto& children = wanted.connections[0].children;
  children.erase(children.begin());
  CHECK(needs_restart(running(), wanted).empty());
  children.insert(children.begin(), named_child("site"));
  CHECK(needs_restart(running(), wanted).empty());
  std::swap(children[0], children[1]);
  CHECK(needs_restart(running(), wanted).empty());
  wanted.connections.clear();
  CHECK(needs_restart(running(), wanted).empty());
}

TEST_CASE("reload: so do manual SAs, and what becomes of the rest is another thing") {
  config::Config wanted = running();
  wanted.manual_sas.emplace_back();
  wanted.default_policy = config::PolicyAction::bypass;
  CHECK(needs_restart(running(), wanted).empty());
  CHECK(needs_restart(wanted, running()).empty());
}

TEST_CASE("reload: what needs a restart is named, each thing once") {
  config::Config wanted = running();
  wanted.dataplane.interfaces[0].device = "net_af_packet1,iface=eth1";
  wanted.dataplane.workers = 7;
  wanted.dataplane.memory_mib = 2048;
  const auto reasons = needs_restart(running(), wanted);
  CHECK(
      reasons ==
      std::vector<std::string>{
          "interface \"wan\" is on a device, net_af_packet1,iface=eth1, that the packet daemon did "
          "not open at its start: it has given up the rights to open one",
          "dataplane.workers changed from 1 to 7",
          "dataplane.memory_mib changed from what the limits ask for to 2048"});
}

TEST_CASE("reload: each limit needs a restart, its memory is there already") {
  const auto changed = [](std::uint32_t config::Limits::* limit) {
    config::Config wanted = running();
    wanted.dataplane.limits.*limit += 1;
    return needs_restart(running(), wanted);
  };
  using Reasons = std::vector<std::string>;
  CHECK(changed(&config::Limits::sas) ==
        Reasons{"dataplane.limits.sas changed from 65536 to 65537"});
  CHECK(changed(&config::Limits::policies) ==
        Reasons{"dataplane.limits.policies changed from 16384 to 16385"});
  CHECK(changed(&config::Limits::flows) ==
        Reasons{"dataplane.limits.flows changed from 65536 to 65537"});
}

TEST_CASE("reload: cores are named, as many workers as before or not") {
  config::Config pinned = running(), elsewhere = running();
  pinned.dataplane.cores = {2};
  CHECK(needs_restart(running(), pinned) ==
        std::vector<std::string>{"dataplane.workers changed from 1 to [2]"});
  elsewhere.dataplane.cores = {3, 4};
  CHECK(needs_restart(pinned, elsewhere) ==
        std::vector<std::string>{"dataplane.workers changed from [2] to [3, 4]"});
}

TEST_CASE("reload: interfaces of open devices come, go, move and are renamed in place") {
  config::Config wanted = running();
  config::Interface vlan = wanted.dataplane.interfaces[0];
  vlan.name = "guests";
  vlan.vlan = {{100, 0}};
  wanted.dataplane.interfaces.insert(wanted.dataplane.interfaces.begin(), vlan);
  wanted.dataplane.interfaces[1].name = "uplink";
  wanted.dataplane.interfaces[1].mtu = 9000;
  CHECK(needs_restart(running(), wanted).empty());
  CHECK(needs_restart(wanted, running()).empty());

  wanted.dataplane.interfaces[1].device = "net_af_packet0,iface=eth7";
  CHECK(needs_restart(running(), wanted) ==
        std::vector<std::string>{
            "the device of interface \"uplink\" was opened as net_af_packet0,iface=eth0, not as "
            "net_af_packet0,iface=eth7"});
}

TEST_CASE("reload: a device without interfaces stays open, and may have one again") {
  const std::vector<std::string> devices{"net_af_packet0,iface=eth0", "net_af_packet1,iface=eth1"};
  config::Config wanted = running();
  wanted.dataplane.interfaces.push_back(wanted.dataplane.interfaces[0]);
  wanted.dataplane.interfaces[1].device = devices[1];
  CHECK(needs_restart(running(), wanted, devices).empty());
  CHECK(needs_restart(running(), wanted).size() == 1);
}

TEST_CASE("configuration version: equal files are equal, one changed byte shows") {
  CHECK(config::version_of("a: 1\n") == config::version_of("a: 1\n"));
  CHECK(config::version_of("a: 1\n") != config::version_of("a: 2\n"));
  CHECK(config::version_of("").size() == 16);
}

}  // namespace culvert::dataplane::control
