"""Many rekeys under a steady ping whose every packet is followed: beside strongSwan, who begins
alternating, and both at the same moment. `scripts/rekeys` does the same for as long as one likes."""

import pytest

from harness.impairment import Faults
from harness.pair import Pair, quick
from harness.rekeys import under_traffic


def begun_by(who, bed):
    """Who began the IKE SA is its initiator, whoever rekeys the children."""
    pair = Pair(bed, *quick())
    pair.initiate(who)
    pair.wait_until_mirrored()
    return pair


@pytest.mark.long
@pytest.mark.parametrize("who_began, seconds, kinds", [
    ("culvert", 14, {"child by culvert", "child by peer", "ike_sa by culvert"}),
    ("strongswan", 7, {"child by culvert", "child by peer"}),
], ids=["culvert", "strongswan"])
def test_rekeys_every_other_second_lose_nothing(bed, who_began, seconds, kinds):
    outcome = under_traffic(begun_by(who_began, bed), lambda rekeying: rekeying.run(seconds))
    assert outcome.faults() == [], outcome
    assert kinds <= set(outcome.rekeys)


@pytest.mark.long
@pytest.mark.parametrize("what, who_began", [
    ("child", "culvert"), ("child", "strongswan"), ("ike_sa", "strongswan")])
def test_crossing_rekeys_end_in_one_pair_and_lose_nothing(bed, relay, what, who_began):
    """RFC 7296 §2.8.1, §2.8.2: a wire of 20 ms lets both begin before either hears of the other."""
    pair, crossed = begun_by(who_began, bed), []
    relay.faults = Faults(delay=0.02)

    def cross(rekeying):
        crossed.append(rekeying.crossing(what, rounds=10))

    outcome = under_traffic(pair, cross, apart=0.02)
    assert outcome.faults() == [], outcome
    assert crossed[0] >= 3, "hardly ever had both begun"
    assert len(pair.gateway.ike_sas()) == len(pair.peer.sas()) == 1
    assert pair.ike_spi() and pair.mirrored()


@pytest.mark.long
def test_the_child_is_rekeyed_against_the_ike_sa(bed, relay):
    """RFC 7296 §2.25: who comes too early is told to try again, and does so; traffic goes on."""
    pair = Pair(bed, *quick()).up()
    relay.faults = Faults(delay=0.02)
    outcome = under_traffic(pair, lambda rekeying: rekeying.opposed(rounds=4), apart=0.02)
    assert outcome.faults() == [], outcome
    assert outcome.events["child_rekeyed"] and outcome.events["ike_sa_rekeyed"]
    assert pair.ike_spi() and pair.mirrored()
