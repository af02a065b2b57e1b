"""Authorities, certificates and revocation lists, made with the openssl command."""

import functools
import grp
import http.server
import os
import threading
from pathlib import Path

from .configuration import SERVICE_USER
from .shell import Process, run, wait_until

KEY_TYPES = {
    "rsa": ("RSA", ["-pkeyopt", "rsa_keygen_bits:2048"]),
    "ecdsa256": ("EC", ["-pkeyopt", "ec_paramgen_curve:P-256"]),
    "ecdsa384": ("EC", ["-pkeyopt", "ec_paramgen_curve:P-384"]),
    "ecdsa521": ("EC", ["-pkeyopt", "ec_paramgen_curve:P-521"]),
    "ed25519": ("ED25519", []),
    "ed448": ("ED448", []),
}


class Issued:
    """A certificate with its key: files in PEM."""

    def __init__(self, certificate: Path, key: Path):
        self.certificate, self.key = certificate, key


class Authority:
    """`openssl ca` in a directory of its own."""

    def __init__(self, directory: Path, name="CA", key_type="ecdsa256", issuer=None):
        self.directory = Path(directory) / name.replace(" ", "-")
        self.directory.mkdir(parents=True)
        (self.directory / "new").mkdir()
        (self.directory / "index.txt").write_text("")
        (self.directory / "serial").write_text("1000\n")
        (self.directory / "crlnumber").write_text("01\n")
        self.configuration = self.directory / "openssl.cnf"
        self.configuration.write_text(f"""
[ca]
default_ca = this
[this]
dir = {self.directory}
database = $dir/index.txt
new_certs_dir = $dir/new
serial = $dir/serial
crlnumber = $dir/crlnumber
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = {"default" if key_type.startswith("ed") else "sha256"}
policy = anything
unique_subject = no
default_crl_days = 30
[anything]
countryName = optional
organizationName = optional
commonName = supplied
[req]
distinguished_name = nothing
[nothing]
""")
        self.certificate = self.directory / "ca.pem"
        self.key = new_key(self.directory / "ca.key", key_type)
        if issuer is None:
            run("openssl", "req", "-x509", "-new", "-key", self.key, "-subj",
                f"/O=Culvert test/CN={name}", "-days", 3650, "-out", self.certificate,
                "-config", self.configuration, "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        else:
            issuer.sign(name, self.key, self.certificate,
                        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign")

    def sign(self, name, key, certificate, extensions, start=None, end=None):
        request = self.directory / "request.csr"
        run("openssl", "req", "-new", "-key", key, "-subj", f"/O=Culvert test/CN={name}",
            "-out", request, "-config", self.configuration)
        file = self.directory / "extensions.cnf"
        file.write_text(extensions + "\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        dates = ["-startdate", start, "-enddate", end] if start else ["-days", 365]
        run("openssl", "ca", "-batch", "-config", self.configuration, "-in", request, "-out",
            certificate, "-extfile", file, "-notext", *dates)

    def issue(self, identity, key_type="ecdsa256", name="end", expired=False, extensions="",
              subject=""):
        """An end entity with `identity` as its only subjectAltName; its subject's name is that too, or
        another."""
        folder = self.directory / name
        folder.mkdir()
        issued = Issued(folder / f"{name}.pem", new_key(folder / f"{name}.key", key_type))
        lines = f"basicConstraints=CA:FALSE\nsubjectAltName=DNS:{identity}\n{extensions}"
        dates = ("20200101000000Z", "20210101000000Z") if expired else (None, None)
        self.sign(subject or identity, issued.key, issued.certificate, lines, *dates)
        return issued

    def revoke(self, issued):
        run("openssl", "ca", "-config", self.configuration, "-revoke", issued.certificate)

    def revocation_list(self):
        file = self.directory / "ca.crl"
        run("openssl", "ca", "-config", self.configuration, "-gencrl", "-out", file)
        return file

    def publish(self, folder: Path):
        """The list alone in a folder, for a web server."""
        folder.mkdir(exist_ok=True)
        (folder / "ca.crl").write_bytes(self.revocation_list().read_bytes())
        return folder


class OcspResponder:
    """`openssl ocsp` for one authority on a namespace's loopback: `url` says where."""

    def __init__(self, bed, namespace, authority, port=8881):
        self.url = f"http://127.0.0.1:{port}/"
        log = bed.directory / f"ocsp-{port}-{namespace.name}.log"
        self._process = Process(namespace.command(
            "openssl", "ocsp", "-index", authority.directory / "index.txt", "-port", port,
            "-rsigner", authority.certificate, "-rkey", authority.key, "-CA",
            authority.certificate, "-nmin", 10), log)
        bed.also_stop(self)
        wait_until(lambda: "waiting for OCSP client connections" in log.read_text(), 5,
                   "the OCSP responder")

    def processes(self):
        return [self._process]

    def kill(self):
        self._process.kill()


class ListServer:
    """A directory over HTTP on a namespace's loopback, served from here."""

    def __init__(self, bed, namespace, directory, port=8880):
        self.url = f"http://127.0.0.1:{port}"
        log = (bed.directory / f"lists-{port}-{namespace.name}.log").open("w", buffering=1)
        with namespace.entered():  # its socket stays there
            self._server = http.server.ThreadingHTTPServer(
                ("127.0.0.1", port), functools.partial(_LoggingHandler, log, directory=directory))
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        bed.also_stop(self)

    def processes(self):
        return []

    def kill(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _LoggingHandler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, log, *request, **options):
        self._log = log
        super().__init__(*request, **options)

    def log_message(self, format, *words):
        self._log.write(format % words + "\n")


def new_key(path: Path, key_type):
    """Readable for root and the service user's group, for nobody else."""
    algorithm, options = KEY_TYPES[key_type]
    run("openssl", "genpkey", "-algorithm", algorithm, *options, "-out", path)
    os.chown(path, 0, grp.getgrnam(SERVICE_USER).gr_gid)
    path.chmod(0o640)
    return path


def with_certificate(configuration, issued: Issued, authorities, chain=(), **pki):
    """The configuration with certificates on both sides in place of the pre-shared key."""
    certificate = issued.certificate
    if chain:
        certificate = issued.certificate.with_suffix(".chain.pem")
        certificate.write_text(issued.certificate.read_text()
                               + "".join(one.certificate.read_text() for one in chain))
    connection = configuration["connections"][0]
    connection["local"].update({"auth": "pubkey", "certificate": str(certificate)})
    connection["remote"]["auth"] = "pubkey"
    configuration["secrets"] = []
    configuration["pki"] = {"authorities": [str(one.certificate) for one in authorities],
                            "private_keys": [str(issued.key)], **pki}
    return configuration
