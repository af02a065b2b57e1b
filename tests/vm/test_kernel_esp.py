"""A Linux kernel's own ESP (protocol 50) opposite us, keyed by strongSwan and by libreswan.

The kernel is a virtual machine's, so that what it does with the packets is what a router's kernel does.
A ping alone proves nothing, for without policies it would pass in clear: the SAs' packet counters at both
ends and what was on the wire do.
"""

import itertools

import pytest

from conftest import had
from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.pki import Authority, with_certificate
from harness.shell import wait_until
from harness.strongswan import PeerPki
from harness.traffic import SteadyPing
from machines.kernel import KernelGateway
from machines.libreswan import Libreswan, unpacked
from machines.strongswan import StrongSwan

IKE = "aes256gcm16-prfsha384-ecp384"
ESP = "aes256gcm16-ecp384-esn"
INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}
PATIENCE = 30  # a command in the machine takes a second when the machine has a processor to itself

EACH_PEER = pytest.mark.parametrize("peer", ["strongswan", "libreswan"])
EACH_SIDE = pytest.mark.parametrize("who", ["culvert", "peer"])


@pytest.fixture(scope="module")
def kernel(image, bed):
    machine = KernelGateway(image, bed.directory / "kernel", bed["gw-b"], SIDE_B, SIDE_A)
    bed.also_stop(machine)
    return machine


@pytest.fixture(scope="module")
def pki(bed):
    authority = Authority(bed.directory / "pki", "Test CA")
    return (authority, authority.issue(SIDE_A.identity, name="ours"),
            authority.issue(SIDE_B.identity, name="theirs"))


class Pair:
    """Our gateway a and a key daemon in the machine, which fills the kernel's SAs."""

    def __init__(self, bed, kernel, peer, configuration):
        self.bed, self.kernel, self.peer = bed, kernel, peer
        peer.start()
        self.gateway = bed.add_gateway("a", configuration)

    def initiate(self, who):
        self.gateway.culvert("initiate", "net") if who == "culvert" else self.peer.initiate()
        self.wait_until_mirrored()

    def spis(self):
        return {int(child[end], 16) for child in self.gateway.children()
                for end in ("spi_in", "spi_out")}

    def mirrored(self):
        """One pair of SAs here, which the kernel has too, perhaps beside an old one: strongSwan keeps
        that for some seconds."""
        return len(self.spis()) == 2 and self.spis() <= {sa.spi for sa in self.kernel.sas()}

    def wait_until_mirrored(self):
        wait_until(self.mirrored, PATIENCE, "both ends to hold the same pair of SAs", 0.2)

    def assert_traffic_is_protected(self, count=50):
        """`count` pings: each in one SA's packet either way, at both ends, and nothing else."""
        with self.bed.capture() as capture:
            assert self.bed.ping(count=count, interval=0.02).lost() == []
            wait_until(lambda: sum(frame.kind == "esp" for frame in capture.frames()) >= 2 * count, 5,
                       "the capture to be written")
        ours = {int(sa["spi"], 16): sa for sa in self.gateway.sas()["sas"]}
        theirs = {sa.spi: sa for sa in self.kernel.sas()}
        assert set(ours) == set(theirs) and len(ours) == 2
        for spi, sa in theirs.items():
            assert sa.packets == ours[spi]["packets"] == count
            assert sa.esn and ours[spi]["esn"] and sa.mode == "tunnel" and not sa.udp
        wire = WireContents(capture.frames(), INNER)
        assert wire.unexpected() == {} and wire.inner_addresses_seen == 0
        assert wire.kinds["esp"] == 2 * count and wire.kinds["esp-in-udp"] == 0, wire.describe()
        assert wire.spis == set(ours)
        assert self.gateway.drops() == {}

    def steady_ping(self):
        return SteadyPing(self.bed["client-a"], SIDE_B.client_address(), self.bed.directory)

    def assert_nothing_was_lost(self, steady):
        """A responder may send on a new SA as soon as its response is on the way (RFC 7296 §2.8).
        strongSwan waits until the old one is deleted; libreswan does not even wait for its response:
        what overtakes that response waits for its SA at our end."""
        lost, drops = steady.stop().lost_packets, self.gateway.drops()
        assert drops == {} and lost == [], (lost, drops)

    def stop(self):
        self.gateway.kill()
        self.peer.stop()


@pytest.fixture
def pair(bed, kernel, cache, pki):
    """Makes them: pair(PEER, "psk" or "certificates")."""
    made = []

    def make(peer, auth="psk", esp=ESP, mode="tunnel"):
        authority, ours, theirs = pki
        configuration = bed.configuration("a", TunnelOptions(
            mode=mode, proposals=[IKE], esp_proposals=[esp], start_action="none"))
        keys = None
        if auth == "certificates":
            with_certificate(configuration, ours, [authority])
            keys = PeerPki(theirs.certificate, theirs.key, [authority.certificate])
        ends = (bed.directory, SIDE_B, SIDE_A, bed.psk, keys)
        if peer == "strongswan":
            daemon = StrongSwan(kernel, *ends, proposals=IKE, esp_proposals=esp,
                                mode=mode)
        else:
            daemon = Libreswan(kernel, had(unpacked, cache), *ends,
                               proposals="aes_gcm256-sha2_384-dh20", esp_proposals="aes_gcm256;dh20")
        made.append(Pair(bed, kernel, daemon, configuration))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@EACH_PEER
@pytest.mark.parametrize("auth", ["psk", "certificates"])
def test_either_side_establishes_and_ends_it(pair, peer, auth):
    pair = pair(peer, auth)
    for who, role in (("culvert", "initiator"), ("peer", "responder")):
        # When one of them initiates, then packets go through the SAs of both and through nothing else
        pair.initiate(who)
        ike_sa, = pair.gateway.ike_sas()
        assert ike_sa["role"] == role and not ike_sa["nat_local"] and not ike_sa["nat_remote"]
        assert ike_sa["remote_auth"].startswith("psk" if auth == "psk" else "ECDSA with SHA-")
        pair.assert_traffic_is_protected()
        # When it ends the IKE SA, then nothing of it is left at either end
        pair.gateway.culvert("terminate", "to-branch") if who == "culvert" \
            else pair.peer.terminate_ike()
        wait_until(lambda: not pair.gateway.ike_sas() and not pair.kernel.sas(), PATIENCE,
                   "both ends to be down", 0.2)
        assert not pair.peer.sas()


@EACH_PEER
@EACH_SIDE
def test_child_rekeys_lose_nothing(pair, peer, who):
    """With perfect forward secrecy, under a ping whose every packet is accounted for."""
    pair = pair(peer)
    pair.initiate("culvert")
    steady = pair.steady_ping()
    for _ in range(2):
        before = pair.gateway.child()
        pair.gateway.culvert("rekey", "net") if who == "culvert" else pair.peer.rekey_child()
        wait_until(lambda: pair.spis().isdisjoint({int(before["spi_in"], 16)}) and pair.mirrored(),
                   PATIENCE, "the new pair alone", 0.2)
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
               and len(pair.gateway.ike_sas()) == 1, PATIENCE, "the new IKE SA alone", 0.2)
    assert pair.spis() == spis, "the child moves along"
    # and the new IKE SA is in control: each side rekeys the child with it
    pair.peer.rekey_child()
    wait_until(lambda: pair.spis().isdisjoint(spis) and pair.mirrored(), PATIENCE, "their rekey", 0.2)
    pair.gateway.culvert("rekey", "net")
    pair.wait_until_mirrored()
    steady.wait_for_replies(50)
    pair.assert_nothing_was_lost(steady)


@EACH_PEER
@EACH_SIDE
def test_a_child_is_deleted_and_the_ike_sa_stays(pair, peer, who):
    pair = pair(peer)
    pair.initiate("culvert")
    pair.gateway.culvert("terminate", "net") if who == "culvert" else pair.peer.terminate_child()
    wait_until(lambda: not pair.gateway.children() and not pair.kernel.sas(), PATIENCE,
               "the child to go at both ends", 0.2)
    assert len(pair.gateway.ike_sas()) == 1 and pair.peer.sas()
    # and what follows is not sent in clear
    with pair.bed.capture() as capture:
        pair.bed.ping(count=3, interval=0.1, wait=0.5)
    assert WireContents(capture.frames(), INNER).inner_addresses_seen == 0


@pytest.mark.parametrize("esp", ["aes128gcm16-x25519-esn", "aes256-sha256-ecp384-esn",
                                 "aes128-sha512-esn", "chacha20poly1305-esn"])
def test_the_kernel_opens_and_seals_what_we_do(pair, esp):
    """Other transforms; with HMAC the sequence number's upper half is authenticated, not sent
    (RFC 4303 §2.2.1)."""
    pair = pair("strongswan", esp=esp)
    pair.initiate("culvert")
    pair.assert_traffic_is_protected()
    assert pair.bed.ping(count=5, size=1300).lost() == []


@EACH_SIDE
def test_transport_mode_between_the_gateways_themselves(pair, who):
    """RFC 4301 §4.1: what the kernel itself sends to our gateway, and our gateway's own answers. There is
    no inner IP header in it; the userspace ESP of the scenarios has only tunnels. With strongSwan."""
    pair, count = pair("strongswan", mode="transport"), 20
    pair.initiate(who)
    with pair.bed.capture() as capture:
        said = pair.kernel.run(f"ping -n -c {count} -i 0.05 -W 2 {SIDE_A.wan_address}")
        wait_until(lambda: sum(frame.kind == "esp" for frame in capture.frames()) >= 2 * count, 5,
                   "the capture to be written")
    assert f"{count} received" in said, said
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
    # When either rekeys it, then it goes on in transport mode
    for rekeys in ("culvert", "peer"):
        before = pair.spis()
        pair.gateway.culvert("rekey", "net") if rekeys == "culvert" else pair.peer.rekey_child()
        wait_until(lambda: pair.spis().isdisjoint(before) and pair.mirrored(), PATIENCE, "the rekey", 0.2)
        said = pair.kernel.run(f"ping -n -c 5 -i 0.05 -W 2 {SIDE_A.wan_address}")
        assert "5 received" in said, said
        assert {sa["mode"] for sa in pair.gateway.sas()["sas"]} == {"transport"}
    assert pair.gateway.drops() == {}
