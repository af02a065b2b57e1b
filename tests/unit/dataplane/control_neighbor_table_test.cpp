#include <catch2/catch.hpp>

#include "tests/unit/dataplane/asked_link.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;
using test_link::AskedLink;
using test_link::kMac;
using test_link::kOtherMac;
using test_link::kPeer;

}  // namespace

TEST_CASE("neighbours: a packet asks once, the answer resolves") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  CHECK(link.want() == Wanted::hold);
  CHECK(link.count<Solicit>() == 1);

  link.answer(kMac);
  REQUIRE(link.count<Resolved>() == 1);
  CHECK(std::get<Resolved>(link.actions.back()).mac == kMac);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
}

TEST_CASE("neighbours: three questions a second apart, then failed and left alone (RFC 4861 §10)") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  link.pass(999ms);
  CHECK(link.count<Solicit>() == 1);
  link.pass(1ms);
  link.pass(1s);
  CHECK(link.count<Solicit>() == 3);
  CHECK(link.count<Failed>() == 0);
  link.pass(1s);
  CHECK(link.count<Failed>() == 1);
  CHECK(link.want() == Wanted::failed);
  CHECK(link.count<Solicit>() == 3);

  link.pass(3s);
  CHECK(link.want() == Wanted::hold);
  CHECK(link.count<Solicit>() == 4);
}

TEST_CASE(
    "neighbours: one that failed is known as such for two minutes, and asked again meanwhile") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  for (int second = 0; second < 3; ++second) link.pass(1s);
  REQUIRE(link.table.find(kPeer) != nullptr);
  link.pass(119s);
  REQUIRE(link.table.find(kPeer) != nullptr);
  CHECK(link.table.find(kPeer)->state == NeighborState::failed);
  link.pass(1s);
  CHECK(link.table.find(kPeer) == nullptr);

  CHECK(link.want() == Wanted::hold);
  for (int second = 0; second < 60; ++second) link.pass(1s);
  CHECK(link.want() == Wanted::hold);
  CHECK(link.table.find(kPeer)->state == NeighborState::incomplete);
  link.answer(kMac);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
}

TEST_CASE("neighbours: an answer nobody asked for is not believed") {
  AskedLink link;
  link.answer(kMac);
  CHECK(link.table.find(kPeer) == nullptr);
  CHECK(link.actions.empty());
}

TEST_CASE("neighbours: a reachable neighbour is asked again, and kept while it answers") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  link.answer(kMac);
  link.actions.clear();

  link.pass(NeighborTable::kReachable);
  REQUIRE(link.count<Solicit>() == 1);
  CHECK(std::get<Solicit>(link.actions.back()).unicast == kMac);
  link.answer(kMac);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
  CHECK(link.count<Resolved>() == 0);  // nothing changed for the workers
}

TEST_CASE("neighbours: one that no longer answers is lost; the last question goes to everybody") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  link.answer(kMac);
  link.actions.clear();
  link.pass(NeighborTable::kReachable);
  link.pass(1s);
  link.pass(1s);
  REQUIRE(link.count<Solicit>() == 3);
  CHECK_FALSE(std::get<Solicit>(link.actions[2]).unicast);
  link.pass(1s);
  CHECK(link.count<Lost>() == 1);
  CHECK(link.table.find(kPeer) == nullptr);
}

TEST_CASE("neighbours: a gratuitous announcement of another MAC makes us ask, not believe") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  link.answer(kMac);
  link.actions.clear();

  link.table.announced(kPeer, kOtherMac, link.now, link.actions);
  REQUIRE(link.count<Solicit>() == 1);
  CHECK(link.table.find(kPeer)->mac == kMac);

  link.answer(kOtherMac);  // a failover: the address did move
  REQUIRE(link.count<Resolved>() == 1);
  CHECK(std::get<Resolved>(link.actions.back()).mac == kOtherMac);
}

TEST_CASE(
    "neighbours: who asks for us is stale, and is asked when it is wanted (RFC 4861 §7.2.3)") {
  AskedLink link;
  link.ask_us(kPeer, kMac);
  CHECK(link.actions.empty());
  CHECK(link.table.find(kPeer)->state == NeighborState::stale);
  CHECK(to_string(NeighborState::stale) == "stale");
  // What goes there goes at once.
  CHECK(link.table.find(kPeer)->mac == kMac);

  link.use();
  REQUIRE(link.count<Solicit>() == 1);
  CHECK(std::get<Solicit>(link.actions.back()).unicast == kMac);
  link.use();
  CHECK(link.count<Solicit>() == 1);
  CHECK(link.count<Resolved>() == 0);
  CHECK(link.table.find(kPeer)->mac == kMac);

  link.answer(kMac);
  CHECK(link.count<Resolved>() == 1);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);

  // It may not take over an address that is somebody else's by asking.
  link.actions.clear();
  link.ask_us(kPeer, kOtherMac);
  CHECK(link.count<Resolved>() == 0);
  CHECK(link.count<Solicit>() == 1);
}

TEST_CASE(
    "neighbours: one that asked for us and does not answer has failed; the last question "
    "goes to everybody") {
  AskedLink link;
  link.ask_us(kPeer, kMac);
  link.use();
  link.pass(1s);
  link.pass(1s);
  REQUIRE(link.count<Solicit>() == 3);
  CHECK(std::get<Solicit>(link.actions[1]).unicast == kMac);
  CHECK_FALSE(std::get<Solicit>(link.actions[2]).unicast);
  link.pass(1s);
  CHECK(link.count<Failed>() == 1);
  CHECK_FALSE(link.table.find(kPeer)->mac);
  CHECK(link.want() == Wanted::failed);
  // It is there after all.
  link.ask_us(kPeer, kMac);
  CHECK(link.table.find(kPeer)->state == NeighborState::stale);
  CHECK(link.table.find(kPeer)->mac == kMac);
}

TEST_CASE("neighbours: of two MACs that ask for us under one address neither is believed") {
  AskedLink link;
  link.ask_us(kPeer, kMac);
  SECTION("before it is wanted") {
    link.ask_us(kPeer, kOtherMac);
    CHECK(link.table.find(kPeer) == nullptr);
    CHECK(link.actions.empty());
  }
  SECTION("while it is asked: everybody is") {
    link.use();
    link.ask_us(kPeer, kOtherMac);
    REQUIRE(link.count<Solicit>() == 2);
    CHECK_FALSE(std::get<Solicit>(link.actions.back()).unicast);
    CHECK_FALSE(link.table.find(kPeer)->mac);
  }
}

TEST_CASE("neighbours: one that asked for us and is wanted by nobody is forgotten") {
  AskedLink link;
  link.ask_us(kPeer, kMac);
  link.pass(NeighborTable::kStaleKnown - 1s);
  link.ask_us(kPeer, kMac);
  link.pass(NeighborTable::kStaleKnown - 1s);
  CHECK(link.table.find(kPeer) != nullptr);
  link.pass(1s);
  CHECK(link.table.find(kPeer) == nullptr);
  CHECK(link.actions.empty());
}

TEST_CASE("neighbours: one that we ask and that asks for us is there (RFC 826)") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);
  link.ask_us(kPeer, kMac);
  CHECK(link.count<Resolved>() == 1);
  CHECK(link.table.find(kPeer)->state == NeighborState::reachable);
}

TEST_CASE("neighbours: what the operator wrote down, nothing on the link changes or ages") {
  AskedLink link;
  CHECK(link.want() == Wanted::hold);  // asked for already: what waits goes where the operator says
  link.table.fix({{kPeer, kMac}}, link.now, link.actions);
  CHECK(link.count<Resolved>() == 1);
  CHECK(link.table.find(kPeer)->state == NeighborState::fixed);
  CHECK(to_string(NeighborState::fixed) == "static");

  link.actions.clear();
  link.answer(kOtherMac);
  link.ask_us(kPeer, kOtherMac);
  link.table.announced(kPeer, kOtherMac, link.now, link.actions);
  for (int hour = 0; hour < 48; ++hour) link.pass(1h);
  CHECK(link.want() == Wanted::hold);
  CHECK(link.actions.empty());
  CHECK(link.table.find(kPeer)->mac == kMac);
}

TEST_CASE(
    "neighbours: a reload changes what was written down, and gives the rest back to the link") {
  AskedLink link;
  const NeighborKey other{PortId{1}, test::address("2001:db8::2")};
  link.table.fix({{kPeer, kMac}, {other, kMac}}, link.now, link.actions);
  link.actions.clear();
  link.table.fix({{kPeer, kOtherMac}}, link.now, link.actions);
  CHECK(link.count<Lost>() == 1);
  REQUIRE(link.count<Resolved>() == 1);
  CHECK(std::get<Resolved>(link.actions.back()).mac == kOtherMac);
  CHECK(link.table.find(other) == nullptr);

  link.table.fix({{kPeer, kOtherMac}}, link.now, link.actions);
  CHECK(link.actions.size() == 2);  // nothing new
  CHECK(link.want(other) == Wanted::hold);
  CHECK(link.count<Solicit>() == 1);
}

}  // namespace culvert::dataplane::control
