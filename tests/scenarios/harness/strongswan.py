"""strongSwan as a peer: charon-systemd with userspace ESP (kernel-libipsec, always on UDP 4500)."""

import os
import re
import signal
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .shell import Process, require, run

PLUGINS = ("random nonce x509 constraints revocation pubkey pkcs1 pkcs8 pem openssl curve25519 kdf "
           "hmac gcm ccm chapoly aes sha1 sha2 ctr cmac drbg kernel-libipsec kernel-netlink "
           "socket-default updown vici")
SWANCTL_FOLDERS = ("x509", "x509ca", "private", "ecdsa", "conf.d", "rsa", "pkcs8", "pubkey",
                   "x509aa", "x509ac", "x509crl", "x509ocsp", "pkcs12", "bliss")


@dataclass
class PeerOptions:
    proposals: str = "aes256gcm16-prfsha384-ecp384"
    esp_proposals: str = "aes256gcm16-ecp384"
    start_action: str = "none"
    dpd_delay: str = "0s"
    rekey_time: str = "4h"
    fragment_size: int = 1280
    mobike: str = "no"
    local_address: str = ""   # its own, unless it may use any; with an IPv6 one it has no other
    remote_address: str = ""  # where we are seen, when a NAT stands between
    connection: str = ""      # further lines of the connection
    daemon: str = ""          # further settings of charon
    log: str = ""             # levels of its log beside the default, see key_memory.py
    local_ts: str = ""        # instead of the network of its side
    mode: str = "tunnel"      # transport: between the gateways' own addresses
    children: dict = field(default_factory=dict)  # beside `net`: name -> (local_ts, remote_ts)
    version: int = 2
    secrets: str = ""         # further entries of secrets
    auth: str = ""            # instead of psk or what pki says
    identity: str = ""          # empty: that of its side
    remote_identity: str = ""   # empty: that of our side
    pki: object = None          # PeerPki; None: a pre-shared key on both sides


@dataclass
class PeerPki:
    """What strongSwan authenticates with; `auth` and `remote_auth` are words of swanctl.conf."""

    certificate: Path
    key: Path
    authorities: list           # files it trusts
    intermediates: list = field(default_factory=list)  # files it sends along
    crls: list = field(default_factory=list)
    auth: str = "pubkey"
    remote_auth: str = "pubkey"


class StrongSwan:
    """One charon in a gateway's namespace, everything under one directory."""

    plugins = PLUGINS

    def __init__(self, namespace, directory: Path, local, remote, psk, options=None,
                 router=None):
        self.router = router
        self.namespace, self.local, self.remote = namespace, local, remote
        self.directory = Path(directory)
        self.options = options or PeerOptions()
        self._process = None
        for folder in SWANCTL_FOLDERS:
            (self.directory / "swanctl" / folder).mkdir(parents=True, exist_ok=True)
        self.vici = f"unix://{self.directory}/vici.sock"
        self.environment = {**os.environ,
                            "STRONGSWAN_CONF": str(self.directory / "strongswan.conf"),
                            "SWANCTL_DIR": str(self.directory / "swanctl")}
        self._write_daemon_configuration()
        self._write_connection(psk)

    @property
    def log_file(self):
        """Where charon writes it."""
        return self.directory / "charon.log"

    def _write_daemon_configuration(self):
        (self.directory / "strongswan.conf").write_text(f"""
charon-systemd {{
  load = {self.plugins}
  retransmit_timeout = 1
  retransmit_tries = 3
  fragment_size = {self.options.fragment_size}
  {self.options.daemon}
  plugins {{ vici {{ socket = {self.vici} }} }}
  filelog {{ log {{ path = {self.log_file}
      default = 1
      {self.options.log}
      flush_line = yes }} }}
}}
swanctl {{ load = random nonce x509 pubkey pkcs1 pkcs8 pem openssl }}
""")

    def _write_connection(self, psk):
        options, local, remote = self.options, self.local, self.remote
        pki = options.pki
        own = options.identity or local.identity
        far = options.remote_identity or remote.identity
        if pki is not None:
            self._write_pki(pki)
        (self.directory / "swanctl/swanctl.conf").write_text(f"""
connections {{ to-{remote.name} {{
  version = {options.version}
  local_addrs = {options.local_address or local.wan_address}
  remote_addrs = {options.remote_address or remote.wan_address}
  proposals = {options.proposals}
  mobike = {options.mobike}
  {options.connection}
  dpd_delay = {options.dpd_delay}
  rekey_time = {options.rekey_time}
  send_cert = always
  local {{ auth = {options.auth or (pki.auth if pki else "psk")}
    {f"certs = {pki.certificate.name}" if pki and pki.auth != "psk" else ""}
    id = "{own}" }}
  remote {{ auth = {pki.remote_auth if pki else "psk"}
    id = "{far}" }}
  children {{ {self._children()} }}
}} }}
secrets {{ ike-peer {{
  id-1 = "{own}"
  id-2 = "{far}"
  secret = "{psk}" }}
  {options.secrets} }}
""")

    def _children(self):
        own = "dynamic" if self.options.mode == "transport" else ""
        networks = {"net": (own or self.options.local_ts or self.local.network(),
                            own or self.remote.network()), **self.options.children}
        return "\n".join(f"""
  {name} {{
    local_ts = {local_ts}
    remote_ts = {remote_ts}
    esp_proposals = {self.options.esp_proposals}
    start_action = {self.options.start_action}
    mode = {self.options.mode} }}""" for name, (local_ts, remote_ts) in networks.items())

    def _write_pki(self, pki):
        folder = self.directory / "swanctl"
        shutil.copy(pki.certificate, folder / "x509")
        shutil.copy(pki.key, folder / "private")
        for index, file in enumerate(pki.authorities):
            shutil.copy(file, folder / "x509ca" / f"authority-{index}.pem")
        for index, file in enumerate(pki.intermediates):
            shutil.copy(file, folder / "x509ca" / f"intermediate-{index}.pem")
        for index, file in enumerate(pki.crls):
            shutil.copy(file, folder / "x509crl" / f"list-{index}.pem")

    def prepare_kernel(self):
        """Addresses and forwarding: unlike ours, this gateway needs the kernel's stack."""
        outer_ipv6 = ":" in self.options.local_address
        if outer_ipv6:
            self.namespace.sysctl("net.ipv6.conf.wan.disable_ipv6=0",
                                  "net.ipv6.conf.wan.accept_dad=0")
        self.namespace.ip("addr", "add", self.local.wan[outer_ipv6], "dev", "wan")
        if self.router:
            self.namespace.ip("route", "add", "default", "via", self.router)
        self.namespace.ip("addr", "add", self.local.lan[0], "dev", "lan")
        self.namespace.sysctl("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
                              "net.ipv4.conf.default.rp_filter=0",
                              "net.ipv4.conf.wan.rp_filter=0", "net.ipv4.conf.lan.rp_filter=0")

    def start(self):
        socket = self.directory / "vici.sock"
        socket.unlink(missing_ok=True)
        self._process = Process(self.namespace.command("charon-systemd"),
                                self.directory / "stdout.log", self.environment)
        require(self._process,
                lambda: socket.exists() and self._control("--stats", check=False).returncode == 0,
                15, "charon")
        self.control("--load-all")
        return self

    def _control(self, *words, check=True, timeout=30.0):
        return run("swanctl", *words, "--uri", self.vici, check=check,
                   environment=self.environment, timeout=timeout)

    def control(self, *words, timeout=30.0):
        """`swanctl WORDS`; its text output."""
        return self._control(*words, timeout=timeout).stdout

    def initiate(self, child="net"):
        return self.control("--initiate", "--child", child, "--timeout", 15)

    def rekey_child(self, child="net"):
        return self.control("--rekey", "--child", child)

    def rekey_ike(self):
        return self.control("--rekey", "--ike", f"to-{self.remote.name}")

    def terminate_child(self, child="net"):
        return self.control("--terminate", "--child", child, "--timeout", 10)

    def terminate_ike(self):
        return self.control("--terminate", "--ike", f"to-{self.remote.name}", "--timeout", 10)

    def sas(self):
        return parse_list_sas(self.control("--list-sas"))

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def processes(self):
        return [self._process] if self._process is not None else []

    def kill(self):
        """kill -9: the peer vanishes without a word."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def stop(self):
        if self._process is not None:
            self._process.stop(signal.SIGTERM)
            self._process = None


_IKE = re.compile(r"^(\S+): #(\d+), (\w+), IKEv2, ([0-9a-f]+)_i\*? ([0-9a-f]+)_r", re.M)
_CHILD = re.compile(r"^  (\S+): #(\d+), reqid \d+, (\w+), (\S+), ESP:(\S+)", re.M)
_IN = re.compile(r"in  ([0-9a-f]+).*?,\s+(\d+) bytes,\s+(\d+) packets")
_OUT = re.compile(r"out ([0-9a-f]+).*?,\s+(\d+) bytes,\s+(\d+) packets")


def parse_list_sas(text):
    """`swanctl --list-sas` as [{name, state, initiator_spi, suite, children: [...]}]."""
    result = []
    heads = list(_IKE.finditer(text))
    for head, following in zip(heads, heads[1:] + [None]):
        body = text[head.start():following.start() if following else len(text)]
        lines = body.splitlines()
        result.append({"name": head.group(1), "number": int(head.group(2)),
                       "state": head.group(3), "initiator_spi": int(head.group(4), 16),
                       "responder_spi": int(head.group(5), 16),
                       "suite": lines[3].strip() if len(lines) > 3 else "",
                       "children": _children(body)})
    return result


def _children(body):
    children = []
    heads = list(_CHILD.finditer(body))
    for head, following in zip(heads, heads[1:] + [None]):
        part = body[head.start():following.start() if following else len(body)]
        inbound, outbound = _IN.search(part), _OUT.search(part)
        children.append({
            "name": head.group(1), "number": int(head.group(2)), "state": head.group(3),
            "mode": head.group(4), "suite": head.group(5),
            "spi_in": int(inbound.group(1), 16) if inbound else 0,
            "in_bytes": int(inbound.group(2)) if inbound else 0,
            "in_packets": int(inbound.group(3)) if inbound else 0,
            "spi_out": int(outbound.group(1), 16) if outbound else 0,
            "out_packets": int(outbound.group(3)) if outbound else 0})
    return children
