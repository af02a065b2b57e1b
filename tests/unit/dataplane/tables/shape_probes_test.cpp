// Searches among rules of many shapes: what they find is what an ordered search finds, and they ask
// only for shapes that have rules around both addresses.
#include <map>
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/tables/policy_index.hpp"
#include "tests/unit/dataplane/sa_request.hpp"

namespace culvert::dataplane {
namespace {

wire::TrafficSelector network(std::uint32_t address, unsigned bits, bool v6) {
  if (!v6)
    return wire::TrafficSelector::of(
        {wire::IpAddress::v4(address), static_cast<std::uint8_t>(bits)});
  std::array<std::uint8_t, 16> bytes{0x20, 0x01, 0x0d, 0xb8};
  for (unsigned at = 0; at < 4; ++at) {
    bytes[12 + at] = static_cast<std::uint8_t>(address >> (24 - at * 8));
  }
  return wire::TrafficSelector::of(
      {wire::IpAddress::v6(bytes), static_cast<std::uint8_t>(96 + bits)});
}
/// One of 273 shapes; the networks of a few numbers lie around one another.
PolicyRule rule_of(std::uint32_t number, std::uint32_t source, std::uint32_t destination, bool v6) {
  PolicyRule rule;
  rule.source = network(source, 12 + number % 13, v6);
  rule.destination = network(destination, 12 + number / 13 % 21, v6);
  rule.rank.place = number;
  rule.entry = number;
  return rule;
}
FlowKey flow_between(const wire::IpAddress& source, const wire::IpAddress& destination) {
  return {.source = source,
          .destination = destination,
          .source_port = 1234,
          .destination_port = 80,
          .protocol = wire::protocol::kUdp};
}

}  // namespace

TEST_CASE("policies: a search asks for no shape without rules around the addresses") {
  Reclaimer reclaimer{1};
  PolicyIndex index(1000, reclaimer);
  const bool v6 = GENERATE(false, true);
  std::vector<PolicyRule> rules;
  for (std::uint32_t number = 0; number < 273; ++number) {
    rules.push_back(
        rule_of(number, 0x0a000000 + (number << 12U), 0x14000000 + (number << 12U), v6));
    index.insert(rules.back());
  }
  index.publish();
  REQUIRE(index.probes() == 273);
  const FlowKey elsewhere =
      flow_between(network(0x30000001, 32, v6).first, network(0x31000001, 32, v6).first);
  // A cell may hold another's prefix by chance.
  CHECK(index.effort(elsewhere, true).probes < 20);
  CHECK(index.find(elsewhere, true).entry == PolicyIndex::kNoEntry);
  std::size_t asked = 0;
  for (const PolicyRule& rule : rules) {
    const FlowKey flow = flow_between(rule.source.last, rule.destination.last);
    asked += index.effort(flow, true).probes;
    CHECK(index.find(flow, true).entry != PolicyIndex::kNoEntry);
  }
  CHECK(asked < 273 * 30);
}

TEST_CASE("policies: policies that came and went leave nothing that a search asks for") {
  Reclaimer reclaimer{1};
  PolicyIndex index(1000, reclaimer);
  for (std::uint32_t number = 0; number < 273; ++number) {
    index.insert(
        rule_of(number, 0x0a000000 + (number << 12U), 0x14000000 + (number << 12U), false));
  }
  index.publish();
  const auto address = [](std::uint32_t number) { return wire::IpAddress::v4(number); };
  const FlowKey elsewhere = flow_between(address(0x30000001), address(0x31000001));
  const std::size_t before = index.effort(elsewhere, true).probes;
  // As many rules as a policy has, with the shapes of those that stay.
  for (std::uint32_t policy = 0; policy < 60; ++policy) {
    std::vector<PolicyRule> rules;
    for (std::uint32_t pair = 0; pair < 512; ++pair) {
      rules.push_back(rule_of(policy * 13 % 273, 0x30000000 + (policy << 12U),
                              0x31000000 + (policy << 12U), false));
      rules.back().destination.protocol = wire::protocol::kUdp;
      rules.back().destination.port_first = static_cast<std::uint16_t>(pair);
      rules.back().destination.port_last = static_cast<std::uint16_t>(pair);
      rules.back().rank.place = 1000 + policy;
      rules.back().entry = 1000 + pair;
      index.insert(rules.back());
    }
    index.publish();
    index.erase(rules, reclaimer);
    index.publish();
    reclaimer.poll();
  }
  CHECK(index.effort(elsewhere, true).probes == before);
}

TEST_CASE("policies: what a search finds among many shapes is the first that the packet meets") {
  std::mt19937 random(20261201);
  const auto below = [&](std::uint32_t most) {
    return static_cast<std::uint32_t>(random() % most);
  };
  Reclaimer reclaimer{1};
  PolicyIndex index(1000, reclaimer);
  const bool v6 = GENERATE(false, true);
  // Few networks, so that many lie around each address.
  const auto address = [&] {
    return 0x0a000000U + (below(3) << 20U) + (below(3) << 12U) + below(3);
  };
  std::map<std::uint32_t, PolicyRule> rules;
  std::size_t met = 0, most = 0;
  for (int round = 0; round < 4000; ++round) {
    const std::uint32_t number = below(600);
    if (const auto there = rules.find(number); there != rules.end()) {
      index.erase(std::span(&there->second, 1), reclaimer);
      rules.erase(there);
    } else {
      const auto made = rules.emplace(number, rule_of(number, address(), address(), v6)).first;
      index.insert(made->second);
    }
    index.publish();
    reclaimer.poll();
    most = std::max(most, index.probes());
    const FlowKey flow =
        flow_between(network(address(), 32, v6).first, network(address(), 32, v6).first);
    const auto expected = std::ranges::find_if(rules, [&](const auto& rule) {
      return rule.second.source.contains(flow.source) &&
             rule.second.destination.contains(flow.destination);
    });
    const std::uint32_t entry =
        expected == rules.end() ? PolicyIndex::kNoEntry : expected->second.entry;
    met += expected == rules.end() ? 0 : 1;
    REQUIRE(index.find(flow, true).entry == entry);
  }
  CHECK(most > 150);
  CHECK(met > 400);
}

}  // namespace culvert::dataplane
