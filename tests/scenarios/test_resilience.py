"""What may die or go mad without stopping traffic, and what must never leave in clear."""

import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.capture import WireContents
from harness.configuration import SERVICE_USER, SIDE_A, SIDE_B, TunnelOptions
from harness.shell import wait_until
from harness.testbed import REPOSITORY
from harness.traffic import SteadyPing, ping

HOSTILE = REPOSITORY / "tests/tools/hostile_key_daemon.py"

INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}


@pytest.fixture
def pair(bed):
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    return bed


def steady_ping(bed):
    return SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)


def mirrored(a, b):
    return (len(a.children()) == len(b.children()) == 1
            and a.child()["spi_in"] == b.child()["spi_out"]
            and a.child()["spi_out"] == b.child()["spi_in"])


@pytest.mark.parametrize("side", ["a", "b"], ids=["initiator", "responder"])
def test_the_key_daemon_is_killed_and_returns(pair, side):
    a, b = pair.gateways["a"], pair.gateways["b"]
    steady = steady_ping(pair)
    # When the key daemon dies, then traffic goes on
    pair.gateways[side].kill_ike()
    steady.wait_for_replies(150)
    assert pair.gateways[side].status()["dataplane"]["channel"]["connected"] is False
    # When it returns, then the tunnel is under control again and the next rekey works
    pair.gateways[side].start_ike()
    wait_until(lambda: mirrored(a, b), 20, "control of the tunnel again", 0.1)
    before = a.child()["spi_out"]
    pair.gateways[side].culvert("rekey", "net")
    wait_until(lambda: mirrored(a, b) and a.child()["spi_out"] != before, 5, "the rekey", 0.05)
    steady.wait_for_replies(700, timeout=20)  # past the grace of the old SAs
    assert steady.stop().lost_packets == []


def test_both_key_daemons_are_killed_and_return(pair):
    a, b = pair.gateways["a"], pair.gateways["b"]
    steady = steady_ping(pair)
    a.kill_ike()
    b.kill_ike()
    steady.wait_for_replies(50)
    b.start_ike()
    a.start_ike()
    wait_until(lambda: mirrored(a, b), 25, "control of the tunnel again", 0.1)
    steady.wait_for_replies(700, timeout=20)
    assert steady.stop().lost_packets == []


def test_nothing_leaves_in_clear_while_no_key_daemon_runs(bed):
    """The trap is the data plane's own (docs/decisions/0001): no key daemon, no clear text."""
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()), start=False)
    gateway.start_dataplane()
    with bed.capture() as capture:
        result = bed.ping(count=20, interval=0.01, wait=0.2)
    assert not result.received
    wire = WireContents(capture.frames(), INNER)
    assert wire.unexpected() == {} and wire.inner_addresses_seen == 0


def test_the_data_plane_restarts(pair):
    a, b = pair.gateways["a"], pair.gateways["b"]
    a.dataplane.kill()
    a.start_dataplane()
    wait_until(lambda: a.status()["ike"].get("dataplane_connected"), 10, "the channel")
    wait_until(lambda: pair.ping(count=1, wait=1).received, 30, "traffic again", 0.3)
    wait_until(lambda: mirrored(a, b), 10, "one pair of SAs", 0.1)


def test_the_service_user_owns_what_it_must_and_no_more(pair):
    gateway = pair.gateways["a"]
    directory = gateway.instance_directory
    assert directory.stat().st_mode & 0o777 == 0o700
    assert pwd.getpwuid(directory.stat().st_uid).pw_name == SERVICE_USER
    pid = gateway.status()["ike"]["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    user = pwd.getpwnam(SERVICE_USER).pw_uid
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in status
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    assert int(effective.split()[1], 16) == 0, "the key daemon needs no capability"


# ---- a hostile process in the place of the key daemon ---------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_garbage_in_the_rings_stops_nothing(pair, seed):
    a, b = pair.gateways["a"], pair.gateways["b"]
    worker_packets = a.status()["dataplane"]["workers"][0]["rx_packets"]
    a.kill_ike()
    steady = steady_ping(pair)
    # When a process of the service user writes noise into the channel for three seconds
    hostile = subprocess.run(
        [sys.executable, str(HOSTILE), str(a.socket("channel.sock")), "3", str(seed)], timeout=30)
    assert hostile.returncode == 0, "the hostile process got hold of the memory"
    # Then the data plane counted it, lives, and lost no packet
    channel = a.status()["dataplane"]["channel"]
    assert channel["invalid_requests"] > 0 and channel["torn_indices"] > 0
    assert a.dataplane.running()
    steady.wait_for_replies(100)
    assert a.status()["dataplane"]["workers"][0]["rx_packets"] > worker_packets
    # And the real key daemon takes over again
    a.start_ike()
    wait_until(lambda: mirrored(a, b), 20, "control of the tunnel again", 0.1)
    a.culvert("rekey", "net")
    steady.wait_for_replies(100)
    assert steady.stop().lost_packets == []


def test_another_user_gets_no_channel(pair):
    """A process that is neither root nor the service user is refused."""
    script = ("import os, socket, sys\n"
              "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
              "try:\n"
              "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
              "    s.connect(sys.argv[1])\n"
              "except PermissionError:\n"
              "    sys.exit(13)\n")
    refused = subprocess.run([sys.executable, "-c", script,
                              str(pair.gateways["a"].socket("channel.sock"))], timeout=10)
    assert refused.returncode == 13


# ---- idling ---------------------------------------------------------------------------------------


@pytest.mark.alone
def test_an_idle_gateway_is_cheap_and_awake_at_once(pair):
    gateway = pair.gateways["a"]
    ping(pair["client-a"], SIDE_A.lan_address(), count=3)
    before, started = gateway.processor_seconds(), time.monotonic()
    time.sleep(4)  # what is measured is doing nothing
    used = (gateway.processor_seconds() - before) / (time.monotonic() - started)
    first = ping(pair["client-a"], SIDE_A.lan_address(), count=15, interval=0.2)
    print(f"idle: {100 * used:.1f} % of a core; first packet's round trip {first.median():.3f} ms")
    assert used < 0.10
    assert first.lost() == []
    assert first.median() < 1.0


def test_a_clean_stop(pair):
    gateway = pair.gateways["a"]
    assert gateway.ike.stop(signal.SIGTERM) == 0
    assert gateway.dataplane.stop(signal.SIGTERM) == 0

