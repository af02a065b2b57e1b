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
from harness.esp_oracle import ESP, IP, EspPeer
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


@pytest.mark.long
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


@pytest.mark.long
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


def watched_descriptors(pid):
    """How many descriptors the process's epolls watch: what was closed is in none."""
    return sum(line.startswith("tfd:")
               for entry in Path(f"/proc/{pid}/fdinfo").iterdir()
               for line in entry.read_text().splitlines())


def test_a_key_daemon_returns_before_its_end_was_seen(pair):
    """The data plane's main thread sees both at once, and new descriptors that have the old ones'
    numbers: it listens to them all the same."""
    gateway = pair.gateways["a"]
    watched = watched_descriptors(gateway.dataplane.pid)
    gateway.dataplane.send_signal(signal.SIGSTOP)
    try:
        gateway.kill_ike()
        gateway.launch_ike()
    finally:
        gateway.dataplane.send_signal(signal.SIGCONT)
    gateway.wait_for_channel()
    wait_until(lambda: gateway.children(), 10, "control of the tunnel again")
    log = gateway.dataplane.text()
    assert log.count("key_daemon_connected") == 2 and log.count("key_daemon_disconnected") == 1
    assert "channel_not_watched" not in log
    wait_until(lambda: watched_descriptors(gateway.dataplane.pid) == watched, 5,
               "as many descriptors to be watched as before")


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
    for thread in thread_states(pid):
        assert thread["NoNewPrivs"] == "1" and thread["Seccomp"] == "2", thread["Name"]
        assert thread.get("Seccomp_filters", "2") == "2", "one for calls, one for other processes"
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0, "not dumpable: not even its user looks in"


def thread_states(pid):
    """Every thread's /proc status as a dictionary, the main thread's first."""
    result = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name)):
        lines = (line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        result.append({pair[0]: pair[1].strip() for pair in lines if len(pair) == 2})
    return result


NET_ADMIN_RAW_IPC_LOCK = 1 << 12 | 1 << 13 | 1 << 14


def test_the_packet_daemon_keeps_only_what_forwarding_needs(pair):
    """Service user; three capabilities in the main thread, none in the workers; seccomp; no dump."""
    gateway = pair.gateways["a"]
    pid = gateway.status()["dataplane"]["pid"]
    user = str(pwd.getpwnam(SERVICE_USER).pw_uid)
    main, *others = thread_states(pid)
    assert int(main["CapEff"], 16) == int(main["CapPrm"], 16) == NET_ADMIN_RAW_IPC_LOCK
    assert int(main["CapBnd"], 16) == int(main["CapInh"], 16) == int(main["CapAmb"], 16) == 0
    assert [thread["Name"] for thread in others if thread["Name"].startswith("rte-worker")]
    for thread in (main, *others):
        assert set(thread["Uid"].split()) == {user}, thread["Name"]
        assert thread["NoNewPrivs"] == "1" and thread["Seccomp"] == "2", thread["Name"]
        assert thread.get("Seccomp_filters", "2") == "2", "one for calls, one for other processes"
        if thread is not main:
            assert int(thread["CapEff"], 16) == int(thread["CapPrm"], 16) == 0, thread["Name"]
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0, "not dumpable: not even its user looks in"


def test_a_confined_packet_daemon_reloads_and_stops_cleanly(pair):
    """What a reload needs (files, memory for tables) is still to be had, and sockets go away."""
    gateway = pair.gateways["a"]
    configuration = gateway.configuration
    configuration["dataplane"]["routes"].append({"to": "203.0.113.0/24", "via": SIDE_B.wan_address})
    configuration["policies"] = [{"action": "discard", "source": "10.1.0.0/24",
                                  "destination": "203.0.113.0/24"}]
    gateway.configure(configuration)
    gateway.dataplane.send_signal(signal.SIGHUP)
    wait_until(lambda: any(route["to"] == "203.0.113.0/24"
                           for route in gateway.culvert("routes")["routes"]), 5, "the new route")
    assert pair.ping(count=20, interval=0.01).lost() == []
    assert gateway.ike.stop(signal.SIGTERM) == 0
    assert gateway.dataplane.stop(signal.SIGTERM) == 0
    assert list(gateway.instance_directory.iterdir()) == []


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


# ---- the peer -------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_far_gateway_that_vanishes_is_given_up_and_found_again(bed):
    """Liveness checks without an answer (RFC 7296 §2.4): the SAs go, nothing leaves in clear; when
    the peer is back, traffic brings the tunnel up again."""
    a, b = bed.two_gateways(TunnelOptions(connection_options={"dpd_delay": "1s"}))
    a.culvert("initiate", "net")
    b.wait_for_child()
    b.kill()
    wait_until(lambda: not a.ike_sas(), 150, "the peer to be given up", 0.5)
    failure = a.status()["ike"]["connections"][0]["last_failure"]["failure"]
    assert failure in ("peer_vanished", "peer_unreachable")
    with bed.capture() as capture:
        assert not bed.ping(count=10, interval=0.05, wait=0.2).received
    wire = WireContents(capture.frames(), INNER)
    assert wire.unexpected() == {} and wire.inner_addresses_seen == 0
    b.start()
    wait_until(lambda: bed.ping(count=1, wait=1).received, 90, "the tunnel to return", 0.5)
    wait_until(lambda: mirrored(a, b), 10, "one pair of SAs", 0.1)


def test_esp_with_an_unknown_spi_is_counted_and_told_at_most_ten_times_a_second(bed):
    """RFC 4303 §3.4.2: an auditable event. Nobody authenticated it: it may cost a line in the log,
    not the SAs and not the key daemon's time."""
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()), start=False)
    gateway.debug = True
    gateway.start()
    peer = EspPeer(bed["gw-b"], "wan", SIDE_B.wan_address, SIDE_A.wan_address)
    peer.resolve_gateway()
    started = time.monotonic()
    stranger = IP(src=SIDE_B.wan_address, dst=SIDE_A.wan_address) / ESP(
        spi=0x0BADBAD0, seq=1, data=bytes(40))
    for _ in range(300):
        peer.send(stranger)
    wait_until(lambda: gateway.drops().get("sa_not_found") == 300, 5, "all of them to be counted")
    seconds = time.monotonic() - started
    peer.close()
    told = wait_until(lambda: gateway.ike.text().count("unknown_spi"), 3, "the key daemon to hear")
    line = next(line for line in gateway.ike.text().splitlines() if "unknown_spi" in line)
    assert "0bad" in line and SIDE_B.wan_address in line
    assert 1 <= told <= 10 + 10 * (seconds + 1)
    assert gateway.drops() == {"sa_not_found": 300}


def test_what_the_kernels_ring_has_no_room_for_is_counted(pair):
    """The driver does not tell; an operator who misses packets would look for them everywhere else."""
    gateway, sent, frames = pair.gateways["a"], 6000, 4096

    def missed():
        return next(interface["rx_missed"] for interface in gateway.status()["dataplane"]["interfaces"]
                    if interface["name"] == "lan")

    assert pair.ping(count=1).lost() == [] and missed() == 0
    gateway.dataplane.send_signal(signal.SIGSTOP)
    try:
        pair["client-a"].run(sys.executable, "-c", f"""
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({sent}):
    sender.sendto(b"", ("{SIDE_B.client_address()}", 9))
""")
    finally:
        gateway.dataplane.send_signal(signal.SIGCONT)
    # A frame more or less: the ring may be read up to somewhere, and the clients' kernels say things, too
    assert sent - frames - 100 <= missed() <= sent - frames + 100


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

