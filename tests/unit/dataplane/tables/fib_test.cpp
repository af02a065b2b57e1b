#include "dataplane/tables/fib.hpp"

#include <atomic>
#include <random>
#include <thread>

#include <catch2/catch.hpp>

#include "dataplane/tables/adjacency.hpp"
#include "tests/model/route_model.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"
#include "tests/unit/dataplane/tables/one_worker.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

using test::kWorker;

struct Routes {
  Routes() {
    test::need_dpdk();
    fib = Fib::create(4096, reclaimer).value();
  }
  ~Routes() { settle(); }
  Routes(const Routes&) = delete;
  Routes& operator=(const Routes&) = delete;

  /// No worker is online: what was changed is in force.
  void settle() { reclaimer.drain(); }
  void add(std::string_view prefix, std::uint32_t to) {
    REQUIRE(fib->add(wire::Prefix::parse(prefix).value(), AdjacencyIndex{to}));
  }
  void remove(std::string_view prefix) { fib->remove(wire::Prefix::parse(prefix).value()); }
  [[nodiscard]] std::uint32_t lookup(std::string_view address) const {
    return static_cast<std::uint32_t>(fib->lookup(wire::IpAddress::parse(address).value()));
  }

  Reclaimer reclaimer{1};
  std::unique_ptr<Fib> fib;
};

TEST_CASE("fib: nothing matches an empty table, of either family") {
  const Routes routes;
  CHECK(routes.lookup("192.0.2.1") == raw(Adjacencies::kDrop));
  CHECK(routes.lookup("2001:db8::1") == raw(Adjacencies::kDrop));
}

TEST_CASE("fib: the longest match wins (RFC 1812 §5.2.4.3), from /0 to host routes") {
  Routes routes;
  routes.add("0.0.0.0/0", 10);
  routes.add("10.0.0.0/8", 11);
  routes.add("10.1.0.0/16", 12);
  routes.add("10.1.2.0/24", 13);
  routes.add("10.1.2.128/25", 14);
  routes.add("10.1.2.129", 15);
  routes.add("::/0", 20);
  routes.add("2001:db8::/32", 21);
  routes.add("2001:db8:1::/48", 22);
  routes.add("2001:db8:1:2::/64", 23);
  routes.add("2001:db8:1:2::5", 24);
  routes.settle();
  CHECK(routes.lookup("192.0.2.1") == 10);
  CHECK(routes.lookup("255.255.255.255") == 10);
  CHECK(routes.lookup("10.255.0.1") == 11);
  CHECK(routes.lookup("10.1.1.1") == 12);
  CHECK(routes.lookup("10.1.2.127") == 13);
  CHECK(routes.lookup("10.1.2.128") == 14);
  CHECK(routes.lookup("10.1.2.129") == 15);
  CHECK(routes.lookup("fe80::1") == 20);
  CHECK(routes.lookup("2001:db8:ffff::1") == 21);
  CHECK(routes.lookup("2001:db8:1::1") == 22);
  CHECK(routes.lookup("2001:db8:1:2::4") == 23);
  CHECK(routes.lookup("2001:db8:1:2::5") == 24);
}

TEST_CASE("fib: removing a route uncovers the one behind it, and adding again replaces") {
  Routes routes;
  routes.add("10.1.2.0/24", 3);
  routes.add("10.1.2.9", 4);
  routes.add("2001:db8::/32", 5);
  routes.add("2001:db8::9", 6);
  routes.add("10.1.2.9", 7);
  routes.settle();
  CHECK(routes.lookup("10.1.2.9") == 7);
  routes.remove("10.1.2.9");
  routes.remove("2001:db8::9");
  routes.remove("2001:db8::9");  // twice is no harm
  routes.settle();
  CHECK(routes.lookup("10.1.2.9") == 3);
  CHECK(routes.lookup("2001:db8::9") == 5);
  routes.remove("10.1.2.0/24");
  routes.remove("2001:db8::/32");
  routes.settle();
  CHECK(routes.lookup("10.1.2.9") == raw(Adjacencies::kDrop));
  CHECK(routes.lookup("2001:db8::9") == raw(Adjacencies::kDrop));
}

TEST_CASE("fib: the default route comes and goes") {
  Routes routes;
  routes.add("0.0.0.0/0", 3);
  routes.add("::/0", 4);
  routes.remove("0.0.0.0/0");
  routes.settle();
  CHECK(routes.lookup("192.0.2.1") == raw(Adjacencies::kDrop));
  CHECK(routes.lookup("2001:db8::1") == 4);
  routes.remove("::/0");
  routes.settle();
  CHECK(routes.lookup("2001:db8::1") == raw(Adjacencies::kDrop));
}

TEST_CASE("fib: host bits in a prefix do not make another route of it") {
  Routes routes;
  routes.add("10.1.2.77/24", 3);
  routes.remove("10.1.2.0/24");
  routes.settle();
  CHECK(routes.lookup("10.1.2.77") == raw(Adjacencies::kDrop));
}

TEST_CASE("fib: more routes than it was made for are refused in words") {
  Routes routes;
  std::size_t taken = 0;
  std::string why;
  for (std::uint32_t n = 0; n < 5000; ++n) {
    const auto added =
        routes.fib->add({wire::IpAddress::v4(0x0a000000U + n * 256), 24}, AdjacencyIndex{5});
    if (added) {
      ++taken;
    } else {
      why = added.error();
    }
  }
  CHECK(taken == 4096);
  CHECK(why.find("full") != std::string::npos);
}

/// A random prefix among few addresses, so that routes nest.
wire::Prefix random_prefix(std::mt19937_64& random, bool is_v4) {
  wire::IpAddress address = wire::IpAddress::parse(is_v4 ? "10.0.0.0" : "2001:db8::").value();
  const std::size_t size = address.size();
  for (std::size_t i = size - 3; i < size; ++i)
    address.bytes[i] = static_cast<std::uint8_t>(random() & 0x83U);
  const auto bits = static_cast<unsigned>(size * 8);
  const unsigned length = random() % 10 == 0 ? static_cast<unsigned>(random() % (bits + 1))
                                             : bits - static_cast<unsigned>(random() % 25);
  return {address, static_cast<std::uint8_t>(length)};
}

TEST_CASE("fib: random routes that come and go agree with a look at every route") {
  const std::uint64_t seed = test::random_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  Routes routes;
  model::RouteModel model;
  std::vector<wire::Prefix> present;
  std::uint64_t wrong = 0;
  for (int step = 0; step < 1500; ++step) {
    if (random() % 3 != 0 || present.empty()) {
      const wire::Prefix prefix = random_prefix(random, random() % 2 == 0);
      const AdjacencyIndex to{static_cast<std::uint32_t>(2 + random() % 1000)};
      if (routes.fib->add(prefix, to)) {
        model.add(prefix, to);
        present.push_back(prefix);
      }
    } else {
      const std::size_t which = random() % present.size();
      routes.fib->remove(present[which]);
      model.remove(present[which]);
      present.erase(present.begin() + static_cast<std::ptrdiff_t>(which));
    }
    routes.settle();
    for (int probe = 0; probe < 20; ++probe) {
      const wire::IpAddress address = random_prefix(random, random() % 2 == 0).address;
      if (routes.fib->lookup(address) != model.lookup(address)) {
        UNSCOPED_INFO("step " << step << ": " << address.to_string());
        ++wrong;
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE(
    "fib: a /64 full of IPv6 neighbours with random interface identifiers is found, or refused "
    "aloud") {
  std::mt19937_64 random(1);
  Routes routes;
  std::vector<wire::IpAddress> neighbors;
  for (int n = 0; n < 2000; ++n) {
    wire::IpAddress address = wire::IpAddress::parse("2001:db8:1:2::").value();
    for (std::size_t i = 8; i < 16; ++i) address.bytes[i] = static_cast<std::uint8_t>(random());
    if (routes.fib->add({address, 128}, AdjacencyIndex{77})) neighbors.push_back(address);
  }
  routes.settle();
  std::size_t lost = 0;
  for (const wire::IpAddress& neighbor : neighbors) {
    if (routes.fib->lookup(neighbor) != AdjacencyIndex{77}) ++lost;
  }
  CHECK(lost == 0);
  CHECK(neighbors.size() > 100);
}

TEST_CASE("fib: a reader never sees a route that was never there while others change",
          "[threads]") {
  INFO(test::kRace);
  Routes routes;
  routes.add("10.0.0.0/8", 100);
  routes.add("2001:db8::/32", 100);
  routes.settle();
  routes.reclaimer.online(kWorker);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, rounds{0};
  std::thread reader([&] {
    const auto v6 = wire::IpAddress::parse("2001:db8::1:5").value();
    while (!stop.load()) {
      for (std::uint32_t host = 0; host < 256; ++host) {
        // Of the cover, or of the host route 101 that comes and goes.
        const auto v4 = static_cast<std::uint32_t>(routes.fib->lookup_v4(0x0a010200U + host));
        if (v4 != 100 && v4 != 101) wrong.fetch_add(1);
      }
      const auto found = static_cast<std::uint32_t>(routes.fib->lookup_v6(v6.bytes.data()));
      if (found != 100 && found != 101) wrong.fetch_add(1);
      routes.reclaimer.quiescent(kWorker);
      rounds.fetch_add(1);
    }
    routes.reclaimer.offline(kWorker);
  });
  for (std::uint32_t round = 0; round < 2000 || rounds.load() < 100; ++round) {
    const wire::Prefix v4{wire::IpAddress::v4(0x0a010200U + round % 256), 32};
    const wire::Prefix v6 = wire::Prefix::parse("2001:db8::1:5").value();
    static_cast<void>(routes.fib->add(v4, AdjacencyIndex{101}));
    static_cast<void>(routes.fib->add(v6, AdjacencyIndex{101}));
    routes.reclaimer.poll();
    routes.fib->remove(v4);
    routes.fib->remove(v6);
    routes.reclaimer.poll();
  }
  stop.store(true);
  reader.join();
  CHECK(wrong.load() == 0);
}

TEST_CASE(
    "fib: what is freed is freed behind its readers, though the FIB found that they are through",
    "[threads]") {
  INFO(test::kRace);
  constexpr std::uint32_t kWhole = 0x600d600d;
  Routes routes;
  routes.reclaimer.online(kWorker);
  std::atomic<const std::uint32_t*> now{new std::uint32_t(kWhole)};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, rounds{0};
  std::thread reader([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      if (*now.load(std::memory_order_acquire) != kWhole) {
        wrong.fetch_add(1, std::memory_order_relaxed);
      }
      routes.reclaimer.quiescent(kWorker);
      rounds.fetch_add(1, std::memory_order_relaxed);
    }
    routes.reclaimer.offline(kWorker);
  });
  for (std::uint32_t round = 0; round < 5000 || rounds.load(std::memory_order_relaxed) < 1000;
       ++round) {
    const auto* const before = now.exchange(new std::uint32_t(kWhole), std::memory_order_acq_rel);
    routes.reclaimer.retire([before] { delete before; });
    // A group of the FIB's that goes: when many wait, it looks itself who has reported.
    const wire::Prefix host{wire::IpAddress::v4(0x0a000001U + (round % 256 << 8U)), 32};
    static_cast<void>(routes.fib->add(host, AdjacencyIndex{101}));
    routes.fib->remove(host);
    routes.reclaimer.poll();
  }
  stop.store(true, std::memory_order_relaxed);
  reader.join();
  routes.settle();
  delete now.load();
  CHECK(wrong.load() == 0);
}

TEST_CASE("adjacencies: resolving writes the whole Ethernet header before it says so") {
  Adjacencies adjacencies(16);
  const auto v4 =
      adjacencies.add_neighbor(PortId{3}, wire::IpAddress::parse("10.0.0.9").value(), 1400);
  const auto v6 =
      adjacencies.add_neighbor(PortId{4}, wire::IpAddress::parse("fe80::9").value(), 1500);
  REQUIRE(v4);
  REQUIRE(v6);
  CHECK(adjacencies[*v4].kind.load() == AdjacencyKind::incomplete);
  const MacAddress theirs{2, 0, 0, 0, 0, 9}, ours{2, 0, 0, 0, 0, 1};
  adjacencies.resolve(*v4, theirs, ours);
  adjacencies.resolve(*v6, theirs, ours);
  const std::array<std::uint8_t, 14> expected{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x08, 0x00};
  CHECK(adjacencies[*v4].ethernet == expected);
  CHECK(adjacencies[*v6].ethernet[12] == 0x86);
  CHECK(adjacencies[*v6].ethernet[13] == 0xdd);
  CHECK(adjacencies[*v4].kind.load() == AdjacencyKind::resolved);
  CHECK(adjacencies[*v4].mtu() == 1400);
  adjacencies.unresolve(*v4);
  CHECK(adjacencies[*v4].kind.load() == AdjacencyKind::incomplete);
}

TEST_CASE("adjacencies: four are there from the start; the rest run out and return") {
  Adjacencies adjacencies(7);
  CHECK(adjacencies[Adjacencies::kDrop].kind.load() == AdjacencyKind::drop);
  CHECK(adjacencies[Adjacencies::kLocal].kind.load() == AdjacencyKind::local);
  CHECK(adjacencies[Adjacencies::kBroadcast].kind.load() == AdjacencyKind::broadcast);
  CHECK(adjacencies[Adjacencies::kWithdrawn].kind.load() == AdjacencyKind::drop);
  std::vector<AdjacencyIndex> taken;
  while (const auto index = adjacencies.add_glean(PortId{0}, 1500)) taken.push_back(*index);
  CHECK(taken.size() == 3);
  for (const AdjacencyIndex index : taken) CHECK(raw(index) > raw(Adjacencies::kWithdrawn));
  adjacencies.release(taken[1]);
  CHECK(adjacencies[taken[1]].kind.load() == AdjacencyKind::drop);
  CHECK(adjacencies.add_glean(PortId{0}, 1500) == taken[1]);
}

}  // namespace
}  // namespace culvert::dataplane
