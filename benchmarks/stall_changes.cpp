// The changes that a stall rig makes, and the policies that it has.
#include <cstring>
#include <stdexcept>

#include <rte_cycles.h>

#include "benchmarks/stalls.hpp"

namespace culvert::benchmarks {
namespace {

using namespace dataplane;

constexpr std::uint64_t kNegotiated = 1'000'000'000;  ///< ids of policies that come and go
constexpr std::uint16_t kSending = 1;

void need(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string("stalls: no room for ") + what);
}

wire::TrafficSelector network(std::uint32_t address, std::uint8_t length) {
  const wire::Prefix prefix{wire::IpAddress::v4(address), length};
  return wire::TrafficSelector::of({prefix.first(), length});
}
wire::TrafficSelector with_ports(wire::TrafficSelector selector, std::uint8_t protocol,
                                 std::uint16_t first, std::uint16_t last) {
  selector.protocol = protocol;
  selector.port_first = first;
  selector.port_last = last;
  return selector;
}
wire::Prefix route_to(const char* text) { return wire::Prefix::parse(text).value(); }

}  // namespace

const char* to_string(Change change) {
  switch (change) {
    case Change::none:
      return "nothing";
    case Change::policy_more:
      return "one policy more";
    case Change::policy_less:
      return "one policy less";
    case Change::policy_in_front:
      return "a policy in front of a flow's";
    case Change::policy_from_front:
      return "it goes again";
    case Change::rekey:
      return "rekey";
    case Change::inbound_sa_less:
      return "an inbound SA less";
    case Change::peer_moved:
      return "a peer moves";
    case Change::path_mtu:
      return "path MTU of an SA";
    case Change::route_more:
      return "a route more";
    case Change::route_less:
      return "a route less";
    case Change::next_hop:
      return "next hop of all traffic";
    case Change::all_policies_again:
      return "whole list of policies";
  }
  return "";
}

PolicyEntry StallRig::policy_of(std::uint32_t sa) const {
  const auto request = sa_request(out_, sa, channel::Spi{});
  PolicyEntry entry;
  // Behind all others: each search goes through all shapes.
  entry.rank = {2, sa};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.child_id = config::ChildId{sa};
  entry.policy = channel::PolicyId{sa + 1};
  entry.local = {request.local_selectors.items[0]};
  entry.remote = {request.remote_selectors.items[0]};
  return entry;
}

/// Networks that no packet of the traffic is from or for.
PolicyEntry StallRig::other_policy(std::uint32_t number) const {
  PolicyEntry entry;
  entry.rank = {1, std::uint64_t{number} * 2};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.policy = channel::PolicyId{kNegotiated + number};
  if (settings_.shapes == Shapes::few) {
    entry.local = {network(kLocalBase, 9)};
    entry.remote = {network(0x20000000 + (number << 8U), 24)};
    if (number % 2 != 0) entry.remote[0] = with_ports(entry.remote[0], 6, 443, 443);
    return entry;
  }
  const Selectors selectors = selectors_of_many_shapes(wire::Family::v4, number);
  entry.local = {selectors.local};
  entry.remote = {selectors.remote};
  return entry;
}

void StallRig::change(Change kind, std::uint32_t number) {
  Spd& spd = *tables_->spd;
  Sad& sad = *tables_->sad;
  const std::uint32_t sa = number % settings_.flows;
  // All over the list, between the others.
  PolicyEntry other = other_policy(
      static_cast<std::uint32_t>(number * 7919ULL % (settings_.policies - settings_.flows)));
  ++other.rank.place;
  other.policy = channel::PolicyId{2 * kNegotiated};
  PolicyEntry front = policy_of(sa);
  front.policy = channel::PolicyId{2 * kNegotiated + 1};
  front.rank.section = 0;
  switch (kind) {
    case Change::none:
      break;
    case Change::policy_more:
      spd.insert(other);
      break;
    case Change::policy_less:
      spd.erase(other.policy);
      break;
    case Change::policy_in_front:
      front.outbound = sad.find(outbound_[sa])->slot;
      spd.insert(front);
      break;
    case Change::policy_from_front:
      spd.erase(front.policy);
      break;
    case Change::rekey:
      rekey(sa);
      break;
    case Change::inbound_sa_less:
      sad.remove(spare_inbound_);
      break;
    case Change::peer_moved:
      sad.update_endpoints(
          {outbound_[sa], {wire::IpAddress::v4(kOurWan), 0}, {wire::IpAddress::v4(kPeerWan), 0}});
      break;
    case Change::path_mtu:
      sad.set_path_mtu(outbound_[sa], static_cast<std::uint16_t>(1400 + number % 2));
      break;
    case Change::route_more:
      need(tables_->fib->add(route_to("203.0.113.7/32"), next_hop_).has_value(), "a route");
      break;
    case Change::route_less:
      tables_->fib->remove(route_to("203.0.113.7/32"));
      break;
    case Change::next_hop:
      change_next_hop();
      break;
    case Change::all_policies_again:
      list_until_swap_.store(&spd.snapshot(), std::memory_order_release);
      spd.replace(all_policies_);
      list_until_swap_.store(nullptr, std::memory_order_release);
      break;
  }
  tables_->reclaimer->poll();
}

void StallRig::rekey(std::uint32_t sa) {
  Sad& sad = *tables_->sad;
  const auto leased = sad.lease_spis(1);
  need(!leased.empty(), "an SPI");
  auto received = sa_request(in_, sa, leased[0]);
  received.sa = spare_inbound_ = channel::SaId{next_sa_++};
  auto sent = sa_request(out_, sa, channel::Spi{0x10000 + static_cast<std::uint32_t>(next_sa_)});
  sent.sa = channel::SaId{next_sa_++};
  const auto slot = sad.install(sent, rte_rdtsc(), {});
  need(slot && sad.install(received, rte_rdtsc(), {}), "SAs");
  tables_->spd->rebind(channel::PolicyId{sa + 1}, *slot);
  const SlotIndex before = sad.find(outbound_[sa])->slot;
  sad.remove(outbound_[sa]);
  tables_->spd->unbind(before);
  outbound_[sa] = sent.sa;
  all_policies_[all_policies_.size() - settings_.flows + sa].outbound = *slot;
}

void StallRig::change_next_hop() {
  const auto fresh =
      tables_->adjacencies->add_neighbor(PortId{kSending}, wire::IpAddress::v4(kPeerWan), 1500);
  need(fresh.has_value(), "an adjacency");
  MacAddress mac{};
  std::memcpy(mac.data(), kNeighborMac, 6);
  tables_->adjacencies->resolve(*fresh, mac, tables_->ports[kSending].mac);
  need(tables_->fib->add(route_to("198.51.100.2/32"), *fresh).has_value(), "a route");
  // The FIB changes one of two copies after a grace period: two pass before the index is free.
  tables_->reclaimer->retire([this, old = next_hop_] {
    tables_->reclaimer->retire([this, old] { tables_->adjacencies->release(old); });
  });
  next_hop_ = *fresh;
}

}  // namespace culvert::benchmarks
