#include <catch2/catch.hpp>

#include "dataplane/control/child_directory.hpp"

namespace culvert::dataplane::control::child_directory {
namespace {

constexpr ChildId kOffice = config::child_id("branch", "office");
constexpr ChildId kLab = config::child_id("site", "lab");
constexpr ChildId kPair = config::manual_id("pair");
constexpr ChildId kOther = config::manual_id("other");

config::Connection connection(std::string name, std::string child) {
  config::Connection result;
  result.name = std::move(name);
  result.remote.address = wire::IpAddress::v4(0xcb007107U);
  result.children.resize(1);
  result.children[0].start_action = config::StartAction::start;
  result.children[0].name = std::move(child);
  result.children[0].id = config::child_id(result.name, result.children[0].name);
  return result;
}

config::ManualSa manual(std::string name, config::ManualSa::Direction direction) {
  config::ManualSa result;
  result.name = std::move(name);
  result.id = config::manual_id(result.name);
  result.direction = direction;
  return result;
}

config::Config gateway() {
  config::Config config;
  config.connections = {connection("branch", "office"), connection("site", "lab")};
  config.manual_sas = {manual("pair", config::ManualSa::Direction::in),
                       manual("pair", config::ManualSa::Direction::out),
                       manual("other", config::ManualSa::Direction::out)};
  return config;
}

}  // namespace

TEST_CASE("children: in the order of the file, manual names behind them, a pair shares one") {
  const config::Config config = gateway();
  const ChildDirectory children(config);
  CHECK(children.in_order() == std::vector{kOffice, kLab, kPair, kOther});
  CHECK(children.name(kLab) == ChildName{"site", "lab", false});
  CHECK(children.position(kLab) == 1);
  CHECK(children.find(kLab) == &config.connections[1].children[0]);
  CHECK(children.name(kPair) == ChildName{"manual", "pair", true, true, true});
  CHECK(children.name(kOther) == ChildName{"manual", "other", true, false, true});
  CHECK(children.is_manual(kPair));
  CHECK_FALSE(children.position(kPair));
  CHECK(children.find(kPair) == nullptr);
}

TEST_CASE("children: what brings each one up; of a peer without an address only the peer") {
  config::Config config = gateway();
  config::Connection& branch = config.connections[0];
  const auto starter = [&] { return ChildDirectory(config).name(kOffice).started_by; };
  CHECK(starter() == StartedBy::configuration);
  branch.children[0].start_action = config::StartAction::trap;
  CHECK(starter() == StartedBy::traffic);
  branch.children[0].start_action = config::StartAction::none;
  CHECK(starter() == StartedBy::command);
  branch.remote.address.reset();
  CHECK(starter() == StartedBy::peer);
  branch.children[0].start_action = config::StartAction::trap;
  CHECK(starter() == StartedBy::peer);
  CHECK(ChildDirectory(config).name(kPair).started_by == StartedBy::configuration);
}

TEST_CASE("children: what nobody configured has no name and is nobody's") {
  const ChildDirectory children;
  CHECK(children.name(kLab) == ChildName{});
  CHECK(children.find(kLab) == nullptr);
  CHECK_FALSE(children.is_manual(kLab));
}

TEST_CASE("children: a file in another order means the same children") {
  const config::Config before = gateway();
  ChildDirectory children(before);
  config::Config after = gateway();
  after.connections.insert(after.connections.begin(), connection("new", "office"));
  std::swap(after.connections[1], after.connections[2]);
  children.take(after, {});
  CHECK(children.position(kOffice) == 2);
  CHECK(children.position(kLab) == 1);
  CHECK(children.name(kOffice) == ChildName{"branch", "office", false});
  CHECK(children.find(kLab) == &after.connections[1].children[0]);
  CHECK(children.name(config::child_id("new", "office")) == ChildName{"new", "office", false});
}

TEST_CASE("children: a name that is gone is known as long as SAs bear it, and is no child") {
  const config::Config before = gateway();
  ChildDirectory children(before);
  config::Config after = gateway();
  after.connections.erase(after.connections.begin());
  after.manual_sas.clear();
  children.take(after, {kOffice, kPair});
  CHECK(children.in_order() == std::vector{kLab});
  CHECK(children.name(kOffice) == ChildName{"branch", "office", false});
  CHECK(children.find(kOffice) == nullptr);
  CHECK_FALSE(children.position(kOffice));
  CHECK(children.is_manual(kPair));  // not the key daemon's, to the end
  CHECK(children.name(kOther) == ChildName{});

  children.take(after, {});
  CHECK(children.name(kOffice) == ChildName{});
}

}  // namespace culvert::dataplane::control::child_directory
