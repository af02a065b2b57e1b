// How much a peer may negotiate beyond what is configured (docs/decisions/0017).
#include "tests/unit/ike/keyed_peer.hpp"

namespace culvert::ladder {
namespace {

using ike::Failure;

/// Sixteen ranges of one network, none of which holds another.
std::string ranges(const std::string& network, int number) {
  const std::string of = network + "." + std::to_string(number) + ".";
  std::string all;
  for (int first = 1; first <= 16; ++first) {
    all += (all.empty() ? "" : ",") + of + std::to_string(first) + "-" + of +
           std::to_string(first + 200);
  }
  return all;
}
/// Of each length from 25 to 32 one, side by side.
std::string lengths(const std::string& network, int number) {
  std::string all;
  for (int length = 25; length <= 32; ++length) {
    const int first = 256 - (1 << (33 - length));
    all += (all.empty() ? "" : ",") + network + "." + std::to_string(number) + "." +
           std::to_string(first) + "/" + std::to_string(length);
  }
  return all;
}

/// What b has is one wide child; a asks for many narrow ones, which it has configured.
GatewayOptions asking(int count, std::string (*local)(const std::string&, int),
                      std::string (*remote)(const std::string&, int)) {
  GatewayOptions a = gateway_a();
  const ChildOptions like = a.children.front();
  a.children.clear();
  for (int number = 0; number < count; ++number) {
    ChildOptions child = like;
    child.name = "n" + std::to_string(number);
    child.local_ts = local("10.1", number);
    child.remote_ts = remote("10.2", number);
    a.children.push_back(child);
  }
  return a;
}
GatewayOptions wide() {
  GatewayOptions b = mirrored(gateway_a());
  b.children.front().local_ts = "10.2.0.0/16";
  b.children.front().remote_ts = "10.1.0.0/16";
  return b;
}

}  // namespace

TEST_CASE("budget: a peer gets so many pairs of selectors, and what it has goes on") {
  Ladder ladder(asking(5, ranges, ranges), wide());
  ladder.initiate(kA, "branch");
  ladder.run();
  // Each is 512 rules; two of them are what the configuration lets beyond itself.
  REQUIRE(ladder.ike_sa(kB).children.size() == 2);
  CHECK(ladder.connection(kB).last_failure == Failure::no_additional_sas);
  CHECK(ladder.connection(kA).last_failure == Failure::no_additional_sas);
  // A rekey needs nothing more.
  channel::Event event;
  event.type = channel::EventType::soft_expire;
  const auto before = ladder.ike_sa(kA).children.front().inbound_sa;
  event.body.soft_expire = {before, channel::ExpiryCause::time};
  ladder.world.event(kA, event);
  ladder.settle();
  REQUIRE(ladder.ike_sa(kB).children.size() == 2);
  for (const auto& child : ladder.ike_sa(kA).children) CHECK(child.inbound_sa != before);
}

TEST_CASE("budget: a peer gets so many shapes of selectors, each of which counts once") {
  GatewayOptions a = asking(4, lengths, lengths);
  // Of the same sixty-four shapes but the last.
  a.children.back().local_ts = "10.1.77.0/24";
  Ladder ladder(a, wide());
  ladder.initiate(kA, "branch");
  ladder.run();
  CHECK(ladder.ike_sa(kB).children.size() == 3);
  CHECK(ladder.connection(kB).last_failure == Failure::no_additional_sas);
}

TEST_CASE("budget: what is configured has room, however much that is") {
  GatewayOptions a = asking(4, ranges, ranges);
  Ladder ladder(a, mirrored(a));
  ladder.initiate(kA, "branch");
  ladder.run();
  CHECK(ladder.ike_sa(kB).children.size() == 4);
}

}  // namespace culvert::ladder
