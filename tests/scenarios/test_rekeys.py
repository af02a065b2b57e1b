"""Many rekeys under a steady ping whose every packet is followed: beside strongSwan, who begins
alternating, and both at the same moment. `scripts/rekeys` does the same for as long as one likes."""

import pytest

from harness.configuration import SIDE_A, write_secret
from harness.impairment import Faults
from harness.pair import CulvertPair, Pair, quick
from harness.rekeys import under_traffic
from harness.shell import wait_until


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


def with_room_for_two_pairs(bed):
    """Outbound SAs that nobody uses take the rest; inbound SPIs are there in plenty."""
    configuration = bed.configuration("a", quick()[0])
    configuration["dataplane"]["limits"] = {"sas": 64, "policies": 256}
    key = write_secret(bed.directory / "manual.key", "5a" * 36)
    configuration["manual_sas"] = [
        {"name": f"other-{i}", "direction": "out", "spi": f"0x{0x1000 + i:08x}", "mode": "tunnel",
         "local": SIDE_A.wan_address, "remote": "192.0.2.77", "local_ts": [f"10.77.{i}.0/24"],
         "remote_ts": [f"10.78.{i}.0/24"], "suite": "aes256gcm16", "esn": True, "key_file": str(key)}
        for i in range(62)]
    return configuration


@pytest.mark.parametrize("kind", [CulvertPair, Pair], ids=["culvert", "strongswan"])
def test_our_data_plane_has_no_room_for_the_pair_of_the_peers_rekey(bed, kind):
    """Our answer is on its way by then. A Delete with NO_ADDITIONAL_SAS follows: a gateway of ours takes
    the old pair back and loses nothing; strongSwan takes no notice of the notify (RFC 7296 §3.10.1), and
    we begin the child anew when the SAs before have had their grace."""
    options, peer = quick()
    pair = kind(bed, peer=options if kind is CulvertPair else peer,
                configuration=with_room_for_two_pairs(bed))
    pair.initiate("culvert")
    pair.wait_until_mirrored()
    first = pair.child_spi()
    steady = pair.ping_steadily()
    steady.wait_for_replies(20)
    pair.rekey("peer")
    wait_until(lambda: pair.child_spi() not in (None, first), 8, "the second pair")
    second = pair.child_spi()
    # When the peer wants a third while the first has its grace
    pair.rekey("peer")
    wait_until(lambda: "no_room" in pair.gateway.logs()["hq-culvert-ike.log"], 8, "the refusal")
    # Then there is one pair at both ends, with traffic in it
    if kind is CulvertPair:
        wait_until(pair.mirrored, 20, "one pair at both ends")
    else:
        # The fourth. Where its Delete of the second met ours of the third, strongSwan may list one of
        # them as long as it likes.
        wait_until(lambda: pair.gateway.logs()["hq-culvert-ike.log"].count("child_established ") > 3,
                   20, "the child made anew")
    steady.wait_for_replies(20)
    lost = steady.stop().lost_packets
    if kind is CulvertPair:
        assert pair.child_spi() == second and lost == []
        assert "dataplane_refused: net, SPI" in pair.gateway.text("status")
