"""Dummy packets (RFC 4303 §2.6): an observer on the wire sees as many packets whether somebody speaks or not."""

import collections
import time

from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.pair import Pair
from harness.shell import wait_until
from harness.traffic import SteadyPing

RATE = 200
PADDED = {"tfc_padding": "mtu", "dummy_packets": {"per_second": RATE}, "copy_dscp": "no", "df": "set"}
INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}


def address(side):
    return bytes(int(part) for part in side.wan_address.split("."))


def tunnel(bed, **child_options):
    a, b = bed.two_gateways(TunnelOptions(child_options=child_options))
    a.culvert("initiate", "net")
    b.wait_for_child()
    return a, b


def a_second_of(bed, name, seconds=3.0, meanwhile=None):
    """ESP packets a second from each gateway, and the frames."""
    with bed.capture(name) as capture:
        begin = time.monotonic()
        if meanwhile:
            meanwhile()
        time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
    took = time.monotonic() - begin  # it captures until its end, too
    frames = [frame for frame in capture.frames() if frame.kind in ("esp", "esp-in-udp")]
    sources = collections.Counter(frame.source for frame in frames)
    return {source: count / took for source, count in sources.items()}, frames


def dummies(gateway, direction="out"):
    child, = gateway.status()["dataplane"]["children"]
    return child[direction]["dummy_packets"]


def test_busy_or_idle_the_wire_looks_the_same(bed):
    """The pings take the places of dummies: none is lost, and there are no more packets than before."""
    # Given two gateways whose packets are all of one size, and so many a second
    a, b = tunnel(bed, **PADDED)
    # When nobody speaks, and when somebody does
    idle, idle_frames = a_second_of(bed, "idle")
    results = []
    busy, busy_frames = a_second_of(
        bed, "busy", meanwhile=lambda: results.append(bed.ping(count=150, interval=0.02)))
    # Then an observer sees the same
    assert results[0].lost() == []
    for rates in (idle, busy):
        assert set(rates) == {address(SIDE_A), address(SIDE_B)}
        for rate in rates.values():
            assert 0.7 * RATE < rate < 1.1 * RATE, (idle, busy)
    for side in (SIDE_A, SIDE_B):
        assert abs(idle[address(side)] - busy[address(side)]) < 0.2 * RATE, (idle, busy)
    headers = {(frame.data[15], frame.data[16:18], frame.data[20], frame.data[22])
               for frame in idle_frames + busy_frames}
    assert len(headers) == 1, "DSCP, length, DF and TTL"
    # and each gateway ends what the other one makes
    for gateway in (a, b):
        assert set(gateway.drops()) == {"dummy_packet"}
        assert dummies(gateway, "in") > 3 * RATE and dummies(gateway, "out") > 3 * RATE
        counted = gateway.dataplane_metrics()
        assert counted.total("culvert_child_dummy_packets_total", child="net", direction="out") > RATE


def test_a_rekey_takes_the_dummies_along_and_ike_is_not_needed_for_them(bed):
    a, b = tunnel(bed, **PADDED)
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    before = a.child()["spi_out"]
    a.culvert("rekey", "net")
    wait_until(lambda: len(a.children()) == 1 and a.child()["spi_out"] != before, 10, "the new SA alone")
    spi = int(a.child()["spi_out"], 16)
    for gateway in (a, b):
        gateway.kill_ike()
    rates, frames = a_second_of(bed, "rekeyed")
    assert steady.stop().lost_packets == []
    assert 0.7 * RATE < rates[address(SIDE_A)] < 1.1 * RATE
    assert {frame.spi for frame in frames if frame.source == address(SIDE_A)} == {spi}
    assert WireContents(frames, INNER).inner_addresses_seen == 0


def test_strongswan_discards_them_and_the_pings_pass(bed):
    """Of random sizes, in UDP, beside a peer that sends none."""
    pair = Pair(bed, TunnelOptions(child_options={"dummy_packets": {"per_second": RATE}})).up()
    pair.wait_until_mirrored()
    rates, frames = a_second_of(bed, "strongswan", meanwhile=lambda: time.sleep(1))
    assert 0.7 * RATE < rates[address(SIDE_A)] < 1.1 * RATE
    assert address(SIDE_B) not in rates, "nothing comes back for them"
    assert len({frame.data[16:18] for frame in frames}) > 50, "lengths"
    assert pair.gateway.status()["connections"][0]["children"][0]["state"] == "idle"
    result = bed.ping(count=100, interval=0.02)
    assert result.lost() == []
    theirs = pair.strongswan_child()
    assert theirs["in_packets"] >= 100
    assert dummies(pair.gateway) > 2 * RATE
