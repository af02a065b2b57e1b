"""Interoperation with strongSwan: PSK, both roles, rekeys and deletes from either side, DPD.

strongSwan's userspace ESP is always encapsulated in UDP, so NAT traversal is covered throughout.
"""

import pytest

from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.pair import Pair
from harness.shell import wait_until
from harness.strongswan import PeerOptions

ADDRESSES = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}


@pytest.fixture
def pair(bed):
    return Pair(bed).up()


def test_we_initiate(bed):
    with bed.capture() as capture:
        pair = Pair(bed).up()
        pair.wait_until_mirrored()
        assert pair.gateway.ike_sas()[0]["role"] == "initiator"
        assert bed.ping(count=50, interval=0.01).lost() == []
    wire = WireContents(capture.frames(), ADDRESSES)
    assert wire.unexpected() == {}
    assert wire.inner_addresses_seen == 0
    assert wire.kinds["esp-in-udp"] >= 100
    # and both ends counted the same packets
    theirs = pair.strongswan_child()
    ours = {int(sa["spi"], 16): sa["packets"] for sa in pair.gateway.sas()["sas"]}
    assert ours[theirs["spi_in"]] == theirs["in_packets"] == 50
    assert ours[theirs["spi_out"]] == theirs["out_packets"] == 50


def test_strongswan_initiates(bed):
    pair = Pair(bed)
    pair.strongswan.initiate()
    pair.wait_until_mirrored()
    assert pair.gateway.ike_sas()[0]["role"] == "responder"
    assert bed.ping(count=50, interval=0.01).lost() == []


def test_outer_ipv6_in_either_role(bed):
    """IPv4 inside; strongSwan has no IPv4 address outside."""
    near, far = SIDE_A.wan_address_of(6), SIDE_B.wan_address_of(6)
    pair = Pair(bed, TunnelOptions(outer_family=6),
                PeerOptions(local_address=far, remote_address=near))
    for sa in pair.in_either_role():
        assert near in sa["local"] and far in sa["remote"]


@pytest.mark.parametrize("ike, esp", [
    ("aes128gcm16-prfsha256-x25519", "aes128gcm16"),
    ("aes256-sha256-modp2048", "aes256gcm16"),
    ("aes128-sha384-ecp256", "aes128gcm16-ecp256"),
    ("aes256-sha512-modp3072", "aes192gcm16-modp2048"),
    ("aes256gcm16-prfsha512-ecp521", "aes256gcm16-x25519"),
    ("aes256gcm16-prfsha256-modp4096", "aes256gcm16-ecp521"),
    ("chacha20poly1305-prfsha256-x25519", "aes256gcm16-x25519"),
    ("aes192gcm16-prfsha384-modp6144", "aes256gcm16-x448"),
    ("aes192-sha256-x448", "aes256gcm16-modp8192"),
])
def test_suites_in_either_role(bed, ike, esp):
    pair = Pair(bed, TunnelOptions(proposals=[ike], esp_proposals=[esp]),
                PeerOptions(proposals=ike, esp_proposals=esp)).up()
    pair.wait_until_mirrored()
    assert bed.ping(count=20, interval=0.01).lost() == []
    pair.gateway.culvert("rekey", "net")
    pair.wait_until_mirrored()
    assert bed.ping(count=20, interval=0.01).lost() == []
    pair.gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not pair.strongswan.sas(), 5, "strongSwan to be down")
    pair.strongswan.initiate()
    pair.wait_until_mirrored()
    assert pair.gateway.ike_sas()[0]["role"] == "responder"
    assert bed.ping(count=20, interval=0.01).lost() == []


@pytest.mark.parametrize("who", ["culvert", "strongswan"])
@pytest.mark.parametrize("esp", [
    "aes128-sha256", "aes192-sha384", "aes256-sha512-x25519", "aes128-sha1"])
def test_esp_proposals(bed, esp, who):
    """AES-CBC with each integrity, proposed by either side and used in both directions. (AES-GCM is
    in the suites above; of the other transforms strongSwan's userspace ESP runs none for sure.)"""
    pair = Pair(bed, TunnelOptions(esp_proposals=[esp]), PeerOptions(esp_proposals=esp))
    if who == "culvert":
        pair.up()
    else:
        pair.strongswan.initiate()
    pair.wait_until_mirrored()
    suite = esp.removesuffix("-x25519")
    assert pair.gateway.child()["suite"] == suite
    assert bed.ping(count=20, interval=0.01).lost() == []
    assert bed.ping(count=3, interval=0.01, size=1300).lost() == []
    assert pair.gateway.drops() == {}


def test_invalid_ke_payload_is_answered_and_followed(bed):
    """RFC 7296 §1.2: the initiator's group is not the responder's choice, in either role."""
    both = ["aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-x25519"]
    pair = Pair(bed, TunnelOptions(proposals=both), PeerOptions(proposals=both[1])).up()
    pair.wait_until_mirrored()
    pair.gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not pair.strongswan.sas(), 5, "strongSwan to be down")
    pair.strongswan.initiate()
    pair.wait_until_mirrored()


@pytest.mark.long
@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_child_rekey_with_pfs_loses_nothing(pair, who):
    steady = pair.ping_steadily()
    pair.wait_until_mirrored()
    for _ in range(2):
        before = pair.gateway.child()
        if who == "culvert":
            pair.gateway.culvert("rekey", "net")
        else:
            pair.strongswan.rekey_child()
        wait_until(lambda: pair.mirrored()
                   and pair.gateway.child()["spi_out"] != before["spi_out"], 8, "the rekey", 0.05)
        assert pair.gateway.child()["pfs"]
        steady.wait_for_replies(60)
    steady.wait_for_replies(600, timeout=15)
    assert steady.stop().lost_packets == []


@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_ike_rekey_loses_nothing(pair, who):
    steady = pair.ping_steadily()
    for _ in range(2):
        before, child = pair.gateway.ike_sas()[0], pair.gateway.child()
        if who == "culvert":
            pair.gateway.culvert("rekey", "--ike", "to-branch")
        else:
            pair.strongswan.rekey_ike()
        wait_until(lambda: [sa for sa in pair.gateway.ike_sas()
                            if sa["initiator_spi"] != before["initiator_spi"]]
                   and len(pair.gateway.ike_sas()) == 1, 8, "the IKE rekey", 0.05)
        assert pair.gateway.child()["spi_out"] == child["spi_out"], "the children move along"
        steady.wait_for_replies(40)
    # and the new IKE SA is in control: both sides can rekey the child with it
    pair.strongswan.rekey_child()
    wait_until(lambda: pair.mirrored()
               and pair.gateway.child()["spi_out"] != child["spi_out"], 8, "the rekey", 0.05)
    pair.gateway.culvert("rekey", "net")
    pair.wait_until_mirrored()
    steady.wait_for_replies(40)
    assert steady.stop().lost_packets == []


@pytest.mark.parametrize("who_began", ["culvert", "strongswan"])
def test_we_delete_the_ike_sa(bed, who_began):
    pair = Pair(bed)
    pair.initiate(who_began)
    pair.wait_until_mirrored()
    pair.gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not pair.strongswan.sas(), 5, "strongSwan to be down")
    assert pair.gateway.ike_sas() == []
    assert pair.gateway.sas()["sas"] == [] or all(
        sa["state"] != "live" for sa in pair.gateway.sas()["sas"])


def test_strongswan_deletes_the_ike_sa(pair):
    pair.strongswan.terminate_ike()
    wait_until(lambda: not pair.gateway.ike_sas(), 5, "our end to be down")
    # the next packet brings it up again, never out in clear
    with pair.bed.capture() as capture:
        pair.bed.ping(count=5, interval=0.3)
    assert WireContents(capture.frames(), ADDRESSES).unexpected() == {}
    pair.wait_until_mirrored()


def test_we_delete_the_child(pair):
    pair.gateway.culvert("terminate", "net")
    wait_until(lambda: pair.strongswan_child() is None, 5, "strongSwan's child to go")
    assert pair.gateway.children() == []
    assert pair.strongswan.sas(), "the IKE SA stays"


def test_strongswan_deletes_the_child(pair):
    pair.strongswan.terminate_child()
    wait_until(lambda: not pair.gateway.children(), 5, "our child to go")
    assert pair.gateway.ike_sas(), "the IKE SA stays"


def test_a_narrower_peer_is_accepted(bed):
    """RFC 7296 §2.9: the responder may take a part of what was offered."""
    options = TunnelOptions()
    configuration = bed.configuration("a", options)
    child = configuration["connections"][0]["children"][0]
    child["remote_ts"] = ["10.2.0.0/16"]
    gateway = bed.add_gateway("a", configuration)
    bed.add_strongswan()
    gateway.culvert("initiate", "net")
    assert gateway.child()["remote_ts"] == ["10.2.0.0/24"]
    assert bed.ping(count=5).lost() == []


def test_we_narrow_what_strongswan_offers(bed):
    """RFC 7296 §2.9: as responder we take the part that is ours."""
    pair = Pair(bed, peer=PeerOptions(local_ts="10.2.0.0/16"))
    pair.strongswan.initiate()
    pair.wait_until_mirrored()
    assert pair.gateway.child()["remote_ts"] == ["10.2.0.0/24"]
    assert "TS 10.2.0.0/24 === 10.1.0.0/24" in pair.strongswan.log()
    assert bed.ping(count=5).lost() == []


@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_several_selectors_a_side_are_narrowed_each(bed, who):
    """What both ends have of each, whoever offered more."""
    configuration = bed.configuration("a", TunnelOptions())
    child = configuration["connections"][0]["children"][0]
    child["remote_ts"] = ["10.2.0.0/16", "10.9.0.0/25"]
    pair = Pair(bed, configuration=configuration, peer=PeerOptions(
        local_ts="10.2.0.0/24,10.9.0.0/24"))
    # strongSwan's userspace ESP wants an address of its own in each network
    pair.strongswan.namespace.ip("addr", "add", "10.9.0.1/24", "dev", "lan")
    pair.initiate(who)
    pair.wait_until_mirrored()
    assert sorted(pair.gateway.child()["remote_ts"]) == ["10.2.0.0/24", "10.9.0.0/25"]
    assert bed.ping(count=5).lost() == []


@pytest.mark.long
def test_a_peer_that_vanishes_is_noticed(bed):
    """kill -9 of charon: liveness checks go unanswered (RFC 7296 §2.4) and the SAs are given up."""
    pair = Pair(bed, TunnelOptions(connection_options={"dpd_delay": "2s"})).up()
    pair.wait_until_mirrored()
    pair.strongswan.kill()
    wait_until(lambda: not pair.gateway.ike_sas(), 60, "the peer to be given up", 0.5)
    connection = pair.gateway.status()["ike"]["connections"][0]
    assert connection["last_failure"]["failure"] in ("peer_vanished", "peer_unreachable")
    # Given the peer is back, then traffic brings the tunnel up again
    pair.strongswan.start()
    wait_until(lambda: pair.bed.ping(count=1, wait=1).received, 40, "the tunnel to return", 0.5)
    pair.wait_until_mirrored()


def test_strongswan_notices_that_we_are_alive(bed):
    """Its liveness checks are answered: with no traffic for a while, nothing is torn down."""
    pair = Pair(bed, peer=PeerOptions(dpd_delay="1s")).up()
    pair.wait_until_mirrored()
    child = pair.gateway.child()["spi_in"]
    wait_until(lambda: pair.strongswan.log().count("INFORMATIONAL request") >= 3, 15,
               "three liveness checks", 0.2)
    assert pair.gateway.child()["spi_in"] == child
    assert bed.ping(count=5).lost() == []


@pytest.mark.long
def test_kill_of_the_key_daemon_beside_strongswan(pair):
    """It goes on from its record (docs/decisions/0009): strongSwan has nothing to end."""
    steady = pair.ping_steadily()
    pair.gateway.kill_ike()
    steady.wait_for_replies(100)
    pair.gateway.start_ike()
    wait_until(pair.mirrored, 20, "control of the tunnel again", 0.1)
    pair.gateway.culvert("rekey", "net")
    pair.wait_until_mirrored()
    steady.wait_for_replies(600, timeout=15)
    assert steady.stop().lost_packets == []


@pytest.mark.parametrize("who", ["culvert", "strongswan"])
def test_ike_fragmentation(bed, who):
    """RFC 7383, both roles: IKE_AUTH and CREATE_CHILD_SA in pieces either way."""
    pair = Pair(bed, TunnelOptions(connection_options={"fragment_size": 300}),
                PeerOptions(fragment_size=300))
    with bed.capture() as capture:
        if who == "culvert":
            pair.up()
        else:
            pair.strongswan.initiate()
        pair.wait_until_mirrored()
        pair.gateway.culvert("rekey", "net")
        pair.strongswan.rekey_child()
        pair.wait_until_mirrored()
    assert pair.gateway.ike_sas()[0]["fragmentation"]
    assert bed.ping(count=20, interval=0.01).lost() == []

    def fragments(result):
        return pair.gateway.ike_metrics().total("culvert_ike_fragments_total", result=result)

    # The metrics are written once a second.
    wait_until(lambda: min(fragments("sent"), fragments("received")) >= 4, 5, "IKE fragments counted")
    assert fragments("discarded") == 0
    frames = [frame for frame in capture.frames() if frame.kind == "ike"]
    nat_port = (4500).to_bytes(2, "big")
    protected = [frame for frame in frames if nat_port in (frame.data[34:36], frame.data[36:38])]
    assert protected and max(len(frame.data) for frame in protected) <= 300 + 14
