"""What a child says of its outer headers, on the wire; and a wire that damages what it carries."""


from harness.configuration import SIDE_B, TunnelOptions
from harness.impairment import Faults
from harness.shell import wait_until
from harness.traffic import Iperf3


def sealed_frames(capture):
    return [frame.data for frame in capture.frames() if frame.kind == "esp"]


def up(bed, **child_options):
    a, b = bed.two_gateways(TunnelOptions(child_options=child_options))
    a.culvert("initiate", "net")
    b.wait_for_child()
    return a, b


def test_the_outer_header_is_what_the_child_says(bed):
    """RFC 4301 §5.1.2.1: DSCP, DF and TTL of the SA, whatever the client's packet has; ECN goes with
    it (RFC 6040 §4.1)."""
    up(bed, dscp=46, df="set", hop_limit=77)
    with bed.capture() as capture:
        assert bed.ping(extra=("-M", "dont", "-Q", "0x2a")).lost() == []
    frames = sealed_frames(capture)
    assert len(frames) == 6
    assert {frame[15] for frame in frames} == {46 << 2 | 2}
    assert {frame[20] >> 6 for frame in frames} == {1}, "DF, not MF"
    assert {frame[22] for frame in frames} == {77}


def test_by_default_the_outer_header_follows_the_inner_one(bed):
    up(bed)
    with bed.capture() as capture:
        assert bed.ping(extra=("-M", "dont", "-Q", "0x28")).lost() == []
    frames = sealed_frames(capture)
    assert {frame[15] for frame in frames} == {0x28}
    # The kernel sets DF in what it answers as it sees fit; the request has none.
    assert min(frame[20] >> 6 for frame in frames) == 0
    assert {frame[22] for frame in frames} == {64}


def test_padded_packets_are_all_of_one_size(bed):
    """RFC 4303 §2.7: an observer does not learn how large the packets inside are."""
    up(bed, tfc_padding=700)
    with bed.capture() as capture:
        for size in (16, 56, 300, 640):
            assert bed.ping(count=1, size=size).lost() == []
    frames = sealed_frames(capture)
    assert len(frames) == 8
    sizes = {int.from_bytes(frame[16:18], "big") for frame in frames}  # of the whole outer packet
    assert len(sizes) == 1
    assert min(sizes) > 700


def test_what_the_wire_loses_doubles_and_damages_is_dropped_and_tcp_goes_on(bed, relay):
    """RFC 4303 §3.4.3, §3.4.4: the window ends duplicates, the ICV what was changed on the way."""
    a, b = up(bed)
    relay.faults = Faults(loss=0.002, duplicate=0.02, corrupt=0.005)
    server = Iperf3(bed["client-b"], bed["client-a"], SIDE_B.client_address(), bed.directory)
    assert server.measure(4, megabits=5) > 1
    server.stop()
    relay.faults = Faults()
    wait_until(lambda: bed.ping(count=1).lost() == [], 5, "a ping over the healed wire")
    drops = {reason: a.drops().get(reason, 0) + b.drops().get(reason, 0)
             for reason in ("replay_duplicate", "icv_mismatch")}
    counts = relay.counts
    assert counts["duplicated"] > 10 and counts["corrupted"] > 3, counts
    # Each that was changed fails at its ICV, as does its copy; each other copy at the window. One or two frames
    # may be of the key daemons.
    expected = {"icv_mismatch": counts["corrupted"] + counts["both"],
                "replay_duplicate": counts["duplicated"] - counts["both"]}
    for reason, count in expected.items():
        assert count - 2 <= drops[reason] <= count, (drops, counts)
