"""SIGHUP of both daemons: connections and children added, changed and removed under a ping that counts
every packet."""

import copy
import signal

from harness.configuration import SIDE_B, TunnelOptions
from harness.shell import wait_until
from harness.traffic import SteadyPing


def reload(gateway):
    """The data plane first: it must know a child before the key daemon negotiates it."""
    gateway.configure(gateway.configuration)
    for daemon, done in ((gateway.dataplane, "reloaded"), (gateway.ike, "reloaded")):
        before = daemon.text().count(f"{done} ") + daemon.text().count("reload_refused")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.text().count(f"{done} ")
                   + daemon.text().count("reload_refused") > before, 5, "the reload", 0.05)
        assert "reload_refused" not in daemon.text()


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
