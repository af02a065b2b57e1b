"""Manual SAs between two gateways of ours: numbers that begin near 2^32, and tunnels that lead in a circle."""

import re

import pytest

from harness.configuration import SIDE_A, SIDE_B, write_secret
from harness.reloads import reload
from harness.shell import wait_until
from harness.traffic import SteadyPing, ping

OVER = 2 ** 32
KEYS = ("00" * 16 + "01020304", "11" * 16 + "01020304")  # a to b, b to a
ELSEWHERE = "10.77.0.0/16"  # behind neither


def manual_sas(bed, letter, near, far, family=4, **options):
    """Both directions of a pair, as gateway `letter` writes them: from networks near it to those far of it."""
    local, remote = (SIDE_A, SIDE_B) if letter == "a" else (SIDE_B, SIDE_A)
    forth, back = (0, 1) if letter == "a" else (1, 0)
    keys = [write_secret(bed.directory / f"manual-{number}.key", key)
            for number, key in enumerate(KEYS)]
    common = {"name": "pair", "local": local.wan_address_of(family),
              "remote": remote.wan_address_of(family), "suite": "aes128gcm16", **options}
    return [{**common, "direction": "out", "local_ts": [near], "remote_ts": [far],
             "spi": 0x1000 + forth, "key_file": str(keys[forth])},
            {**common, "direction": "in", "spi": 0x1000 + back, "key_file": str(keys[back])}]


def two_gateways(bed, of):
    """Without key daemons. `of`: the SAs of a letter."""
    gateways = {}
    for letter in "ab":
        configuration = bed.configuration(letter)
        configuration["manual_sas"] = of(letter)
        gateways[letter] = bed.add_gateway(letter, configuration, start=False)
        gateways[letter].start_dataplane()
    bed.topology.wait_until_up()
    return gateways["a"], gateways["b"]


@pytest.mark.parametrize("outer,inner", [(4, 4), (6, 6), (4, 6)],
                         ids=["4in4", "6in6", "6in4"])
def test_numbers_go_over_two_to_the_32_under_traffic_without_loss(bed, outer, inner):
    """RFC 4303 §2.2.1, appendix A2: either side tells the high half, which is not sent."""
    # Given SAs with extended numbers that begin a few hundred below
    first = OVER - 300

    def sas(letter):
        near, far = SIDE_A.network(inner), SIDE_B.network(inner)
        if letter == "b":
            near, far = far, near
        entries = manual_sas(bed, letter, near, far, outer, esn=True, first_sequence=first)
        entries[1].update(local_ts=[near], remote_ts=[far], replay_window=64)
        return entries

    a, b = two_gateways(bed, sas)
    # When a client's packets go over it, steady ones and a flood beside them
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(inner), bed.directory)
    assert bed.ping(inner, count=800, interval=0.002).lost() == []
    steady.wait_for_replies(30)
    # Then nothing is lost, dropped or late
    assert steady.stop().lost_packets == []
    for gateway in (a, b):
        assert gateway.drops() == {}
        for sa in gateway.sas()["sas"]:
            assert sa["sequence"] - first + 1 >= sa["packets"] > 800
            assert sa["sequence"] > OVER + 500, "the number is counted on, in all its bits"


def test_a_circle_of_tunnels_ends_by_the_hop_limit_and_is_counted(bed):
    """RFC 1812 §5.3.1: a hop a gateway, inside of the tunnels (RFC 4301 §5.1.2.1), so that it ends."""
    # Given two gateways each of which has the other's SA for the same network
    def sas(letter):
        entries = manual_sas(bed, letter, "10.0.0.0/8", ELSEWHERE)
        entries[1].update(local_ts=[ELSEWHERE], remote_ts=["10.0.0.0/8"])
        return entries

    a, b = two_gateways(bed, sas)
    hops, count = 21, 5
    # When a client sends there
    with bed.capture() as capture:
        result = ping(bed["client-a"], "10.77.0.1", count=count, wait=0.5, extra=("-t", str(hops)))
        wait_until(lambda: a.drops().get("ttl_exceeded") == count, 5, "the packets' end")
    # Then each packet ends at the gateway where its last hop is, which is the first one
    assert result.received == set()
    assert a.drops() == {"ttl_exceeded": count}
    assert b.drops() == {}
    spis = [frame.spi for frame in capture.frames() if frame.kind == "esp"]
    assert len(spis) == count * (hops - 1)
    assert spis.count(0x1000) == spis.count(0x1001)


def test_numbers_go_on_behind_those_before_when_an_sa_changes_under_traffic(bed):
    """RFC 4303 §3.3.3, §3.4.3: the peer, which knows of no change, has no number twice."""
    def sas(letter):
        near, far = SIDE_A.network(), SIDE_B.network()
        if letter == "b":
            near, far = far, near
        entries = manual_sas(bed, letter, near, far)
        entries[1].update(local_ts=[near], remote_ts=[far], replay_window=1024)
        return entries

    a, b = two_gateways(bed, sas)
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    steady.wait_for_replies(20)
    # When the SA that sends changes, twice
    first = 1
    for hop_limit in (9, 10):
        a.configuration["manual_sas"][0]["hop_limit"] = hop_limit
        before = len(a.dataplane.text())
        reload(a, dataplane_only=True)
        said = a.dataplane.text()[before:]
        # Then the log says where the next one begins
        continued = re.search(r"manual_sa_continued name=pair direction=out first_sequence=(\d+)", said)
        assert continued, said
        assert int(continued[1]) > first
        first = int(continued[1])
        steady.wait_for_replies(20)
        sending = next(sa for sa in a.sas()["sas"] if sa["direction"] == "out")
        assert sending["sequence"] >= first
    # and nothing is lost or taken for a packet that was there before
    assert steady.stop().lost_packets == []
    assert a.drops() == b.drops() == {}
