"""What happens to IKE on its way, beside strongSwan: a path for small packets only, on which no IP
fragment passes (RFC 7383), and half-open IKE SAs until an end demands cookies (RFC 7296 §2.6)."""

import pytest

from harness.bridge import narrow
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.half_open import leave_half_open
from harness.pair import Pair
from harness.pki import Authority, with_certificate
from harness.shell import wait_until
from harness.strongswan import PeerOptions, PeerPki

EITHER = pytest.mark.parametrize("who", ["culvert", "strongswan"])


# ---- a small path MTU ----------------------------------------------------------------------------


def with_large_certificates(bed, fragment_size):
    """RSA and an intermediate at either end: an IKE_AUTH of some 3000 bytes."""
    root = Authority(bed.directory / "pki", "Test CA", "rsa")
    between = Authority(bed.directory / "pki", "Intermediate CA", "rsa", issuer=root)
    ours, theirs = (between.issue(side.identity, "rsa", side.name) for side in (SIDE_A, SIDE_B))
    configuration = with_certificate(
        bed.configuration("a", TunnelOptions(connection_options={"fragment_size": fragment_size})),
        ours, [root], chain=[between])
    return Pair(bed, configuration=configuration, peer=PeerOptions(
        fragment_size=fragment_size, pki=PeerPki(theirs.certificate, theirs.key, [root.certificate],
                                                 [between.certificate])))


@EITHER
@pytest.mark.parametrize("mtu, fragment_size, fewest", [(1280, 1280, 2), (600, 576, 5)])
def test_certificates_pass_where_no_ip_fragment_does(bed, who, mtu, fragment_size, fewest):
    pair = with_large_certificates(bed, fragment_size)
    with narrow(bed, mtu) as ended:
        # When either begins, then nothing that IKE sends is too large or an IP fragment
        pair.initiate(who)
        pair.wait_until_mirrored()
        sa, = pair.gateway.ike_sas()
        assert sa["fragmentation"] and "CN=" + SIDE_B.identity in sa["remote_certificate"]
        for one in ("culvert", "strongswan"):
            pair.rekey(one)
            pair.wait_until_mirrored()
            pair.rekey(one, "ike_sa")
            wait_until(pair.ike_spi, 8, "one IKE SA at both ends", 0.05)
        assert bed.ping(count=20, interval=0.01).lost() == []
        assert ended() == {"too_big": 0, "fragments": 0}
        fragments = pair.gateway.ask("ike.sock", "counters")["result"]["fragments"]
        assert min(fragments["sent"], fragments["received"]) >= fewest and fragments["discarded"] == 0
        # and the link would have dropped what is larger
        assert bed.ping(count=1, size=mtu - 28, wait=0.5, extra=("-M", "dont")).lost() == [1]
        assert sum(ended().values()) > 0


# ---- cookies -------------------------------------------------------------------------------------


def first_request(bed, pair, who):
    """The frame of an IKE_SA_INIT with which `who` set up a tunnel that is gone again."""
    with bed.capture("init", snap_length=2000) as capture:
        pair.initiate(who)
        pair.wait_until_mirrored()
    pair.gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not pair.peer.sas() and not pair.gateway.ike_sas(), 5, "both to be down")
    return next(frame.data for frame in capture.frames() if frame.kind == "ike")


def test_we_demand_a_cookie_of_strongswan(bed):
    pair = Pair(bed)

    def counters():
        return pair.gateway.ask("ike.sock", "counters")["result"]

    # Given as many half-open IKE SAs as we take without
    request = first_request(bed, pair, "strongswan")
    leave_half_open(bed, "to-a", request, 32)
    wait_until(lambda: counters()["half_open"] == 32, 5, "half-open IKE SAs")
    assert counters()["cookies_sent"] == 0
    # When strongSwan begins, then it is asked for a cookie, and let in with it
    pair.initiate("strongswan")
    pair.wait_until_mirrored()
    assert counters()["cookies_sent"] >= 1
    assert "parsed IKE_SA_INIT response 0 [ N(COOKIE) ]" in pair.peer.log()
    assert bed.ping(count=10, interval=0.01).lost() == []
    # and so it is when we begin
    pair.gateway.culvert("terminate", "to-branch")
    pair.initiate("culvert")
    assert bed.ping(count=10, interval=0.01).lost() == []


def test_strongswan_demands_a_cookie_of_us(bed):
    pair = Pair(bed, peer=PeerOptions(daemon="cookie_threshold = 1"))
    # Who begins first looks for the other's link address, and what it repeats meanwhile comes at once:
    # the second of it would be asked for a cookie already.
    first_request(bed, pair, "strongswan")
    request = first_request(bed, pair, "culvert")
    assert "N(COOKIE)" not in pair.peer.log()
    leave_half_open(bed, "to-b", request, 1)
    wait_until(lambda: [sa for sa in pair.peer.sas() if sa["state"] == "CONNECTING"], 5,
               "a half-open IKE SA at strongSwan")
    pair.initiate("culvert")
    pair.wait_until_mirrored()
    log = pair.peer.log()
    assert "generating IKE_SA_INIT response 0 [ N(COOKIE) ]" in log
    assert "parsed IKE_SA_INIT request 0 [ N(COOKIE) SA KE" in log
    assert bed.ping(count=10, interval=0.01).lost() == []
