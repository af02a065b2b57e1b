// Post-quantum pre-shared keys (RFC 8784): who has one, who insists.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

struct Ends {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  Ends(const std::string& ours, bool ours_required, const std::string& theirs,
       bool theirs_required) {
    a.ppk_id = ours;
    a.ppk_required = ours_required;
    b.ppk_id = theirs;
    b.ppk_required = theirs_required;
  }
};

void comes_up(const Ends& ends, bool mixed) {
  Ladder ladder(ends.a, ends.b);
  ladder.connect();
  ladder.converged();
  for (const int side : {kA, kB}) CHECK(ladder.ike_sa(side).post_quantum == mixed);
  ladder.rekey_ike(kB);
  ladder.run();
  ladder.rekey(kA);
  ladder.run();
  ladder.pass(seconds(60));
  ladder.run();
  ladder.converged();
  for (const int side : {kA, kB}) CHECK(ladder.ike_sa(side).post_quantum == mixed);
}

void fails(const Ends& ends, Failure at_a, std::optional<Failure> at_b) {
  Ladder ladder(ends.a, ends.b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == at_a);
  CHECK(ladder.connection(kB).last_failure == at_b);
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
}

}  // namespace

TEST_CASE("post-quantum key: the same on both sides is mixed in, required or not") {
  for (const bool ours : {true, false}) {
    for (const bool theirs : {true, false}) comes_up(Ends("shared", ours, "shared", theirs), true);
  }
}

TEST_CASE("post-quantum key: an optional one that the peer lacks is left out (NO_PPK_AUTH)") {
  comes_up(Ends("shared", false, "", false), false);
  comes_up(Ends("", false, "shared", false), false);
  comes_up(Ends("shared", false, "another", false), false);
}

TEST_CASE("post-quantum key: a required one that the peer lacks ends the negotiation") {
  using enum Failure;
  fails(Ends("shared", true, "", false), post_quantum_mismatch, std::nullopt);
  fails(Ends("", false, "shared", true), authentication_failed_remote, post_quantum_mismatch);
  fails(Ends("shared", true, "another", false), authentication_failed_remote,
        post_quantum_mismatch);
  fails(Ends("shared", false, "another", true), authentication_failed_remote,
        post_quantum_mismatch);
}

TEST_CASE("post-quantum key: the same name and another key prove nothing") {
  Ends ends("shared", false, "shared", false);
  ends.b.ppk = "somebody else's thirty-two octets";
  fails(ends, Failure::authentication_failed_remote, Failure::authentication_failed_local);
}

TEST_CASE("post-quantum key: one whose file is not there is as none") {
  Ends ends("shared", false, "shared", false);
  ends.b.ppk = "";
  comes_up(ends, false);
}

}  // namespace culvert::ladder
