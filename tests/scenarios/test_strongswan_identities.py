"""Each kind of identity beside strongSwan, with pre-shared keys; keys and proposals that differ."""

import pytest

from harness.configuration import TunnelOptions, write_secret
from harness.gateway import CommandError
from harness.pair import Pair
from harness.refusals import last_failure
from harness.shell import CommandFailed, wait_until
from harness.strongswan import PeerOptions


@pytest.mark.parametrize("ours, theirs, as_strongswan_writes", [
    ("ops@example.org", "noc@branch.example.org", ("ops@example.org", "noc@branch.example.org")),
    ("198.51.100.1", "198.51.100.2", ("198.51.100.1", "198.51.100.2")),
    ("2001:db8::1", "2001:db8:2::9", ("2001:db8:0::1", "2001:db8:2::9")),
    ("@#6871", "@#00cafe01ff", ("keyid:hq", "@#00cafe01ff")),
], ids=["e-mail", "IPv4", "IPv6", "key-id"])
def test_an_identity_of_each_kind_in_either_role(bed, ours, theirs, as_strongswan_writes):
    """RFC 7296 §3.5: both ends read the same type and octets, and find the key by them."""
    configuration = bed.configuration("a", TunnelOptions())
    connection, secret = configuration["connections"][0], configuration["secrets"][0]
    connection["local"]["id"], connection["remote"]["id"] = secret["ids"] = [ours, theirs]
    far, own = as_strongswan_writes
    pair = Pair(bed, configuration=configuration, peer=PeerOptions(
        identity=own, remote_identity=far))
    for sa in pair.in_either_role():
        assert (sa["local_id"], sa["remote_id"]) == (ours, theirs)


@pytest.mark.parametrize("pattern, theirs", [
    ("*.example.org", "branch.south.example.org"), ("*@example.org", "noc@example.org"),
    ("%any", "@#00cafe01ff")])
def test_one_of_many_identities_in_either_role(bed, pattern, theirs):
    """The key is found by our own identity: the peer's shows only when it comes."""
    configuration = bed.configuration("a", TunnelOptions())
    connection, secret = configuration["connections"][0], configuration["secrets"][0]
    connection["remote"]["id"] = pattern
    secret["ids"] = [connection["local"]["id"]]
    pair = Pair(bed, configuration=configuration, peer=PeerOptions(identity=theirs))
    for sa in pair.in_either_role():
        assert sa["remote_id"] == theirs


def fails_in_either_role(pair, as_initiator, as_responder):
    """Each is the failure that an operator reads, and words of its detail."""
    gateway = pair.gateway
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    is_named(gateway, *as_initiator)
    told = gateway.ike.text().count("negotiation_failed")
    with pytest.raises(CommandFailed):
        pair.strongswan.initiate()
    wait_until(lambda: gateway.ike.text().count("negotiation_failed") > told, 5, "the refusal")
    is_named(gateway, *as_responder)


def is_named(gateway, failure, words):
    seen = last_failure(gateway)
    assert seen["failure"] == failure and words in seen["detail"], seen
    assert seen["remedy"] and gateway.ike_sas() == []


def test_another_pre_shared_key_is_named_in_either_role(bed):
    configuration = bed.configuration("a", TunnelOptions())
    configuration["secrets"][0]["psk_file"] = str(
        write_secret(bed.directory / "other.psk", "not the same secret at all"))
    fails_in_either_role(
        Pair(bed, configuration=configuration),
        ("authentication_failed_remote", "the peer answers AUTHENTICATION_FAILED"),
        ("authentication_failed_local", "the shared keys differ"))


def test_no_common_ike_proposal_is_named_in_either_role(bed):
    ours, theirs = "aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384"
    fails_in_either_role(
        Pair(bed, TunnelOptions(proposals=[ours]), PeerOptions(proposals=theirs)),
        ("no_ike_proposal_chosen", f"ours: {ours}; the peer answers NO_PROPOSAL_CHOSEN"),
        ("no_ike_proposal_chosen", f"ours: {ours}; the peer's: {theirs}; nothing in common"))
