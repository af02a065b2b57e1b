"""Revocation beside strongSwan and between two Culverts: lists and OCSP fetched over HTTP by
culvert-fetch, OCSP in IKE_AUTH (RFC 4806), and what each policy makes of silence."""

import os
import signal
from pathlib import Path

from harness.configuration import TunnelOptions
from harness.pki import Authority, ListServer, OcspResponder, with_certificate
from harness.refusals import refuses
from harness.shell import wait_until
from harness.strongswan import PeerOptions, PeerPki

OURS, THEIRS = "hq.example.org", "branch.example.org"
RESPONDER = "http://127.0.0.1:8881/"
STRICT = {"revocation": "strict", "ocsp": "fetch"}


class Pki:
    """An authority, and certificates that name its responder."""

    def __init__(self, bed):
        self.bed = bed
        self.authority = Authority(bed.directory / "pki", "Test CA")
        names = f"authorityInfoAccess=OCSP;URI:{RESPONDER}"
        self.ours = self.authority.issue(OURS, name="ours", extensions=names)
        self.theirs = self.authority.issue(THEIRS, name="theirs", extensions=names)

    def gateway(self, letter="a", start=True, **pki):
        configuration = self.bed.configuration(letter, TunnelOptions())
        with_certificate(configuration, self.ours if letter == "a" else self.theirs,
                         [self.authority], **pki)
        return self.bed.add_gateway(letter, configuration, start=start)

    def strongswan(self):
        return self.bed.add_strongswan(PeerOptions(pki=PeerPki(
            self.theirs.certificate, self.theirs.key, [self.authority.certificate])))

    def responder(self, letter="a"):
        return OcspResponder(self.bed, self.bed[f"gw-{letter}"], self.authority)


def log_of(gateway):
    return gateway.logs()[f"{gateway.instance}-culvert-ike.log"]


def fetches(gateway, kind, result):
    return gateway.ike_metrics().total("culvert_ike_revocation_fetches_total", kind=kind,
                                       result=result)


def test_ocsp_vouches_in_both_roles_under_strict_without_any_list(bed):
    pki = Pki(bed)
    pki.responder()
    strongswan = pki.strongswan()
    gateway = pki.gateway(**STRICT)
    gateway.culvert("initiate", "net")
    assert bed.ping(count=10, interval=0.01).lost() == []
    gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not strongswan.sas(), 5, "strongSwan to be down")
    strongswan.initiate()
    gateway.wait_for_child()
    assert gateway.ike_sas()[0]["role"] == "responder"
    wait_until(lambda: fetches(gateway, "ocsp", "ok") == 2, 5, "ours and theirs in the metrics")
    assert "revocation_not_checked" not in log_of(gateway)


def test_the_responder_role_waits_for_the_first_answer(bed):
    pki = Pki(bed)
    pki.responder()
    strongswan = pki.strongswan()
    gateway = pki.gateway(**STRICT)
    strongswan.initiate()
    gateway.wait_for_child()
    assert gateway.ike_sas()[0]["role"] == "responder"


def test_a_peer_that_ocsp_calls_revoked_is_refused(bed):
    pki = Pki(bed)
    pki.authority.revoke(pki.theirs)
    pki.responder()
    strongswan = pki.strongswan()
    refuses(pki.gateway(revocation="if-available", ocsp="fetch"),
            "certificate_revoked", THEIRS, "by OCSP of", "Test CA", strongswan=strongswan)


def test_a_responder_that_is_down_under_strict(bed):
    pki = Pki(bed)
    pki.strongswan()
    gateway = pki.gateway(**STRICT)
    refuses(gateway, "revocation_unreachable", RESPONDER, "connect")
    assert "ocsp_response_not_fetched" in log_of(gateway)
    wait_until(lambda: fetches(gateway, "ocsp", "failed"), 5, "the failed fetch in the metrics")


def test_a_responder_that_is_down_under_if_available(bed):
    pki = Pki(bed)
    pki.strongswan()
    gateway = pki.gateway(revocation="if-available", ocsp="fetch")
    gateway.culvert("initiate", "net")
    assert bed.ping(count=5, interval=0.01).lost() == []
    assert "revocation_not_checked" in log_of(gateway)


def test_a_responder_of_another_authority_does_not_count(bed):
    pki = Pki(bed)
    foreign = Authority(bed.directory / "pki", "Foreign CA")
    OcspResponder(bed, bed["gw-a"], foreign)
    pki.strongswan()
    refuses(pki.gateway(**STRICT), "ocsp_response_unusable", THEIRS, RESPONDER)


def test_a_list_over_http_vouches_and_revokes(bed):
    pki = Pki(bed)
    server = ListServer(bed, bed["gw-a"], pki.authority.publish(bed.directory / "www"))
    strongswan = pki.strongswan()
    gateway = pki.gateway(revocation="strict", crls=[f"{server.url}/ca.crl"])
    strongswan.initiate()
    gateway.wait_for_child()
    assert gateway.status()["ike"]["revocation"]["lists"][0]["problem"] is None
    gateway.culvert("terminate", "to-branch")
    pki.authority.revoke(pki.theirs)
    pki.authority.publish(bed.directory / "www")
    gateway.ike.stop()
    gateway.start_ike()
    refuses(gateway, "certificate_revoked", THEIRS, "Test CA")


def test_what_was_fetched_outlives_a_reload(bed):
    pki = Pki(bed)
    server = ListServer(bed, bed["gw-a"], pki.authority.publish(bed.directory / "www"))
    pki.strongswan()
    gateway = pki.gateway(revocation="strict", crls=[f"{server.url}/ca.crl"])
    wait_until(lambda: "revocation_list_fetched" in log_of(gateway), 5, "the list")
    server.kill()
    gateway.ike.send_signal(signal.SIGHUP)
    wait_until(lambda: " reloaded " in log_of(gateway), 5, "the reload")
    gateway.culvert("initiate", "net")
    assert bed.ping(count=5, interval=0.01).lost() == []


def test_a_list_that_cannot_be_fetched_is_named_and_shown(bed):
    pki = Pki(bed)
    server = ListServer(bed, bed["gw-a"], pki.authority.publish(bed.directory / "www"))
    pki.strongswan()
    url = f"{server.url}/absent.crl"
    gateway = pki.gateway(revocation="strict", crls=[url])
    refuses(gateway, "revocation_unreachable", url, "404")
    assert f"{url}: The requested URL returned error: 404" in gateway.text("status")


def test_a_list_of_somebody_else_takes_no_place(bed):
    pki = Pki(bed)
    foreign = Authority(bed.directory / "pki", "Foreign CA")
    server = ListServer(bed, bed["gw-a"], foreign.publish(bed.directory / "www"))
    pki.strongswan()
    refuses(pki.gateway(revocation="strict", crls=[f"{server.url}/ca.crl"]),
            "revocation_unknown", "is not signed by an authority")


def both(bed, pki, revoked=False):
    """b asks its responder about itself and sends what it says; a has nobody to ask."""
    if revoked:
        pki.authority.revoke(pki.theirs)
    pki.responder("b")
    b = pki.gateway("b", revocation="if-available", ocsp="fetch")
    wait_until(lambda: fetches(b, "ocsp", "ok"), 10, "b's own status", 0.2)
    return pki.gateway("a", revocation="strict", ocsp="in-band"), b


def test_a_status_that_the_peer_sends_along_satisfies_strict(bed):
    a, _ = both(bed, Pki(bed))
    a.culvert("initiate", "net")
    assert bed.ping(count=5, interval=0.01).lost() == []


def test_a_peer_that_sends_its_own_revocation_is_refused(bed):
    a, _ = both(bed, Pki(bed), revoked=True)
    refuses(a, "certificate_revoked", THEIRS, "by OCSP of")


def test_a_peer_that_sends_no_status_is_unknown_to_strict(bed):
    pki = Pki(bed)
    pki.strongswan()
    refuses(pki.gateway(revocation="strict", ocsp="in-band"), "revocation_unknown", THEIRS)


def test_what_fetches_has_no_rights_and_no_descriptor_but_its_socket(bed):
    pki = Pki(bed)
    gateway = pki.gateway(**STRICT)
    helper = helper_of(gateway)
    # It confines itself beside the key daemon's start, and reads no request before; its first
    # transfer has a pipe while it lasts.
    wait_until(lambda: status_of(helper)["Seccomp"].strip() == "2", 5, "the helper's confinement")
    wait_until(lambda: sorted(os.listdir(f"/proc/{helper}/fd")) == ["0", "1", "2"], 5,
               "the helper's socket to be its only descriptor")
    status, ike = status_of(helper), status_of(pid_of(gateway))
    assert status["Uid"] != ike["Uid"] and "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert Path(f"/proc/{helper}/environ").read_bytes() == b""


def test_what_fetches_goes_with_the_key_daemon_and_its_loss_is_told(bed):
    pki = Pki(bed)
    gateway = pki.gateway(**STRICT)
    helper = helper_of(gateway)
    gateway.kill_ike()
    wait_until(lambda: not Path(f"/proc/{helper}/exe").is_symlink(), 5, "the helper to end")
    gateway.start_ike()
    os.kill(helper_of(gateway), 9)
    wait_until(lambda: "fetch_helper_lost" in log_of(gateway), 5, "the loss in the log")
    pki.strongswan()
    refuses(gateway, "revocation_unreachable", "restart culvert-ike")


def status_of(process):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def pid_of(gateway):
    return gateway.ike_status()["pid"]


def helper_of(gateway):
    """The child of the key daemon by that name."""
    daemon = pid_of(gateway)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, name, _, parent = entry.read_text().split()[:4]
        except (OSError, ValueError):
            continue
        if name == "(culvert-fetch)" and int(parent) == daemon:
            return int(pid)
    raise AssertionError("there is no culvert-fetch")
