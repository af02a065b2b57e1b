// The first rekey of a child, rehearsed while somebody still looks.
#include <deque>
#include <map>

#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

GatewayOptions rehearsing(const std::string& esp_proposal) {
  GatewayOptions options = gateway_a();
  options.children[0].esp_proposal = esp_proposal;
  options.children[0].rehearse_rekey = true;
  return options;
}

std::size_t child_rekeys(Ladder& ladder, int side) {
  return ladder.reported(side, "child_rekeyed");
}

}  // namespace

TEST_CASE("rehearsal: a child of IKE_AUTH is rekeyed within five seconds, by its initiator alone") {
  Ladder ladder(rehearsing("aes256gcm16-x25519"));
  ladder.initiate(kA);
  ladder.run();
  ladder.expect_no_loss();
  ladder.pass(milliseconds(2900));
  ladder.silent();
  ladder.pass(milliseconds(2200));
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder.run();
  ladder.pass(seconds(10));
  ladder.run();
  ladder.converged();
  CHECK(ladder.ike_sa(kA).children.front().pfs_group == "x25519");
  CHECK_FALSE(ladder.connection(kA).last_failure);
  ladder.pass(seconds(600));
  ladder.silent();
  CHECK(child_rekeys(ladder, kA) == 1);
  CHECK(child_rekeys(ladder, kB) == 1);
}

TEST_CASE("rehearsal: a PFS mismatch shows at once, once, and the child goes on") {
  const bool ours = GENERATE(true, false);
  GatewayOptions a = rehearsing(ours ? "aes256gcm16-x25519" : "aes256gcm16");
  GatewayOptions b = mirrored(rehearsing(ours ? "aes256gcm16" : "aes256gcm16-x25519"));
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  ladder.expect_no_loss();
  ladder.pass(milliseconds(5100));
  ladder.run();
  for (const int side : {kA, kB}) {
    CHECK(ladder.connection(side).last_failure == Failure::pfs_mismatch);
    CHECK(ladder.connection(side).fails_while_up);
    CHECK(ladder.connection(side).last_failure_child == "office");
  }
  ladder.pass(seconds(600));
  ladder.silent();
  CHECK(ladder.reported(kA, "negotiation_failed") == 1);
  CHECK(ladder.reported(kB, "negotiation_failed") == 1);
  ladder.converged();
}

TEST_CASE("rehearsal: a responder rehearses beside an initiator that does not") {
  const std::string theirs = GENERATE("aes256gcm16-x25519", "aes256gcm16");
  GatewayOptions a = rehearsing(theirs);
  a.children[0].rehearse_rekey = false;
  Ladder ladder(a, mirrored(rehearsing("aes256gcm16-x25519")));
  ladder.initiate(kA);
  ladder.run();
  ladder.expect_no_loss();
  ladder.pass(milliseconds(8900));
  ladder.silent();
  ladder.pass(milliseconds(6200));
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder.settle(10);
  const bool agree = theirs == "aes256gcm16-x25519";
  CHECK(child_rekeys(ladder, kB) == (agree ? 1 : 0));
  CHECK(ladder.reported(kB, "negotiation_failed") == (agree ? 0 : 1));
  if (!agree) CHECK(ladder.connection(kB).last_failure == Failure::pfs_mismatch);
  ladder.converged();
  ladder.pass(seconds(600));
  ladder.silent();
}

TEST_CASE("rehearsal: none when it is off, when a rekey comes soon, or after a rekey") {
  GatewayOptions a = rehearsing("aes256gcm16-x25519");
  SECTION("off") { a.children[0].rehearse_rekey = false; }
  SECTION("no rekey at all") { a.children[0].rekey_time = seconds(0); }
  SECTION("childless: the child had its own key exchange") {
    a.childless = config::Childless::force;
  }
  Ladder ladder(a, mirrored(a));
  ladder.initiate(kA);
  ladder.run();
  ladder.pass(seconds(20));
  ladder.silent();
  CHECK(child_rekeys(ladder, kA) == 0);
}

TEST_CASE("rehearsal: what was rekeyed or deleted meanwhile is not rehearsed") {
  Ladder ladder(rehearsing("aes256gcm16-x25519"));
  ladder.initiate(kA);
  ladder.run();
  SECTION("rekeyed by the peer") {
    ladder.rekey(kB);
    ladder.run();
    ladder.pass(seconds(20));
    ladder.run();
    CHECK(child_rekeys(ladder, kA) == 1);
    ladder.converged();
  }
  SECTION("deleted") {
    ladder.world.command(kB, CommandVerb::terminate, "office");
    ladder.run();
    ladder.pass(seconds(20));
    CHECK(ladder.on_the_wire().find("CREATE_CHILD_SA") == std::string::npos);
  }
}

TEST_CASE("rehearsal: those of hundreds of tunnels that came up at once are spread over seconds") {
  constexpr std::size_t kPeers = 400;
  // Given a hub that any peer may come to, and peers that rehearse nothing
  GatewayOptions hub = rehearsing("aes256gcm16");
  hub.remote_address.clear();
  hub.remote_id = "%any";
  hub.children.front().remote_ts = "10.2.0.0/16";
  std::vector<simulation::Site> sites{{hub}};
  for (std::size_t i = 0; i < kPeers; ++i) {
    const std::string place = std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
    GatewayOptions peer = mirrored(gateway_a());
    peer.address = "10.99." + place;
    peer.id = "peer" + std::to_string(i) + ".example.org";
    peer.children.front().local_ts = "10.2." + place + "/32";
    sites.push_back({peer});
  }
  simulation::World world(sites, 1, without_linger());
  std::deque<Flying> wire;
  std::map<std::int64_t, std::size_t> begun;  // rekeys of the hub's, by the second
  world.send = [&](Flying datagram) {
    const auto header = simulation::header_of(datagram);
    if (datagram.from == 0 && !header.response &&
        header.exchange == wire::ike::ExchangeType::create_child_sa) {
      ++begun[std::chrono::floor<seconds>(world.now).count()];
    }
    wire.push_back(std::move(datagram));
  };
  const auto run = [&] {
    for (; !wire.empty(); wire.pop_front()) {
      const Flying datagram = wire.front();
      world.deliver(datagram);
    }
  };
  for (std::size_t i = 1; i <= kPeers; ++i) {
    world.command(static_cast<int>(i), CommandVerb::initiate, "office");
  }
  run();
  // When half a minute has passed
  for (int tenth = 0; tenth < 300; ++tenth) {
    world.run_timers(world.now + milliseconds(100));
    run();
  }
  // Then each was rehearsed once, and no second had more than a fifth of them
  std::size_t all = 0;
  for (const auto& [second, count] : begun) {
    INFO("second " << second);
    CHECK(count <= kPeers / 5);
    all += count;
  }
  CHECK(all == kPeers);
}

}  // namespace culvert::ladder
