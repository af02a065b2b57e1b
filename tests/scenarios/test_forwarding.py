"""What a router owes its hosts: policies, hop limits, path MTU, answers to errors."""

import re
import signal

import pytest

from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.shell import wait_until
from harness.traffic import ping

INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}


def two_routers(bed, policies=(), default_policy="discard"):
    """Two gateways without any connection: only policies decide."""
    for letter in ("a", "b"):
        configuration = bed.configuration(letter)
        configuration["policies"] = list(policies)
        configuration["default_policy"] = default_policy
        bed.add_gateway(letter, configuration, start=False).start_dataplane()
    return bed.gateways["a"]


def both_ways(action, **words):
    return {"action": action, "source": SIDE_A.network(), "destination": SIDE_B.network(), **words}


def test_the_default_is_discard(bed):
    gateway = two_routers(bed)
    with bed.capture() as capture:
        result = bed.ping(count=10, interval=0.01, wait=0.2)
    assert not result.received
    assert WireContents(capture.frames(), INNER).inner_addresses_seen == 0
    assert gateway.drops() == {"no_policy_match": 10}


def test_default_bypass_forwards_in_clear(bed):
    gateway = two_routers(bed, default_policy="bypass")
    assert bed.ping(count=20, interval=0.01).lost() == []
    assert bed.ping(6, count=20, interval=0.01).lost() == []
    assert gateway.drops() == {}


def test_a_bypass_policy_lets_only_its_own_traffic_pass(bed):
    gateway = two_routers(bed, [both_ways("bypass", protocol="icmp")])
    assert bed.ping(count=20, interval=0.01).lost() == []
    refused = bed["client-a"].run(
        "/usr/bin/python3", "-c",
        "import socket, sys\n"
        "s = socket.socket(); s.settimeout(0.5)\n"
        f"try: s.connect(('{SIDE_B.client_address()}', 5201))\n"
        "except OSError: sys.exit(7)\n", check=False)
    assert refused.returncode == 7
    assert gateway.drops()["no_policy_match"] >= 1


@pytest.mark.parametrize("family", [4, 6])
def test_a_static_neighbour_has_the_mac_that_is_written_down(bed, family):
    gateway = two_routers(bed, default_policy="bypass")
    peer = {"interface": "wan", "address": SIDE_B.wan_address_of(family)}

    def known():
        rows = gateway.ask("dataplane.sock", "neighbors")["result"]["neighbors"]
        return {row["address"]: (row["state"], row["mac"]) for row in rows}.get(peer["address"])

    def reload(neighbors):
        gateway.configuration["dataplane"]["neighbors"] = neighbors
        gateway.configure(gateway.configuration)
        before = gateway.dataplane.text().count(" reloaded ")
        gateway.dataplane.send_signal(signal.SIGHUP)
        wait_until(lambda: gateway.dataplane.text().count(" reloaded ") > before, 10, "the reload", 0.05)

    assert bed.ping(family, count=5, interval=0.01).lost() == []
    state, mac = known()
    assert state == "reachable"
    # Given another station's MAC: what the neighbour itself says in ARP or ND is not believed
    reload([{**peer, "mac": "02:00:00:00:99:99"}])
    assert known() == ("static", "02:00:00:00:99:99")
    assert not bed.ping(family, count=5, interval=0.2, wait=0.5).received
    assert known() == ("static", "02:00:00:00:99:99")
    # When its own is written down, then packets reach it again
    reload([{**peer, "mac": mac}])
    assert known() == ("static", mac)
    assert bed.ping(family, count=5, interval=0.01).lost() == []
    # And the link has its say once it is gone from the file
    reload([])
    assert bed.ping(family, count=5, interval=0.01).lost() == []
    assert known() == ("reachable", mac)


def test_a_discard_policy_before_a_bypass_wins(bed):
    gateway = two_routers(bed, [both_ways("discard", protocol="icmp"), both_ways("bypass")])
    assert not bed.ping(count=5, interval=0.01, wait=0.2).received
    assert gateway.drops() == {"policy_discard": 5}


def test_policies_are_listed_in_the_order_of_matching(bed):
    configuration = bed.configuration("a", TunnelOptions())
    configuration["policies"] = [both_ways("discard", protocol="udp")]
    gateway = bed.add_gateway("a", configuration)
    origins = [policy["origin"] for policy in gateway.culvert("policies")["policies"]]
    assert origins[0] == "configured"
    assert origins[1] == "trap"
    assert origins[-1] == "default"


def test_a_bypass_policy_stands_before_the_tunnel(bed):
    """Explicit policies come first: an operator's exception leaves beside the tunnel."""
    bypass = both_ways("bypass", protocol="icmp")
    for letter in ("a", "b"):
        configuration = bed.configuration(letter, TunnelOptions())
        configuration["policies"] = [bypass]
        bed.add_gateway(letter, configuration)
    bed.ping(count=1)  # neighbours are known
    with bed.capture() as capture:
        assert bed.ping(count=10, interval=0.01).lost() == []
    wire = WireContents(capture.frames(), INNER)
    assert wire.inner_addresses_seen == 20 and wire.protected() == 0


@pytest.mark.parametrize("family", [4, 6])
def test_hop_limit_one_is_answered(tunnel_bed, family):
    """Traceroute's first hop: time exceeded from the gateway's inner address (RFC 1812 §5.3.1)."""
    completed = tunnel_bed["client-a"].run(
        "ping", "-n", "-c", 2, "-i", 0.3, "-W", 1, "-t", 1, SIDE_B.client_address(family),
        check=False)
    from_gateway = re.escape(SIDE_A.lan_address(family))
    assert re.search(rf"From {from_gateway}\S* icmp_seq=\d+ (Time to live|Time) exceeded",
                     completed.stdout), completed.stdout


def test_hop_limit_two_is_answered_through_the_tunnel(tunnel_bed):
    """The far gateway's answer comes back protected, from its inner address."""
    completed = tunnel_bed["client-a"].run(
        "ping", "-n", "-c", 2, "-i", 0.3, "-W", 1, "-t", 2, SIDE_B.client_address(), check=False)
    assert f"From {SIDE_B.lan_address()} icmp_seq" in completed.stdout, completed.stdout


def test_hop_limit_three_arrives(tunnel_bed):
    assert ping(tunnel_bed["client-a"], SIDE_B.client_address(), count=2,
                extra=["-t", "3"]).lost() == []


@pytest.mark.parametrize("family, size", [(4, 1472), (6, 1452)])
def test_a_packet_too_big_for_the_tunnel_is_answered(tunnel_bed, family, size):
    """1500 bytes with DF: the gateway says how much fits (RFC 4301 §8.2.1), and that much passes."""
    client, address = tunnel_bed["client-a"], SIDE_B.client_address(family)
    completed = client.run("ping", "-n", "-M", "do", "-s", size, "-c", 3, "-i", 0.3, "-W", 1,
                           address, check=False)
    said = re.search(r"(?:Frag needed and DF set \(mtu = |Packet too big: mtu=)(\d+)",
                     completed.stdout)
    assert said, completed.stdout
    mtu = int(said.group(1))
    assert 1380 <= mtu < 1500
    overhead = 28 if family == 4 else 48
    fits = ping(client, address, count=3, size=mtu - overhead, extra=["-M", "do"])
    assert fits.lost() == [], "what the gateway said fits, fits"


def test_no_route_is_counted(bed):
    gateway = two_routers(bed, default_policy="bypass")
    result = ping(bed["client-a"], "203.0.113.9", count=3, wait=0.2)
    assert not result.received
    wait_until(lambda: gateway.drops().get("no_route") == 3, 3, "three drops: no_route")


def test_a_neighbour_that_is_not_there_is_counted(bed):
    gateway = two_routers(bed, default_policy="bypass")
    result = ping(bed["client-b"], "10.1.0.77", count=2, wait=0.2)
    assert not result.received
    wait_until(lambda: gateway.drops().get("neighbor_unresolved", 0) >= 2, 10,
               "drops: neighbor_unresolved", 0.2)
    neighbors = gateway.culvert("neighbors")["neighbors"]
    assert {"10.1.0.77"} == {entry["address"] for entry in neighbors
                             if entry["state"] in ("incomplete", "failed")}
