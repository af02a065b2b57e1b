"""MOBIKE (RFC 4555): an address that changes under a tunnel that stays.

strongSwan's userspace ESP cannot move an SA: it rekeys its child by itself when the IKE SA has moved.
"""

import pytest

from harness.bridge import blocked
from harness.configuration import SIDE_B, TunnelOptions
from harness.reloads import reload
from harness.shell import wait_until
from harness.strongswan import PeerOptions
from harness.traffic import SteadyPing

MOBILE = {"mobike": "yes", "dpd_delay": "5s"}
OTHER_A, OTHER_B = "192.0.2.21", "192.0.2.22"


def test_strongswan_moves_to_another_address(bed):
    """Its address goes away: it says UPDATE_SA_ADDRESSES from the other one, we check and follow."""
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions(
        connection_options=MOBILE)))
    strongswan = bed.add_strongswan(PeerOptions(mobike="yes", local_address="%any"))
    strongswan.initiate()
    gateway.wait_for_child()
    assert gateway.ike_sas()[0]["mobike"]
    ike = gateway.ike_sas()[0]["initiator_spi"]
    assert bed.ping(count=10, interval=0.02).lost() == []
    # the second address of a network stays when the first goes
    strongswan.namespace.sysctl("net.ipv4.conf.wan.promote_secondaries=1")
    strongswan.namespace.ip("addr", "add", f"{OTHER_B}/24", "dev", "wan")
    strongswan.namespace.ip("addr", "del", SIDE_B.wan[0], "dev", "wan")
    wait_until(lambda: gateway.ike_sas()[0]["remote"].startswith(f"{OTHER_B}:"), 15,
               "strongSwan at its new address", 0.1)
    wait_until(lambda: {sa["remote"].rsplit(":", 1)[0] for sa in gateway.sas()["sas"]}
               == {OTHER_B}, 5, "ESP to follow", 0.05)
    assert [sa["initiator_spi"] for sa in gateway.ike_sas()] == [ike]
    assert bed.ping(count=20, interval=0.02).lost() == []


@pytest.mark.long
def test_we_leave_a_path_that_died(bed):
    """We have a second address; the first one's packets do not pass any more. strongSwan follows."""
    configuration = bed.configuration("a", TunnelOptions(connection_options=MOBILE))
    wan = configuration["dataplane"]["interfaces"][0]
    wan["addresses"] = [*wan["addresses"], f"{OTHER_A}/24"]
    gateway = bed.add_gateway("a", configuration)
    bed.add_strongswan(PeerOptions(mobike="yes"))
    gateway.culvert("initiate", "net")
    ike = gateway.ike_sas()[0]["initiator_spi"]
    assert bed.ping(count=10, interval=0.02).lost() == []
    with blocked(bed, "192.0.2.1"):
        wait_until(lambda: gateway.ike_sas()[0]["local"].startswith(f"{OTHER_A}:"), 30,
                   "us at the other address", 0.1)
        assert [sa["initiator_spi"] for sa in gateway.ike_sas()] == [ike]
        wait_until(lambda: bed.ping(count=1, wait=1).received, 10, "the tunnel over the new path")
        assert bed.ping(count=20, interval=0.02).lost() == []


@pytest.mark.long
def test_two_gateways_leave_a_path_that_died(bed):
    options = TunnelOptions(connection_options=MOBILE)
    configuration = bed.configuration("a", options)
    wan = configuration["dataplane"]["interfaces"][0]
    wan["addresses"] = [*wan["addresses"], f"{OTHER_A}/24"]
    a = bed.add_gateway("a", configuration)
    b = bed.add_gateway("b", bed.configuration("b", options))
    a.culvert("initiate", "net")
    b.wait_for_child()
    child = a.child()["spi_in"]
    steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    with blocked(bed, "192.0.2.1"):
        wait_until(lambda: b.ike_sas()[0]["remote"].startswith(f"{OTHER_A}:"), 30,
                   "b to see a at the other address", 0.1)
        steady.wait_for_replies(50)
    steady.stop()
    assert a.child()["spi_in"] == child
    assert {sa["remote"].rsplit(":", 1)[0] for sa in b.sas()["sas"]} <= {OTHER_A, OTHER_A + ":0"}


@pytest.mark.parametrize("which", ["initiator", "responder"])
def test_a_reload_takes_the_address_in_use_away(bed, which):
    """Nobody waits for dead peer detection: both ends leave it at once, and nothing is made anew."""
    options = TunnelOptions(connection_options={"mobike": "yes"})
    a = bed.add_gateway("a", bed.configuration("a", options), start=False)
    b = bed.add_gateway("b", bed.configuration("b", options), start=False)
    moving, other = (a, OTHER_A) if which == "initiator" else (b, OTHER_B)
    wan = moving.configuration["dataplane"]["interfaces"][0]
    was = list(wan["addresses"])
    wan["addresses"] = [*was, f"{other}/24"]
    del moving.configuration["connections"][0]["local"]["address"]
    for gateway in (a, b):
        gateway.configure(gateway.configuration)
        gateway.start()
    a.culvert("initiate", "net")
    b.wait_for_child()
    before = {gateway: gateway.child()["spi_in"] for gateway in (a, b)}
    assert bed.ping(count=10, interval=0.02).lost() == []

    wan["addresses"] = [*was[1:], f"{other}/24"]
    reload(moving)
    for gateway, end in ((moving, "local"), (a if moving is b else b, "remote")):
        wait_until(lambda gateway=gateway, end=end: gateway.ike_sas()[0][end].startswith(f"{other}:")
                   and {sa[end].rsplit(":", 1)[0] for sa in gateway.sas()["sas"]} == {other},
                   10, f"the {end} end at its new address", 0.1)
    assert bed.ping(count=20, interval=0.02).lost() == []
    assert {gateway: gateway.child()["spi_in"] for gateway in (a, b)} == before
