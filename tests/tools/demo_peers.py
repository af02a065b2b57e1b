"""The far end of the demo, in the same words whether it is Culvert or strongSwan."""

from harness.strongswan import StrongSwan


class View:
    """One end's idea of the tunnel. SPIs as numbers."""

    def __init__(self, ike_spis, ike_suite, spi_in, spi_out, suite):
        self.ike_spis, self.ike_suite = ike_spis, ike_suite
        self.spi_in, self.spi_out, self.suite = spi_in, spi_out, suite

    def mirrors(self, other):
        return (self.ike_spis == other.ike_spis and self.spi_in == other.spi_out
                and self.spi_out == other.spi_in)


def view_of_gateway(gateway):
    """Culvert's view; AssertionError unless there is exactly one established IKE SA and child."""
    ike_sas = gateway.ike_sas()
    if len(ike_sas) != 1:
        raise AssertionError(f"{gateway.instance} has {len(ike_sas)} established IKE SAs")
    child, ike = gateway.child(), ike_sas[0]
    return View((int(ike["initiator_spi"], 16), int(ike["responder_spi"], 16)), ike["suite"],
                int(child["spi_in"], 16), int(child["spi_out"], 16), child["suite"])


class CulvertPeer:
    name = "Culvert"
    totals_survive_rekeys = True

    def __init__(self, gateway):
        self.gateway = gateway

    def view(self):
        return view_of_gateway(self.gateway)

    def rekey_child(self):
        self.gateway.culvert("rekey", "net")

    def packets(self, near):
        """Pairs (what, sent, received) that must be equal once all is quiet: a child's totals."""
        return [("hq → branch", near.child_packets("out"), self.gateway.child_packets("in")),
                ("branch → hq", self.gateway.child_packets("out"), near.child_packets("in"))]


class StrongSwanPeer:
    name = "strongSwan"
    totals_survive_rekeys = False

    def __init__(self, strongswan: StrongSwan):
        self.strongswan = strongswan

    def view(self):
        established = [sa for sa in self.strongswan.sas() if sa["state"] == "ESTABLISHED"]
        children = [child for sa in established for child in sa["children"]
                    if child["state"] == "INSTALLED"]
        if len(established) != 1 or len(children) != 1:
            raise AssertionError(f"strongSwan has {len(established)} IKE SAs and "
                                 f"{len(children)} installed children")
        ike, child = established[0], children[0]
        return View((ike["initiator_spi"], ike["responder_spi"]), ike["suite"],
                    child["spi_in"], child["spi_out"], child["suite"])

    def rekey_child(self):
        self.strongswan.rekey_child()

    def packets(self, near):
        """strongSwan forgets a child's counters at a rekey: the current pair of SAs is compared."""
        ours = {int(sa["spi"], 16): sa["packets"] for sa in near.sas()["sas"]}
        view = self.view()
        child = next(child for sa in self.strongswan.sas() for child in sa["children"]
                     if child["spi_in"] == view.spi_in)
        return [("hq → branch", ours[view.spi_in], child["in_packets"]),
                ("branch → hq", child["out_packets"], ours[view.spi_out])]
