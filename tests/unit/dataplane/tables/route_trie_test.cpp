#include "dataplane/tables/route_trie.hpp"

#include <random>

#include <catch2/catch.hpp>

#include "tests/model/route_model.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/tables/one_worker.hpp"

namespace culvert::dataplane {
namespace {

/// Of any length, among few values of each byte, so that routes nest at every level.
wire::Prefix any_prefix(std::mt19937_64& random) {
  wire::Prefix prefix{wire::lowest(wire::Family::v6),
                      static_cast<std::uint8_t>(1 + random() % 128)};
  for (std::uint8_t& byte : prefix.address.bytes) byte = random() % 4 == 0 ? 0x80 : 0;
  prefix.address.bytes[random() % 16] = static_cast<std::uint8_t>(random());
  prefix.address = prefix.first();
  return prefix;
}

TEST_CASE(
    "route trie: routes of every length agree with a look at every route, and leave nothing") {
  const std::uint64_t seed = test::random_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  Reclaimer reclaimer(1);
  RouteTrie trie(reclaimer);
  REQUIRE(trie.create());
  model::RouteModel model;
  std::vector<wire::Prefix> present;
  std::size_t wrong = 0;
  const auto probe = [&](wire::IpAddress address) {
    if (random() % 2 == 0) address.bytes[random() % 16] ^= static_cast<std::uint8_t>(random());
    if (trie.lookup(address.bytes.data()) != model.lookup(address)) ++wrong;
  };
  for (int step = 0; step < 3000; ++step) {
    // A few hundred come, as many go, and so on.
    if (present.empty() || random() % 5 < (step / 500 % 2 == 0 ? 4U : 1U)) {
      const wire::Prefix prefix = any_prefix(random);
      const AdjacencyIndex to{static_cast<std::uint32_t>(2 + random() % 30000)};
      REQUIRE(trie.add(prefix, to));
      model.add(prefix, to);
      std::erase(present, prefix);
      present.push_back(prefix);
    } else {
      const std::size_t which = random() % present.size();
      trie.remove(present[which]);
      model.remove(present[which]);
      present.erase(present.begin() + static_cast<std::ptrdiff_t>(which));
    }
    reclaimer.drain();
    for (int n = 0; n < 10; ++n) {
      probe(any_prefix(random).address);
      if (!present.empty()) probe(present[random() % present.size()].last());
    }
  }
  CHECK(wrong == 0);
  for (const wire::Prefix& prefix : present) trie.remove(prefix);
  reclaimer.drain();
  CHECK(trie.groups() == 0);
}

TEST_CASE("route trie: a reader's group is not used again before he is through") {
  Reclaimer reclaimer(1);
  RouteTrie trie(reclaimer);
  REQUIRE(trie.create());
  const wire::Prefix route = wire::Prefix::parse("2001:db8:1:2::/64").value();
  reclaimer.online(test::kWorker);
  REQUIRE(trie.add(route, AdjacencyIndex{5}));
  CHECK(trie.groups() == 6);
  trie.remove(route);
  reclaimer.poll();
  CHECK(trie.groups() == 6);
  reclaimer.quiescent(test::kWorker);
  reclaimer.poll();
  CHECK(trie.groups() == 0);
  reclaimer.offline(test::kWorker);
}

TEST_CASE("route trie: what finds no room is refused and changes nothing") {
  std::mt19937_64 random(1);
  Reclaimer reclaimer(1);
  RouteTrie trie(reclaimer);
  REQUIRE(trie.create());
  std::vector<wire::Prefix> taken;
  wire::Prefix host{wire::lowest(wire::Family::v6), 128};
  std::uint32_t before = 0;
  while (true) {
    for (std::uint8_t& byte : host.address.bytes) byte = static_cast<std::uint8_t>(random());
    before = trie.groups();
    if (!trie.add(host, AdjacencyIndex{7})) break;
    taken.push_back(host);
  }
  CHECK(taken.size() > 7000);
  CHECK(trie.groups() == before);
  CHECK(trie.lookup(host.address.bytes.data()) == Adjacencies::kDrop);
  for (const wire::Prefix& route : taken) {
    if (trie.lookup(route.address.bytes.data()) != AdjacencyIndex{7}) FAIL(route.to_string());
  }
  for (const wire::Prefix& route : taken) trie.remove(route);
  reclaimer.drain();
  CHECK(trie.groups() == 0);
  CHECK(trie.add(host, AdjacencyIndex{7}));
}

}  // namespace
}  // namespace culvert::dataplane
