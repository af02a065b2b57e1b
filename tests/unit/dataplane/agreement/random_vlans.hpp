// VLANs that are ports of their own and come and go: frames with their tags, with others, and with
// such as name no VLAN; the way to the peer leads through one now and then.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/model/vlan_model.hpp"
#include "tests/unit/dataplane/agreement/addresses.hpp"
#include "tests/unit/dataplane/agreement/random_tables.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class RandomVlans : protected RandomTables {
 protected:
  RandomVlans(std::uint64_t seed, std::uint32_t workers) : RandomTables(seed, workers) {
    const auto way_to = [&](const std::string& station) {
      return gateway_.tables().fib->lookup(model::parsed(station));
    };
    learn(add_vlan({0, {10}}), {"10.9.0.1/24", "2001:db8:9::1/64"}, {"10.9.0.9", "2001:db8:9::9"});
    learn(add_vlan({1, {20, 30}}), {"10.8.0.1/24", "2001:db8:8::1/64"},
          {"10.8.0.9", "2001:db8:8::9"});
    learn(add_vlan({1, {20}}), {"10.7.0.1/24", "2001:db8:7::1/64"}, {"10.7.0.9", "2001:db8:7::9"});
    ways_to_[kThere[0]] = {way_to(kThere[0]), way_to("10.8.0.9")};
    ways_to_[kThere[1]] = {way_to(kThere[1]), way_to("2001:db8:8::9")};
  }

  void change_vlans() {
    if (one_in(2)) {
      model::PortModel& port = model_.ports[2 + below(3)];
      port.is_used = !port.is_used;
      return publish();
    }
    const std::string& peer = any(kThere);
    add_way(wire::Prefix::parse(peer).value(), any(ways_to_.at(peer)));
  }

  /// As it came to a device: seldom with tags, and mostly with those of a port.
  Packet with_tags(const Packet& frame, unsigned device) {
    if (!one_in(8)) return frame;
    Packet tags;
    switch (below(8)) {
      case 0:
        put_tag(tags, 0x8100, 11);
        break;
      case 1:
        put_tag(tags, one_in(2) ? 0x8100 : 0x88a8, 0);
        break;
      case 2:
        put_tag(tags, 0x8100, 0);
        put_tag(tags, 0x8100, device == 0 ? 10 : 20);
        break;
      case 3:
        for (const unsigned id : {0U, 20U, 30U}) put_tag(tags, 0x8100, id);
        break;
      default:
        for (const unsigned id : model_.ports[2 + device * (1 + below(2))].vlan) {
          put_tag(tags, one_in(2) ? 0x8100 : 0x88a8, id);
        }
    }
    constexpr std::size_t kAt = model::kAddressesBytes;
    Packet tagged = model::slice(frame, 0, kAt);
    model::put(tagged, tags);
    model::put(tagged, model::slice(frame, kAt, frame.size() - kAt));
    return tagged;
  }

 private:
  /// With any priority.
  void put_tag(Packet& tags, unsigned type, unsigned id) {
    model::put16(tags, type);
    model::put16(tags, static_cast<unsigned>(below(16)) << 12U | id);
  }

  /// Not used yet.
  unsigned add_vlan(model::PortModel port) {
    port.is_used = false;
    model_.ports.push_back(std::move(port));
    publish();
    return static_cast<unsigned>(model_.ports.size() - 1);
  }
  void publish() {
    std::vector<PortInfo> ports = gateway_.tables().ports.copy();
    ports.resize(2);
    for (std::size_t i = 2; i < model_.ports.size(); ++i) {
      const model::PortModel& port = model_.ports[i];
      PortInfo info = ports[port.device];
      info.queues = 0;
      info.vlan = {};
      for (const unsigned id : port.vlan) info.vlan.add(static_cast<std::uint16_t>(id));
      info.is_used = port.is_used;
      info.shares_device = true;
      ports.push_back(info);
    }
    for (unsigned device = 0; device < 2; ++device) {
      ports[device].shares_device = std::ranges::any_of(model_.ports, [&](const auto& port) {
        return port.device == device && port.is_used && !port.vlan.empty();
      });
    }
    gateway_.tables().ports.publish(ports, *gateway_.tables().reclaimer);
    gateway_.tables().reclaimer->poll();
  }

  void add_way(const wire::Prefix& to, AdjacencyIndex adjacency) {
    REQUIRE(gateway_.tables().fib->add(to, adjacency).has_value());
    gateway_.tables().reclaimer->poll();
    model_.routes.add(to, adjacency);
  }
  /// A port's own addresses, and a station on the link of each.
  void learn(unsigned port, const std::vector<std::string>& own,
             const std::vector<std::string>& stations) {
    auto& adjacencies = *gateway_.tables().adjacencies;
    constexpr std::uint16_t kMtu = 1500;
    const auto to = static_cast<PortId>(port);
    const auto host = [](const wire::IpAddress& address) {
      return wire::Prefix::parse(address.to_string()).value();
    };
    for (std::size_t i = 0; i < own.size(); ++i) {
      const auto prefix = wire::Prefix::parse(own[i]).value();
      const auto station = model::parsed(stations[i]);
      const AdjacencyIndex glean = adjacencies.add_glean(to, kMtu).value();
      const AdjacencyIndex there = adjacencies.add_neighbor(to, station, kMtu).value();
      adjacencies.resolve(there, kOurMac, kTheirMac);
      add_way(prefix, glean);
      add_way(host(prefix.address), Adjacencies::kLocal);
      add_way(host(station), there);
      if (prefix.address.is_v4()) {
        for (const auto& nobody : {prefix.first(), prefix.last()}) {
          REQUIRE(gateway_.tables().fib->add(host(nobody), Adjacencies::kBroadcast).has_value());
        }
      }
      model_.networks.push_back(prefix);
      model_.next_hops[glean] = {port, false};
      model_.next_hops[there] = {port, true};
    }
  }

  std::map<std::string, std::vector<AdjacencyIndex>> ways_to_;  ///< the peers
};

}  // namespace culvert::test
