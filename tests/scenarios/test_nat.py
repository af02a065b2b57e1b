"""A real NAT between the gateways: nftables masquerades in a router of its own (RFC 7296 §2.23,
RFC 3948), in front of the initiator, in front of both, and one that forgets its mappings."""

import contextlib

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B
from harness.nat import natted
from harness.pair import Pair
from harness.shell import wait_until
from harness.strongswan import PeerOptions
from harness.traffic import SteadyPing

ADDRESSES = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}


def test_initiator_behind_a_nat(bed):
    with natted(bed, "a") as (_, configurations):
        a = bed.add_gateway("a", configurations["a"])
        b = bed.add_gateway("b", configurations["b"])
        with bed.capture(port="to-b") as capture:
            a.culvert("initiate", "net")
            b.wait_for_child()
            assert bed.ping(count=50, interval=0.01).lost() == []
        near, far = a.ike_sas()[0], b.ike_sas()[0]
        assert near["nat_local"] and not near["nat_remote"]
        assert far["nat_remote"] and not far["nat_local"]
        assert far["remote"].startswith("192.0.2.11:")
        assert a.child()["udp_encapsulation"] and b.child()["udp_encapsulation"]
        # rekeys from either side pass the router
        for gateway in (a, b):
            gateway.culvert("rekey", "net")
            gateway.culvert("rekey", "--ike", gateway.configuration["connections"][0]["name"])
        assert bed.ping(count=20, interval=0.01).lost() == []
    wire = WireContents(capture.frames(), ADDRESSES)
    assert wire.inner_addresses_seen == 0
    assert wire.kinds["esp"] == 0


def test_both_behind_nats(bed):
    """The responder's router forwards both ports; source ports are the router's choice."""
    with natted(bed, "ab", forward="b") as (routers, configurations):
        routers["a"].rules("20000-20999")
        a = bed.add_gateway("a", configurations["a"])
        b = bed.add_gateway("b", configurations["b"])
        a.culvert("initiate", "net")
        b.wait_for_child()
        for gateway in (a, b):
            sa = gateway.ike_sas()[0]
            assert sa["nat_local"] and sa["nat_remote"]
        port = int(b.ike_sas()[0]["remote"].rsplit(":", 1)[1])
        assert 20000 <= port <= 20999
        assert bed.ping(count=50, interval=0.01).lost() == []
        b.culvert("rekey", "net")
        assert bed.ping(count=20, interval=0.01).lost() == []


def test_transport_mode_behind_nats(bed):
    """RFC 7296 §2.23.1: each side has its own names for the two addresses; b knows none of a's."""
    with natted(bed, "ab", forward="b", mode="transport") as (routers, configurations):
        for letter, network in (("a", SIDE_A.network()), ("b", SIDE_B.network())):
            configurations[letter]["policies"] = [
                {"action": "bypass", "source": "192.0.2.0/24", "destination": network}]
        passive = configurations["b"]["connections"][0]
        del passive["remote"]["address"], passive["children"][0]["remote_ts"]
        a = bed.add_gateway("a", configurations["a"])
        b = bed.add_gateway("b", configurations["b"])
        a.culvert("initiate", "net")
        b.wait_for_child()
        names = {"a": ("192.168.1.1/32", "192.0.2.12/32"), "b": ("192.168.2.1/32", "192.0.2.11/32")}
        for who in (None, a, b):
            if who is not None:
                who.culvert("rekey", "net")
            before = {gateway: gateway.child_packets("in") for gateway in (a, b)}
            for letter, client in (("a", SIDE_A), ("b", SIDE_B)):
                far = routers["b" if letter == "a" else "a"].outside
                let_complain(bed, letter, routers[letter], far, client.client_address())
            for letter, gateway in (("a", a), ("b", b)):
                child = gateway.child()
                assert (child["local_ts"], child["remote_ts"]) == tuple([n] for n in names[letter])
                assert child["udp_encapsulation"] and child["notice"] is None
                wait_until(lambda: gateway.child_packets("in") == before[gateway] + 5, 5,
                           "the other gateway's complaints")
                assert {sa["mode"] for sa in gateway.sas()["sas"]} == {"transport"}


def let_complain(bed, letter, router, source, destination):
    """Packets whose hops end at the gateway: it tells their source, which is the other gateway."""
    gateway = bed[f"gw-{letter}"]
    packet = (Ether(dst=gateway.address_of_device("wan")) /
              IP(src=source, dst=destination, ttl=1) / UDP(dport=9))
    with contextlib.closing(router.namespace.packet_socket("inside")) as link:
        for _ in range(5):
            link.send(bytes(packet))


def test_esp_moves_with_the_mapping(bed):
    """The router forgets the port mid-flow: the next ESP packet from inside shows the new one, and
    both ESP and IKE follow it (RFC 7296 §2.23)."""
    with natted(bed, "a") as (routers, configurations):
        a = bed.add_gateway("a", configurations["a"])
        b = bed.add_gateway("b", configurations["b"])
        a.culvert("initiate", "net")
        b.wait_for_child()
        child = b.child()["spi_in"]
        steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
        steady.wait_for_replies(20)
        routers["a"].rebind("30000-30999")

        def remote_port():
            return int(b.ike_sas()[0]["remote"].rsplit(":", 1)[1])

        wait_until(lambda: 30000 <= remote_port() <= 30999, 10, "the new port at b", 0.05)
        steady.wait_for_replies(100)
        assert b.child()["spi_in"] == child, "the same SAs, at another address"
        outer = {sa["remote"] for sa in b.sas()["sas"]}
        assert outer == {f"192.0.2.11:{remote_port()}"}
        # and IKE goes there too
        b.culvert("rekey", "net")
        steady.wait_for_replies(50)
        steady.stop()
        assert any("peer_moved" in text for text in b.logs().values())


def test_ike_moves_with_the_mapping(bed):
    """No traffic: the liveness check from inside shows the new port."""
    with natted(bed, "a") as (routers, configurations):
        a = bed.add_gateway("a", configurations["a"])
        b = bed.add_gateway("b", configurations["b"])
        a.culvert("initiate", "net")
        b.wait_for_child()
        routers["a"].rebind("31000-31999")
        wait_until(lambda: ":31" in b.ike_sas()[0]["remote"], 20, "the new port at b", 0.1)
        assert bed.ping(count=10, interval=0.02).lost() == []


@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_we_are_behind_a_nat_before_strongswan(bed, who):
    with natted(bed, "a") as (routers, configurations):
        routers["a"].rules("22000-22999")
        a = bed.add_gateway("a", configurations["a"])
        strongswan = bed.add_strongswan(PeerOptions(remote_address="192.0.2.11"))
        a.culvert("initiate", "net")
        wait_until(strongswan.sas, 5, "strongSwan's IKE SA")
        assert a.ike_sas()[0]["nat_local"]
        assert bed.ping(count=50, interval=0.01).lost() == []
        if who == "culvert":
            a.culvert("rekey", "net")
        else:
            strongswan.rekey_child()
        assert bed.ping(count=50, interval=0.01).lost() == []


def test_only_the_responder_is_behind_a_nat_and_it_is_strongswan(bed):
    with natted(bed, "b", forward="b") as (routers, configurations):
        a = bed.add_gateway("a", configurations["a"])
        strongswan = bed.add_strongswan(PeerOptions(), behind=routers["b"])
        a.culvert("initiate", "net")
        sa = a.ike_sas()[0]
        assert sa["nat_remote"] and not sa["nat_local"] and sa["role"] == "initiator"
        assert sa["remote"] == f"{routers['b'].outside}:4500"
        assert bed.ping(count=50, interval=0.01).lost() == []
        strongswan.rekey_child()
        assert bed.ping(count=20, interval=0.01).lost() == []


def test_strongswan_is_behind_a_nat(bed):
    with natted(bed, "b") as (routers, configurations):
        routers["b"].rules("23000-23999")
        a = bed.add_gateway("a", configurations["a"])
        strongswan = bed.add_strongswan(PeerOptions(), behind=routers["b"])
        strongswan.initiate()
        a.wait_for_child()
        sa = a.ike_sas()[0]
        assert sa["nat_remote"] and not sa["nat_local"]
        assert 23000 <= int(sa["remote"].rsplit(":", 1)[1]) <= 23999
        assert bed.ping(count=50, interval=0.01).lost() == []
        routers["b"].rebind("24000-24999")
        strongswan.rekey_child()
        wait_until(lambda: ":24" in a.ike_sas()[0]["remote"], 10, "the new port", 0.1)
        assert bed.ping(count=50, interval=0.01).lost() == []


@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_both_are_behind_nats_and_one_is_strongswan(bed, who):
    """The router before who answers forwards both ports, the other one chooses source ports."""
    initiator, responder = ("a", "b") if who == "culvert" else ("b", "a")
    with natted(bed, "ab", forward=responder) as (routers, configurations):
        routers[initiator].rules("25000-25999")
        pair = Pair(bed, configuration=configurations["a"], behind=routers["b"],
                    peer=PeerOptions(remote_address=routers["a"].outside))
        with bed.capture(port="nat-b") as capture:
            pair.initiate(who)
            pair.wait_until_mirrored()
            assert bed.ping(count=50, interval=0.01).lost() == []
            for one in ("culvert", "strongswan"):
                for what in ("child", "ike_sa"):
                    pair.rekey(one, what)
                    wait_until(pair.ike_spi, 8, "one IKE SA at both ends", 0.05)
                    pair.wait_until_mirrored()
                assert bed.ping(count=20, interval=0.01).lost() == []
        sa, = pair.gateway.ike_sas()
        assert sa["nat_local"] and sa["nat_remote"]
        for end in ("local", "remote"):
            assert f"{end} host is behind NAT" in pair.peer.log()
        assert sa["remote"].startswith("192.0.2.12:") and pair.gateway.child()["udp_encapsulation"]
        port = int(sa["remote"].rsplit(":", 1)[1])
        assert port == 4500 if who == "culvert" else 25000 <= port <= 25999
        # The clients have IPv6, their gateway has none.
        assert pair.gateway.drops().keys() <= {"neighbor_discovery_ignored"}
    wire = WireContents(capture.frames(), ADDRESSES)
    assert wire.inner_addresses_seen == 0 and wire.kinds["esp"] == 0 and wire.kinds["esp-in-udp"] >= 180
