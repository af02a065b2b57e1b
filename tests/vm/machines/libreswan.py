"""libreswan with the kernel's ESP: pluto in a virtual machine, one for all tests of a file.

Debian's package conflicts with strongSwan's, so it is unpacked, not installed, and only a machine sees it
where it belongs. A start takes seconds there; its connections and secrets are replaced while it runs.
"""

import re
import shutil
from pathlib import Path

from harness.shell import CommandFailed, run

from .image import Unavailable, downloaded, only_one

START_SECONDS = 60
PROGRAMS = "/usr/libexec/ipsec"
DATABASE = "/var/lib/ipsec/nss"
CHILD = "net"  # a connection is a child; those between the same ends share an IKE SA


def unpacked(directory: Path):
    """The folder of libreswan's programs; from `directory` when it is there, else downloaded."""
    folder = directory / "libreswan"
    programs = folder / PROGRAMS[1:]
    with only_one(directory):
        if not programs.exists():
            shutil.rmtree(folder, ignore_errors=True)
            run("dpkg-deb", "-x", downloaded("libreswan", directory), folder)
    missing = [line.split()[0] for line in run("ldd", programs / "pluto").stdout.splitlines()
               if "not found" in line]
    if missing or shutil.which("pk12util") is None:
        raise Unavailable(f"libreswan lacks {', '.join(missing) or 'pk12util'}; "
                          "scripts/packages.txt names what it needs, under vm")
    return programs


class Libreswan:
    """It has all certificates of `pki` that are theirs, each of another subject, for NSS has one name for
    each; Ed25519 it does not know."""

    def __init__(self, machine, programs, local, remote, pki):
        self.machine, self.local, self.remote = machine, local, remote
        self._loaded = []
        self._make_database(pki)
        machine.run(f"mkdir -p {PROGRAMS} {Path(DATABASE).parent} /run/pluto /etc/ipsec.d && "
                    f"mount --bind {programs} {PROGRAMS} && cp -r /mnt/machine/nss {DATABASE} && "
                    "touch /etc/ipsec.secrets && cp /mnt/machine/ipsec.conf /etc", timeout=60)
        self._process = machine.beside(
            [f"{PROGRAMS}/pluto", "--nofork", "--config", "/etc/ipsec.conf"], "pluto.out")
        try:
            machine.run(f"while ! test -S /run/pluto/pluto.ctl; do kill -0 {self._process.pid} && "
                        f"sleep 0.1 || exit 1; done; {PROGRAMS}/whack --listen", START_SECONDS)
        except CommandFailed as why:
            raise CommandFailed(f"{why}\n{self._process.text()}\n{self.log()}") from why

    def _make_database(self, pki):
        """Made here, where certutil and pk12util need no second."""
        shared = self.machine.shared
        database = shared / "nss"
        database.mkdir()
        run("certutil", "-N", "-d", f"sql:{database}", "--empty-password")
        # What it trusts; one between is only what it sends along.
        for authority, trust in [*((one, "CT,,") for one in pki.authorities), (pki.between_theirs, ",,")]:
            run("certutil", "-A", "-d", f"sql:{database}", "-n", authority.directory.name, "-t", trust,
                "-i", authority.certificate)
        for name, issued in pki.theirs.items():
            if name == "ed25519":
                continue
            pair = shared / f"{name}.p12"
            run("openssl", "pkcs12", "-export", "-in", issued.certificate, "-inkey", issued.key,
                "-name", name, "-passout", "pass:", "-out", pair)
            run("pk12util", "-i", pair, "-d", f"sql:{database}", "-W", "")
        (shared / "ipsec.conf").write_text(
            f"config setup\n  logfile=/mnt/machine/pluto.log\n  nssdir={DATABASE}\n  uniqueids=no\n")

    # ---- its connections ----------------------------------------------------------------------------

    def words(self, **others):
        """Of a connection, as ipsec.conf has them (`_` for `-`); `others` beside or instead, without
        those that are None. `leftupdown`: routes are there already; its script would want libreswan
        installed."""
        local, remote = self.local, self.remote
        words = {"ikev2": "yes", "left": local.wan_address, "leftid": f"@{local.identity}",
                 "leftsubnet": local.network(), "right": remote.wan_address,
                 "rightid": f"@{remote.identity}", "rightsubnet": remote.network(), "pfs": "yes",
                 "esn": "yes", "replay_window": 128, "mobike": "no", "leftupdown": "%disabled",
                 "authby": "secret", **others}
        return {name.replace("_", "-"): value for name, value in words.items() if value is not None}

    def configure(self, psk, *, auth="psk", secrets="", children=None, **others):
        """In place of what it had: the connection `net`, `others` among its `words`, and `children` beside
        (name -> (local, remote) network); `secrets` are further lines of ipsec.secrets. `auth` is psk, or
        one of the certificates that it was started with."""
        if auth != "psk":
            others = {"authby": "rsa-sha2" if auth in ("rsa", "chain") else "ecdsa-sha2",
                      "leftcert": auth, "leftsendcert": "always", "sendca": "all", "rightca": "%any",
                      **others}
        connections = {CHILD: self.words(**others)}
        for name, (near, far) in (children or {}).items():
            connections[name] = self.words(**{**others, "leftsubnet": near, "rightsubnet": far})
        lines = [line for name, words in connections.items() for line in
                 ("", f"conn {name}", *[f"  {word}={value}" for word, value in words.items()])]
        (self.machine.shared / "connections.conf").write_text("\n".join([*lines, ""]))
        ends = [connections[CHILD][end] for end in ("leftid", "rightid")]
        (self.machine.shared / "ipsec.secrets").write_text(
            f'{" ".join(ends)} : PSK "{psk}"\n' + secrets.format(*ends) + "\n")
        self.machine.run(" && ".join((
            "cp /mnt/machine/ipsec.secrets /etc", "chmod 600 /etc/ipsec.secrets",
            "cat /mnt/machine/ipsec.conf /mnt/machine/connections.conf > /etc/ipsec.conf",
            f"{PROGRAMS}/whack --listen",  # looks for addresses and secrets
            *[f"{PROGRAMS}/addconn --config /etc/ipsec.conf {name}" for name in connections])), 60)
        self._loaded = list(connections)
        return self

    def stop(self):
        """Its connections with their SAs go, and what of them is in the kernel; it stays."""
        if self._loaded:
            self.machine.run("; ".join(f"{PROGRAMS}/whack --delete --name {name}"
                                       for name in self._loaded), 60, check=False)
        self._loaded = []
        self.machine.forget()

    def whack(self, *words, timeout=60.0):
        return self.machine.run(" ".join([f"{PROGRAMS}/whack", *map(str, words)]), timeout)

    # ---- what a test asks of either peer ----------------------------------------------------------

    def initiate(self, child=CHILD):
        return self.whack("--initiate", "--name", child)

    def begin(self):
        """It initiates, and nobody waits for what becomes of it."""
        return self.whack("--asynchronous", "--initiate", "--name", CHILD)

    def rekey_child(self, child=CHILD):
        return self.whack("--rekey-ipsec", "--name", child)

    def rekey_ike(self):
        return self.whack("--rekey-ike", "--name", CHILD)

    def reauthenticate(self):
        """At once, not when its IKE SA gets old; whack would wait until the old one is deleted."""
        for state in self._states("ESTABLISHED_IKE_SA"):
            self.machine.run(f"timeout 1 {PROGRAMS}/whack --impair event-v2-reauth:{state}", check=False)

    def terminate_child(self, child=CHILD):
        for state in self._states("ESTABLISHED_CHILD_SA", child):
            self.whack("--deletestate", state)

    def _states(self, kind, child='[^"]+'):
        """Their numbers. A line is `000 #2: "net":500 STATE_V2_ESTABLISHED_CHILD_SA (…`; an IKE SA has
        the name of any of its children."""
        return re.findall(rf'^\S* ?#(\d+): "{child}".* STATE_V2_{kind} ', self.whack("--showstates"), re.M)

    def terminate_ike(self):
        return self.whack("--terminate", "--name", CHILD)

    def sas(self):
        """Its IKE SAs, whatever they are called."""
        return self._states("ESTABLISHED_IKE_SA")

    def log(self):
        file = self.machine.shared / "pluto.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def processes(self):
        return [self._process]

    def kill(self):
        self._process.kill()
