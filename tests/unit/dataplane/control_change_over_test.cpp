// What packets meet while another configuration comes into force, at each of its steps.
#include <atomic>
#include <functional>
#include <limits>
#include <set>
#include <thread>

#include <catch2/catch.hpp>

#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/control/change_over.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"

namespace culvert::dataplane::control::change_over_test {
namespace {

using test::address;
using test::prefix;

/// Looks before and after each change; refuses routes when told to.
class WatchedFib final : public Fib {
 public:
  explicit WatchedFib(std::unique_ptr<Fib> fib) : fib_(std::move(fib)) {}

  std::expected<void, std::string> add(const wire::Prefix& to, AdjacencyIndex way) override {
    look();
    if (!known.contains(to)) {
      if (places == 0) return std::unexpected("full");
      --places;
    }
    auto done = fib_->add(to, way);
    known.insert(to);
    look();
    return done;
  }
  void remove(const wire::Prefix& to) override {
    look();
    fib_->remove(to);
    known.erase(to);
    look();
  }
  [[nodiscard]] AdjacencyIndex lookup_v4(std::uint32_t to) const override {
    return fib_->lookup_v4(to);
  }
  [[nodiscard]] AdjacencyIndex lookup_v6(const std::uint8_t* to) const override {
    return fib_->lookup_v6(to);
  }

  std::function<void()> look = [] {};
  std::set<wire::Prefix> known;
  std::size_t places = std::numeric_limits<std::size_t>::max();

 private:
  std::unique_ptr<Fib> fib_;
};

config::Limits few() {
  config::Limits limits;
  limits.sas = limits.policies = limits.flows = 64;
  return limits;
}

constexpr PortId kWan{0}, kLan{1};

config::Config without_routes() {
  config::Config config;
  config.default_policy = config::PolicyAction::bypass;
  config.dataplane.limits = few();
  config.dataplane.interfaces.resize(2);
  config.dataplane.interfaces[0].name = "wan";
  config.dataplane.interfaces[0].addresses = {prefix("198.51.100.1/24"), prefix("2001:db8::1/64")};
  config.dataplane.interfaces[1].name = "lan";
  config.dataplane.interfaces[1].addresses = {prefix("10.1.0.1/24"), prefix("2001:db8:1::1/64")};
  return config;
}

void route(config::Config& config, const char* to, const char* via) {
  config::Route& added = config.dataplane.routes.emplace_back();
  added.to = prefix(to);
  added.via = address(via);
}

void protect(config::Config& config) {
  config::Connection& connection = config.connections.emplace_back();
  connection.name = "branch";
  config::Child& child = connection.children.emplace_back();
  child.name = "office";
  child.id = config::child_id(connection.name, child.name);
  child.local_ts = {wire::TrafficSelector::of(prefix("10.1.0.0/24")),
                    wire::TrafficSelector::of(prefix("2001:db8:1::/64"))};
  child.remote_ts = {wire::TrafficSelector::of(prefix("10.9.0.0/16")),
                     wire::TrafficSelector::of(prefix("2001:db8:9::/48"))};
}

struct Met {
  AdjacencyIndex way = Adjacencies::kDrop;
  bool is_protected = false;
  friend bool operator==(const Met&, const Met&) = default;
};

struct Gateway {
  explicit Gateway(config::Config config) : file(std::move(config)) {
    auto watched = std::make_unique<WatchedFib>(std::move(tables->fib));
    fib = watched.get();
    tables->fib = std::move(watched);
    directory.take(file, {});
    policies.publish();
    REQUIRE(forwarding.install(Topology(file.dataplane)).has_value());
  }
  [[nodiscard]] Met met(const char* destination, const SpdSnapshot& by) const {
    FlowKey flow;
    flow.destination = address(destination);
    flow.source = address(flow.destination.is_v4() ? "10.1.0.5" : "2001:db8:1::5");
    flow.protocol = 17;
    SlotIndex outbound{};
    const Verdict verdict = by.verdict(by.find(flow, PacketOrigin::clear), outbound);
    return {tables->fib->lookup(flow.destination),
            verdict == Verdict::protect || verdict == Verdict::trap};
  }
  [[nodiscard]] Met met(const char* destination) const {
    return met(destination, tables->spd->snapshot());
  }
  [[nodiscard]] bool leads_nowhere(const Met& packet) const {
    return (*tables->adjacencies)[packet.way].kind.load() == AdjacencyKind::drop;
  }
  void change_over_to(config::Config config, const std::function<void()>& before_swap = [] {}) {
    file = std::move(config);
    REQUIRE(forwarding.reserve(Topology(file.dataplane)).has_value());
    directory.take(file, {});
    change_over(forwarding, policies, *tables->reclaimer, before_swap);
  }

  struct Dpdk {
    Dpdk() { test::need_dpdk(); }
  } dpdk;  ///< first
  config::Config file;
  std::unique_ptr<crypto::esp::Engine> engine = crypto::esp::make_engine();
  std::unique_ptr<Tables> tables = *Tables::create(few(), 1, *engine);
  WatchedFib* fib = nullptr;
  ChildDirectory directory{file};
  PolicyBook policies{*tables, file, directory};
  Forwarding forwarding{*tables};
};

struct Change {
  const char* what;
  config::Config before, after;
};

std::vector<Change> changes() {
  const config::Config none = without_routes();
  config::Config routed = none, by_lan = none, by_default = none, by_both = none;
  config::Config network = none;
  route(routed, "10.9.0.0/16", "198.51.100.2");
  route(routed, "2001:db8:9::/48", "2001:db8::2");
  route(by_lan, "10.9.0.0/16", "10.1.0.2");
  route(by_lan, "2001:db8:9::/48", "2001:db8:1::2");
  route(by_default, "0.0.0.0/0", "198.51.100.2");
  route(by_default, "::/0", "2001:db8::2");
  by_both = by_lan;
  route(by_both, "0.0.0.0/0", "198.51.100.2");
  route(by_both, "::/0", "2001:db8::2");
  network.dataplane.interfaces[1].addresses.push_back(prefix("10.9.0.1/24"));
  network.dataplane.interfaces[1].addresses.push_back(prefix("2001:db8:9::1/64"));
  const auto protected_one = [](config::Config config) {
    protect(config);
    return config;
  };
  return {{"both come", none, protected_one(routed)},
          {"both go", protected_one(routed), none},
          {"protected no more, and elsewhere", protected_one(routed), by_lan},
          {"protected from now on, and elsewhere", by_lan, protected_one(routed)},
          {"out of the default route", protected_one(by_default), by_both},
          {"into the default route", by_both, protected_one(by_default)},
          {"a network comes", none, protected_one(network)},
          {"a network goes", protected_one(network), none}};
}

}  // namespace

TEST_CASE("change over: no packet meets one configuration's policies and the other one's routes") {
  const char* const destination = GENERATE(as<const char*>{}, "10.9.0.7", "2001:db8:9::7");
  const bool is_known = GENERATE(false, true);  // the destination itself, as a neighbour
  for (const Change& change : changes()) {
    INFO(change.what << ", " << destination << (is_known ? ", a neighbour" : ""));
    Gateway gateway(change.before);
    const NeighborKey neighbor{kLan, address(destination)};
    if (is_known && Topology(change.before.dataplane).is_on_link(kLan, neighbor.address)) {
      gateway.forwarding.neighbor_resolved(neighbor, {2, 0, 0, 7});
    }
    const Met before = gateway.met(destination);
    const Met elsewhere = gateway.met("198.51.100.9");
    std::vector<Met> seen;
    gateway.fib->look = [&] {
      seen.push_back(gateway.met(destination));
      CHECK(gateway.met("198.51.100.9") == elsewhere);
    };
    gateway.change_over_to(change.after);
    const Met after = gateway.met(destination);
    CHECK(before.is_protected != after.is_protected);
    CHECK(before.way != after.way);
    REQUIRE_FALSE(seen.empty());
    for (const Met& packet : seen) {
      CHECK((packet == before || packet == after || gateway.leads_nowhere(packet)));
    }
    CHECK(after.way != Adjacencies::kWithdrawn);
    const bool has_way = !change.after.dataplane.routes.empty() ||
                         change.after.dataplane.interfaces[1].addresses.size() > 2;
    CHECK(gateway.leads_nowhere(after) != has_way);
  }
}

TEST_CASE(
    "change over: numbers end once, under the policies before and without a route that goes") {
  const char* const destination = GENERATE(as<const char*>{}, "10.9.0.7", "2001:db8:9::7");
  for (const Change& change : changes()) {
    INFO(change.what << ", " << destination);
    Gateway gateway(change.before);
    const Met before = gateway.met(destination);
    const std::uint64_t generation = gateway.tables->spd->snapshot().generation();
    int calls = 0;
    gateway.change_over_to(change.after, [&] {
      ++calls;
      CHECK(gateway.tables->spd->snapshot().generation() == generation);
      CHECK(gateway.met(destination).is_protected == before.is_protected);
      CHECK(gateway.leads_nowhere(gateway.met(destination)));
    });
    CHECK(calls == 1);
    CHECK(gateway.tables->spd->snapshot().generation() != generation);
  }
}

TEST_CASE("change over: what was found of a flow by other routes is looked for again") {
  const char* const destination = GENERATE(as<const char*>{}, "10.9.0.1", "2001:db8:9::1");
  FlowKey flow;
  flow.destination = address(destination);
  flow.source = address(flow.destination.is_v4() ? "10.1.0.5" : "2001:db8:1::5");
  for (const Change& change : changes()) {
    INFO(change.what << ", " << destination);
    Gateway gateway(change.before);
    struct Found {
      AdjacencyIndex way;
      std::uint64_t generation;
    };
    std::vector<Found> found;
    gateway.fib->look = [&] {
      const std::uint64_t generation = gateway.tables->spd->snapshot().generation();
      found.push_back({gateway.tables->fib->lookup(flow.destination), generation});
    };
    gateway.change_over_to(change.after);
    const SpdSnapshot& policies = gateway.tables->spd->snapshot();
    const std::uint64_t now = policies.generation();
    const AdjacencyIndex after = gateway.tables->fib->lookup(flow.destination);
    for (const Found& one : found) {
      if (one.way == after) continue;
      CHECK_FALSE(one.generation == now);
      CHECK_FALSE(policies.stays(flow, PacketOrigin::clear, one.generation, now));
    }
  }
}

TEST_CASE("change over: nothing goes elsewhere before workers have begun another burst") {
  config::Config wanted = without_routes();
  route(wanted, "10.9.0.0/16", "198.51.100.2");
  protect(wanted);
  Gateway gateway(without_routes());
  std::atomic<bool> has_read = false, is_done = false;
  std::atomic<int> in_clear = 0;
  std::thread worker([&] {
    gateway.tables->reclaimer->online(WorkerId{0});
    while (!is_done) {
      const SpdSnapshot& policies = gateway.tables->spd->snapshot();
      has_read = true;
      // Long enough for all of a change that does not wait.
      for (int packet = 0; packet < 3000; ++packet) {
        const Met met = gateway.met("10.9.0.7", policies);
        if (!gateway.leads_nowhere(met) && !met.is_protected) ++in_clear;
      }
      gateway.tables->reclaimer->quiescent(WorkerId{0});
    }
    gateway.tables->reclaimer->offline(WorkerId{0});
  });
  while (!has_read) std::this_thread::yield();
  gateway.change_over_to(wanted);
  is_done = true;
  worker.join();
  CHECK(in_clear == 0);
  CHECK(gateway.met("10.9.0.7").is_protected);
}

TEST_CASE("change over: what has room is reserved before, and all or nothing of it") {
  const char* const destination = GENERATE(as<const char*>{}, "10.9.0.7", "2001:db8:9::7");
  for (const Change& change : changes()) {
    INFO(change.what);
    Gateway gateway(change.before);
    const std::set<wire::Prefix> known = gateway.fib->known;
    const Met before = gateway.met(destination);
    gateway.fib->look = [&] { CHECK(gateway.met(destination) == before); };
    const Topology wanted(change.after.dataplane);
    std::size_t places = 0;
    for (gateway.fib->places = 0; !gateway.forwarding.reserve(wanted);
         gateway.fib->places = ++places) {
      REQUIRE(places < 100);
      gateway.forwarding.give_up();
      CHECK(gateway.fib->known == known);
    }
    CHECK(places == gateway.fib->known.size() - known.size());
    gateway.forwarding.give_up();
    CHECK(gateway.fib->known == known);

    gateway.fib->places = places;
    REQUIRE(gateway.forwarding.reserve(wanted).has_value());
    gateway.fib->look = [] {};
    gateway.forwarding.withdraw();
    gateway.forwarding.commit();
    const Gateway fresh(change.after);
    CHECK(gateway.fib->known == fresh.fib->known);
    CHECK(gateway.leads_nowhere(gateway.met(destination)) ==
          fresh.leads_nowhere(fresh.met(destination)));
  }
}

}  // namespace culvert::dataplane::control::change_over_test
