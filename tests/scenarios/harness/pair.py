"""Our gateway a and its peer at b, strongSwan or a gateway of ours, seen in the same words."""

from .configuration import SIDE_A, SIDE_B, TunnelOptions
from .shell import CommandFailed, wait_until
from .strongswan import PeerOptions
from .traffic import SteadyPing

# Beside strongSwan: a group that each of its builds has, and quick.
IKE_PROPOSAL, ESP_PROPOSAL = "aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519"


def quick(peer=None):
    """Options of both ends for many rekeys, those of strongSwan perhaps with more in them."""
    return (TunnelOptions(proposals=[IKE_PROPOSAL], esp_proposals=[ESP_PROPOSAL]),
            PeerOptions(proposals=IKE_PROPOSAL, esp_proposals=ESP_PROPOSAL, **(peer or {})))


class Pair:
    """`initiate`, `rekey` and `terminate_child` take who does it: "culvert", or the peer by any other word."""

    peer_is_ours = False

    def __init__(self, bed, options=None, peer=None, configuration=None, behind=None):
        self.bed, self.behind = bed, behind
        self.gateway = bed.add_gateway("a", configuration
                                       or bed.configuration("a", options or TunnelOptions()))
        self.strongswan = self.peer = self._add_peer(peer)

    def _add_peer(self, options):
        return self.bed.add_strongswan(options or PeerOptions(), self.behind)

    def up(self):
        self.gateway.culvert("initiate", "net")
        return self

    def initiate(self, who, child="net"):
        if who == "culvert":
            self.gateway.culvert("initiate", child)
        else:
            self.peer.initiate(child)

    def in_either_role(self):
        """Our IKE SA of a tunnel with traffic in it, begun by us, and anew by strongSwan."""
        for who, role in (("culvert", "initiator"), ("strongswan", "responder")):
            self.initiate(who)
            self.wait_until_mirrored()
            sa, = self.gateway.status()["ike"]["ike_sas"]
            assert sa["role"] == role
            assert self.bed.ping(count=5, interval=0.01).lost() == []
            yield sa
            self.gateway.culvert("terminate", f"to-{SIDE_B.name}")
            wait_until(lambda: not self.peer.sas(), 5, "strongSwan to be down")

    def rekey(self, who, what="child", child="net"):
        """Begins to rekey the child or the `ike_sa`."""
        if who != "culvert":
            return self.peer.rekey_child(child) if what == "child" else self.peer.rekey_ike()
        answer = (self.gateway.ask("ike.sock", "rekey", 30.0, name=child) if what == "child" else
                  self.gateway.ask("ike.sock", "rekey", 30.0, name=f"to-{SIDE_B.name}", ike=True))
        if not answer["ok"]:
            raise CommandFailed(f"rekey of the {what}: {answer['error']}")
        return answer

    def terminate_child(self, who, child="net"):
        if who == "culvert":
            self.gateway.culvert("terminate", child)
        else:
            self.peer.terminate_child(child)

    # ---- what both ends hold --------------------------------------------------------------------

    def strongswan_child(self, name="net"):
        children = [child for sa in self.peer.sas() for child in sa["children"]
                    if child["state"] == "INSTALLED" and child["name"] == name]
        return children[0] if len(children) == 1 else None

    def child_spi(self, name="net"):
        """Our inbound SPI of the one child of that name that both ends hold, or None."""
        children, theirs = self.gateway.children(name), self.strongswan_child(name)
        same = (len(children) == 1 and theirs is not None
                and int(children[0]["spi_in"], 16) == theirs["spi_out"]
                and int(children[0]["spi_out"], 16) == theirs["spi_in"])
        return children[0]["spi_in"] if same else None

    def mirrored(self, name="net"):
        return self.child_spi(name) is not None

    def wait_until_mirrored(self, name="net"):
        wait_until(lambda: self.mirrored(name), 8, "both ends to hold the same pair of SAs", 0.05)

    def ike_spi(self):
        """The initiator's SPI of the one IKE SA that both ends hold, or None."""
        ours = self.gateway.ike_sas()
        theirs = [sa for sa in self.peer.sas() if sa["state"] == "ESTABLISHED"]
        same = (len(ours) == len(theirs) == 1
                and int(ours[0]["initiator_spi"], 16) == theirs[0]["initiator_spi"])
        return theirs[0]["initiator_spi"] if same else None

    def ping_steadily(self):
        return SteadyPing(self.bed["client-a"], SIDE_B.client_address(), self.bed.directory)


class CulvertPair(Pair):
    """The peer is a gateway of ours too."""

    peer_is_ours = True

    def _add_peer(self, options):
        return GatewayPeer(self.bed.add_gateway("b", self.bed.configuration(
            "b", options or TunnelOptions())))


class GatewayPeer:
    """A gateway of ours in strongSwan's words."""

    def __init__(self, gateway):
        self.gateway = gateway

    def rekey_child(self, child="net"):
        return self._rekey(name=child)

    def rekey_ike(self):
        return self._rekey(name=f"to-{SIDE_A.name}", ike=True)

    def drops(self):
        return self.gateway.drops()

    def _rekey(self, **arguments):
        answer = self.gateway.ask("ike.sock", "rekey", 30.0, **arguments)
        if not answer["ok"]:
            raise CommandFailed(f"rekey: {answer['error']}")
        return answer

    def sas(self):
        return [{"initiator_spi": int(sa["initiator_spi"], 16), "state": sa["state"].upper(),
                 "children": [{"name": child["child"], "state": child["state"].upper(),
                               "spi_in": int(child["spi_in"], 16),
                               "spi_out": int(child["spi_out"], 16)}
                              for child in sa["children"]]}
                for sa in self.gateway.ike_status().get("ike_sas", [])]
