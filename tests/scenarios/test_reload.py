"""SIGHUP of both daemons: connections and children added, changed and removed under a ping that counts
every packet."""

import contextlib
import copy
import signal
import socket
import time

from harness.configuration import SIDE_B, TunnelOptions
from harness.shell import wait_until
from harness.traffic import SteadyPing, ping


def reload(gateway):
    """The data plane first: it must know a child before the key daemon negotiates it."""
    gateway.configure(gateway.configuration)
    for daemon, done in ((gateway.dataplane, "reloaded"), (gateway.ike, "reloaded")):
        before = daemon.text().count(f"{done} ") + daemon.text().count("reload_refused")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.text().count(f"{done} ")
                   + daemon.text().count("reload_refused") > before, 5, "the reload", 0.05)
        assert "reload_refused" not in daemon.text()


def is_announced(link, address, timeout=3.0):
    """An ARP message whose sender the address is, asked for by nobody."""
    link.settimeout(timeout)
    end = time.monotonic() + timeout
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < end:
            frame = link.recv(2048)
            if frame[12:14] == b"\x08\x06" and frame[28:32] == socket.inet_aton(address):
                return True
    return False


def child_of(gateway):
    return gateway.configuration["connections"][0]["children"][0]


def test_reload_under_traffic(bed):
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    first = a.child()

    # nothing changed: nothing happens
    reload(a)
    reload(b)
    steady.wait_for_replies(50)
    assert a.child()["spi_in"] == first["spi_in"]

    # a child more, at both ends
    for gateway, local, remote in ((a, "10.1.9.0/24", "10.2.9.0/24"),
                                   (b, "10.2.9.0/24", "10.1.9.0/24")):
        extra = copy.deepcopy(child_of(gateway))
        extra.update(name="lab", local_ts=[local], remote_ts=[remote])
        gateway.configuration["connections"][0]["children"].append(extra)
        reload(gateway)
    a.culvert("initiate", "lab")
    b.wait_for_child("lab")
    assert a.child()["spi_in"] == first["spi_in"]

    # another suite for the first child, the peer a moment later
    for gateway in (a, b):
        child_of(gateway)["esp_proposals"] = ["aes128gcm16"]
        reload(gateway)
        steady.wait_for_replies(50)
    wait_until(lambda: [child["suite"] for child in a.children()] == ["aes128gcm16"]
               and [child["suite"] for child in b.children()] == ["aes128gcm16"], 60,
               "the new suite", 0.2)
    assert len(a.children("lab")) == 1

    # and the second child goes again
    for gateway in (a, b):
        gateway.configuration["connections"][0]["children"].pop()
        reload(gateway)
    wait_until(lambda: not a.children("lab") and not b.children("lab"), 10, "the child to go", 0.1)
    steady.wait_for_replies(100)
    assert steady.stop().lost_packets == []


def test_addresses_of_an_interface_change_under_traffic(bed):
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    client = bed["client-a"]
    steady = SteadyPing(client, SIDE_B.client_address(), bed.directory)
    lan = a.configuration["dataplane"]["interfaces"][1]
    before = list(lan["addresses"])
    new, new6 = "10.1.77.1", "2001:db8:77::1"
    client.ip("addr", "add", "10.1.77.2/24", "dev", "eth0")
    client.ip("addr", "add", "2001:db8:77::2/64", "dev", "eth0", "nodad")
    assert ping(client, new, count=1, wait=0.3).received == set()

    lan["addresses"] = [*before, f"{new}/24", f"{new6}/64"]
    with client.packet_socket("eth0") as link:
        reload(a)
        assert is_announced(link, new)
    for address in (new, new6):
        assert ping(client, address).lost() == []
    status = a.ask("dataplane.sock", "status")["result"]
    assert f"{new}/24" in status["interfaces"][1]["addresses"]

    # a neighbour of the network that goes is forgotten, and so is the address
    lan["addresses"] = before
    reload(a)
    assert ping(client, new, count=2, wait=0.3).received == set()
    routes = a.ask("dataplane.sock", "routes")["result"]["routes"]
    assert not [route for route in routes if "10.1.77." in route["to"]]
    steady.wait_for_replies(100)
    assert steady.stop().lost_packets == []


def test_a_file_with_errors_changes_nothing(bed):
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    before = a.child()["spi_in"]
    a.configuration["connections"][0]["rekey_tyme"] = "1h"
    a.configure(a.configuration)
    a.ike.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload_refused" in a.ike.text(), 5, "the refusal", 0.05)
    assert "rekey_tyme" in a.ike.text()
    assert a.child()["spi_in"] == before
    assert bed.ping(count=5, interval=0.05).lost() == []
