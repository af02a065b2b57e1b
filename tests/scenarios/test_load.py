"""Many tunnels at once: what scripts/load measures, small."""

import pytest

from harness.configuration import SIDE_B, TunnelOptions
from harness.load import (Administration, Flood, Peers, TunnelTraffic, add_namespace, serve_peers,
                          wait_for_sas)
from harness.shell import wait_until
from harness.traffic import SteadyPing

COUNT = 50


def flaws(traffic):
    """What may not happen to a packet, and what is told of it."""
    wrong = {flaw: traffic[flaw] for flaw in TunnelTraffic.FLAWS if traffic[flaw]}
    return wrong and (wrong, traffic)


@pytest.mark.long
@pytest.mark.parametrize("udp_encapsulation", [False, True], ids=["esp", "esp-in-udp"])
def test_fifty_peers_of_one_connection_come_up_and_all_rekey_under_their_traffic(
        bed, udp_encapsulation):
    # Given a gateway with one connection towards any address, and a tunnel of its own under traffic
    configuration = serve_peers(bed.configuration("a", TunnelOptions()), bed.psk_file, COUNT)
    namespace = add_namespace(bed)
    gateway = bed.add_gateway("a", configuration)
    bed.add_gateway("b", bed.configuration("b", TunnelOptions()))
    gateway.culvert("initiate", "net")
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    peers = Peers(bed, namespace, COUNT, udp_encapsulation=udp_encapsulation)
    # When all peers come, half of them at once, and send through their tunnels, and then all
    # children are rekeyed
    established = peers.command("initiate", at_once=COUNT // 2, timeout=30)
    assert established["done"] == COUNT, established
    children = gateway.children("net-peers")
    before = {child["spi_in"] for child in children}
    assert {child["udp_encapsulation"] for child in children} == {udp_encapsulation}
    traffic = TunnelTraffic(bed, gateway, peers, per_second=40 * COUNT)
    carried_before = traffic.wait_until_carried("first", timeout=10)
    rekeyed = peers.command("rekey", at_once=COUNT, seconds=1.0, timeout=30)
    left = wait_for_sas(peers, 2 * COUNT, timeout=10)
    carried_after = traffic.wait_until_carried("later", timeout=10)
    carried, beside = traffic.stop(), ping.stop()
    # Then each has one pair of SAs, a new one, and has carried packets by the one and by the other;
    # none was lost there, nor in the tunnel beside them
    assert len(before) == COUNT
    assert not flaws(carried)
    assert carried_before and carried_after, carried
    assert carried["drops"] == {}
    assert rekeyed["done"] == COUNT, rekeyed
    assert left == {"sas": 2 * COUNT, "violations": []}
    after = {child["spi_in"] for child in gateway.children("net-peers")}
    assert len(after) == COUNT and not after & before
    assert beside.lost_packets == []


@pytest.mark.parametrize("claims_ike_sa", [False, True], ids=["new", "as of an IKE SA"])
def test_a_flood_from_forged_sources_stops_neither_tunnels_nor_a_new_peer(bed, claims_ike_sa):
    # Given a tunnel under traffic, and peers of unknown addresses that have theirs
    configuration = serve_peers(bed.configuration("a", TunnelOptions()), bed.psk_file, 20)
    namespace = add_namespace(bed)
    gateway = bed.add_gateway("a", configuration)
    far = bed.add_gateway("b", bed.configuration("b", TunnelOptions()))
    gateway.culvert("initiate", "net")
    peers = Peers(bed, namespace, 20)
    assert peers.command("initiate", end=10)["done"] == 10
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    # When requests come from ever other sources, more than the key daemon is to answer, or messages
    # that each name another IKE SA
    flood = Flood(bed, namespace, rate=8000, seconds=8, claims_ike_sa=claims_ike_sa)
    administration = Administration(gateway)
    wait_until(lambda: gateway.drops().get("ike_policed", 0) > 1000, 10, "the flood")
    rekeyed = peers.command("rekey", end=10, at_once=1, timeout=30)
    established = peers.command("initiate", first=10, at_once=2, timeout=30)
    # Then who has a tunnel rekeys it, who is new gets one, and the traffic has not noticed
    assert flood.running(), "the flood was over before they were done"
    assert rekeyed["done"] == 10, rekeyed
    assert established["done"] == 10, established
    lost = ping.stop().lost_packets
    # A machine that is slower than the flood leaves packets in front of the gateway, who counts them.
    missed = sum(interface["rx_missed"] for one in (gateway, far)
                 for interface in one.status()["dataplane"]["interfaces"])
    assert len(lost) <= min(missed, 10), (lost, missed)
    counters = gateway.ask("ike.sock", "counters")["result"]
    # And who administers it waits behind a few messages, not behind the flood
    waits = administration.stop()
    assert waits["answers"] >= 3 and waits["most_milliseconds"] < 1000, waits
    assert claims_ike_sa or counters["cookies_sent"] > 100
    assert counters["half_open"] <= 64, "what is forged costs no memory"
    flood.finish()
