"""Certificates beside strongSwan, in both roles: every kind of key, chains, and each reason to
refuse a peer with the words an operator gets to read."""

import pytest

from harness.configuration import TunnelOptions
from harness.gateway import CommandError
from harness.pki import Authority, with_certificate
from harness.refusals import last_failure, refuses
from harness.shell import CommandFailed, wait_until
from harness.strongswan import PeerOptions, PeerPki

OURS, THEIRS = "hq.example.org", "branch.example.org"


class Pki:
    """An authority that both ends trust, and certificates for both."""

    def __init__(self, bed, key_type="ecdsa256", their_authority=None, **theirs):
        self.bed = bed
        self.authority = Authority(bed.directory / "pki", "Test CA")
        self.issuer = their_authority(self) if their_authority else self.authority
        self.ours = self.authority.issue(OURS, key_type, "ours")
        self.theirs = self.issuer.issue(theirs.pop("identity", THEIRS), key_type, "theirs",
                                        **theirs)

    def gateway(self, **pki):
        configuration = self.bed.configuration("a", TunnelOptions())
        with_certificate(configuration, self.ours, [self.authority], **pki)
        return self.bed.add_gateway("a", configuration)

    def strongswan(self, intermediates=(), **options):
        pki = PeerPki(self.theirs.certificate, self.theirs.key,
                      [self.authority.certificate],
                      [one.certificate for one in intermediates])
        return self.bed.add_strongswan(PeerOptions(pki=pki, **options))


def both_initiate(bed, gateway, strongswan):
    """The tunnel comes up and carries traffic, whoever begins."""
    gateway.culvert("initiate", "net")
    assert bed.ping(count=10, interval=0.01).lost() == []
    gateway.culvert("terminate", "to-branch")
    wait_until(lambda: not strongswan.sas(), 5, "strongSwan to be down")
    strongswan.initiate()
    gateway.wait_for_child()
    assert gateway.ike_sas()[0]["role"] == "responder"
    assert bed.ping(count=10, interval=0.01).lost() == []
    return gateway.ike_sas()[0]


@pytest.mark.parametrize("key_type, algorithm", [
    ("rsa", "RSASSA-PSS with SHA-256"),
    ("ecdsa256", "ECDSA with SHA-256"),
    ("ecdsa384", "ECDSA with SHA-384"),
    ("ecdsa521", "ECDSA with SHA-512"),
    ("ed25519", "Ed25519"),
    ("ed448", "Ed448"),
])
def test_both_roles_with_each_kind_of_key(bed, key_type, algorithm):
    pki = Pki(bed, key_type)
    strongswan = pki.strongswan()
    sa = both_initiate(bed, pki.gateway(), strongswan)
    assert sa["local_auth"] == algorithm
    assert sa["remote_auth"]
    assert "CN=" + THEIRS in sa["remote_certificate"]


def test_distinguished_names_in_either_role(bed):
    """ID_DER_ASN1_DN (RFC 7296 §3.5): the subject of the certificate."""
    pki = Pki(bed)
    configuration = bed.configuration("a", TunnelOptions())
    with_certificate(configuration, pki.ours, [pki.authority])
    ours, theirs = (f"O=Culvert test, CN={name}" for name in (OURS, THEIRS))
    connection, = configuration["connections"]
    connection["local"]["id"], connection["remote"]["id"] = ours, theirs
    gateway = bed.add_gateway("a", configuration)
    strongswan = pki.strongswan(identity=theirs, remote_identity=ours)
    sa = both_initiate(bed, gateway, strongswan)
    assert (sa["local_id"], sa["remote_id"]) == (ours, theirs)


NO_SIGNATURE_HASHES = "signature_authentication = no"


def test_ecdsa_before_rfc_7427_in_either_role(bed):
    """RFC 4754: method 9, with a peer that negotiates no signature hashes."""
    pki = Pki(bed)
    strongswan = pki.strongswan(daemon=NO_SIGNATURE_HASHES)
    both_initiate(bed, pki.gateway(), strongswan)
    # each end's own and the other's, twice
    assert strongswan.log().count("with ECDSA-256 signature successful") == 4


def test_rsa_before_rfc_7427_is_refused_for_its_sha_1(bed):
    """RFC 8247 §4.3: strongSwan's method 1 is SHA-1 alone, which we neither make nor accept."""
    pki = Pki(bed, "rsa")
    strongswan = pki.strongswan(daemon=NO_SIGNATURE_HASHES)
    gateway = pki.gateway()
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    failure = last_failure(gateway)
    assert failure["failure"] == "signature_hash_mismatch"
    assert "RSASSA-PKCS1-v1_5 with SHA-256" in failure["detail"]
    assert "RFC 7427" in failure["remedy"]
    with pytest.raises(CommandFailed):
        strongswan.initiate()
    wait_until(lambda: "SHA-1 is not accepted" in last_failure(gateway)["detail"], 5, "the refusal")
    assert last_failure(gateway)["failure"] == "signature_hash_mismatch"
    assert gateway.ike_sas() == []


def test_a_peer_that_does_not_trust_our_authority_is_named_in_either_role(bed):
    """RFC 7296 §2.21.2: as initiator it says so with AUTHENTICATION_FAILED and nothing else."""
    pki = Pki(bed)
    foreign = Authority(bed.directory / "pki", "Foreign CA")
    strongswan = bed.add_strongswan(PeerOptions(pki=PeerPki(
        pki.theirs.certificate, pki.theirs.key, [foreign.certificate])))
    gateway = pki.gateway()
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    failure = last_failure(gateway)
    assert failure["failure"] == "certificate_refused_remote"
    assert "the peer answers AUTHENTICATION_FAILED" in failure["detail"]
    assert "authority of our certificate" in failure["remedy"]
    with pytest.raises(CommandFailed):
        strongswan.initiate()
    wait_until(lambda: "refuses our proof" in last_failure(gateway)["detail"], 5, "the refusal")
    assert last_failure(gateway)["failure"] == "certificate_refused_remote"
    assert gateway.ike_sas() == []
    assert gateway.text("status").count("certificate_refused_remote") == 1


def test_a_peer_behind_an_intermediate_authority(bed):
    pki = Pki(bed, their_authority=lambda pki: Authority(
        bed.directory / "pki", "Intermediate CA", issuer=pki.authority))
    strongswan = pki.strongswan(intermediates=[pki.issuer])
    both_initiate(bed, pki.gateway(), strongswan)


def test_we_send_our_intermediate(bed):
    pki = Pki(bed)
    intermediate = Authority(bed.directory / "pki", "Our intermediate CA", issuer=pki.authority)
    pki.ours = intermediate.issue(OURS, "ecdsa256", "behind-intermediate")
    strongswan = pki.strongswan()
    both_initiate(bed, pki.gateway(chain=[intermediate]), strongswan)


def test_an_expired_certificate_is_refused(bed):
    pki = Pki(bed, expired=True)
    strongswan = pki.strongswan()
    refuses(pki.gateway(), "certificate_not_valid", "has expired", THEIRS, "2021-01-01",
            strongswan=strongswan)


def test_a_certificate_of_another_authority_is_refused(bed):
    pki = Pki(bed, their_authority=lambda _: Authority(bed.directory / "pki", "Foreign CA"))
    strongswan = pki.strongswan()
    refuses(pki.gateway(), "certificate_untrusted", "Foreign CA", "Test CA",
            strongswan=strongswan)


def test_an_identity_that_is_not_in_the_certificate_is_refused(bed):
    """strongSwan sends its subject in that case; its log says why."""
    pki = Pki(bed, identity="elsewhere.example.org")
    pki.strongswan()
    gateway = pki.gateway()
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    assert last_failure(gateway)["failure"] in ("identity_not_certified", "identity_mismatch",
                                                "certificate_refused_remote")
    assert gateway.ike_sas() == []


def test_a_revoked_certificate_is_refused(bed):
    pki = Pki(bed)
    pki.authority.revoke(pki.theirs)
    strongswan = pki.strongswan()
    refuses(pki.gateway(crls=[str(pki.authority.revocation_list())], revocation="strict"),
            "certificate_revoked", THEIRS, "Test CA", strongswan=strongswan)


def test_with_a_current_list_a_strict_gateway_accepts(bed):
    pki = Pki(bed)
    strongswan = pki.strongswan()
    gateway = pki.gateway(crls=[str(pki.authority.revocation_list())], revocation="strict")
    both_initiate(bed, gateway, strongswan)


def test_a_pre_shared_key_on_our_side_and_a_certificate_on_theirs(bed):
    """RFC 7296 §2.15: the two directions of authentication have nothing to do with each other."""
    pki = Pki(bed)
    configuration = bed.configuration("a", TunnelOptions())
    secrets = configuration["secrets"]
    with_certificate(configuration, pki.ours, [pki.authority])
    configuration["connections"][0]["local"] = {
        key: value for key, value in configuration["connections"][0]["local"].items()
        if key not in ("auth", "certificate")}
    configuration["secrets"] = secrets
    gateway = bed.add_gateway("a", configuration)
    peer = PeerPki(pki.theirs.certificate, pki.theirs.key, [pki.authority.certificate],
                   remote_auth="psk")
    strongswan = bed.add_strongswan(PeerOptions(pki=peer))
    sa = both_initiate(bed, gateway, strongswan)
    assert (sa["local_auth"], sa["remote_auth"]) == ("psk", "ECDSA with SHA-256")


def test_a_peer_that_expects_a_pre_shared_key_is_named(bed):
    pki = Pki(bed)
    bed.add_strongswan(PeerOptions())
    gateway = pki.gateway()
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    failure = last_failure(gateway)
    assert failure["failure"] == "certificate_refused_remote"
    assert "not a pre-shared key" in failure["remedy"]


def test_a_revocation_while_running_counts_at_the_next_authentication(bed):
    pki = Pki(bed)
    pki.strongswan()
    crl = pki.authority.revocation_list()
    gateway = pki.gateway(crls=[str(crl)], revocation="strict")
    gateway.culvert("initiate", "net")
    gateway.culvert("terminate", "to-branch")
    pki.authority.revoke(pki.theirs)
    pki.authority.revocation_list()
    wait_until(lambda: any(text.count("revocation_lists_read") for text in gateway.logs().values()),
               15, "the new list to be read", 0.2)
    refuses(gateway, "certificate_revoked", THEIRS)


def test_expiry_is_a_metric_and_the_command_shows_who_authenticated(bed):
    pki = Pki(bed)
    pki.strongswan()
    gateway = pki.gateway()
    gateway.culvert("initiate", "net")
    wait_until(lambda: gateway.ike_metrics().total(
        "culvert_ike_certificate_not_after_timestamp_seconds", kind="own"), 5, "the metric")
    sa = gateway.ike_sas()[0]
    assert sa["remote_auth"] == sa["local_auth"] == "ECDSA with SHA-256"
