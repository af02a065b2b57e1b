"""Two gateways negotiate by IKEv2 and carry the clients' traffic."""

import collections
import contextlib
import ipaddress
import threading

import pytest

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions, write_secret
from harness.gateway import CommandError
from harness.shell import wait_until
from harness.traffic import Iperf3, SteadyPing, ping

INNER = {ipaddress.ip_address(address.split("/")[0]).packed
         for side in (SIDE_A, SIDE_B) for address in side.client + side.lan}


def assert_mirrored(a, b):
    """Both ends hold one IKE SA with the same SPIs and one child whose SPIs are each other's."""
    near, far = a.ike_sas()[0], b.ike_sas()[0]
    assert (near["initiator_spi"], near["responder_spi"]) == (
        far["initiator_spi"], far["responder_spi"])
    assert {near["role"], far["role"]} == {"initiator", "responder"}
    assert near["suite"] == far["suite"]
    assert a.child()["spi_out"] == b.child()["spi_in"]
    assert a.child()["spi_in"] == b.child()["spi_out"]
    assert a.child()["suite"] == b.child()["suite"]


@pytest.mark.parametrize("outer", [4, 6], ids=["outer-v4", "outer-v6"])
@pytest.mark.parametrize("inner", [4, 6], ids=["inner-v4", "inner-v6"])
def test_first_packet_brings_the_tunnel_up(bed, outer, inner):
    # Given two gateways whose children wait for traffic
    a, b = bed.two_gateways(TunnelOptions(outer_family=outer, inner_families=(inner,)))
    with bed.capture() as capture:
        # When a client sends
        first = bed.ping(inner, count=5, interval=0.2)
        # Then the tunnel comes up, both ends agree, and what follows passes
        a.wait_for_child()
        b.wait_for_child()
        steady = bed.ping(inner, count=50, interval=0.01)
    assert_mirrored(a, b)
    assert first.received, "packets are held while the tunnel is negotiated"
    assert steady.lost() == []
    # And only key exchange, ESP and neighbours' questions were on the wire
    wire = WireContents(capture.frames(), INNER)
    assert wire.unexpected() == {}
    assert wire.inner_addresses_seen == 0
    assert wire.protected() >= 100
    assert wire.kinds["ike"] >= 4


def test_first_packet_is_held_not_dropped(bed):
    bed.two_gateways(TunnelOptions())
    result = bed.ping(count=1, wait=3)
    assert result.lost() == []


@pytest.mark.parametrize("proposal, esp", [
    ("aes128gcm16-prfsha256-x25519", "aes128gcm16"),
    ("aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384"),
    ("aes192gcm16-prfsha512-ecp521", "aes192gcm16-ecp521"),
    ("aes128-sha256-ecp256", "aes128gcm16-ecp256"),
    ("aes256-sha384-modp2048", "aes256gcm16-modp2048"),
    ("aes256-sha512-modp3072", "aes256gcm16-x25519"),
    ("aes256gcm16-prfsha256-modp4096", "aes256gcm16-noesn"),
])
def test_suites(bed, proposal, esp):
    a, b = bed.two_gateways(TunnelOptions(proposals=[proposal], esp_proposals=[esp]))
    a.culvert("initiate", "net")
    b.wait_for_child()
    assert_mirrored(a, b)
    assert bed.ping(count=10, interval=0.01).lost() == []
    a.culvert("rekey", "net")
    assert bed.ping(count=10, interval=0.01).lost() == []
    assert a.child()["esn"] == b.child()["esn"] == ("noesn" not in esp)


def test_peer_prefers_another_group(bed):
    """INVALID_KE_PAYLOAD (RFC 7296 §1.2): the initiator's first guess is not the responder's."""
    options = TunnelOptions(
        proposals=["aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-x25519"])
    a = bed.add_gateway("a", bed.configuration("a", options))
    options.proposals = ["aes256gcm16-prfsha384-x25519"]
    b = bed.add_gateway("b", bed.configuration("b", options))
    a.culvert("initiate", "net")
    b.wait_for_child()
    assert_mirrored(a, b)
    assert a.ike_sas()[0]["suite"].endswith("x25519")


def test_transport_mode_is_negotiated(bed):
    a, b = bed.two_gateways(TunnelOptions(mode="transport"))
    a.culvert("initiate", "net")
    b.wait_for_child()
    assert_mirrored(a, b)
    for gateway in (a, b):
        assert {sa["mode"] for sa in gateway.sas()["sas"]} == {"transport"}


def packets_by_direction(gateway):
    sas = gateway.ask("dataplane.sock", "sas")["result"]["sas"]
    return {sa["direction"]: sa["packets"] for sa in sas}


def test_transport_mode_carries_the_gateways_own_traffic(bed):
    """RFC 4301 §4.1: between the two gateways' own addresses. What a gateway has to say of itself are
    answers to ICMP and errors: each is asked for one by a packet of the other's with hop limit 1."""
    options = TunnelOptions(mode="transport")
    for letter, side in (("a", SIDE_A), ("b", SIDE_B)):
        configuration = bed.configuration(letter, options)
        configuration["policies"] = [{"action": "bypass", "source": "192.0.2.0/24",
                                      "destination": side.network()}]
        bed.add_gateway(letter, configuration)
    a, b = bed.gateways["a"], bed.gateways["b"]
    a.culvert("initiate", "net")
    b.wait_for_child()
    with bed.capture() as capture:
        for near, far, device in ((SIDE_A, SIDE_B, "to-a"), (SIDE_B, SIDE_A, "to-b")):
            gateway = bed["gw-a" if near is SIDE_A else "gw-b"]
            packet = (Ether(dst=gateway.address_of_device("wan")) /
                      IP(src=far.wan_address, dst=near.client_address(), ttl=1) / UDP(dport=9))
            with contextlib.closing(bed["wan"].packet_socket(device)) as link:
                for _ in range(5):
                    link.send(bytes(packet))
        # Then each one's complaint went to the other protected, with no second IP header
        wait_until(lambda: packets_by_direction(a) == packets_by_direction(b)
                   == {"in": 5, "out": 5}, 5, "five errors each way")
    wire = WireContents(capture.frames())
    assert wire.protected() == 10
    # 20 IPv4, 8 ESP, 8 IV, 36 ICMP with what it quotes, 2 of padding, 2 of trailer, 16 ICV
    assert {len(frame.data) - 14 for frame in capture.frames() if frame.kind == "esp"} == {92}


def test_udp_encapsulation_can_be_forced(bed):
    options = TunnelOptions(connection_options={"encap": "yes"})
    a, b = bed.two_gateways(options)
    with bed.capture() as capture:
        a.culvert("initiate", "net")
        b.wait_for_child()
        assert bed.ping(count=20, interval=0.01).lost() == []
    wire = WireContents(capture.frames(), INNER)
    assert wire.unexpected() == {}
    assert wire.kinds["esp-in-udp"] >= 40
    assert wire.kinds["esp"] == 0


def packets_by_policy(gateway):
    """Of each origin; there is one child."""
    rows = gateway.culvert("policies")["policies"]
    return collections.Counter({row["origin"]: row["packets"] for row in rows})


def test_each_policy_counts_the_packets_that_it_decides(tunnel_bed):
    gateways = [tunnel_bed.gateways[letter] for letter in "ab"]
    before = [packets_by_policy(gateway) for gateway in gateways]
    # When a client's packets go through the child, and some where no policy leads
    for family, count in ((4, 7), (6, 11)):
        assert tunnel_bed.ping(family, count=count, interval=0.01).lost() == []
    ping(tunnel_bed["client-a"], SIDE_B.wan_address, count=3, wait=0.2)
    # Then its SA's policy has counted what went out, and what stands behind all of them the others
    counted = [packets_by_policy(gateway) - then for gateway, then in zip(gateways, before)]
    assert [of["negotiated"] for of in counted] == [18, 18]
    assert counted[0]["default"] >= 3
    assert set(counted[0]) | set(counted[1]) == {"negotiated", "default"}


@pytest.mark.long
def test_rekeys_lose_nothing(tunnel_bed):
    a, b = tunnel_bed.gateways["a"], tunnel_bed.gateways["b"]
    steady = SteadyPing(tunnel_bed["client-a"], SIDE_B.client_address(), tunnel_bed.directory)
    for gateway, words in ((a, ["net"]), (b, ["net"]), (a, ["--ike", "to-branch"]),
                           (b, ["--ike", "to-hq"]), (a, ["net"])):
        before_child, before_ike = a.child(), a.ike_sas()[0]
        gateway.culvert("rekey", *words)
        steady.wait_for_replies(30)
        wait_until(lambda: len(a.children()) == 1 and len(b.children()) == 1, 5, "the old to go")
        assert_mirrored(a, b)
        if "--ike" in words:
            assert a.ike_sas()[0]["initiator_spi"] != before_ike["initiator_spi"]
            assert a.child()["spi_out"] == before_child["spi_out"]
        else:
            assert a.child()["spi_out"] != before_child["spi_out"]
            assert a.child()["spi_in"] != before_child["spi_in"]
    steady.wait_for_replies(700, timeout=20)  # past the grace of the old SAs
    assert steady.stop().lost_packets == []


@pytest.mark.long
def test_rekeys_that_collide_lose_nothing(tunnel_bed):
    """Both ends start at once (RFC 7296 §2.8.1): one new pair of SAs survives."""
    a, b = tunnel_bed.gateways["a"], tunnel_bed.gateways["b"]
    steady = SteadyPing(tunnel_bed["client-a"], SIDE_B.client_address(), tunnel_bed.directory)
    before = a.child()["spi_out"]
    threads = [threading.Thread(target=_ignore_refusal, args=(gateway,)) for gateway in (a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steady.wait_for_replies(700, timeout=20)
    assert steady.stop().lost_packets == []
    assert_mirrored(a, b)
    assert a.child()["spi_out"] != before


def _ignore_refusal(gateway):
    """The end that loses the collision may say so."""
    with contextlib.suppress(CommandError):
        gateway.culvert("rekey", "net")


@pytest.mark.long
def test_short_lifetime_rekeys_by_itself(bed):
    options = TunnelOptions(child_options={"rekey_time": "2s", "life_time": "6s"})
    a, b = bed.two_gateways(options)
    a.culvert("initiate", "net")
    first = a.child()["spi_out"]
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    wait_until(lambda: len(a.children()) == 1 and a.child()["spi_out"] != first, 10, "a rekey", 0.2)
    steady.wait_for_replies(700, timeout=20)
    assert steady.stop().lost_packets == []


def test_terminate_takes_it_down_at_both_ends(bed):
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    a.culvert("terminate", "to-branch")
    wait_until(lambda: not a.ike_sas() and not b.ike_sas(), 5, "both ends to be down")
    assert a.status()["connections"][0]["state"] == "down"
    # The child's trap stays: nothing leaves in clear, and the next packet brings it up again
    assert bed.ping(count=5, interval=0.3).received
    b.wait_for_child()


def test_tcp_finds_its_way_through_the_smaller_mtu(tunnel_bed):
    """The clients' interfaces say 1500; the tunnel takes its part of that (RFC 1191)."""
    iperf = Iperf3(tunnel_bed["client-b"], tunnel_bed["client-a"], SIDE_B.client_address(),
                   tunnel_bed.directory)
    try:
        assert iperf.measure(1) > 5
        assert iperf.measure(1, reverse=True) > 5
    finally:
        iperf.stop()


def test_ping_to_the_gateways_own_addresses(tunnel_bed):
    near = ping(tunnel_bed["client-a"], SIDE_A.lan_address(), count=5)
    assert near.lost() == []
    near = ping(tunnel_bed["client-a"], SIDE_A.lan_address(6), count=5)
    assert near.lost() == []
    far = ping(tunnel_bed["client-a"], SIDE_B.lan_address(), count=5)
    assert far.lost() == [], "the far gateway's inner address is inside the tunnel"


def test_wrong_psk_is_named(bed):
    options = TunnelOptions()
    a = bed.add_gateway("a", bed.configuration("a", options))
    configuration = bed.configuration("b", options)
    configuration["secrets"][0]["psk_file"] = str(
        write_secret(bed.directory / "other.psk", "not the same secret at all"))
    bed.add_gateway("b", configuration)
    with pytest.raises(CommandError) as refused:
        a.culvert("initiate", "net", timeout=40)
    assert "authentication" in str(refused.value).lower()
    connection = a.status()["ike"]["connections"][0]
    assert connection["state"] != "up"
    assert connection["last_failure"]["failure"] == "authentication_failed_remote"
    assert connection["last_failure"]["remedy"]


def test_no_common_proposal_is_named(bed):
    a = bed.add_gateway("a", bed.configuration("a", TunnelOptions(
        proposals=["aes128gcm16-prfsha256-x25519"])))
    bed.add_gateway("b", bed.configuration("b", TunnelOptions(
        proposals=["aes256gcm16-prfsha384-ecp384"])))
    with pytest.raises(CommandError):
        a.culvert("initiate", "net", timeout=40)
    failure = a.status()["ike"]["connections"][0]["last_failure"]
    assert failure["failure"] == "no_ike_proposal_chosen"
