// Another configuration while the machine runs: added, removed, changed; and never an outage.
#include <map>

#include "ike/daemon/reload.hpp"
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

GatewayOptions two_children() {
  GatewayOptions options = gateway_a();
  ChildOptions second = options.children.front();
  second.name = "lab";
  second.local_ts = "10.1.1.0/24";
  second.remote_ts = "10.2.1.0/24";
  options.children.push_back(second);
  return options;
}
void later(Ladder& ladder, int for_seconds) {
  for (int i = 0; i < for_seconds; ++i) {
    ladder.pass(seconds(1));
    ladder.run();
  }
}

TEST_CASE("reload: what did not change is not touched") {
  Ladder ladder(two_children());
  ladder.initiate(kA);
  ladder.initiate(kA, "lab");
  ladder.run();
  const auto before = ladder.ike_sa(kA);
  ladder.world.reconfigure(kA, two_children());
  ladder.world.reconfigure(kB, mirrored(two_children()));
  ladder.silent();
  later(ladder, 30);
  CHECK(ladder.ike_sa(kA).initiator_spi == before.initiator_spi);
  CHECK(ladder.ike_sa(kA).children.at(0).inbound == before.children.at(0).inbound);
  CHECK(ladder.ike_sa(kA).children.at(1).inbound == before.children.at(1).inbound);
  ladder.converged(2);
}

TEST_CASE("reload: a child that was added comes up, one that was removed goes") {
  GatewayOptions more = two_children();
  more.children[1].start_action = StartAction::start;
  Ladder ladder;
  ladder.connect();
  const auto office = ladder.ike_sa(kA).children.front().inbound;
  ladder.expect_no_loss();
  ladder.world.reconfigure(kB, mirrored(two_children()));
  ladder.world.reconfigure(kA, more);
  later(ladder, 5);
  ladder.converged(2);
  ladder.world.reconfigure(kA, gateway_a());
  later(ladder, 20);
  CHECK(ladder.ike_sa(kA).children.size() == 1);
  CHECK(ladder.ike_sa(kA).children.front().inbound == office);
  ladder.world.reconfigure(kB, mirrored(gateway_a()));
  later(ladder, 5);
  ladder.converged(1);
}

TEST_CASE("reload: a child that is back before its Delete has left comes up again by itself") {
  GatewayOptions both = two_children();
  for (ChildOptions& child : both.children) child.start_action = StartAction::start;
  Ladder ladder(both, mirrored(two_children()));
  ladder.world.start(kA);
  ladder.settle(5);
  ladder.converged(2);
  const auto lab = ladder.ike_sa(kA).children.at(1).inbound;
  // Given the Delete waits behind another exchange
  ladder.rekey(kA);
  GatewayOptions one = both;
  one.children.pop_back();
  ladder.world.reconfigure(kA, one);
  REQUIRE(ladder.wire.size() == 1);
  // When the child is configured again
  ladder.world.reconfigure(kA, both);
  ladder.settle(10);
  // Then a new one stands
  ladder.converged(2);
  const auto children = ladder.ike_sa(kA).children;
  CHECK(std::ranges::find(children, lab, &ike::ChildStatus::inbound) == children.end());
}

TEST_CASE("reload: a child that goes with its connection's authentication is shown to its end") {
  Ladder ladder(two_children());
  ladder.initiate(kA);
  ladder.initiate(kA, "lab");
  ladder.run();
  GatewayOptions other = gateway_a();
  other.mobike = config::Mobike::no;
  ladder.world.reconfigure(kA, other);
  CHECK(ladder.ike_sa(kA).children.size() == 2);
  ladder.world.reconfigure(kB, mirrored(gateway_a()));
  later(ladder, 90);
  CHECK(ladder.ike_sa(kA).children.size() == 1);
}

TEST_CASE("reload: what failed for a child that was removed is forgotten") {
  Ladder ladder(two_children(), mirrored(gateway_a()));
  ladder.connect();
  ladder.initiate(kA, "lab");
  ladder.run();
  CHECK(ladder.connection(kA).last_failure_child == "lab");
  ladder.world.command(kA, CommandVerb::terminate, "branch");
  ladder.settle(60);
  ladder.world.reconfigure(kA, gateway_a());
  CHECK_FALSE(ladder.connection(kA).last_failure);
}

TEST_CASE("reload: a child whose protection changed is made anew beside the old one") {
  GatewayOptions changed = gateway_a();
  changed.children[0].esp_proposal = "aes128gcm16";
  Ladder ladder;
  ladder.connect();
  const auto before = ladder.ike_sa(kA);
  ladder.expect_no_loss();
  const bool peer_first = GENERATE(true, false);
  if (peer_first) ladder.world.reconfigure(kB, mirrored(changed));
  later(ladder, 1);
  ladder.world.reconfigure(kA, changed);
  later(ladder, 20);
  if (!peer_first) {
    // The peer knows nothing of it yet: the old child goes on
    ladder.converged();
    ladder.world.reconfigure(kB, mirrored(changed));
  }
  later(ladder, 120);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).initiator_spi == before.initiator_spi);
  CHECK(ladder.ike_sa(kA).children.front().suite.name() == "aes128gcm16");
}

TEST_CASE("reload: new lifetimes come by a rekey, at the side that changed") {
  GatewayOptions changed = gateway_a();
  changed.children[0].rekey_time = seconds(1000);
  changed.children[0].life_time = seconds(1100);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.reconfigure(kA, changed);
  later(ladder, 20);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).children.front().expires_in.value() <= seconds(1100));
  CHECK(ladder.reported(kA, "child_rekeyed") == 1);
}

TEST_CASE("reload: another suite for the IKE SA comes by its rekey") {
  GatewayOptions changed = gateway_a();
  changed.ike_proposal = "aes256gcm16-prfsha384-ecp384";
  Ladder ladder;
  ladder.connect();
  const auto child = ladder.ike_sa(kA).children.front().inbound;
  ladder.expect_no_loss();
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder.world.reconfigure(kA, changed);
  later(ladder, 140);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).suite.group == crypto::Group::ecp384);
  CHECK(ladder.ike_sa(kA).children.front().inbound == child);
}

TEST_CASE("reload: another identity means another authentication, made before the old one goes") {
  GatewayOptions changed = gateway_a();
  changed.id = "hq.example.org";
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder.world.reconfigure(kA, changed);
  later(ladder, 90);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).local_id == "hq.example.org");
  CHECK(ladder.ike_sa(kB).remote_id == "hq.example.org");
}

TEST_CASE("reload: a connection that was removed is ended politely") {
  GatewayOptions none = gateway_a();
  none.name = "other";
  Ladder ladder;
  ladder.connect();
  ladder.world.reconfigure(kA, none);
  later(ladder, 10);
  CHECK(ladder.gateway(kA).machine->ike_sas(ladder.world.now).empty());
  CHECK(ladder.gateway(kB).machine->ike_sas(ladder.world.now).empty());
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.gateway(kA).data_plane.policies.empty());
  CHECK(ladder.connection(kA).name == "other");
}

TEST_CASE("reload: in the middle of any exchange nothing is left dangling") {
  const int delivered = GENERATE(range(0, 5));
  const bool removed = GENERATE(true, false);
  GatewayOptions changed = gateway_a();
  if (removed) {
    changed.name = "other";
  } else {
    changed.children[0].esp_proposal = "aes128gcm16";
    changed.ike_proposal = "aes256gcm16-prfsha384-ecp384";
  }
  Ladder ladder;
  ladder.initiate(kA);
  for (int i = 0; i < delivered && !ladder.wire.empty(); ++i) {
    const Flying datagram = ladder.wire.front();
    ladder.wire.erase(ladder.wire.begin());
    ladder.world.deliver(datagram);
  }
  ladder.world.reconfigure(kA, changed);
  ladder.world.reconfigure(kB, mirrored(changed));
  later(ladder, 200);
  if (removed) {
    CHECK(ladder.gateway(kA).data_plane.sas.empty());
    CHECK(ladder.gateway(kA).machine->ike_sas(ladder.world.now).empty());
  } else {
    ladder.initiate(kA);
    later(ladder, 60);
    ladder.converged();
  }
}

TEST_CASE("reload: what was begun in other words comes up on the IKE SA that stands") {
  const auto seed = GENERATE(range(1, 9));  // with half of them the one that stands comes last
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.reauth_time = seconds(100);
  Ladder ladder(a, b, without_linger(), static_cast<std::uint64_t>(seed));
  ladder.connect();
  while (ladder.wire.empty()) ladder.pass(milliseconds(100));
  ladder("a --x b  IKE_SA_INIT request");
  ladder.world.command(kB, CommandVerb::terminate, "office");
  ladder.run();
  a.children[0].esp_proposal = b.children[0].esp_proposal = "aes128gcm16";
  ladder.world.reconfigure(kB, b);
  ladder.world.reconfigure(kA, a);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder.silent();
  ladder.converged();
}

TEST_CASE("reload: a child of other selectors is not sent on before the peer has the answer") {
  GatewayOptions changed = gateway_a();
  changed.children[0].local_ts = "10.1.0.0/25";
  const bool peer_first = GENERATE(true, false);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  if (peer_first) {
    ladder.world.reconfigure(kB, mirrored(changed));
    ladder("b --> a  CREATE_CHILD_SA request");
    ladder("a --> b  CREATE_CHILD_SA response");
  }
  ladder.world.reconfigure(kA, changed);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder.without_the_exchange_of(kA, 50);
  ladder.settle(60);
  if (!peer_first) ladder.world.reconfigure(kB, mirrored(changed));
  ladder.settle(60);
  ladder.converged();
}

TEST_CASE("reload: what is on its way is judged by what was asked for") {
  const bool whole = GENERATE(true, false);
  const bool killed = GENERATE(true, false);
  GatewayOptions before = gateway_a();
  before.children[0].esp_proposal = "aes256gcm16,aes128gcm16";
  before.ike_proposal = "aes256gcm16-prfsha256-x25519,aes128gcm16-prfsha256-x25519";
  GatewayOptions changed = before;
  changed.children[0].esp_proposal = "aes128gcm16";
  changed.ike_proposal = "aes128gcm16-prfsha256-x25519";
  Ladder ladder(before);
  ladder.connect();
  ladder.expect_no_loss();
  if (whole) {
    ladder.rekey_ike(kA);
  } else {
    ladder.rekey(kA);
  }
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder.world.reconfigure(kA, changed);
  if (killed) {
    ladder.world.kill(kA);
    ladder.world.resume(kA);
  }
  ladder.settle(60);
  CHECK(ladder.reported(kA, "negotiation_failed") == 0);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).children.front().suite.name() == "aes128gcm16");
  CHECK(ladder.ike_sa(kA).suite.key_bits == 128);
}

TEST_CASE("reload: an IKE SA of another identity goes also when it was rekeyed meanwhile") {
  GatewayOptions changed = gateway_a();
  changed.id = "hq.example.org";
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder.run();
  ladder.rekey_ike(kB);
  ladder.settle(2);
  ladder.world.reconfigure(kA, changed);
  ladder.settle(100);
  ladder.converged();
  CHECK(ladder.ike_sa(kB).remote_id == "hq.example.org");
}

GatewayOptions renamed(const std::string& id) {
  GatewayOptions options = gateway_a();
  options.id = id;
  return options;
}
void rename(Ladder& ladder, const std::string& id) {
  ladder.world.reconfigure(kA, renamed(id));
  ladder.world.reconfigure(kB, mirrored(renamed(id)));
  ladder.pass(milliseconds(1));
}

TEST_CASE(
    "reload: the answer to a rekey is what was asked for, also when the identity changed too") {
  GatewayOptions changed = renamed("hq.example.org");
  changed.ike_proposal = "aes128gcm16-prfsha256-x25519";
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey_ike(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder.world.reconfigure(kA, changed);
  ladder("b --> a  CREATE_CHILD_SA response");
  // Then both ends have the IKE SA that the rekey made, until the peer has the new identity too
  CHECK(ladder.reported(kA, "ike_sa_rekeyed") == 1);
  ladder.settle(30);
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder.settle(100);
  ladder.converged();
  CHECK(ladder.ike_sa(kB).remote_id == "hq.example.org");
}

TEST_CASE("reload: an IKE SA of another identity stays for the child that is in the making") {
  Ladder ladder;
  ladder.connect();
  ladder.world.command(kB, CommandVerb::terminate, "office");
  ladder.run();
  ladder.initiate(kA);
  ladder.world.reconfigure(kA, renamed("hq.example.org"));
  ladder.pass(milliseconds(1));
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  REQUIRE(ladder.world.why_not_usable(0) == "");
  ladder.expect_no_loss();
  ladder.settle(5);
  ladder.world.reconfigure(kB, mirrored(renamed("hq.example.org")));
  ladder.settle(100);
  ladder.converged();
  CHECK(ladder.ike_sa(kB).remote_id == "hq.example.org");
}

TEST_CASE("reload: an IKE SA that is rekeyed while its successor in name comes up is not renewed") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey_ike(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  rename(ladder, "hq.example.org");
  ladder("a --x b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT request");
  ladder("a --> b  IKE_SA_INIT response");
  ladder("b --> a  IKE_AUTH request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("a --> b  IKE_AUTH response");
  ladder.settle(100);
  ladder.converged();
  CHECK(ladder.reported(kA, "reauthenticating") == 1);
}

TEST_CASE("reload: an IKE SA that lost goes on when nobody is at the other end of the winner") {
  GatewayOptions renewed = gateway_a();
  renewed.reauth_time = seconds(30);
  GatewayOptions other_suite = renewed;
  other_suite.ike_proposal = "aes256gcm16-prfsha256-x25519,aes128gcm16-prfsha256-x25519";
  Ladder ladder(renewed, mirrored(gateway_a()));
  ladder.connect();
  ladder.expect_no_loss();
  const auto before = ladder.ike_sa(kA).initiator_spi;
  while (ladder.wire.empty()) ladder.pass(milliseconds(100));
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  ladder("b --x a  IKE_AUTH response");
  REQUIRE(ladder.reported(kB, "ike_sa_redundant") == 1);
  other_suite.reauth_time = seconds(0);
  ladder.world.reconfigure(kA, other_suite);
  ladder.settle(120);
  ladder.converged();
  CHECK(ladder.reported(kB, "ike_sa_revived") == 1);
  CHECK(ladder.ike_sa(kA).initiator_spi == before);
}

TEST_CASE("reload: an answer in the words of an earlier configuration ends in no second pair") {
  GatewayOptions changed = gateway_a();
  changed.children[0].local_ts = "10.1.0.0/25";
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey_ike(kB);  // of two requests for a child the initiator's stands
  ladder.run();
  ladder.world.reconfigure(kA, changed);
  ladder("a --x b  CREATE_CHILD_SA request");
  ladder.world.reconfigure(kA, gateway_a());
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder.world.reconfigure(kB, mirrored(gateway_a()));
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder.settle(100);
  ladder.converged();
}

TEST_CASE("reload: a new form that takes over because the old one ends retires the others, too") {
  GatewayOptions changed = gateway_a();
  changed.children[0].local_ts = "10.1.0.0/25";
  ike::Tuning tuning;
  tuning.replaced_sa_linger = seconds(10);
  Ladder ladder(gateway_a(), mirrored(gateway_a()), tuning);
  ladder.connect();
  ladder.expect_no_loss();
  const channel::SaId wide = ladder.ike_sa(kA).children.front().inbound_sa;
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder.pass(tuning.responder_switch_delay - seconds(1));
  // Back to what was: neither the wide child nor the narrow one is b's any more.
  ladder.world.reconfigure(kB, mirrored(gateway_a()));
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");  // it has just made the same
  channel::Event wide_expires;
  wide_expires.type = channel::EventType::soft_expire;
  wide_expires.body.soft_expire = {wide, channel::ExpiryCause::bytes};
  ladder.world.event(kA, wide_expires);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  // b's Delete of the wide one was planned when the narrow one stood.
  ladder.pass(seconds(1));
  ladder("b --> a  INFORMATIONAL request");
  ladder.settle(60);
  ladder.converged();
}

TEST_CASE("reload: of two outdated forms the later one goes on sending") {
  GatewayOptions before = gateway_a();
  before.children[0].esp_proposal = "aes256gcm16,aes128gcm16";
  GatewayOptions changed = before, changed_again = before;
  changed.children[0].esp_proposal = "aes128gcm16";
  changed_again.children[0].esp_proposal = "aes256gcm16-x25519";
  ike::Tuning tuning;
  tuning.replaced_sa_linger = seconds(1);
  Ladder ladder(before, mirrored(before), tuning);
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kB);
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder.pass(milliseconds(1));
  ladder.world.reconfigure(kA, changed);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  const auto later_one = ladder.gateway(kA).data_plane.outbound_of(0)->sa.spi;
  ladder.world.reconfigure(kA, changed_again);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");  // b does not know that form yet
  ladder.pass(seconds(1));
  ladder("b --> a  INFORMATIONAL request");
  // a's Delete of the rekeyed one is planned since the later one stands.
  CHECK(ladder.gateway(kA).data_plane.outbound_of(0)->sa.spi == later_one);
  ladder.settle(5);
  CHECK(ladder.gateway(kA).data_plane.outbound_of(0)->sa.spi == later_one);
  ladder.world.reconfigure(kB, mirrored(changed_again));
  ladder.settle(100);
  ladder.converged();
}

TEST_CASE("reload: a child about to be made anew is not rekeyed into a second one") {
  GatewayOptions changed = gateway_a();
  changed.children[0].local_ts = "10.1.0.0/25";
  const int side = GENERATE(kA, kB);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.reconfigure(kA, changed);
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder.rekey(side);
  ladder.settle(60);
  ladder.converged();
}

/// Three that keep their identifiers wherever they stand.
GatewayOptions three_children() {
  GatewayOptions options = two_children();
  ChildOptions third = options.children.front();
  third.name = "guest";
  third.local_ts = "10.1.2.0/24";
  third.remote_ts = "10.2.2.0/24";
  options.children.push_back(third);
  for (std::uint32_t number = 0; number < 3; ++number) options.children[number].number = number;
  return options;
}

std::map<std::string, channel::Spi> inbound_spis(Ladder& ladder, int side) {
  std::map<std::string, channel::Spi> spis;
  for (const auto& child : ladder.ike_sa(side).children) spis[child.name] = child.inbound;
  return spis;
}

TEST_CASE(
    "reload: a child in front of others goes, one comes, all change places: each keeps its SAs") {
  GatewayOptions options = three_children();
  Ladder ladder(options);
  for (const char* name : {"office", "lab", "guest"}) ladder.initiate(kA, name);
  ladder.settle();
  ladder.converged(3);
  auto spis = inbound_spis(ladder, kA);
  spis.erase("office");

  options.children.erase(options.children.begin());
  ladder.world.reconfigure(kA, options);
  later(ladder, 5);
  CHECK(inbound_spis(ladder, kA) == spis);
  CHECK(inbound_spis(ladder, kB).size() == 2);  // the peer was told
  ladder.world.reconfigure(kB, mirrored(options));
  later(ladder, 5);
  for (const std::uint32_t stays : {1U, 2U}) CHECK(ladder.world.why_not_usable(stays) == "");
  CHECK(ladder.gateway(kA).data_plane.sas.size() == 4);

  ChildOptions fresh = three_children().children[0];
  fresh.name = "new";
  fresh.number = 3;
  fresh.start_action = StartAction::start;
  options.children.insert(options.children.begin(), fresh);
  ladder.world.reconfigure(kB, mirrored(options));
  ladder.world.reconfigure(kA, options);
  later(ladder, 5);
  CHECK(ladder.world.why_not_usable(3) == "");
  spis["new"] = inbound_spis(ladder, kA).at("new");
  CHECK(inbound_spis(ladder, kA) == spis);

  std::ranges::reverse(options.children);
  ladder.world.reconfigure(kA, options);
  ladder.world.reconfigure(kB, mirrored(options));
  ladder.silent();
  later(ladder, 30);
  CHECK(inbound_spis(ladder, kA) == spis);
  for (const std::uint32_t stays : {1U, 2U, 3U}) CHECK(ladder.world.why_not_usable(stays) == "");
  CHECK(ladder.reported(kA, "child_rekeyed") == 0);
}

TEST_CASE("reload: a connection that comes again while its old IKE SA ends comes up by itself") {
  GatewayOptions starting = gateway_a(), none = gateway_a();
  starting.children[0].start_action = StartAction::start;
  none.name = "other";
  none.children[0].number = 7;
  Ladder ladder(starting, mirrored(gateway_a()));
  ladder.connect();
  const auto before = ladder.ike_sa(kA).initiator_spi;
  ladder.rekey(kA);  // an exchange is open: the old one cannot be deleted yet
  ladder.world.reconfigure(kA, none);
  ladder.world.reconfigure(kA, starting);
  later(ladder, 120);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).initiator_spi != before);
}

TEST_CASE("reload: children may move, what was bound needs a restart") {
  const config::Config running = simulation::make_config(two_children());
  CHECK(ike::needs_restart(running, simulation::make_config(two_children())).empty());
  CHECK(ike::needs_restart(running, simulation::make_config(gateway_a())).empty());
  GatewayOptions swapped = two_children();
  std::swap(swapped.children[0], swapped.children[1]);
  CHECK(ike::needs_restart(running, simulation::make_config(swapped)).empty());
  config::Config elsewhere = simulation::make_config(two_children());
  elsewhere.instance = "other";
  elsewhere.user = "nobody";
  elsewhere.metrics.ike_listen = wire::Endpoint{*wire::IpAddress::parse("127.0.0.1"), 9999};
  CHECK(ike::needs_restart(running, elsewhere).size() == 3);
  // What the data plane refuses this daemon does not do alone.
  config::Config at_first = running;
  at_first.dataplane.interfaces.resize(1);
  config::Config larger = at_first, moved = at_first;
  larger.dataplane.limits.sas += 1;
  CHECK(ike::needs_restart(at_first, larger) ==
        std::vector<std::string>{"dataplane.limits.sas changed from " +
                                 std::to_string(larger.dataplane.limits.sas - 1) + " to " +
                                 std::to_string(larger.dataplane.limits.sas)});
  moved.dataplane.interfaces[0].addresses = {wire::Prefix::parse("203.0.113.1/24").value()};
  CHECK(ike::needs_restart(at_first, moved).empty());
  moved.dataplane.interfaces[0].mtu = 1400;
  moved.dataplane.interfaces[0].name = "uplink";
  moved.dataplane.interfaces.push_back(moved.dataplane.interfaces[0]);
  moved.dataplane.interfaces[1].vlan = {{100, 0}};
  CHECK(ike::needs_restart(at_first, moved).empty());
  moved.dataplane.interfaces[1].device = "net_af_packet7,iface=eth7";
  CHECK(ike::needs_restart(at_first, moved).size() == 1);
  const std::vector<std::string> devices{"net_af_packet7,iface=eth7"};
  CHECK(ike::needs_restart(at_first, moved, devices).empty());
}

}  // namespace
}  // namespace culvert::ladder
