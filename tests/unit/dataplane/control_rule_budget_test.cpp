// What the policies that are negotiated may cost every search, and that what is configured always
// fits.
#include <catch2/catch.hpp>

#include "config/limits.hpp"
#include "dataplane/control/policy_book.hpp"
#include "tests/unit/dataplane/main_thread.hpp"

namespace culvert::dataplane::control {
namespace {

using channel::Direction;
using channel::Outcome;
using Selectors = std::vector<wire::TrafficSelector>;
namespace limits = config::limits;

constexpr std::uint32_t kLocal = 0x0a010000, kRemote = 0x0a020000;

wire::TrafficSelector network(std::uint32_t address, std::uint8_t length) {
  return wire::TrafficSelector::of({wire::IpAddress::v4(address), length});
}
/// Of a network of sixteen bits, never the same: they begin and end with the same bits.
wire::TrafficSelector range(std::uint32_t in, std::uint32_t number) {
  wire::TrafficSelector selector = network(in, 16);
  selector.first = wire::IpAddress::v4(in + 1 + number);
  return selector;
}
Selectors ranges(std::uint32_t in, std::uint32_t from) {
  Selectors selectors;
  for (std::uint32_t number = 0; number < 16; ++number) {
    selectors.push_back(range(in, from + number));
  }
  return selectors;
}
/// Sixteen of sixteen lengths.
Selectors lengths(std::uint32_t in, std::uint32_t seed) {
  Selectors selectors;
  for (std::uint8_t length = 17; length < 33; ++length) {
    const auto number = seed << (32U - length) & 0xffffU;
    selectors.push_back(network(in + number, length));
  }
  return selectors;
}

config::Child child_of(const std::string& connection, Selectors local, Selectors remote) {
  config::Child child;
  child.name = "net";
  child.id = config::child_id(connection, child.name);
  child.local_ts = std::move(local);
  child.remote_ts = std::move(remote);
  child.esp_proposals = {*crypto::parse_esp_proposal("aes128gcm16")};
  return child;
}
config::Connection connection(const std::string& name, bool has_address, Selectors local,
                              Selectors remote) {
  config::Connection made;
  made.name = name;
  if (has_address) made.remote.address = test::address("198.51.100.2");
  made.children = {child_of(name, std::move(local), std::move(remote))};
  return made;
}

NegotiatedPolicy negotiated(const config::Child& child, Selectors local, Selectors remote) {
  NegotiatedPolicy policy;
  policy.child_id = child.id;
  policy.local = std::move(local);
  policy.remote = std::move(remote);
  return policy;
}

/// Of a configuration with these connections.
struct Budget {
  explicit Budget(std::vector<config::Connection> connections, std::uint32_t policies = 16384) {
    file.connections = std::move(connections);
    file.dataplane.limits.policies = policies;
    directory.take(file, {});
    begin({});
  }
  void begin(const NegotiatedPolicies& policies) {
    budget.begin(file, directory, ordered_policies(file, directory, policies, {}), policies);
  }
  [[nodiscard]] const config::Child& child(std::size_t connection = 0) const {
    return file.connections[connection].children[0];
  }
  bool take(const NegotiatedPolicy& policy) {
    if (budget.why_not(policy)) return false;
    budget.take(policy);
    return true;
  }

  config::Config file;
  ChildDirectory directory;
  RuleBudget budget;
};

/// A gateway towards two peers, the first of which misbehaves.
struct Gateway : test_main::MainThread {
  Gateway() : MainThread(1, 4096) {
    file.connections = {connection("branch", true, {network(kLocal, 16)}, {network(kRemote, 16)}),
                        connection("other", true, lengths(0x0a030000, 1), lengths(0x0a040000, 1))};
    directory.take(file, {});
    book.publish();
    install(1, 0);
    channel::InstallSa other = *sad_request(2);
    REQUIRE(associations.install(other, {}) == Outcome::ok);
  }
  [[nodiscard]] std::optional<channel::InstallSa> sad_request(std::uint64_t id) const {
    channel::InstallSa request;
    request.sa = channel::SaId{id};
    request.direction = Direction::out;
    request.spi = channel::Spi{static_cast<std::uint32_t>(4096 + id)};
    request.child_id = file.connections[1].children[0].id;
    request.suite = {crypto::Encryption::aes_gcm_16, 128, crypto::Integrity::none};
    request.local = {test::address("198.51.100.1"), 0};
    request.remote = {test::address("198.51.100.2"), 0};
    request.local_selectors = set_of(file.connections[1].children[0].local_ts);
    request.remote_selectors = set_of(file.connections[1].children[0].remote_ts);
    if (!request.key.assign(std::vector<std::uint8_t>(20, 7))) return std::nullopt;
    return request;
  }
  static channel::SelectorSet set_of(const Selectors& selectors) {
    channel::SelectorSet set;
    for (const auto& one : selectors) set.items[set.count++] = one;
    return set;
  }
  Outcome ask(std::uint64_t sa, const Selectors& local, const Selectors& remote) {
    channel::InstallPolicy request;
    request.policy = channel::PolicyId{next_policy++};
    request.child_id = file.connections[sa - 1].children[0].id;
    request.outbound = channel::SaId{sa};
    request.local_selectors = set_of(local);
    request.remote_selectors = set_of(remote);
    return book.install(request);
  }
  [[nodiscard]] SearchEffort effort(std::uint32_t source, std::uint32_t destination,
                                    PacketOrigin origin) const {
    FlowKey flow{.source = wire::IpAddress::v4(source),
                 .destination = wire::IpAddress::v4(destination),
                 .source_port = 1,
                 .destination_port = 2,
                 .protocol = wire::protocol::kUdp};
    return tables->spd->snapshot().effort(flow, origin);
  }
  /// What the second peer's child is configured with, is there for it.
  void check_other() {
    const config::Child& child = file.connections[1].children[0];
    CHECK(ask(2, child.local_ts, child.remote_ts) == Outcome::ok);
  }

  PolicyBook book{*tables, file, directory};
  std::uint64_t next_policy = 1;
};

}  // namespace

TEST_CASE("rule budget: a peer's many selectors cost a search no more than so much") {
  Gateway gateway;
  const SearchEffort before = gateway.effort(0x0b000001, 0x0c000001, PacketOrigin::clear);
  std::size_t taken = 0, refused = 0;
  const auto count = [&](Outcome outcome) {
    REQUIRE((outcome == Outcome::ok || outcome == Outcome::over_budget));
    ++(outcome == Outcome::ok ? taken : refused);
  };
  const std::size_t most_shapes = GENERATE(0, 1) == 0 ? 1 : 2 * limits::kShapesOfPeer;
  for (std::uint32_t number = 0; number < 128; ++number) {
    if (most_shapes == 1) {
      count(gateway.ask(1, ranges(kLocal, 16 * number), ranges(kRemote, 16 * number)));
    } else {
      count(gateway.ask(1, lengths(kLocal, number), lengths(kRemote, number)));
      count(gateway.ask(1, {network(kLocal, 17 + number % 16)}, lengths(kRemote, number)));
    }
  }
  CHECK(taken > 0);
  CHECK(refused > 0);
  // Somebody else's flow, in clear and out of a tunnel; the peer's own, of either.
  for (const PacketOrigin origin : {PacketOrigin::clear, PacketOrigin::tunnel}) {
    const SearchEffort other = gateway.effort(0x0b000001, 0x0c000001, origin);
    CHECK(other.probes <= before.probes + 2 * most_shapes);
    CHECK(other.rules <= 64);
    const SearchEffort own = gateway.effort(kLocal, kRemote, origin);
    CHECK(own.rules <= limits::kRulesAlike);
  }
  // Of a list that is for packets in clear alone, no more than where it begins.
  const SearchEffort back = gateway.effort(kRemote, kLocal, PacketOrigin::tunnel);
  CHECK(back.rules <= back.probes + 64);
  gateway.check_other();
}

TEST_CASE("rule budget: what is configured fits, of every child, before and after a change") {
  std::vector<config::Connection> connections;
  for (int number = 0; number < 40; ++number) {
    connections.push_back(connection("c" + std::to_string(number), number % 2 == 0,
                                     lengths(kLocal, 1), ranges(kRemote, 1)));
  }
  Budget site(connections, 80);
  for (int time = 0; time < 2; ++time) {
    for (std::size_t number = 0; number < connections.size(); ++number) {
      const config::Child& child = site.child(number);
      CHECK(site.take(negotiated(child, child.local_ts, child.remote_ts)));
    }
  }
  CHECK(site.budget.rules() == 0);
  CHECK(site.budget.shapes() == 0);
}

TEST_CASE("rule budget: thousands of peers of any address fit, whose shapes count once") {
  Budget site({connection("any", false, lengths(kLocal, 1), {})});
  for (std::uint32_t peer = 0; peer < 16000; ++peer) {
    REQUIRE(site.take(
        negotiated(site.child(), site.child().local_ts, {network(0x14000000 + peer * 8, 32)})));
  }
  // Hosts, as what is configured says.
  CHECK(site.budget.shapes() == 0);
}

TEST_CASE("rule budget: subnets of peers of any address are of the shapes that they are of") {
  Budget site({connection("any", false, {network(kLocal, 16)}, {network(0x14000000, 6)})});
  for (std::uint32_t peer = 0; peer < 16000; ++peer) {
    REQUIRE(site.take(negotiated(site.child(), site.child().local_ts,
                                 {network(0x14000000 + peer * 256, peer % 2 == 0 ? 24 : 25)})));
  }
  CHECK(site.budget.shapes() == 2);
}

TEST_CASE("rule budget: single pairs fit, as many as an IKE SA has children") {
  Budget site({connection("pairs", true, {network(kLocal, 16)}, {network(kRemote, 16)})});
  for (std::uint32_t pair = 0; pair < 256; ++pair) {
    Selectors ports(4, network(kRemote + pair, 32));
    for (std::uint16_t port = 0; port < 4; ++port) {
      ports[port].protocol = wire::protocol::kTcp;
      ports[port].port_first = ports[port].port_last = port;
    }
    REQUIRE(site.take(negotiated(site.child(), {network(kLocal + 1, 32)}, ports)));
  }
}

TEST_CASE("rule budget: all negotiated rules follow from limits.policies") {
  Budget site({connection("any", false, {network(kLocal, 16)}, {network(kRemote, 16)})}, 64);
  std::size_t taken = 0;
  while (site.take(negotiated(site.child(), ranges(kLocal, 1), ranges(kRemote, 1)))) ++taken;
  CHECK(taken == limits::kRulesPerPolicy * 64 / 512);
  REQUIRE(site.budget.why_not(negotiated(site.child(), ranges(kLocal, 1), ranges(kRemote, 1)))
              ->find("limits.policies") != std::string::npos);
}

TEST_CASE("rule budget: shapes of all are counted, those in force already are free") {
  Budget site({connection("any", false, {network(kLocal, 8)}, {network(kRemote, 8)})}, 131072);
  std::size_t taken = 0;
  std::optional<NegotiatedPolicy> first;
  for (std::uint8_t local = 9; local < 33; ++local) {
    for (std::uint8_t remote = 9; remote < 33; ++remote) {
      for (std::uint8_t bits = 0; bits < 4; ++bits) {
        Selectors of_ports{network(0x0b000000, remote)};
        of_ports[0].protocol = wire::protocol::kTcp;
        of_ports[0].port_last = static_cast<std::uint16_t>(65535U >> bits);
        auto policy = negotiated(site.child(), {network(0x0c000000, local)}, of_ports);
        if (!first) first = policy;
        if (site.take(policy)) ++taken;
      }
    }
  }
  CHECK(taken == limits::kShapesOfAll);
  CHECK(site.take(*first));
}

TEST_CASE("rule budget: what goes makes room, and a new configuration counts anew") {
  Budget site({connection("branch", true, {network(kLocal, 16)}, {network(kRemote, 16)})});
  NegotiatedPolicies policies;
  const auto policy = [&](std::uint32_t number) {
    return negotiated(site.child(), ranges(kLocal, 16 * number), ranges(kRemote, 16 * number));
  };
  std::uint32_t taken = 0;
  for (; site.take(policy(taken)); ++taken) policies[channel::PolicyId{taken}] = policy(taken);
  site.budget.give_back(policy(0));
  policies.erase(channel::PolicyId{0});
  CHECK(site.take(policy(0)));
  CHECK_FALSE(site.take(policy(taken)));

  const std::size_t rules = site.budget.rules();
  policies[channel::PolicyId{0}] = policy(0);
  site.begin(policies);
  CHECK(site.budget.rules() == rules);
  CHECK_FALSE(site.take(policy(taken)));
  for (std::uint32_t number = 0; number < taken; ++number) site.budget.give_back(policy(number));
  CHECK(site.budget.rules() == 0);
  CHECK(site.budget.shapes() == 0);
}

}  // namespace culvert::dataplane::control
