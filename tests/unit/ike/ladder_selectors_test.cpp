// What a child is for: the packet that asks for it, the responder's choice, single pairs, and
// transport mode's addresses behind NATs.
#include "ike/machine/selectors.hpp"
#include "tests/unit/ike/keyed_peer.hpp"

namespace culvert::ladder {
namespace {

using ike::SelectorPair;
using wire::ike::Notify;
using wire::ike::NotifyType;

std::vector<wire::TrafficSelector> selectors(std::initializer_list<const char*> texts) {
  std::vector<wire::TrafficSelector> list;
  for (const char* text : texts) list.push_back(*wire::TrafficSelector::parse(text));
  return list;
}

/// A TCP packet of our network that meets the child's trap.
void packet(Ladder& ladder, const char* source, const char* destination) {
  channel::Event event;
  event.type = channel::EventType::acquire;
  event.body.acquire = {config::ChildId{0},
                        *wire::IpAddress::parse(source),
                        *wire::IpAddress::parse(destination),
                        wire::protocol::kTcp,
                        40000,
                        443};
  ladder.world.event(kA, event);
}

/// "10.1.0.0/24 === 10.2.0.0/24", of each child that stands.
std::vector<std::string> children(Ladder& ladder, int side) {
  std::vector<std::string> texts;
  for (const auto& child : ladder.ike_sa(side).children) {
    texts.push_back(ike::text_of(SelectorPair{child.local_selectors, child.remote_selectors}));
  }
  std::ranges::sort(texts);
  return texts;
}

std::string offered(const Payloads& payloads) {
  return ike::text_of(SelectorPair{ike::find_selectors(payloads, true)->selectors,
                                   ike::find_selectors(payloads, false)->selectors});
}

TEST_CASE("selectors: the packet that asks comes first (RFC 7296 §2.9)") {
  GatewayOptions a = gateway_a();
  a.childless = config::Childless::force;
  Ladder ladder(a);
  // Given an IKE SA that a packet has begun, without a child yet
  packet(ladder, "10.1.0.7", "10.2.0.9");
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  const Flying request = ladder.wire.front();
  // Then its addresses, protocol and ports are what is offered first, and the whole after it
  CHECK(offered(heard(ladder, kB)) ==
        "10.1.0.7/32[tcp/40000], 10.1.0.0/24 === 10.2.0.9/32[tcp/443], 10.2.0.0/24");
  ladder.world.deliver(request);
  ladder.run();
  // And the child is for the whole
  ladder.converged();
  CHECK(children(ladder, kA) == std::vector<std::string>{"10.1.0.0/24 === 10.2.0.0/24"});
}

TEST_CASE("selectors: of two children the one of the first choice is meant (RFC 7296 §2.9)") {
  GatewayOptions a = gateway_a();
  a.children.front().remote_ts = "10.2.0.0/16";
  GatewayOptions b = mirrored(gateway_a());
  b.children.push_back(b.children.front());
  b.children.back().name = "lab";
  b.children.back().local_ts = "10.2.8.0/24";
  Ladder ladder(a, b);
  packet(ladder, "10.1.0.7", "10.2.8.9");
  ladder.run();
  CHECK(children(ladder, kA) == std::vector<std::string>{"10.1.0.0/24 === 10.2.8.0/24"});
  CHECK(ladder.ike_sa(kB).children.front().name == "lab");
}

TEST_CASE("selectors: without a packet the whole is offered") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  CHECK(offered(heard(ladder, kB)) == "10.1.0.0/24 === 10.2.0.0/24");
}

GatewayOptions childless_first() {
  GatewayOptions a = gateway_a();
  a.childless = config::Childless::force;
  return a;
}
/// The IKE SA comes up, and a's request for a child is refused as b would refuse it if it took
/// single pairs alone.
void take_single_pairs_alone(Ladder& ladder) {
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  const Flying request = ladder.wire.front();
  REQUIRE(contains(offered(heard(ladder, kB)), "10.1.0.0/24"));
  ladder.gateway(kB).data_plane.spis_exhausted = true;
  ladder.world.deliver(request);
  ladder("b --x a  CREATE_CHILD_SA response");
  ladder.gateway(kB).data_plane.spis_exhausted = false;
  ask(ladder, kA, ExchangeType::create_child_sa, true,
      {Notify{wire::ike::Protocol::none, NotifyType::single_pair_required, {}, {}}});
}

TEST_CASE("selectors: a peer that takes single pairs gets one for each packet (RFC 7296 §2.9)") {
  Ladder ladder(childless_first());
  // Given a peer that refuses all but single pairs
  packet(ladder, "10.1.0.7", "10.2.0.9");
  take_single_pairs_alone(ladder);
  // Then it is asked for the packet's pair, any protocol, and no more
  ladder.run();
  CHECK(children(ladder, kA) == std::vector<std::string>{"10.1.0.7/32 === 10.2.0.9/32"});
  // And a packet of another pair gets another child, beside the first
  packet(ladder, "10.1.0.7", "10.2.0.10");
  ladder.run();
  const std::vector<std::string> both{"10.1.0.7/32 === 10.2.0.10/32",
                                      "10.1.0.7/32 === 10.2.0.9/32"};
  CHECK(children(ladder, kA) == both);
  CHECK(children(ladder, kB) ==
        std::vector<std::string>{"10.2.0.10/32 === 10.1.0.7/32", "10.2.0.9/32 === 10.1.0.7/32"});
  // But not one that has its own
  packet(ladder, "10.1.0.7", "10.2.0.9");
  ladder.silent();
  // And when one is rekeyed it stays what it is
  const auto first = ladder.ike_sa(kA).children.front();
  channel::Event event;
  event.type = channel::EventType::soft_expire;
  event.body.soft_expire = {first.inbound_sa, channel::ExpiryCause::time};
  ladder.world.event(kA, event);
  ladder.settle();
  CHECK(children(ladder, kA) == both);
  CHECK(ladder.gateway(kA).data_plane.policies.size() == 2);
}

TEST_CASE("selectors: single pairs are no more than one IKE SA has room for") {
  Ladder ladder(childless_first());
  packet(ladder, "10.1.0.7", "10.2.0.1");
  take_single_pairs_alone(ladder);
  ladder.run();
  for (int last = 2; last < 140; ++last) {
    packet(ladder, "10.1.0.7", ("10.2.0." + std::to_string(last)).c_str());
    ladder.run();
  }
  CHECK(ladder.ike_sa(kA).children.size() == 128);
  CHECK(ladder.connection(kA).last_failure == Failure::no_additional_sas);
  CHECK(ladder.gateway(kA).data_plane.leased.empty());
}

TEST_CASE("selectors: single pairs alone, and no packet that says which") {
  Ladder ladder(childless_first());
  ladder.initiate(kA);
  take_single_pairs_alone(ladder);
  CHECK(ladder.connection(kA).last_failure == Failure::single_pair_required);
}

// ---- transport mode -----------------------------------------------------------------------------

GatewayOptions transport_a() {
  GatewayOptions a = gateway_a();
  a.children.front().mode = config::Mode::transport;
  a.children.front().local_ts = a.address + "/32";
  a.children.front().remote_ts = a.remote_address + "/32";
  return a;
}

/// a at 10.99.0.1 behind 198.51.100.7, b at 10.88.0.1 behind 203.0.113.9.
struct TwoNats {
  static GatewayOptions a() {
    GatewayOptions options = transport_a();
    options.address = "10.99.0.1";
    options.remote_address = "203.0.113.9";
    options.children.front().local_ts = "10.99.0.1/32";
    options.children.front().remote_ts = "203.0.113.9/32";
    return options;
  }
  /// Any peer, and whatever address it has.
  static GatewayOptions b() {
    GatewayOptions options = mirrored(transport_a());
    options.address = "10.88.0.1";
    options.remote_address.clear();
    options.children.front().local_ts = "10.88.0.1/32";
    options.children.front().remote_ts.clear();
    return options;
  }
  static void between(Ladder& ladder) {
    ladder.world.send = [&ladder](Flying datagram) {
      static const std::map<std::string, const char*> inside_out{{"10.99.0.1", "198.51.100.7"},
                                                                 {"10.88.0.1", "203.0.113.9"}};
      for (const auto& [inside, outside] : inside_out) {
        const auto in = *wire::IpAddress::parse(inside), out = *wire::IpAddress::parse(outside);
        if (datagram.local.address == in) datagram.local.address = out;
        if (datagram.remote.address == out) datagram.remote.address = in;
      }
      ladder.wire.push_back(std::move(datagram));
    };
  }
};

TEST_CASE("selectors: transport mode behind two NATs, each side in its own words (§2.23.1)") {
  Ladder ladder(TwoNats::a(), TwoNats::b());
  TwoNats::between(ladder);
  ladder.connect();
  CHECK(ladder.ike_sa(kA).nat_local);
  CHECK(ladder.ike_sa(kA).nat_remote);
  const std::vector<std::string> of_a{"10.99.0.1/32 === 203.0.113.9/32"};
  const std::vector<std::string> of_b{"10.88.0.1/32 === 198.51.100.7/32"};
  CHECK(children(ladder, kA) == of_a);
  CHECK(children(ladder, kB) == of_b);
  CHECK_FALSE(ladder.ike_sa(kA).children.front().notice);
  CHECK_FALSE(ladder.ike_sa(kB).children.front().notice);
  // Also when either rekeys: what is asked for is what the asker sees, and answered in its words
  const int side = GENERATE(kA, kB);
  ladder.rekey(side);
  const Flying request = ladder.wire.front();
  CHECK(offered(heard(ladder, 1 - side)) == (side == kA ? of_a.front() : of_b.front()));
  ladder.world.deliver(request);
  CHECK(offered(heard(ladder, side)) == (side == kA ? of_a.front() : of_b.front()));
}

TEST_CASE("selectors: transport mode behind two NATs is renewed") {
  Ladder ladder(TwoNats::a(), TwoNats::b());
  TwoNats::between(ladder);
  ladder.connect();
  ladder.rekey(GENERATE(kA, kB));
  ladder.settle();
  ladder.converged();
  CHECK(children(ladder, kA) == std::vector<std::string>{"10.99.0.1/32 === 203.0.113.9/32"});
  CHECK(children(ladder, kB) == std::vector<std::string>{"10.88.0.1/32 === 198.51.100.7/32"});
}

TEST_CASE("selectors: tunnel mode behind NATs keeps the addresses that were asked for") {
  GatewayOptions a = TwoNats::a(), b = TwoNats::b();
  a.children.front().mode = b.children.front().mode = config::Mode::tunnel;
  b.children.front().local_ts = "203.0.113.9/32";
  b.children.front().remote_ts = "10.99.0.0/24";
  Ladder ladder(a, b);
  TwoNats::between(ladder);
  ladder.connect();
  CHECK(children(ladder, kB) == std::vector<std::string>{"203.0.113.9/32 === 10.99.0.1/32"});
}

TEST_CASE("selectors: in transport mode a wide configuration means the two addresses (§2.23.1)") {
  GatewayOptions a = transport_a();
  a.children.front().local_ts = "192.0.2.0/24[tcp]";
  Ladder ladder(a, mirrored(transport_a()));
  ladder.connect();
  CHECK(children(ladder, kA) == std::vector<std::string>{"192.0.2.1/32[tcp] === 192.0.2.2/32"});
  CHECK_FALSE(ladder.ike_sa(kA).children.front().notice);
}

TEST_CASE("selectors: without remote_ts the peer's address is meant, whichever it has") {
  GatewayOptions a = gateway_a();
  a.children.front().local_ts = "192.0.2.1/32";
  GatewayOptions b = mirrored(gateway_a());
  b.remote_address.clear();
  b.children.front().remote_ts.clear();
  Ladder ladder(a, b);
  ladder.connect();
  CHECK(children(ladder, kB) == std::vector<std::string>{"10.2.0.0/24 === 192.0.2.1/32"});
  // And the responder's own rekey offers the same
  ladder.rekey(kB);
  ladder.settle();
  ladder.converged();
}

TEST_CASE("selectors: a peer behind a NAT in transport mode that names no single address") {
  // RFC 7296 §2.23.1 has it name exactly one; one that does not is met with what it named
  ike::IkeSa ike;
  ike.nat_remote = true;
  ike.remote.address = *wire::IpAddress::parse("198.51.100.7");
  const SelectorPair named{selectors({"192.0.2.2/32"}), selectors({"10.99.0.0/24"})};
  CHECK(ike::seen_here(named, ike) == named);
  CHECK(ike::named_by_peer(named, named, ike) == named);
  // Several of one address are one address
  const SelectorPair two{selectors({"192.0.2.2/32"}),
                         selectors({"10.99.0.1/32[tcp/1701]", "10.99.0.1/32[udp]"})};
  const SelectorPair seen{selectors({"192.0.2.2/32"}),
                          selectors({"198.51.100.7/32[tcp/1701]", "198.51.100.7/32[udp]"})};
  CHECK(ike::seen_here(two, ike) == seen);
  CHECK(ike::named_by_peer(seen, two, ike) == two);
}

}  // namespace
}  // namespace culvert::ladder
