"""A path that swallows what is too large for it, and clients that do not hear ICMP (RFC 2923 §2.1)."""

import contextlib
import socket
import struct

import pytest

from harness.configuration import SIDE_B, TunnelOptions
from harness.impairment import Faults
from harness.shell import run, wait_until
from harness.sizes import inside
from harness.traffic import Iperf3
from test_reload import child_of, reload

HOLE = 1400
SECONDS = 3


class AnnouncedMss:
    """The MSS of the SYNs that arrive at a client."""

    def __init__(self, namespace):
        self._frames = namespace.packet_socket("eth0")

    def take(self):
        """All so far."""
        seen = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, address = self._frames.recvfrom(65536, socket.MSG_DONTWAIT)
                if address[2] != socket.PACKET_OUTGOING:
                    seen |= _mss_of(frame)
        return seen

    def close(self):
        self._frames.close()


def _mss_of(frame):
    if struct.unpack_from("!H", frame, 12)[0] != 0x0800 or frame[23] != socket.IPPROTO_TCP:
        return set()
    tcp = frame[14 + (frame[14] & 15) * 4:]
    if not tcp[13] & 2:
        return set()
    options = tcp[20:(tcp[12] >> 4) * 4]
    while options and options[0]:
        if options[0] == 2:
            return {struct.unpack_from("!H", options, 2)[0]}
        options = options[1:] if options[0] == 1 else options[options[1]:]
    return set()


def up(bed, **child_options):
    a, b = bed.two_gateways(TunnelOptions(child_options=child_options))
    a.culvert("initiate", "net")
    b.wait_for_child()
    return a, b


def measured(bed):
    """Megabits per second from client a to client b, and what MSS each was told."""
    listeners = [AnnouncedMss(bed[f"client-{letter}"]) for letter in "ab"]
    server = Iperf3(bed["client-b"], bed["client-a"], SIDE_B.client_address(), bed.directory)
    try:
        rate = server.measure(SECONDS, megabits=5)
        return rate, [listener.take() for listener in listeners]
    finally:
        server.stop()
        for listener in listeners:
            listener.close()


def outbound_mtu(gateway):
    """Of the newest SA."""
    return min((sa for sa in gateway.sas()["sas"] if sa["direction"] == "out"),
               key=lambda sa: sa["age_seconds"])["path_mtu"]


@pytest.mark.parametrize("clamp", [True, False], ids=["clamped", "told-by-icmp"])
def test_tcp_passes_a_black_hole_whose_size_is_configured(bed, relay, clamp):
    """1400 bytes pass between the gateways, nobody is told; their links take 1500."""
    relay.faults = Faults(mtu=HOLE, tells=False)
    a, b = up(bed, path_mtu=HOLE, mss_clamp=clamp)
    assert [outbound_mtu(gateway) for gateway in (a, b)] == [HOLE, HOLE]
    rate, announced = measured(bed)
    assert rate > 3, (a.drops(), b.drops())
    assert relay.counts["too_big"] == 0, "no packet was too large for the path"
    expected = inside(HOLE) - 40 if clamp else 1460
    assert announced == [{expected}, {expected}]


def test_a_black_hole_of_unknown_size_stalls_tcp(bed, relay):
    """The control: nothing bounds the segments, and they never arrive."""
    relay.faults = Faults(mtu=HOLE, tells=False)
    up(bed, mss_clamp=False)
    rate, announced = measured(bed)
    assert rate < 0.1
    assert relay.counts["too_big"] > 0
    assert announced == [{1460}, {1460}]


def test_the_clamp_alone_knows_the_links_size_only(bed, relay):
    """Why `path_mtu` is there: clamped to what the gateways' links take, segments still vanish."""
    relay.faults = Faults(mtu=HOLE, tells=False)
    up(bed)
    rate, announced = measured(bed)
    assert rate < 0.1
    assert relay.counts["too_big"] > 0
    assert announced == [{inside(1500) - 40}] * 2


def test_a_reload_and_a_rekey_end_the_stall(bed, relay):
    """The remedy as docs/troubleshooting.md has it: the child's next SAs have the new size."""
    relay.faults = Faults(mtu=HOLE, tells=False)
    a, b = up(bed)
    for gateway in (a, b):
        child_of(gateway)["path_mtu"] = HOLE
        reload(gateway)
    assert [outbound_mtu(gateway) for gateway in (a, b)] == [None, None], "of SAs that stand"
    before = a.child()["spi_in"]
    a.culvert("rekey", "net")
    for gateway in (a, b):
        wait_until(lambda gateway=gateway: outbound_mtu(gateway) == HOLE, 5, "the new SA")
    wait_until(lambda: [one["spi_in"] for one in a.children()] not in ([], [before]), 5, "the rekey")
    rate, announced = measured(bed)
    assert rate > 3
    assert announced == [{inside(HOLE) - 40}] * 2


@contextlib.contextmanager
def deaf(namespace):
    """No ICMP error reaches the client's kernel."""
    run(*namespace.command("nft", "-f", "-"), input_text="""
table ip deaf {
  chain input {
    type filter hook input priority 0;
    icmp type destination-unreachable drop
  }
}
""")
    try:
        yield
    finally:
        namespace.run("nft", "delete", "table", "ip", "deaf")


@pytest.mark.parametrize("clamp", [True, False], ids=["clamped", "not-clamped"])
def test_a_client_that_ignores_icmp_is_saved_by_the_clamp(bed, clamp):
    """No hole: what does not fit the tunnel is refused with ICMP, which the client's firewall drops."""
    a, _ = up(bed, mss_clamp=clamp)
    with deaf(bed["client-a"]):
        rate, announced = measured(bed)
    if clamp:
        assert rate > 3, a.drops()
        assert announced == [{inside(1500) - 40}] * 2
        assert a.drops().get("packet_too_big", 0) == 0
    else:
        assert rate < 0.1
        assert announced == [{1460}, {1460}]
        assert a.drops()["packet_too_big"] > 0
