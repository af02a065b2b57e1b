"""SIGHUP of both daemons: connections and children added, changed and removed under a ping that counts
every packet."""

import contextlib
import copy
import re
import signal
import socket
import time

from harness.configuration import SIDE_A, SIDE_B, TunnelOptions, write_secret
from harness.reloads import refused_reload, reload
from harness.shell import wait_until
from harness.sizes import inside
from harness.traffic import SteadyPing, ping


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


def ping_whole(client, address, size):
    """A packet of so many bytes that nobody may cut. The MTU that a router told of; None: it came through."""
    client.ip("route", "flush", "cache")
    completed = client.run("ping", "-n", "-c", "1", "-W", "3", "-M", "do", "-s", str(size - 28), address,
                           check=False)
    told = re.search(r"Frag needed and DF set \(mtu = (\d+)\)", completed.stdout)
    if told:
        return int(told.group(1))
    assert " 1 received" in completed.stdout, completed.stdout
    return None


def test_an_mtu_changes_under_traffic(bed):
    options = TunnelOptions()
    a, b = (bed.add_gateway(letter, bed.configuration(letter, options), start=False)
            for letter in "ab")
    a.configuration["dataplane"]["interfaces"][0]["mtu"] = 1400
    for gateway in (a, b):
        gateway.configure(gateway.configuration)
        gateway.start()
    a.culvert("initiate", "net")
    b.wait_for_child()
    client, far = bed["client-a"], SIDE_B.client_address()
    steady = SteadyPing(client, far, bed.directory)
    first = a.child()["spi_in"]
    wan = a.configuration["dataplane"]["interfaces"][0]

    # refused for what no device has to do with: the device is not told
    wan["mtu"] = 1500
    a.configuration["manual_sas"] = [{
        "name": "by-hand", "direction": "in", "spi": int(first, 16), "local": SIDE_A.wan_address,
        "remote": SIDE_B.wan_address, "local_ts": ["10.1.99.0/24"], "remote_ts": ["10.2.99.0/24"],
        "suite": "aes128gcm16", "key_file": str(write_secret(bed.directory / "by-hand.key", "00" * 20))}]
    assert "its SPI is that of another inbound SA" in refused_reload(a, a.dataplane)
    assert "mtu 1400" in bed["gw-a"].run("ip", "link", "show", "wan").stdout
    del a.configuration["manual_sas"]

    # lowered, raised within what the device was set up for, and beyond
    for mtu in (1400, 1300, 1400, 1500):
        wan["mtu"] = mtu
        reload(a)
        most = inside(mtu)
        assert ping_whole(client, far, most) is None
        assert ping_whole(client, far, most + 1) == most
        assert a.status()["dataplane"]["interfaces"][0]["mtu"] == mtu
    assert "mtu 1500" in bed["gw-a"].run("ip", "link", "show", "wan").stdout

    # what the buffers of the start cannot hold needs a restart, and nothing else of the file is taken
    wan["mtu"] = 9000
    a.configuration["dataplane"]["interfaces"][1]["addresses"] = [*SIDE_A.lan, "10.1.77.1/24"]
    why = refused_reload(a, a.dataplane)
    assert "mtu is 9000, its device was set up for 1500" in why and "a restart is needed" in why
    interfaces = a.status()["dataplane"]["interfaces"]
    assert interfaces[0]["mtu"] == 1500
    assert "10.1.77.1/24" not in interfaces[1]["addresses"]
    assert ping_whole(client, far, inside(1500)) is None

    steady.wait_for_replies(50)
    assert steady.stop().lost_packets == []
    assert a.child()["spi_in"] == first


def test_interfaces_are_renamed_and_reordered_under_traffic(bed):
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    steady.wait_for_replies(50)
    first = a.child()["spi_in"]
    before = {entry["name"]: entry for entry in a.status()["dataplane"]["interfaces"]}

    interfaces = a.configuration["dataplane"]["interfaces"]
    interfaces.reverse()
    interfaces[0]["name"], interfaces[1]["name"] = "inside", "uplink"
    reload(a)
    lan, wan = a.status()["dataplane"]["interfaces"]
    assert (lan["name"], wan["name"]) == ("inside", "uplink")
    for old, new in ((before["lan"], lan), (before["wan"], wan)):
        assert new["addresses"] == old["addresses"] and new["mac"] == old["mac"]
        assert new["rx_packets"] >= old["rx_packets"]
    routes = a.ask("dataplane.sock", "routes")["result"]["routes"]
    assert {route["interface"] for route in routes} == {"inside", "uplink"}
    wait_until(lambda: {labels["interface"] for labels in a.dataplane_metrics().labels_of(
        "culvert_interface_packets_total")} == {"inside", "uplink"}, 5, "the metrics of the new names")

    steady.wait_for_replies(100)
    assert steady.stop().lost_packets == []
    assert a.child()["spi_in"] == first


def test_an_interface_goes_and_comes_back(bed):
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    client, far = bed["client-a"], SIDE_B.client_address()
    assert ping(client, far).lost() == []
    first = a.child()["spi_in"]
    interfaces = a.configuration["dataplane"]["interfaces"]
    lan = interfaces.pop()
    reload(a)
    assert [entry["name"] for entry in a.status()["dataplane"]["interfaces"]] == ["wan"]
    assert ping(client, SIDE_A.lan_address(), count=2, wait=0.3).received == set()
    assert a.drops()["unknown_vlan"] > 0

    # the tunnel does not mind, and the gateway's other side neither
    assert ping(bed["client-b"], SIDE_B.lan_address()).lost() == []
    interfaces.append(lan)
    reload(a)
    assert ping(client, far).lost() == []
    assert a.child()["spi_in"] == first
    counted = a.status()["dataplane"]["interfaces"][1]
    assert 0 < counted["rx_packets"] < 20


def test_what_needs_a_restart_is_named_and_nothing_is_done(bed):
    a, _ = bed.two_gateways(TunnelOptions())
    dataplane = a.configuration["dataplane"]
    dataplane["limits"]["sas"] = 2048
    dataplane["workers"] = 2
    dataplane["interfaces"][0]["name"] = "uplink"
    dataplane["interfaces"].append({"name": "dmz", "device": "net_af_packet2,iface=dmz",
                                    "addresses": ["10.1.99.1/24"]})
    for daemon in (a.dataplane, a.ike):
        why = refused_reload(a, daemon)
        for reason in ("dataplane.limits.sas changed from 1024 to 2048",
                       "dataplane.workers changed from 1 to 2",
                       'is on a device, net_af_packet2,iface=dmz, that the packet daemon did not open',
                       "restart"):
            assert reason in why
    assert [entry["name"] for entry in a.status()["dataplane"]["interfaces"]] == ["wan", "lan"]


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
