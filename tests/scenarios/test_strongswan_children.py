"""Several children in one IKE SA beside strongSwan: each carries its own traffic and ends by itself."""

import copy

import pytest

from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.pair import Pair
from harness.shell import wait_until
from harness.strongswan import PeerOptions
from harness.traffic import SteadyPing, ping

FURTHER = {"second": 1, "third": 2}
NAMES = ("net", *FURTHER)


def network(letter, name, host="0/24"):
    """Behind a client: 10.111.0.0/24 and 10.112.0.0/24 at a, 10.121.0.0/24 and 10.122.0.0/24 at b."""
    return f"10.1{'ab'.index(letter) + 1}{FURTHER[name]}.0.{host}"


def address(letter, name):
    if name in FURTHER:
        return network(letter, name, "2")
    return (SIDE_A if letter == "a" else SIDE_B).client_address()


@pytest.fixture
def pair(bed):
    """Three networks at either end, a child for each."""
    configuration = bed.configuration("a", TunnelOptions(start_action="none"))
    children = configuration["connections"][0]["children"]
    for name in FURTHER:
        children.append({**copy.deepcopy(children[0]), "name": name,
                         "local_ts": [network("a", name)], "remote_ts": [network("b", name)]})
        configuration["dataplane"]["routes"] += [
            {"to": network("a", name), "via": SIDE_A.client_address()},
            {"to": network("b", name), "via": SIDE_B.wan_address}]
        for letter in "ab":
            bed[f"client-{letter}"].ip("addr", "add", network(letter, name, "2/24"), "dev", "eth0")
    pair = Pair(bed, configuration=configuration, peer=PeerOptions(children={
        name: (network("b", name), network("a", name)) for name in FURTHER}))
    for name in FURTHER:  # strongSwan's userspace ESP wants an address of its own in each network
        pair.peer.namespace.ip("addr", "add", network("b", name, "1/24"), "dev", "lan")
    return pair


def ping_through(bed, name, count, **options):
    return ping(bed["client-a"], address("b", name), count=count, interval=0.01,
                extra=("-I", address("a", name)), **options)


def packets(gateway):
    """By child: {in: packets, out: packets}."""
    counted = {}
    for sa in gateway.sas()["sas"]:
        counted.setdefault(sa["child"], {})[sa["direction"]] = sa["packets"]
    return counted


@pytest.mark.parametrize("who, other", [("culvert", "strongswan"), ("strongswan", "culvert")])
def test_each_carries_its_own_traffic_and_ends_by_itself(bed, pair, who, other):
    # Given three children that one end brought up, in one IKE SA
    for name in NAMES:
        pair.initiate(who, name)
        pair.wait_until_mirrored(name)
    assert pair.ike_spi()
    assert pair.gateway.ike_sas()[0]["role"] == ("initiator" if who == "culvert" else "responder")
    # When each network's client sends, then its packets are in its own child's SAs, at both ends
    counts = {name: 10 * (number + 1) for number, name in enumerate(NAMES)}
    for name, count in counts.items():
        assert ping_through(bed, name, count).lost() == []
    assert packets(pair.gateway) == {name: {"in": count, "out": count}
                                     for name, count in counts.items()}
    for name, count in counts.items():
        theirs = pair.strongswan_child(name)
        assert theirs["in_packets"] == theirs["out_packets"] == count
    # When one child is deleted by each end, then the remaining one goes on, and can be rekeyed
    steady = SteadyPing(bed["client-a"], address("b", "net"), bed.directory)
    for ends_it, name in ((who, "second"), (other, "third")):
        pair.terminate_child(ends_it, name)
        wait_until(lambda: not pair.gateway.children(name) and pair.strongswan_child(name) is None, 5,
                   f"{name} to go at both ends", 0.05)
        steady.wait_for_replies(30)
    before = pair.gateway.child()["spi_in"]
    pair.rekey(other)
    wait_until(lambda: pair.mirrored() and pair.gateway.child()["spi_in"] != before, 8, "the rekey",
               0.05)
    steady.wait_for_replies(30)
    assert steady.stop().lost_packets == []
    assert pair.gateway.drops() == {} and pair.ike_spi()
    # and nothing passes for those that are gone
    for name in FURTHER:
        assert len(ping_through(bed, name, 3, wait=0.2).lost()) == 3
