"""Packets that do not fit, with real kernels as clients: what they are told, and what passes."""

import time

import pytest

from harness.configuration import SIDE_B, TunnelOptions
from harness.impairment import Faults
from harness.sizes import inside
from harness.traffic import Iperf3

ICMP_HEADERS = {4: 28, 6: 48}


def fits(bed, size, family, dont_fragment=True, wait=1):
    """Whether an IP packet of `size` bytes passes from client a to client b and back."""
    extra = ("-M", "do") if dont_fragment else ("-M", "dont")
    return bed.ping(family, count=1, size=size - ICMP_HEADERS[family], wait=wait,
                    extra=extra).lost() == []


def told_mtu(bed, family):
    """What client a's kernel has learnt for its way to client b."""
    where = bed["client-a"].ip("route", "get", SIDE_B.client_address(family)).stdout.split()
    return int(where[where.index("mtu") + 1]) if "mtu" in where else link_mtu(bed)


def check_sizes_around(bed, fit, family):
    """Each of what the client's kernel does not know yet: what fits passes, what does not is told what would."""
    for size in range(fit - 2, fit + 3):
        bed["client-a"].ip(f"-{family}", "route", "flush", "cache")
        assert fits(bed, size, family, wait=1 if size <= fit else 0.2) == (size <= fit), size
        assert told_mtu(bed, family) == (fit if size > fit else link_mtu(bed)), size


def link_mtu(bed):
    return int(bed["client-a"].ip("link", "show", "eth0").stdout.split(" mtu ")[1].split()[0])


@pytest.mark.parametrize("outer", [4, 6], ids=["outer-v4", "outer-v6"])
@pytest.mark.parametrize("inner", [4, 6], ids=["inner-v4", "inner-v6"])
def test_senders_are_told_what_fits_to_the_byte(bed, outer, inner):
    """RFC 4301 §8.2.1: pings with DF around what ESP leaves of the link; the kernel learns what passes."""
    a, b = bed.two_gateways(TunnelOptions(outer_family=outer, inner_families=(inner,)))
    a.culvert("initiate", "net")
    b.wait_for_child()
    assert fits(bed, 1280, inner)
    assert not fits(bed, 1500, inner)
    assert told_mtu(bed, inner) == inside(1500, outer)
    check_sizes_around(bed, inside(1500, outer), inner)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_may_be_fragmented_passes_whole(bed, when):
    a, b = bed.two_gateways(TunnelOptions(child_options={"fragmentation": when}))
    a.culvert("initiate", "net")
    b.wait_for_child()
    # The devices' fanout group has the kernel put fragments together before we see them (af_packet
    # asks for PACKET_FANOUT_FLAG_DEFRAG), up to their frames of 2048 bytes: 1800 comes in one piece
    # and is cut, and so do outer fragments. What puts them together here is for the unit tests.
    for size in (1430, 1450, 1472, 1500, 1800):
        assert fits(bed, size, 4, dont_fragment=False), (size, a.drops(), b.drops())
    for gateway in (a, b):
        assert gateway.culvert("counters")["totals"]["fragments_made"] >= 2


@pytest.mark.long
@pytest.mark.parametrize("outer, small", [(4, 1200), (6, 1300)], ids=["outer-v4", "outer-v6"])
def test_a_path_whose_mtu_drops_is_learnt_from_icmp(bed, relay, outer, small):
    """TCP goes on through a path that becomes smaller in the middle of the flow."""
    a, b = bed.two_gateways(TunnelOptions(outer_family=outer))
    a.culvert("initiate", "net")
    b.wait_for_child()
    server = Iperf3(bed["client-b"], bed["client-a"], SIDE_B.client_address(), bed.directory)
    run = server.start(6, megabits=5)
    time.sleep(2)
    relay.faults = Faults(mtu=small)
    assert run.finish(20) > 2
    server.stop()
    assert relay.counts["told"] >= 1
    outbound = next(sa for sa in a.culvert("sas")["sas"] if sa["direction"] == "out")
    assert outbound["path_mtu"] == max(small, 1280 if outer == 6 else 576)


def test_a_router_that_says_less_than_ipv6_carries_is_not_believed(bed, relay):
    """RFC 8201 §4: discarded, counted, nothing learnt."""
    a, b = bed.two_gateways(TunnelOptions(outer_family=6))
    a.culvert("initiate", "net")
    b.wait_for_child()
    relay.faults = Faults(mtu=1200)
    sent = bed.ping(count=3, size=1300, wait=1, extra=("-M", "do"))
    assert sent.lost() == [1, 2, 3]
    assert relay.counts["told"] >= 3
    assert a.drops()["path_mtu_below_minimum"] >= 3
    outbound = next(sa for sa in a.culvert("sas")["sas"] if sa["direction"] == "out")
    assert outbound["path_mtu"] is None


@pytest.mark.long
@pytest.mark.parametrize("numbers, lost_as", [("noesn", "replay_left_of_window"), ("esn", "icv_mismatch")])
def test_reordering_beyond_the_window_is_counted_and_the_advice_ends_it(bed, relay, numbers, lost_as):
    """RFC 4303 §3.4.3: packets left of the window are lost; the histogram says which window keeps
    them. Of extended numbers such a packet is taken for one of the next 2^32 (§A2.2), which its ICV denies."""

    def run(window):
        options = TunnelOptions(child_options={"replay_window": window}, esp_proposals=[
            f"aes128gcm16-{numbers}"])
        gateways = a, b = bed.two_gateways(options)
        a.culvert("initiate", "net")
        b.wait_for_child()
        before = dict(relay.counts)
        relay.faults = Faults(reorder=0.05, reorder_by=45, duplicate=0.02)
        bed.ping(count=800, interval=0.002, wait=1)
        relay.faults = Faults()
        bed.ping(count=60, interval=0.002, wait=1)  # what is held back until as many have passed comes too
        for fault in ("reordered", "duplicated"):
            assert relay.counts[fault] - before[fault] > 10, fault
        late = b.culvert("status")["dataplane"]["children"][0]["in"]["late"]
        drops = [gateway.drops() for gateway in gateways]
        for gateway in gateways:
            gateway.stop()
        return late, drops

    late, drops = run(32)
    assert drops[1].get(lost_as, 0) > 0
    assert late["advised_window"] == 64 and sum(late["missed"].values()) > 0
    late, drops = run(late["advised_window"])
    # As much came late again, and was taken.
    assert sum(late["accepted"].values()) > 10 and late["missed"] == {}, late
    for of_gateway in drops:
        assert of_gateway.pop("replay_duplicate") > 0, "a duplicate is none that the window lost"
        assert of_gateway == {}


JUMBO = 9000


@pytest.fixture
def jumbo(bed):
    """Two gateways all of whose links take 9000 bytes."""
    for letter in "ab":
        bed[f"client-{letter}"].ip_batch(f"link set eth0 mtu {JUMBO}")
        bed[f"gw-{letter}"].ip_batch(f"link set wan mtu {JUMBO}", f"link set lan mtu {JUMBO}")
    bed["wan"].ip_batch(f"link set to-a mtu {JUMBO}", f"link set to-b mtu {JUMBO}")
    for letter in "ab":
        configuration = bed.configuration(letter, TunnelOptions(inner_families=(4, 6)))
        for interface in configuration["dataplane"]["interfaces"]:
            interface["mtu"] = JUMBO
            interface["device"] = interface["device"].replace("framecnt=4096", "framecnt=512")
        bed.add_gateway(letter, configuration)
    bed.gateways["a"].culvert("initiate", "net")
    bed.gateways["b"].wait_for_child()
    return bed


@pytest.mark.parametrize("family", [4, 6])
def test_jumbo_frames_pass_and_senders_are_told_their_size(jumbo, family):
    assert fits(jumbo, 8900, family), [gateway.drops() for gateway in jumbo.gateways.values()]
    assert not fits(jumbo, JUMBO, family)
    assert told_mtu(jumbo, family) == inside(JUMBO)
    check_sizes_around(jumbo, inside(JUMBO), family)
    # Cut, sealed, opened, and put together again by the client.
    if family == 4:
        assert fits(jumbo, JUMBO, family, dont_fragment=False)


def test_tcp_uses_jumbo_frames(jumbo):
    server = Iperf3(jumbo["client-b"], jumbo["client-a"], SIDE_B.client_address(), jumbo.directory)
    assert server.measure(3, megabits=20) > 10
    server.stop()
    outbound = next(sa for sa in jumbo.gateways["a"].culvert("sas")["sas"]
                    if sa["direction"] == "out")
    assert outbound["bytes"] / outbound["packets"] > 4000, outbound
