"""Many tunnels at once: what scripts/load measures, small."""

from harness.configuration import SIDE_B, TunnelOptions
from harness.load import Peers, add_namespace, serve_peers, wait_for_sas
from harness.traffic import SteadyPing

COUNT = 50


def test_fifty_peers_of_one_connection_come_up_and_all_rekey_under_traffic(bed):
    # Given a gateway with one connection towards any address, and a tunnel of its own under traffic
    configuration = serve_peers(bed.configuration("a", TunnelOptions()), bed.psk_file, COUNT)
    namespace = add_namespace(bed)
    gateway = bed.add_gateway("a", configuration)
    bed.add_gateway("b", bed.configuration("b", TunnelOptions()))
    gateway.culvert("initiate", "net")
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    peers = Peers(bed, namespace, COUNT)
    # When all peers come, half of them at once, and then all children are rekeyed
    established = peers.command("initiate", at_once=COUNT // 2, timeout=30)
    before = {child["spi_in"] for child in gateway.children("net-peers")}
    rekeyed = peers.command("rekey", at_once=COUNT, seconds=1.0, timeout=30)
    left = wait_for_sas(peers, 2 * COUNT, timeout=10)
    # Then each has one pair of SAs, a new one, and the traffic has not noticed
    assert established["done"] == COUNT, established
    assert len(before) == COUNT
    assert rekeyed["done"] == COUNT, rekeyed
    assert left == {"sas": 2 * COUNT, "violations": []}
    after = {child["spi_in"] for child in gateway.children("net-peers")}
    assert len(after) == COUNT and not after & before
    assert ping.stop().lost_packets == []
