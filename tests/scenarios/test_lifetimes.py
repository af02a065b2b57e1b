"""Lifetimes in bytes and packets (RFC 4301 §4.4.2.1): the data plane counts, tells the key daemon,
which rekeys; at the hard limit the SA carries not one packet more, and nothing leaves in clear."""

import collections

import pytest

from harness.capture import WireContents
from harness.configuration import SIDE_B, TunnelOptions
from harness.shell import wait_until
from harness.traffic import SteadyPing

INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}
PING_BYTES = 84  # an IPv4 header, ICMP's eight bytes, 56 of payload


def tunnel(bed, **child_options):
    a, b = bed.two_gateways(TunnelOptions(child_options=child_options))
    a.culvert("initiate", "net")
    b.wait_for_child()
    return a, b


def packets_by_spi(capture):
    spis = collections.Counter(frame.spi for frame in capture.frames() if frame.kind == "esp")
    assert WireContents(capture.frames(), INNER).unexpected() == {}
    return spis


LIMITS = {
    "packets": lambda soft, hard: {"rekey_packets": soft, "life_packets": hard},
    "bytes": lambda soft, hard: {"rekey_bytes": f"{soft * PING_BYTES}B",
                                 "life_bytes": f"{hard * PING_BYTES}B"},
}


@pytest.mark.long
@pytest.mark.parametrize("unit", LIMITS)
def test_a_soft_limit_rekeys_without_a_lost_packet(bed, unit):
    # Given a child whose SAs are to be replaced after 150 packets, long before they end
    a, b = tunnel(bed, **LIMITS[unit](150, 5000))
    spis = {a.child()["spi_out"]}
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)

    # When traffic goes on, then new SAs come again and again
    def third_rekey():
        spis.update(child["spi_out"] for child in a.children())
        return len(spis) >= 4

    wait_until(third_rekey, 60, "three rekeys by traffic", 0.05)
    assert steady.stop().lost_packets == []
    assert a.drops().get("sa_expired", 0) == 0 and b.drops().get("sa_expired", 0) == 0


@pytest.mark.parametrize("unit", LIMITS)
def test_not_one_packet_more_than_the_hard_limit(bed, unit):
    """Nobody rekeys: the key daemons are gone before the soft limit."""
    a, b = tunnel(bed, **LIMITS[unit](50, 120))
    spi = int(a.child()["spi_out"], 16)
    for gateway in (a, b):
        gateway.kill_ike()
    with bed.capture() as capture:
        result = bed.ping(count=200, interval=0.01, wait=0.5)
    assert packets_by_spi(capture)[spi] == 120
    assert result.received == set(range(1, 121)), "up to the limit everything arrives"
    assert a.drops() == {"sa_expired": 80}


def test_a_burst_beyond_the_hard_limit_gets_new_sas(bed):
    """Faster than a rekey: what the old SA may not carry waits or is dropped, then goes on anew."""
    a, _ = tunnel(bed, rekey_packets=60, life_packets=100)
    first = int(a.child()["spi_out"], 16)
    with bed.capture() as capture:
        bed.ping(count=600, interval=0.002, wait=0.5)
        wait_until(lambda: bed.ping(count=1, wait=1).received, 20, "traffic again", 0.1)
    counts = packets_by_spi(capture)
    assert counts[first] <= 100
    assert max(counts.values()) <= 100, "no SA carries more than its hard limit"
    assert len(counts) >= 4, "each direction went on with new SAs"
