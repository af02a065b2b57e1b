"""A Linux kernel's own ESP (protocol 50) opposite us, keyed by strongSwan and by libreswan.

The kernel is a virtual machine's, so that what it does with the packets is what a router's kernel does.
A ping alone proves nothing, for without policies it would pass in clear: the SAs' packet counters at both
ends and what was on the wire do.
"""

import copy
import itertools

import pytest

from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, write_secret
from harness.gateway import CommandError
from harness.refusals import last_failure
from harness.shell import wait_until
from harness.traffic import ping
from machines.pair import EACH_PEER, EACH_SIDE, ESP, INNER, PATIENCE, PEERS, POLL, configured

OTHER = "other.example.org"
PPK = "0123456789abcdef0123456789abcdef"


# ---- one tunnel ------------------------------------------------------------------------------------


@EACH_PEER
@pytest.mark.parametrize("auth", ["psk", "ecdsa", "rsa"])
def test_either_side_establishes_and_ends_it(pair, peer, auth):
    """Packets go through the SAs of both and through nothing else."""
    pair = pair(peer, auth=auth)
    shown = {"psk": "psk", "ecdsa": "ECDSA with SHA-", "rsa": "RSA"}[auth]
    for _, ike_sa in pair.in_either_role():
        assert ike_sa["remote_auth"].startswith(shown), ike_sa["remote_auth"]
        pair.assert_traffic_is_protected()


@EACH_PEER
@EACH_SIDE
def test_child_rekeys_lose_nothing(pair, peer, who):
    """With perfect forward secrecy, under a ping whose every packet is accounted for."""
    pair = pair(peer)
    pair.initiate("culvert")
    steady = pair.steady_ping()
    for _ in range(2):
        before = pair.spis()
        pair.rekey(who)
        pair.wait_for_another_pair(before)
        assert pair.gateway.child()["pfs"] == "ecp384" and pair.gateway.child()["esn"]
        steady.wait_for_replies(50)
    pair.assert_nothing_was_lost(steady)
    assert all(sa.esn and sa.packets for sa in pair.kernel.sas() if sa.spi in pair.spis())


@EACH_PEER
@EACH_SIDE
def test_ike_rekeys_lose_nothing(pair, peer, who):
    pair = pair(peer)
    pair.initiate("peer")
    steady, spis = pair.steady_ping(), pair.spis()
    before = pair.gateway.ike_sas()[0]["initiator_spi"]
    pair.gateway.culvert("rekey", "--ike", "to-branch") if who == "culvert" else pair.peer.rekey_ike()
    wait_until(lambda: [sa["initiator_spi"] for sa in pair.gateway.ike_sas()] not in ([before], [])
               and len(pair.gateway.ike_sas()) == 1, PATIENCE, "the new IKE SA alone", POLL)
    assert pair.spis() == spis, "the child moves along"
    # and the new IKE SA is in control: each side rekeys the child with it
    for rekeys in ("peer", "culvert"):
        spis = pair.spis()
        pair.rekey(rekeys)
        pair.wait_for_another_pair(spis)
    steady.wait_for_replies(50)
    pair.assert_nothing_was_lost(steady)


@EACH_PEER
@EACH_SIDE
def test_a_child_is_deleted_and_the_ike_sa_stays(pair, peer, who):
    pair = pair(peer)
    pair.initiate("culvert")
    pair.terminate_child(who)
    wait_until(lambda: not pair.gateway.children() and not pair.kernel.sas(), PATIENCE,
               "the child to go at both ends", POLL)
    assert len(pair.gateway.ike_sas()) == 1 and pair.peer.sas()
    # and what follows is not sent in clear
    with pair.bed.capture() as capture:
        pair.bed.ping(count=3, interval=0.1, wait=0.5)
    assert WireContents(capture.frames(), INNER).inner_addresses_seen == 0


@EACH_PEER
@EACH_SIDE
def test_who_answers_narrows_the_selectors(pair, bed, peer, who):
    """RFC 7296 §2.9: who asks has a wider network for what is behind the peer, or behind itself."""
    configuration = configured(bed)
    words = {"libreswan": {"narrowing": "yes"}}
    if who == "peer":
        configuration["connections"][0]["children"][0]["remote_ts"] = ["10.2.0.0/16"]
    else:
        words["libreswan"]["leftsubnet"] = "10.2.0.0/16"
        words["strongswan"] = {"local_ts": "10.2.0.0/16"}
    pair = pair(peer, configuration, **words)
    pair.initiate("culvert" if who == "peer" else "peer")
    child = pair.gateway.child()
    assert (child["local_ts"], child["remote_ts"]) == (["10.1.0.0/24"], ["10.2.0.0/24"])
    pair.assert_traffic_is_protected()
    assert "10.2.0.0/16" not in pair.kernel.run("ip xfrm policy")


@EACH_PEER
def test_a_post_quantum_key_is_mixed_in_in_either_role(pair, bed, peer):
    """RFC 8784, both ends insisting on it."""
    pair = pair(peer, with_post_quantum_key(bed), strongswan={
        "connection": "ppk_id = shared\n  ppk_required = yes",
        "secrets": f'ppk-shared {{ id = shared\n secret = "{PPK}" }}'}, libreswan={
        "ppk": "insist", "secrets": f'{{}} {{}} : PPKS "shared" "{PPK}"'})
    for who, ike_sa in pair.in_either_role():
        assert ike_sa["post_quantum"]
        pair.assert_traffic_is_protected()
        before = pair.spis()
        pair.rekey(who)
        pair.wait_for_another_pair(before)
        assert pair.bed.ping(count=5).lost() == []


def with_post_quantum_key(bed):
    configuration = configured(bed, connection_options={"ppk_id": "shared", "ppk_required": True})
    key = write_secret(bed.directory / "ppk", PPK)
    configuration["secrets"].append({"ppk_id": "shared", "ppk_file": str(key)})
    return configuration


@EACH_PEER
@EACH_SIDE
def test_reauthentication_loses_nothing(pair, bed, peer, who):
    """A new IKE SA with new SAs takes over before the old ones go. libreswan begins it without a child
    (RFC 6023), which we then make again, and leaves it to us when the old IKE SA ends."""
    ours = {"reauth_time": "6s"} if who == "culvert" else {}
    pair = pair(peer, configured(bed, connection_options=ours), libreswan={"reauth": "yes"}, strongswan={
        "connection": "unique = never\n  rand_time = 0s\n  "
                      + ("reauth_time = 4s" if who == "peer" else "")})
    pair.initiate(who)
    steady, first = pair.steady_ping(), pair.gateway.ike_sas()[0]["initiator_spi"]
    if who == "peer" and peer == "libreswan":
        pair.peer.reauthenticate()

    def carrying():
        """Whether the children of another IKE SA have carried packets, as the kernel counts them."""
        spis = {int(child["spi_out"], 16) for sa in pair.gateway.ike_sas() for child in sa["children"]
                if sa["initiator_spi"] != first and child["state"] == "installed"}
        return spis and any(sa.spi in spis and sa.packets > 50 for sa in pair.kernel.sas())

    wait_until(carrying, PATIENCE, "a new IKE SA whose child carries packets", POLL)
    pair.assert_nothing_was_lost(steady)
    established = "".join(pair.gateway.logs().values()).count(" ike_sa_established ")
    assert established >= 2, "it was a new one, not a rekeyed one"
    pair.gateway.kill()  # or another one begins while they all end


# ---- several children ------------------------------------------------------------------------------

# name -> what we propose, the kernel's names of it. libreswan wants one group for all.
CHILDREN = {
    "net": ("aes128gcm16-ecp384-esn", ("rfc4106(gcm(aes))",)),
    "cbc": ("aes256-sha256-ecp384-esn", ("hmac(sha256)", "cbc(aes)")),
    "chacha": ("chacha20poly1305-ecp384-esn", ("rfc7539esp(chacha20,poly1305)",)),
    "sha512": ("aes128-sha512-ecp384-esn", ("hmac(sha512)", "cbc(aes)"))}


def network(name, letter, host="0/24"):
    """Behind a client, for a child beside `net`: 10.11N.0.0/24 at a, 10.12N.0.0/24 at b."""
    return f"10.1{'ab'.index(letter) + 1}{list(CHILDREN).index(name)}.0.{host}"


def with_children(bed, kernel):
    """Our configuration with all of CHILDREN; their networks are put behind the clients."""
    configuration = configured(bed)
    children = configuration["connections"][0]["children"]
    children[0]["esp_proposals"] = [CHILDREN["net"][0]]
    for name, (proposal, _) in list(CHILDREN.items())[1:]:
        near, far = network(name, "a"), network(name, "b")
        children.append({**copy.deepcopy(children[0]), "name": name, "local_ts": [near],
                         "remote_ts": [far], "esp_proposals": [proposal]})
        configuration["dataplane"]["routes"] += [{"to": near, "via": SIDE_A.client_address()},
                                                 {"to": far, "via": SIDE_B.wan_address}]
        for letter in "ab":
            bed[f"client-{letter}"].ip("addr", "replace", network(name, letter, "2/24"), "dev", "eth0")
        kernel.run(f"ip route replace {near} via {SIDE_A.wan_address}; "
                   f"ip route replace {far} via {SIDE_B.client_address()}")
    return configuration


def ping_through(bed, name, count, **options):
    if name == "net":
        return bed.ping(count=count, **options)
    return ping(bed["client-a"], network(name, "b", "2"), count=count,
                extra=("-I", network(name, "a", "2")), **options)


@EACH_PEER
def test_several_children_of_one_ike_sa_with_transforms_of_their_own(pair, bed, kernel, peer):
    """The kernel opens what we seal, and we what it seals; with HMAC the sequence number's upper half is
    authenticated, not sent (RFC 4303 §2.2.1)."""
    further = {name: (network(name, "b"), network(name, "a")) for name in CHILDREN if name != "net"}
    pair = pair(peer, with_children(bed, kernel), strongswan={
        "children": further, "esp_proposals": ",".join(proposal for proposal, _ in CHILDREN.values())},
        libreswan={"children": further, "esp": "aes_gcm128;dh20,aes256-sha2_256;dh20,"
                   "chacha20_poly1305;dh20,aes128-sha2_512;dh20"})
    for who, name in zip(("culvert", "peer", "culvert", "peer"), CHILDREN):
        pair.initiate(who, name)
    assert len(pair.gateway.ike_sas()) == len(pair.peer.sas()) == 1
    # When each network's client sends, then its packets are in its own child's SAs, at both ends
    counts = {name: 5 * (number + 2) for number, name in enumerate(CHILDREN)}
    for name, count in counts.items():
        assert ping_through(bed, name, count - 5, interval=0.02).lost() == []
        assert ping_through(bed, name, 5, interval=0.02, size=1300).lost() == []
    ours, theirs = pair.gateway.sas()["sas"], {sa.spi: sa for sa in kernel.sas()}
    assert len(ours) == len(theirs) == 2 * len(CHILDREN)
    for sa in ours:
        counted = theirs[int(sa["spi"], 16)]
        assert counted.packets == sa["packets"] == counts[sa["child"]]
        assert counted.esn and counted.algorithms == CHILDREN[sa["child"]][1]
    # When either side deletes one and rekeys another, then the last goes on and nothing is lost
    steady = pair.steady_ping()
    for who, deleted, rekeyed in (("culvert", "cbc", "chacha"), ("peer", "sha512", "chacha")):
        pair.terminate_child(who, deleted)
        wait_until(lambda: not pair.gateway.children(deleted), PATIENCE, f"{deleted} to go", POLL)
        before = pair.spis(rekeyed)
        pair.rekey(who, rekeyed)
        pair.wait_for_another_pair(before, rekeyed)
        assert ping_through(bed, rekeyed, 5).lost() == []
    pair.assert_nothing_was_lost(steady)


# ---- transport mode --------------------------------------------------------------------------------


@EACH_PEER
def test_transport_mode_between_the_gateways_themselves(pair, bed, peer):
    """RFC 4301 §4.1: what the kernel itself sends to our gateway, and our gateway's own answers. There is
    no inner IP header in it; the userspace ESP of the scenarios has only tunnels."""
    pair = pair(peer, configured(bed, mode="transport"), strongswan={"mode": "transport"},
                libreswan={"type": "transport", "leftsubnet": None, "rightsubnet": None})
    for who, _ in pair.in_either_role():
        assert_transport_is_protected(pair, 20)
        # When either rekeys it, then it goes on in transport mode
        before = pair.spis()
        pair.rekey(who)
        pair.wait_for_another_pair(before)
        assert pair.kernel.ping(SIDE_A.wan_address, 5) == 5
        assert {sa["mode"] for sa in pair.gateway.sas()["sas"]} == {"transport"}
        assert pair.gateway.drops() == {}


def assert_transport_is_protected(pair, count):
    """`count` pings of the kernel itself to our gateway."""
    with pair.bed.capture() as capture:
        assert pair.kernel.ping(SIDE_A.wan_address, count) == count
        wait_until(lambda: sum(frame.kind == "esp" for frame in capture.frames()) >= 2 * count, 5,
                   "the capture to be written")
    ours = {int(sa["spi"], 16): sa for sa in pair.gateway.sas()["sas"]}
    theirs = {sa.spi: sa for sa in pair.kernel.sas()}
    assert set(ours) == set(theirs) and len(ours) == 2
    for spi, sa in theirs.items():
        assert sa.packets == ours[spi]["packets"] == count
        assert sa.mode == ours[spi]["mode"] == "transport" and sa.esn and not sa.udp
    wire = WireContents(capture.frames())
    assert wire.unexpected() == {} and wire.kinds["esp"] == 2 * count, wire.describe()
    # 20 IPv4, 8 ESP, 8 IV, 64 ICMP, 2 of padding, 2 of trailer, 16 ICV
    assert {int.from_bytes(frame.data[16:18], "big") for frame in capture.frames()
            if frame.kind == "esp"} == {120}


# ---- what does not match ---------------------------------------------------------------------------


@pytest.mark.parametrize("peer, group", [("strongswan", "ours"), ("libreswan", "theirs")])
def test_a_pfs_mismatch_shows_in_a_rehearsal_and_the_tunnel_goes_on(pair, bed, peer, group):
    """Whose child has a group of its own; the other's has none."""
    without = {"strongswan": {"esp_proposals": "aes256gcm16-esn"},
               "libreswan": {"pfs": "no", "esp": "aes_gcm256"}}
    esp = ESP if group == "ours" else "aes256gcm16-esn"
    pair = pair(peer, configured(bed, esp_proposals=[esp], rehearse=True),
                **(without if group == "ours" else {}))
    pair.initiate("peer")
    before, steady = pair.spis(), pair.steady_ping()
    wait_until(lambda: last_failure(pair.gateway), PATIENCE, "the rehearsal to have failed")
    failure = last_failure(pair.gateway)
    assert failure["failure"] == "pfs_mismatch" and failure["while_up"], failure
    steady.wait_for_replies(20)
    pair.assert_nothing_was_lost(steady)
    assert pair.spis() == before == {sa.spi for sa in pair.kernel.sas()}


def refused(pair, initiator, responder, *words):
    """Neither can begin: what our status then says, as initiator and as responder, with those words."""
    with pytest.raises(CommandError):
        pair.gateway.culvert("initiate", "net")
    seen = last_failure(pair.gateway)
    assert seen["failure"] == initiator, seen
    before = "".join(pair.gateway.logs().values()).count(f"failure={responder} ")
    pair.peer.begin()
    wait_until(lambda: "".join(pair.gateway.logs().values()).count(f"failure={responder} ") > before,
               PATIENCE, f"{responder} as responder", POLL)
    seen = last_failure(pair.gateway)
    assert seen["failure"] == responder and all(word in seen["detail"] for word in words), seen
    assert pair.gateway.ike_sas() == [] and pair.kernel.sas() == []


@EACH_PEER
def test_another_pre_shared_key_is_named_in_either_role(pair, peer):
    refused(pair(peer, psk="not the one that both have"), "authentication_failed_remote",
            "authentication_failed_local", "shared keys differ")


@EACH_PEER
def test_another_identity_is_named_in_either_role(pair, peer):
    """strongSwan refuses to be asked for the one that it does not have; libreswan shows the other."""
    initiator = {"strongswan": "authentication_failed_remote", "libreswan": "identity_mismatch"}[peer]
    refused(pair(peer, strongswan={"identity": OTHER}, libreswan={"leftid": f"@{OTHER}"}), initiator,
            "identity_mismatch", SIDE_B.identity, OTHER)


@EACH_PEER
def test_a_missing_post_quantum_key_is_named_in_either_role(pair, bed, peer):
    """libreswan 4.10 says in IKE_SA_INIT that it has such keys, whatever it may use, and then refuses
    ours, which says no more than any refusal."""
    initiator = {"strongswan": "post_quantum_mismatch", "libreswan": "authentication_failed_remote"}[peer]
    refused(pair(peer, with_post_quantum_key(bed), libreswan={"ppk": "no"}), initiator,
            "post_quantum_mismatch")


REFUSED = {"untrusted": ("certificate_untrusted", "Other CA", "Test CA"),
           "revoked": ("certificate_revoked",),
           "expired": ("certificate_not_valid", "has expired", "2021-01-01")}


# libreswan does not even load its own when that has expired.
@pytest.mark.parametrize("peer, certificate", [
    *itertools.product(PEERS, ["untrusted", "revoked"]), ("strongswan", "expired")])
def test_a_certificate_is_refused_by_name_in_either_role(pair, peer, certificate):
    failure, *words = REFUSED[certificate]
    refused(pair(peer, auth=certificate), failure, failure, *words)
