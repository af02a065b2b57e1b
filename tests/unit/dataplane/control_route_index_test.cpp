// The index of routes against a plain list of them.
#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/control/route_index.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control::route_index_test {
namespace {

using test::address;
using test::prefix;

std::vector<wire::Prefix> prefixes(std::initializer_list<const char*> texts) {
  std::vector<wire::Prefix> networks;
  for (const char* const text : texts) networks.push_back(prefix(text));
  return networks;
}

/// The longest that contains it; of equal ones the first.
std::optional<std::size_t> slow_find(const std::vector<wire::Prefix>& networks,
                                     const wire::IpAddress& wanted) {
  std::optional<std::size_t> best;
  for (std::size_t place = 0; place < networks.size(); ++place) {
    if (!networks[place].contains(wanted)) continue;
    if (!best || networks[place].length > networks[*best].length) best = place;
  }
  return best;
}

/// Close to each other, so that many are nested and many are the same.
wire::IpAddress near_address(std::mt19937& random) {
  wire::IpAddress made =
      random() % 2 == 0 ? wire::lowest(wire::Family::v4) : wire::lowest(wire::Family::v6);
  for (std::size_t index = 0; index < made.size(); ++index) {
    if (random() % 4 == 0) made.bytes[index] = static_cast<std::uint8_t>(random() % 4 * 0x55);
  }
  return made;
}

}  // namespace

TEST_CASE("route index: the longest prefix is found, of equal ones the first") {
  const auto networks = prefixes(
      {"10.0.0.0/8", "0.0.0.0/0", "10.1.0.0/16", "10.1.2.3/32", "10.1.0.0/16", "2001:db8::/32"});
  const RouteIndex index(networks);
  CHECK(index.find(address("10.1.2.3")) == 3);
  CHECK(index.find(address("10.1.2.4")) == 2);
  CHECK(index.find(address("10.2.0.0")) == 0);
  CHECK(index.find(address("11.0.0.0")) == 1);
  CHECK(index.find(address("255.255.255.255")) == 1);
  CHECK(index.find(address("2001:db8:ffff::")) == 5);
  CHECK_FALSE(index.find(address("2001:db9::")));
  CHECK_FALSE(index.find(address("::")));
}

TEST_CASE("route index: without routes nothing is found") {
  CHECK_FALSE(RouteIndex().find(address("10.0.0.1")));
  CHECK_FALSE(RouteIndex(prefixes({"10.0.0.0/8"})).find(address("9.255.255.255")));
  CHECK_FALSE(RouteIndex(prefixes({"10.0.0.0/8"})).find(address("11.0.0.0")));
}

TEST_CASE("route index: a plain list of random prefixes finds the same") {
  const auto seed = GENERATE(range(1U, 21U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<wire::Prefix> networks(1 + random() % 200);
  for (wire::Prefix& network : networks) {
    const wire::IpAddress inside = near_address(random);
    network = {inside, static_cast<std::uint8_t>(random() % (inside.size() * 8 + 1))};
    network.address = network.first();
  }
  const RouteIndex index(networks);
  for (int wanted = 0; wanted < 500; ++wanted) {
    const wire::IpAddress somewhere = near_address(random);
    REQUIRE(index.find(somewhere) == slow_find(networks, somewhere));
  }
  for (const wire::Prefix& network : networks) {
    REQUIRE(index.find(network.first()) == slow_find(networks, network.first()));
    REQUIRE(index.find(network.last()) == slow_find(networks, network.last()));
  }
}

}  // namespace culvert::dataplane::control::route_index_test
