// ESP that is under way while an end of its tunnel moves (RFC 4555).
#include <algorithm>
#include <string>

#include <catch2/catch.hpp>
#include <rte_cycles.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// The right gateway's: in the SA, and another.
const std::string kBefore = "198.51.100.2", kAfter = "10.2.0.1";
const std::string kLeftEnd = "198.51.100.1", kElsewhere = "198.51.100.77";

/// The same ESP between other addresses.
Packet between(Packet sealed, const std::string& source, const std::string& destination) {
  const auto put = [&](std::size_t at, const std::string& address) {
    const wire::IpAddress parsed = wire::IpAddress::parse(address).value();
    std::ranges::copy(parsed.view(), sealed.begin() + 14 + static_cast<std::ptrdiff_t>(at));
  };
  put(wire::ipv4::kSource, source);
  put(wire::ipv4::kDestination, destination);
  fix_checksum(sealed);
  return sealed;
}

/// As MOBIKE moves the right one's inbound SA.
void move_right(Pair& pair, const std::string& local, const std::string& remote) {
  Sad& sad = *pair.right.tables().sad;
  channel::UpdateEndpoints moved;
  moved.sa = pair.in_id;
  moved.local = sad.find(pair.in_id)->spec.local;
  moved.remote = sad.find(pair.in_id)->spec.remote;
  moved.local.address = wire::IpAddress::parse(local).value();
  moved.remote.address = wire::IpAddress::parse(remote).value();
  REQUIRE(sad.update_endpoints(moved) == channel::Outcome::ok);
}

Pair pair_with(bool udp) {
  SaOptions options;
  options.udp = udp;
  return Pair({}, options);
}

}  // namespace

TEST_CASE("moved: what the peer sent to our address before arrives (RFC 4555 §3.5)") {
  const bool udp = GENERATE(false, true);
  Pair pair = pair_with(udp);
  const std::vector<Packet> under_way = {pair.sealed(), pair.sealed()};
  move_right(pair, kAfter, kLeftEnd);
  CHECK(pair.right.receive(kWan, under_way).lan.size() == 2);
  CHECK(pair.right.receive(kWan, between(pair.sealed(), kLeftEnd, kAfter)).lan.size() == 1);
  CHECK(pair.traffic().packets == 3);
}

TEST_CASE("moved: a peer that moves us may send there before we have checked it (RFC 4555 §3.5)") {
  const bool udp = GENERATE(false, true);
  Pair pair = pair_with(udp);
  // With an address of its own that we have not been told of.
  CHECK(pair.right.receive(kWan, between(pair.sealed(), kElsewhere, kAfter)).lan.size() == 1);
  CHECK(pair.right.receive(kWan, pair.sealed()).lan.size() == 1);
}

TEST_CASE("moved: what comes to another address of ours does not say where the peer is") {
  const bool udp = GENERATE(false, true);
  Pair pair = pair_with(udp);
  CHECK(pair.right.receive(kWan, between(pair.sealed(), kElsewhere, kAfter)).lan.size() == 1);
  CHECK(rte_ring_count(pair.right.hints()) == 0);
  // To the one in use it does, as ever.
  CHECK(pair.right.receive(kWan, between(pair.sealed(), kElsewhere, kBefore)).lan.size() == 1);
  CHECK(rte_ring_count(pair.right.hints()) == 1);
}

TEST_CASE("moved: who sends from elsewhere for good is told of once a second, not by each packet") {
  Pair pair = pair_with(true);
  const auto send_from = [&](const std::string& source) {
    return pair.right.receive(kWan, between(pair.sealed(), source, kBefore)).lan.size();
  };
  CHECK(send_from(kElsewhere) == 1);
  CHECK(send_from("198.51.100.78") == 1);
  CHECK(send_from(kElsewhere) == 1);
  CHECK(rte_ring_count(pair.right.hints()) == 1);
  // As if the second were over.
  const SaRecord& record = *pair.right.tables().sad->find(pair.in_id);
  InboundSa& sa = *pair.right.tables().sad->inbound(static_cast<std::uint32_t>(record.spec.spi));
  sa.details->moved_hint_tsc -= rte_get_tsc_hz();
  CHECK(send_from(kElsewhere) == 1);
  CHECK(send_from(kElsewhere) == 1);
  CHECK(rte_ring_count(pair.right.hints()) == 2);
}

TEST_CASE("moved: a hint for which there was no place is not the last one for a second") {
  Pair pair = pair_with(false);
  PeerMovedHint other;
  while (rte_ring_sp_enqueue_elem(pair.right.hints(), &other, sizeof(other)) == 0) {
  }
  const auto send = [&] {
    return pair.right.receive(kWan, between(pair.sealed(), kElsewhere, kBefore)).lan.size();
  };
  CHECK(send() == 1);
  PeerMovedHint hint;
  while (rte_ring_sc_dequeue_elem(pair.right.hints(), &hint, sizeof(hint)) == 0) {
    CHECK(hint.sa == 0);
  }
  CHECK(send() == 1);
  CHECK(rte_ring_count(pair.right.hints()) == 1);
}

TEST_CASE("moved: there too a packet is taken once, and only when it is authentic") {
  Pair pair;
  const Packet sealed = between(pair.sealed(), kLeftEnd, kAfter);
  Packet forged = sealed;
  forged.back() ^= 1U;
  CHECK(pair.right.receive(kWan, forged).dropped(DropReason::icv_mismatch) == 1);
  CHECK(pair.right.receive(kWan, sealed).lan.size() == 1);
  CHECK(pair.right.receive(kWan, sealed).dropped(DropReason::replay_duplicate) == 1);
  CHECK(pair.right.receive(kWan, between(sealed, kLeftEnd, kBefore))
            .dropped(DropReason::replay_duplicate) == 1);
}

TEST_CASE("moved: an address that is not ours is not the SA's, whatever its SPI") {
  Pair pair;
  const Result result = pair.right.receive(kWan, between(pair.sealed(), kLeftEnd, "198.51.100.77"));
  CHECK(result.lan.empty());
  CHECK(result.dropped(DropReason::no_policy_match) == 1);
  CHECK(pair.traffic().packets == 0);
}

TEST_CASE("moved: in transport mode the destination is the packet's own, and no other is taken") {
  SaOptions options;
  options.mode = channel::SaMode::transport;
  options.local_selectors = {"198.51.100.1/32"};
  options.remote_selectors = {"0.0.0.0/0"};
  Pair pair({}, options);
  const Packet inner = echo_request(kLeftEnd, kBefore);
  const Result sent = pair.left.inject(inner, {InjectKind::outbound_local, kWan, false});
  REQUIRE(sent.wan.size() == 1);
  const Result result = pair.right.receive(kWan, between(sent.wan[0], kLeftEnd, kAfter));
  CHECK(result.dropped(DropReason::sa_endpoint_mismatch) == 1);
  CHECK(pair.traffic().packets == 0);
  static_cast<void>(pair.right.receive(kWan, sent.wan[0]));
  CHECK(pair.traffic().packets == 1);
}
