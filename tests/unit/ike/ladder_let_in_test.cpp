// Whose next message the data plane is told to let in before those of strangers
// (docs/decisions/0011).
#include <set>

#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

std::uint64_t let_in_by(const Ladder& ladder) {
  REQUIRE(ladder.wire.size() == 1);
  return ladder.wire.front().ike_spi;
}

TEST_CASE("let in: whom we began with, and who has proven who it is") {
  Ladder ladder;
  ladder.initiate(kA);
  const std::uint64_t spi_of_a = simulation::header_of(ladder.wire.at(0)).initiator_spi;
  CHECK(let_in_by(ladder) == spi_of_a);
  ladder("a --> b  IKE_SA_INIT request");
  CHECK(let_in_by(ladder) == 0);
  ladder("b --> a  IKE_SA_INIT response");
  const std::uint64_t spi_of_b = simulation::header_of(ladder.wire.at(0)).responder_spi;
  CHECK(let_in_by(ladder) == spi_of_a);
  ladder("a ==> b  IKE_AUTH request");
  std::erase_if(ladder.wire, [](const Flying& datagram) { return datagram.from == kA; });
  CHECK(let_in_by(ladder) == spi_of_b);
  ladder("b --> a  IKE_AUTH response");
  ladder.silent();
}

TEST_CASE("let in: not who could not prove it, however often it asks") {
  GatewayOptions a = gateway_a();
  GatewayOptions b = mirrored(a);
  b.psk = "something else";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a ==> b  IKE_AUTH request");
  ladder("a --> b  IKE_AUTH request");
  REQUIRE(ladder.wire.size() == 2);
  for (const Flying& datagram : ladder.wire) CHECK(datagram.ike_spi == 0);
  ladder.run();
}

TEST_CASE("let in: the peer of a rekeyed IKE SA comes by the new one from the first message on") {
  Ladder ladder;
  ladder.connect();
  const auto spis_of = [&](int side) {
    std::set<std::uint64_t> spis;
    for (const ike::IkeSaStatus& one : ladder.gateway(side).machine->ike_sas(ladder.world.now)) {
      spis.insert(one.initiator ? one.initiator_spi : one.responder_spi);
    }
    return spis;
  };
  const auto before_a = spis_of(kA), before_b = spis_of(kB);
  ladder.rekey_ike(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  const std::uint64_t next_of_b = let_in_by(ladder);
  CHECK_FALSE(before_b.contains(next_of_b));
  CHECK(spis_of(kB).contains(next_of_b));
  ladder("b --> a  CREATE_CHILD_SA response");
  const std::uint64_t next_of_a = let_in_by(ladder);  // with the Delete of the old one
  CHECK_FALSE(before_a.contains(next_of_a));
  CHECK(spis_of(kA).contains(next_of_a));
  ladder.run();
}

}  // namespace
}  // namespace culvert::ladder
