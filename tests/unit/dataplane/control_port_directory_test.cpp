#include <catch2/catch.hpp>

#include "dataplane/control/port_directory.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;

config::Interface interface(std::string name, std::string device, wire::vlan::Ids vlan = {}) {
  config::Interface made;
  made.name = std::move(name);
  made.device = std::move(device);
  made.vlan = vlan;
  return made;
}

constexpr wire::vlan::Ids vlan(std::uint16_t id) { return {{id, 0}}; }

const std::string kWanDevice = "net_af_packet0,iface=eth0";
const std::string kLanDevice = "net_af_packet1,iface=eth1";

config::Dataplane with(std::vector<config::Interface> interfaces) {
  config::Dataplane dataplane;
  dataplane.interfaces = std::move(interfaces);
  return dataplane;
}

config::Dataplane first() {
  return with({interface("wan", kWanDevice, vlan(100)), interface("lan", kLanDevice),
               interface("dmz", kWanDevice, vlan(200))});
}

std::vector<PortId> ports_of(const PortDirectory& directory) {
  return {directory.ports().begin(), directory.ports().end()};
}

/// As the gateway does: the change, and a grace period behind it.
PortDirectory after(const PortDirectory& before, const config::Dataplane& wanted, Instant now) {
  auto next = before.changed(wanted, now);
  REQUIRE(next.has_value());
  for (const PortId port : next->not_quiet()) {
    next->has_become_quiet(port, (*next)[port].unused_since);
  }
  return *std::move(next);
}

constexpr PortId kWan{0}, kLan{1}, kDmz{2}, kNext{3};

}  // namespace

TEST_CASE("ports: at first as the file has them, each device received from by its first") {
  const PortDirectory directory(first());
  CHECK(ports_of(directory) == std::vector{kWan, kLan, kDmz});
  CHECK(directory[kWan].receives);
  CHECK(directory[kLan].receives);
  CHECK_FALSE(directory[kDmz].receives);
  CHECK(directory.is_alone(kLan));
  CHECK_FALSE(directory.is_alone(kWan));
}

TEST_CASE("ports: an interface stays its port under another name and at another place") {
  const PortDirectory next =
      after(PortDirectory(first()),
            with({interface("inside", kLanDevice), interface("guests", kWanDevice, vlan(200)),
                  interface("uplink", kWanDevice, vlan(100))}),
            10s);
  CHECK(ports_of(next) == std::vector{kLan, kDmz, kWan});
  CHECK(next.interface_of(kWan) == 2U);
  CHECK(next[kWan].receives);
  CHECK(next.not_quiet().empty());
}

TEST_CASE("ports: another VLAN under an old name is another port") {
  config::Dataplane wanted = first();
  wanted.interfaces[2].vlan = vlan(201);
  const PortDirectory next = after(PortDirectory(first()), wanted, 10s);
  CHECK(ports_of(next) == std::vector{kWan, kLan, kNext});
  CHECK_FALSE(next[kDmz].is_used);
  CHECK_FALSE(next.interface_of(kDmz));
}

TEST_CASE("ports: a number rests before it is another's, and is its own again at once") {
  config::Dataplane without = first();
  without.interfaces.pop_back();
  const PortDirectory removed = after(PortDirectory(first()), without, 10s);
  CHECK(after(removed, first(), 11s).ports()[2] == kDmz);

  config::Dataplane other = without;
  other.interfaces.push_back(interface("guests", kWanDevice, vlan(300)));
  const Instant rested = 10s + PortDirectory::kRest;
  CHECK(after(removed, other, rested - 1ms).ports()[2] == kNext);
  CHECK(after(removed, other, rested).ports()[2] == kDmz);
  // Whatever the clock says: not while a worker may be looking at it.
  const auto noisy = PortDirectory(first()).changed(without, 10s);
  CHECK(noisy->not_quiet() == std::vector{kDmz});
  CHECK(noisy->changed(other, rested)->ports()[2] == kNext);
  // What an older removal waited for says nothing of this one.
  auto again = *noisy;
  again.has_become_quiet(kDmz, 9s);
  CHECK(again.not_quiet() == std::vector{kDmz});
}

TEST_CASE("ports: what a refused configuration had rests, too, before it is another's") {
  PortDirectory directory(first());
  config::Dataplane refused = first(), other = first();
  refused.interfaces.push_back(interface("guests", kWanDevice, vlan(300)));
  other.interfaces.push_back(interface("lab", kWanDevice, vlan(400)));
  directory.take_back(*directory.changed(refused, 10s), 11s);
  CHECK(ports_of(directory) == std::vector{kWan, kLan, kDmz});
  CHECK(directory[kWan].receives);
  CHECK(directory.not_quiet() == std::vector{kNext});
  CHECK_FALSE(directory[kNext].is_used);
  CHECK_FALSE(directory[kNext].receives);
  CHECK(directory[kNext].unused_since == 11s);

  const Instant rested = 11s + PortDirectory::kRest;
  const PortId behind{4};
  CHECK(directory.changed(other, rested)->ports()[3] == behind);  // a worker may look at it
  directory.has_become_quiet(kNext, 11s);
  CHECK(directory.changed(other, rested - 1ms)->ports()[3] == behind);
  CHECK(directory.changed(other, rested)->ports()[3] == kNext);
  // The same interface at the next try is what it was.
  CHECK(directory.changed(refused, 12s)->ports()[3] == kNext);
}

TEST_CASE("ports: a number that had rested rests anew behind a configuration that was refused") {
  config::Dataplane without = first();
  without.interfaces.pop_back();
  PortDirectory directory = after(PortDirectory(first()), without, 10s);
  const Instant rested = 10s + PortDirectory::kRest;
  config::Dataplane refused = without, other = without;
  refused.interfaces.push_back(interface("guests", kWanDevice, vlan(300)));
  other.interfaces.push_back(interface("lab", kWanDevice, vlan(400)));
  const auto next = directory.changed(refused, rested);
  REQUIRE(next->ports()[2] == kDmz);
  directory.take_back(*next, rested);
  CHECK(directory[kDmz].vlan == vlan(300));
  CHECK(directory.not_quiet() == std::vector{kDmz});
  CHECK(directory.changed(other, rested + 1s)->ports()[2] == kNext);
  // One that drains its device goes on with it.
  directory = after(PortDirectory(first()), with({interface("lan", kLanDevice)}), 10s);
  REQUIRE(directory[kWan].receives);
  directory.take_back(*directory.changed(first(), 11s), 12s);
  CHECK(directory[kWan].receives);
  CHECK_FALSE(directory[kWan].is_used);
}

TEST_CASE("ports: a device is received from where it has an interface, and drained where not") {
  config::Dataplane wanted = first();
  wanted.interfaces.erase(wanted.interfaces.begin());
  const PortDirectory moved = after(PortDirectory(first()), wanted, 10s);
  CHECK_FALSE(moved[kWan].receives);
  CHECK(moved[kDmz].receives);

  const PortDirectory drained = after(moved, with({interface("lan", kLanDevice)}), 20s);
  CHECK_FALSE(drained[kDmz].is_used);
  CHECK(drained[kDmz].receives);
  // Its number is nobody's as long as it does, and rests when it does no more.
  const auto later = with({interface("lan", kLanDevice), interface("a", kWanDevice, vlan(1)),
                           interface("b", kWanDevice, vlan(2))});
  const PortDirectory back = after(drained, later, 100s);
  CHECK(ports_of(back) == std::vector{kLan, kWan, kNext});
  CHECK(back[kWan].receives);
  CHECK_FALSE(back[kDmz].receives);
  CHECK(back[kDmz].unused_since == 100s);
}

TEST_CASE("ports: an untagged interface is alone on its device, or shares it") {
  config::Dataplane wanted = first();
  wanted.interfaces.push_back(interface("guests", kLanDevice, vlan(9)));
  const PortDirectory shared = after(PortDirectory(first()), wanted, 10s);
  CHECK_FALSE(shared.is_alone(kLan));
  CHECK(after(shared, first(), 20s).is_alone(kLan));
}

TEST_CASE("ports: a device that was not opened at the start is none") {
  config::Dataplane wanted = first();
  wanted.interfaces.push_back(interface("new", "net_af_packet2,iface=eth2"));
  const auto refused = PortDirectory(first()).changed(wanted, 10s);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error() ==
        "interface \"new\" is on device net_af_packet2, which was not opened at the start");
}

TEST_CASE("ports: more changes than numbers are refused until some have rested") {
  const auto all_from = [](std::uint16_t id) {
    std::vector<config::Interface> made;
    for (std::size_t i = 0; i < config::limits::kInterfaces; ++i) {
      made.push_back(interface("v" + std::to_string(i), kWanDevice, vlan(id++)));
    }
    return with(std::move(made));
  };
  const PortDirectory full = after(PortDirectory(all_from(1)), all_from(1001), 1s);
  CHECK(full.size() == kMaxPorts);
  const auto refused = full.changed(all_from(2001), 2s);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().find("reload again in 90 seconds") != std::string::npos);
  CHECK(full.changed(all_from(2001), 1s + PortDirectory::kRest).has_value());
}

}  // namespace culvert::dataplane::control
