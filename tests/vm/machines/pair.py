"""Our gateway a on this host and a Linux kernel's ESP in a machine, keyed by either of two daemons."""

import pytest

from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.pki import Authority
from harness.shell import wait_until
from harness.strongswan import PeerPki
from harness.traffic import SteadyPing

IKE = "aes256gcm16-prfsha384-ecp384"
ESP = "aes256gcm16-ecp384-esn"
LIBRESWAN = {"ike": "aes_gcm256-sha2_384-dh20", "esp": "aes_gcm256;dh20"}  # the same in its words
AGREED = {"proposals": [IKE], "esp_proposals": [ESP], "start_action": "none"}
SMALLEST = 576  # bytes of what either sends of IKE; to libreswan nobody can say another size
INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}
PATIENCE = 30  # a command in the machine takes a second when the machine has a processor to itself
POLL = 0.4  # seconds between commands that a test waits with: they take the machine's time, too

PEERS = ("strongswan", "libreswan")
EACH_PEER = pytest.mark.parametrize("peer", PEERS)
EACH_SIDE = pytest.mark.parametrize("who", ["culvert", "peer"])


class Pki:
    """Our certificates by the kind of key, and theirs by that or by what is wrong with them."""

    def __init__(self, directory):
        self.authority, other = (Authority(directory, name) for name in ("Test CA", "Other CA"))
        self.between_ours, self.between_theirs = (
            Authority(directory, f"{whose} intermediate CA", issuer=self.authority)
            for whose in ("Our", "Their"))
        ours = {"ecdsa": (self.authority, "ecdsa256"), "rsa": (self.authority, "rsa"),
                "ed25519": (self.authority, "ed25519"), "chain": (self.between_ours, "rsa")}
        self.ours = {name: issuer.issue(SIDE_A.identity, key_type, f"our-{name}")
                     for name, (issuer, key_type) in ours.items()}
        theirs = {**ours, "chain": (self.between_theirs, "rsa"), "untrusted": (other, "ecdsa256")}
        theirs |= dict.fromkeys(("revoked", "expired"), ours["ecdsa"])
        self.theirs = {name: issuer.issue(SIDE_B.identity, key_type, f"their-{name}", subject=name,
                                          expired=name == "expired")
                       for name, (issuer, key_type) in theirs.items()}
        self.authority.revoke(self.theirs["revoked"])
        self.revocation_list = self.authority.revocation_list()
        self.authorities = [self.authority, other]

    def ours_beside(self, auth):
        """What we show where they show that, and what we send along."""
        return self.ours.get(auth, self.ours["ecdsa"]), [self.between_ours] if auth == "chain" else []

    def strongswan(self, auth):
        """What strongSwan authenticates with; None is a pre-shared key."""
        if auth == "psk":
            return None
        return PeerPki(self.theirs[auth].certificate, self.theirs[auth].key,
                       [authority.certificate for authority in self.authorities],
                       [self.between_theirs.certificate] if auth == "chain" else [])


class Peers:
    """Either daemon serves many tests; one at a time, for IKE's ports are there once."""

    def __init__(self, start):
        self._start, self.name, self._daemon = start, None, None

    def __getitem__(self, name):
        if self.name != name:
            self.kill()
            self.name, self._daemon = name, self._start[name]()
        return self._daemon

    def processes(self):
        return self._daemon.processes() if self._daemon else []

    def kill(self):
        if self._daemon is not None:
            self._daemon.kill()
        self.name = self._daemon = None


class Pair:
    """Our gateway a and a key daemon in the machine, which fills the kernel's SAs."""

    def __init__(self, bed, kernel, peer, configuration):
        self.bed, self.kernel, self.peer = bed, kernel, peer
        self.gateway = bed.add_gateway("a", configuration)
        self._pings = []

    def initiate(self, who, child="net"):
        self.gateway.culvert("initiate", child) if who == "culvert" else self.peer.initiate(child)
        self.wait_until_mirrored(child)

    def rekey(self, who, child="net"):
        self.gateway.culvert("rekey", child) if who == "culvert" else self.peer.rekey_child(child)

    def rekey_ike(self, who):
        self.gateway.culvert("rekey", "--ike", "to-branch") if who == "culvert" else self.peer.rekey_ike()

    def terminate_child(self, who, child="net"):
        if who == "culvert":
            self.gateway.culvert("terminate", child)
        else:
            self.peer.terminate_child(child)

    def terminate_ike(self, who):
        """`who` should have begun it, or libreswan begins anew."""
        self.gateway.culvert("terminate", "to-branch") if who == "culvert" else self.peer.terminate_ike()
        wait_until(lambda: not self.gateway.ike_sas() and not self.kernel.sas(), PATIENCE,
                   "both ends to be down", POLL)

    def in_either_role(self):
        """Our IKE SA of a tunnel that we begin, then one that the peer begins."""
        for who, role in (("culvert", "initiator"), ("peer", "responder")):
            self.initiate(who)
            ike_sa, = self.gateway.ike_sas()
            assert ike_sa["role"] == role and not ike_sa["nat_local"] and not ike_sa["nat_remote"]
            yield who, ike_sa
            # When it ends the IKE SA, then nothing of it is left at either end
            self.terminate_ike(who)
            assert not self.peer.sas()

    def spis(self, child="net"):
        return {int(installed[end], 16) for installed in self.gateway.children(child)
                for end in ("spi_in", "spi_out")}

    def mirrored(self, child="net"):
        """One pair of SAs here, which the kernel has too, perhaps beside an old one: strongSwan keeps
        that for some seconds."""
        spis = self.spis(child)
        return len(spis) == 2 and spis <= {sa.spi for sa in self.kernel.sas()}

    def wait_until_mirrored(self, child="net"):
        wait_until(lambda: self.mirrored(child), PATIENCE, "both ends to hold the same pair of SAs", POLL)

    def wait_for_another_pair(self, before, child="net"):
        wait_until(lambda: self.spis(child).isdisjoint(before) and self.mirrored(child), PATIENCE,
                   f"a new pair of SAs of {child} alone", POLL)

    def assert_traffic_is_protected(self, count=20, kind="esp", **capture):
        """`count` pings: each in one SA's packet either way, at both ends, and nothing else."""
        with self.bed.capture(**capture) as capture:
            assert self.bed.ping(count=count, interval=0.02).lost() == []
            wait_until(lambda: sum(frame.kind == kind for frame in capture.frames()) >= 2 * count, 5,
                       "the capture to be written")
        ours = {int(sa["spi"], 16): sa for sa in self.gateway.sas()["sas"]}
        theirs = {sa.spi: sa for sa in self.kernel.sas()}
        assert set(ours) == set(theirs) and len(ours) == 2
        for spi, sa in theirs.items():
            assert sa.packets == ours[spi]["packets"] == count
            assert sa.esn and ours[spi]["esn"] and sa.mode == "tunnel"
            assert sa.udp == (kind == "esp-in-udp")
        wire = WireContents(capture.frames(), INNER)
        assert wire.unexpected() == {} and wire.inner_addresses_seen == 0, wire.describe()
        assert wire.kinds[kind] == wire.protected() == 2 * count, wire.describe()
        assert wire.spis == set(ours)
        assert self.drops() == {}, self.drops()

    def drops(self):
        """Of our gateway. Behind a NAT it has no IPv6, and its client's kernel still looks for neighbours."""
        return {reason: packets for reason, packets in self.gateway.drops().items()
                if reason != "neighbor_discovery_ignored"}

    def steady_ping(self):
        self._pings.append(SteadyPing(self.bed["client-a"], SIDE_B.client_address(), self.bed.directory))
        return self._pings[-1]

    def assert_nothing_was_lost(self, steady):
        """A responder may send on a new SA as soon as its response is on the way (RFC 7296 §2.8).
        strongSwan waits until the old one is deleted; libreswan does not even wait for its response:
        what overtakes that response waits for its SA at our end."""
        lost, drops = steady.stop().lost_packets, self.drops()
        assert drops == {} and lost == [], (lost, drops)

    def stop(self):
        """The peer before us: its deletes are answered, and it need not wait."""
        for ping in self._pings:  # one that a failed test left would be in the next one's counts
            ping.kill()
        self.peer.stop()
        self.gateway.kill()


def configured(bed, **options):
    """Our gateway a's; what is not said is as the peers have it."""
    return bed.configuration("a", TunnelOptions(**{**AGREED, **options}))
