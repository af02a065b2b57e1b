"""More of IKE beside strongSwan: the rehearsed rekey, IKE SAs without a first child,
re-authentication, and peers that speak another version or authenticate in another way."""

import pytest

from harness.configuration import SIDE_B, TunnelOptions, write_secret
from harness.gateway import CommandError
from harness.pair import Pair
from harness.refusals import last_failure
from harness.rekeys import under_traffic
from harness.shell import CommandFailed, wait_until
from harness.strongswan import PeerOptions
from harness.traffic import SteadyPing


def problems(gateway):
    return {problem["what"]: problem for problem in gateway.status()["problems"]}


@pytest.mark.parametrize("ours, theirs", [
    ("aes256gcm16-ecp384", "aes256gcm16"),
    ("aes256gcm16", "aes256gcm16-ecp384"),
    ("aes256gcm16-ecp384", "aes256gcm16-x25519"),
])
@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_a_pfs_mismatch_shows_within_seconds_and_the_tunnel_goes_on(bed, ours, theirs, who):
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions(
        esp_proposals=[ours], rehearse=True)))
    strongswan = bed.add_strongswan(PeerOptions(esp_proposals=theirs))
    if who == "culvert":
        gateway.culvert("initiate", "net")
    else:
        strongswan.initiate()
        gateway.wait_for_child()
    before = gateway.child()["spi_in"]
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    wait_until(lambda: last_failure(gateway) is not None, 20, "the rehearsal to have failed")
    assert ping.stop().lost_packets == []
    failure = last_failure(gateway)
    assert failure["failure"] == "pfs_mismatch"
    assert failure["while_up"] and failure["child"] == "net"
    assert "net is up, but: pfs_mismatch" in problems(gateway)
    assert gateway.child()["spi_in"] == before
    assert bed.ping(count=20, interval=0.01).lost() == []


def test_a_rehearsal_that_succeeds_loses_no_packet(bed):
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions(rehearse=True)))
    bed.add_strongswan(PeerOptions())
    gateway.culvert("initiate", "net")
    before = gateway.child()["spi_in"]
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    wait_until(lambda: [child["spi_in"] for child in gateway.children()] not in ([before], []), 12,
               "the rehearsed rekey")
    wait_until(lambda: len(gateway.children()) == 1, 5, "the new pair alone")
    assert ping.stop().lost_packets == []
    assert gateway.child()["pfs"] == "ecp384"
    assert last_failure(gateway) is None


def test_an_ike_sa_without_a_first_child(bed):
    """RFC 6023: each child has its own key exchange from the start, in either role."""
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions(
        connection_options={"childless": "force"})))
    strongswan = bed.add_strongswan(PeerOptions(connection="childless = force"))
    gateway.culvert("initiate", "net")
    assert gateway.child()["pfs"] == "ecp384"
    assert bed.ping(count=10, interval=0.01).lost() == []
    gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not strongswan.sas(), 5, "strongSwan to be down")
    strongswan.initiate()
    gateway.wait_for_child()
    assert gateway.child()["pfs"] == "ecp384"
    assert bed.ping(count=10, interval=0.01).lost() == []


@pytest.mark.long
@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_reauthentication_makes_before_it_breaks(bed, who):
    """strongSwan's ESP in user space can lose the packet in hand while its policies change places, which
    the counters on the wire show. We lose none: what comes before its SA waits for it."""
    ours, theirs = ({"reauth_time": "6s"}, "") if who == "culvert" else ({}, "reauth_time = 4s")
    pair = Pair(bed, TunnelOptions(connection_options=ours), PeerOptions(
        daemon="make_before_break = yes",
        connection=f"unique = never\n  rand_time = 0s\n  {theirs}"))
    pair.initiate(who)
    pair.wait_until_mirrored()
    first = pair.ike_spi()

    def again(_):
        wait_until(lambda: pair.ike_spi() not in (None, first), 25, "a new IKE SA to stand alone", 0.1)

    outcome = under_traffic(pair, again)
    assert outcome.faults() == [], outcome
    # On a busy machine the old one may last until the next one comes.
    assert 2 <= outcome.events["ike_sa_established"] <= 3 and len(outcome.lost) <= 4


def test_a_peer_of_version_1_is_told_once_and_named(bed):
    """RFC 9395: IKEv1 is deprecated; the peer hears so once a minute, whatever it repeats."""
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()))
    strongswan = bed.add_strongswan(PeerOptions(version=1))
    with pytest.raises(Exception):
        strongswan.initiate()
    failure = last_failure(gateway)
    assert failure["failure"] == "unsupported_version"
    assert "IKEv1" in failure["detail"] and "IKEv2" in failure["detail"]
    assert gateway.ike.text().count("unsupported_version") == 1


def test_a_peer_that_wants_eap_is_called_that(bed):
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()))
    strongswan = bed.add_strongswan(PeerOptions(auth="eap"))
    with pytest.raises(Exception):
        strongswan.initiate()
    failure = last_failure(gateway)
    assert failure["failure"] == "auth_method_mismatch"
    assert "EAP" in failure["detail"]


def test_another_identity_is_refused_with_both_in_either_role(bed):
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()))
    strongswan = bed.add_strongswan(PeerOptions(identity="other.example.org"))
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    failure = last_failure(gateway)
    assert "branch.example.org" in failure["detail"]
    with pytest.raises(CommandFailed):
        strongswan.initiate()
    wait_until(lambda: "other.example.org" in last_failure(gateway)["detail"], 5, "the refusal")
    assert "branch.example.org" in last_failure(gateway)["detail"] and gateway.ike_sas() == []


PPK = "0123456789abcdef0123456789abcdef"


def post_quantum_gateway(bed, required, ppk_id="shared"):
    configuration = bed.configuration("a", TunnelOptions(
        connection_options={"ppk_id": ppk_id, "ppk_required": required}))
    key = write_secret(bed.directory / "ppk", PPK)
    configuration["secrets"].append({"ppk_id": ppk_id, "ppk_file": str(key)})
    return bed.add_gateway("a", configuration)


def post_quantum_peer(bed, required, ppk_id="shared", ppk=PPK):
    return bed.add_strongswan(PeerOptions(
        connection=f"ppk_id = {ppk_id}\n  ppk_required = {'yes' if required else 'no'}",
        secrets=f'ppk-shared {{ id = {ppk_id}\n secret = "{ppk}" }}'))


@pytest.mark.parametrize("required", [True, False])
def test_a_post_quantum_key_is_mixed_in_in_either_role(bed, required):
    gateway, strongswan = post_quantum_gateway(bed, required), post_quantum_peer(bed, required)
    gateway.culvert("initiate", "net")
    assert gateway.ike_sas()[0]["post_quantum"]
    assert bed.ping(count=10, interval=0.01).lost() == []
    gateway.culvert("rekey", "net")
    assert bed.ping(count=10, interval=0.01).lost() == []
    gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not strongswan.sas(), 5, "strongSwan to be down")
    strongswan.initiate()
    gateway.wait_for_child()
    assert gateway.ike_sas()[0]["post_quantum"]
    assert bed.ping(count=10, interval=0.01).lost() == []


def test_another_post_quantum_key_is_named_in_either_role(bed):
    """RFC 8784 §3: it changes SK_pi and SK_pr, so that AUTH does not verify."""
    gateway = post_quantum_gateway(bed, required=True)
    strongswan = post_quantum_peer(bed, True, ppk=PPK[::-1])
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    assert last_failure(gateway)["failure"] == "authentication_failed_remote"
    with pytest.raises(CommandFailed):
        strongswan.initiate()
    wait_until(lambda: last_failure(gateway)["failure"] == "authentication_failed_local", 5,
               "the refusal")
    assert "or the post-quantum keys do" in last_failure(gateway)["detail"]
    assert gateway.ike_sas() == []


def test_an_optional_post_quantum_key_that_the_peer_lacks_is_left_out(bed):
    gateway = post_quantum_gateway(bed, required=False)
    bed.add_strongswan(PeerOptions())
    gateway.culvert("initiate", "net")
    assert not gateway.ike_sas()[0]["post_quantum"]
    assert bed.ping(count=10, interval=0.01).lost() == []


def test_a_required_post_quantum_key_that_the_peer_lacks_is_named(bed):
    gateway = post_quantum_gateway(bed, required=True)
    strongswan = bed.add_strongswan(PeerOptions())
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    assert last_failure(gateway)["failure"] == "post_quantum_mismatch"
    with pytest.raises(Exception):
        strongswan.initiate()
    wait_until(lambda: "no post-quantum key" in last_failure(gateway)["detail"], 5, "the refusal")
