#include <catch2/catch.hpp>

#include "dataplane/control/config_version.hpp"
#include "dataplane/control/reload.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

config::Child named_child(std::string name, std::uint32_t index) {
  config::Child result;
  result.name = std::move(name);
  result.index = index;
  return result;
}

config::Config running() {
  config::Config config;
  config::Interface wan;
  wan.name = "wan";
  wan.addresses = {test::prefix("198.51.100.1/24")};
  config.dataplane.interfaces = {wan};
  config::Connection connection;
  connection.name = "branch";
  connection.children = {named_child("office", 0), named_child("lab", 1)};
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
  wanted.connections[0].children.push_back(named_child("site", 2));
  wanted.connections[0].children[0].rekey_time = std::chrono::seconds{99};
  CHECK(needs_restart(running(), wanted).empty());
}

TEST_CASE("reload: a child that goes or moves would give its SAs to another") {
  config::Config removed = running();
  removed.connections[0].children.erase(removed.connections[0].children.begin());
  removed.connections[0].children[0].index = 0;
  CHECK(needs_restart(running(), removed).size() == 1);

  config::Config without_last = running();
  without_last.connections[0].children.pop_back();
  CHECK(needs_restart(running(), without_last).empty());
  without_last.connections.clear();
  CHECK(needs_restart(running(), without_last).empty());

  config::Config reordered = running();
  std::swap(reordered.connections[0].children[0].name, reordered.connections[0].children[1].name);
  CHECK(needs_restart(running(), reordered).size() == 1);
}

TEST_CASE("reload: what needs a restart is named, each thing once") {
  config::Config wanted = running();
  wanted.dataplane.interfaces[0].mtu = 9000;
  wanted.dataplane.workers = 7;
  wanted.default_policy = config::PolicyAction::bypass;
  wanted.manual_sas.emplace_back();
  const auto reasons = needs_restart(running(), wanted);
  CHECK(reasons ==
        std::vector<std::string>{"dataplane.interfaces changed, not their addresses alone",
                                 "dataplane.workers changed", "default_policy changed",
                                 "manual_sas changed"});
}

TEST_CASE("reload: each limit needs a restart, its memory is there already") {
  for (std::uint32_t config::Limits::* const limit :
       {&config::Limits::sas, &config::Limits::policies, &config::Limits::flows}) {
    config::Config wanted = running();
    wanted.dataplane.limits.*limit += 1;
    CHECK(needs_restart(running(), wanted) == std::vector<std::string>{"dataplane.limits changed"});
  }
}

TEST_CASE("configuration version: equal files are equal, one changed byte shows") {
  CHECK(version_of("a: 1\n") == version_of("a: 1\n"));
  CHECK(version_of("a: 1\n") != version_of("a: 2\n"));
  CHECK(version_of("").size() == 16);
}

}  // namespace culvert::dataplane::control
