// Policies that change while a worker knows flows: what they meet from then on, how many packets
// the worker takes at once until it knows them again, and how an operator sees that it came late.
#include <cstring>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "tests/unit/dataplane/pipeline/gateway.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

PolicyEntry entry(std::uint64_t number, PolicyAction action, const std::string& remote) {
  PolicyEntry made;
  made.rank = {1, number};
  made.origin = PolicyOrigin::negotiated;
  made.action = action;
  made.policy = channel::PolicyId{number};
  made.local = {wire::TrafficSelector::parse("10.1.0.0/24").value()};
  made.remote = {wire::TrafficSelector::parse(remote).value()};
  return made;
}

Packet to(const std::string& destination) {
  PacketOptions options;
  options.destination = destination;
  options.payload = udp(1000, 2000, Packet(40, 0x42));
  return frame(ip_packet(options));
}

void put_into(PortId port, const Packet& bytes) {
  rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
  REQUIRE(packet != nullptr);
  std::memcpy(rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size())), bytes.data(),
              bytes.size());
  REQUIRE(rte_eth_tx_burst(static_cast<std::uint16_t>(raw(port)), 0, &packet, 1) == 1);
}

/// Policies of as many shapes as there are, for other networks.
void add_shapes(Spd& spd, std::uint32_t count) {
  for (std::uint32_t number = 0; number < count; ++number) {
    PolicyEntry other = entry(1000 + number, PolicyAction::discard,
                              "172.16.0.0/" + std::to_string(16 + number % 16));
    other.local = {
        wire::TrafficSelector::parse("172.31.0.0/" + std::to_string(16 + number / 16 % 16))
            .value()};
    spd.insert(other);
  }
}

}  // namespace

TEST_CASE("worker: a known flow meets a policy that comes in front of its own, until it goes") {
  Gateway gateway;
  Spd& spd = *gateway.tables().spd;
  PolicyEntry protect = entry(100, PolicyAction::protect, "10.2.0.0/16");
  protect.outbound = gateway.install(outbound_sa({}));
  spd.insert(protect);
  const std::vector<Packet> both{to("10.2.0.7"), to("10.2.9.7")};
  for (int burst = 0; burst < 3; ++burst) CHECK(gateway.receive(kLan, both).wan.size() == 2);
  // Each later flow finds its way by what is known of it: one of them unchanged, again and again.
  for (int turn = 0; turn < 3; ++turn) {
    spd.insert(entry(7, PolicyAction::discard, "10.2.0.0/24"));
    const Result refused = gateway.receive(kLan, both);
    CHECK(refused.wan.size() == 1);
    CHECK(refused.dropped(DropReason::policy_discard) == 1);
    spd.insert(entry(8, PolicyAction::discard, "10.7.0.0/24"));
    CHECK(gateway.receive(kLan, both).dropped(DropReason::policy_discard) == 1);
    spd.erase(channel::PolicyId{7});
    CHECK(gateway.receive(kLan, both).wan.size() == 2);
    spd.erase(channel::PolicyId{8});
    CHECK(gateway.receive(kLan, both).wan.size() == 2);
  }
  // Its own goes: nothing else lets it pass.
  spd.erase(channel::PolicyId{100});
  CHECK(gateway.receive(kLan, both).dropped(DropReason::no_policy_match) == 2);
}

TEST_CASE("worker: flows that a change does not concern are not searched for again") {
  Gateway gateway;
  Spd& spd = *gateway.tables().spd;
  spd.insert(entry(100, PolicyAction::bypass, "10.2.0.0/16"));
  std::vector<Packet> frames;
  for (int flow = 0; flow < 40; ++flow) frames.push_back(to("10.2.0." + std::to_string(flow + 1)));
  gateway.receive(kLan, frames);
  const auto searched_for = [&] {
    std::uint32_t searched = 0;
    gateway.iterate = [&](WorkerState& worker, Burst& burst) {
      run_iteration(worker, burst);
      searched = worker.pace.searched();
    };
    CHECK(gateway.receive(kLan, frames).wan.size() == 40);
    return searched;
  };
  spd.insert(entry(7, PolicyAction::discard, "10.3.0.0/24"));
  CHECK(searched_for() == 0);
  spd.insert(entry(8, PolicyAction::bypass, "10.2.0.0/30"));
  CHECK(searched_for() == 3);
}

/// How often a device was asked for a number of packets that it may have none for.
std::uint16_t count_odd_asking(std::uint16_t, std::uint16_t, rte_mbuf**, std::uint16_t received,
                               std::uint16_t asked, void* odd) {
  if (asked == 0 || asked % 8 != 0) ++*static_cast<int*>(odd);
  return received;
}

TEST_CASE("worker: after a change it takes as many packets at once as it may search for") {
  Gateway gateway;
  Spd& spd = *gateway.tables().spd;
  spd.insert(entry(100, PolicyAction::bypass, "10.2.0.0/16"));
  const std::uint32_t shapes = GENERATE(0U, 256U);
  add_shapes(spd, shapes);
  std::vector<Packet> frames;
  for (int flow = 0; flow < 60; ++flow) frames.push_back(to("10.2.0." + std::to_string(flow + 1)));
  std::vector<std::uint64_t> taken;
  auto ports = gateway.tables().ports.copy();
  ports[raw(kWan)].queues = 0;  // nobody takes what is sent for received
  gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
  int odd = 0;
  const std::uint16_t device = ports[raw(kLan)].dpdk_port;
  const auto* const callback = rte_eth_add_rx_callback(device, 0, count_odd_asking, &odd);
  REQUIRE(callback != nullptr);
  gateway.iterate = [&](WorkerState& worker, Burst& burst) {
    worker.pace = {};
    std::uint64_t before = 0;
    do {
      before = worker.counters.received.read();
      worker.burst_packets.fill(kBurstPackets);
      run_iteration(worker, burst);
      taken.push_back(worker.counters.received.read() - before);
    } while (taken.back() != 0);
  };
  CHECK(gateway.receive(kLan, frames).wan.size() == 60);
  CHECK(taken.front() <= (shapes == 0 ? 10 : 4));
  CHECK(taken.size() > 6);
  // They are known now: a few bursts, and it takes whole ones.
  taken.clear();
  CHECK(gateway.receive(kLan, frames).wan.size() == 60);
  CHECK(*std::ranges::max_element(taken) > 16);
  rte_eth_remove_rx_callback(device, 0, callback);
  CHECK(odd == 0);
}

TEST_CASE("worker: after a change an iteration takes packets from one port, and ports have turns") {
  Gateway gateway;
  Spd& spd = *gateway.tables().spd;
  spd.insert(entry(100, PolicyAction::discard, "10.2.0.0/16"));
  add_shapes(spd, 256);
  std::vector<Packet> frames;
  for (int flow = 0; flow < 6; ++flow) frames.push_back(to("10.2.0." + std::to_string(flow + 1)));
  std::vector<std::uint64_t> taken;
  bool both_had_turns = false;
  gateway.iterate = [&](WorkerState& worker, Burst& burst) {
    worker.pace = {};
    for (int flow = 0; flow < 6; ++flow) {
      put_into(kWan, to("10.2.1." + std::to_string(flow + 1)));
    }
    std::uint64_t before = 0;
    do {
      before = worker.counters.received.read();
      run_iteration(worker, burst);
      taken.push_back(worker.counters.received.read() - before);
      // What a port gave beyond the one packet waits.
      both_had_turns |= taken.size() <= 3 && !worker.held[raw(kLan)].is_empty() &&
                        !worker.held[raw(kWan)].is_empty();
    } while (taken.back() != 0);
  };
  CHECK(gateway.receive(kLan, frames).dropped(DropReason::policy_discard) == 12);
  for (std::size_t iteration = 0; iteration < 4; ++iteration) CHECK(taken[iteration] == 1);
  CHECK(both_had_turns);
}

TEST_CASE("worker: what a port holds is received though another one receives for its device now") {
  Gateway gateway;
  Spd& spd = *gateway.tables().spd;
  spd.insert(entry(100, PolicyAction::bypass, "10.2.0.0/16"));
  add_shapes(spd, 256);
  // The LAN's device has a VLAN, which is a port without a queue.
  const PortId vlan{2};
  auto ports = gateway.tables().ports.copy();
  ports[raw(kWan)].queues = 0;  // nobody takes what is sent for received
  ports[raw(kLan)].shares_device = true;
  ports.push_back(ports[raw(kLan)]);
  ports[raw(vlan)].queues = 0;
  ports[raw(vlan)].vlan = {{100, 0}};
  gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
  const bool is_removed = GENERATE(false, true);
  const bool is_paced = GENERATE(false, true);
  gateway.iterate = [&](WorkerState& worker, Burst& burst) {
    // Given: after a change it takes one frame of those that the device gave.
    worker.pace = {};
    run_iteration(worker, burst);
    REQUIRE(worker.counters.received.read() == 1);
    REQUIRE_FALSE(worker.held[raw(kLan)].is_empty());
    // When the VLAN's port comes to receive for the device, and more comes,
    ports[raw(vlan)].queues = std::exchange(ports[raw(kLan)].queues, std::uint16_t{0});
    ports[raw(kLan)].is_used = !is_removed;
    gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
    put_into(kLan, to("10.2.0.200"));
    // then what is held is next, within the pace,
    if (is_paced) worker.pace = {};
    if (!is_paced) take_whole_bursts(worker);
    run_iteration(worker, burst);
    CHECK(worker.counters.received.read() >= 2);
    if (!is_paced) CHECK(worker.held[raw(kLan)].is_empty());
    for (int iteration = 0; iteration < 10; ++iteration) run_iteration(worker, burst);
    CHECK(worker.held[raw(kLan)].is_empty());
    CHECK(worker.counters.received.read() == 7);
    run_iteration(worker, burst);
    CHECK_FALSE(worker.may_hold);
  };
  std::vector<Packet> frames;
  for (int flow = 0; flow < 6; ++flow) frames.push_back(to("10.2.0." + std::to_string(flow + 1)));
  const Result result = gateway.receive(kLan, frames);
  // in the order in which it came: untagged frames, if there is still a port for them.
  CHECK(result.dropped(DropReason::unknown_vlan) == (is_removed ? 6 : 0));
  REQUIRE(result.wan.size() == (is_removed ? 1U : 7U));
  for (std::size_t at = 0; at < result.wan.size(); ++at) {
    CHECK(ip_of(result.wan[at])[19] == (at == 6 ? 200 : at + 1));
  }
}

TEST_CASE("search pace: flows that are new all the time keep bursts small for a while only") {
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer);
  SearchPace pace;
  pace.see(spd.snapshot());
  int bursts = 0;
  while (pace.most() < kBurstPackets && bursts < 100'000) {
    CHECK(pace.most() <= 10);
    for (std::uint16_t packet = 0; packet < pace.most(); ++packet) pace.count_search();
    pace.end_burst(pace.most());
    ++bursts;
  }
  CHECK(bursts == 1000);
  // Another change, and it begins again.
  PolicyEntry policy = entry(1, PolicyAction::discard, "10.2.0.0/16");
  spd.insert(policy);
  pace.see(spd.snapshot());
  CHECK(pace.most() <= 10);
  pace.see(spd.snapshot());
  for (int burst = 0; burst < 6; ++burst) pace.end_burst(pace.most());
  CHECK(pace.most() == kBurstPackets);
}

TEST_CASE("worker: iterations with packets that lasted long are counted by how long") {
  constexpr std::uint64_t kMillisecond = 2'000'000;
  WorkerCounters counters;
  count_iteration(counters, kMillisecond / 10 - 1, true, kMillisecond);
  count_iteration(counters, 20 * kMillisecond, false, kMillisecond);  // it slept
  for (const Counter& counter : counters.long_iterations) CHECK(counter.read() == 0);
  count_iteration(counters, kMillisecond / 10, true, kMillisecond);
  count_iteration(counters, 5 * kMillisecond, true, kMillisecond);
  count_iteration(counters, 10 * kMillisecond, true, kMillisecond);
  CHECK(counters.long_iterations[0].read() == 3);
  CHECK(counters.long_iterations[1].read() == 2);
  CHECK(counters.long_iterations[2].read() == 1);
  CHECK(counters.idle_cycles.read() == 20 * kMillisecond);
  CHECK(counters.busy_cycles.read() == 15 * kMillisecond + kMillisecond / 5 - 1);
}
