"""libreswan with the kernel's ESP: pluto in a virtual machine.

Debian's package conflicts with strongSwan's, so it is unpacked, not installed, and only a machine sees it
where it belongs.
"""

import re
import shutil
from pathlib import Path

from harness.shell import require, run

from .image import Unavailable, downloaded

START_SECONDS = 60
PROGRAMS = "/usr/libexec/ipsec"
DATABASE = "/var/lib/ipsec/nss"
CONNECTION = "tunnel"


def unpacked(directory: Path):
    """The folder of libreswan's programs; from `directory` when it is there, else downloaded."""
    folder = directory / "libreswan"
    programs = folder / PROGRAMS[1:]
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
    def __init__(self, machine, programs, directory, local, remote, psk, pki=None, *,
                 proposals, esp_proposals):
        self.machine, self.directory = machine, directory
        self._process = None
        self._pki, self._psk, self.local, self.remote = pki, psk, local, remote
        self._proposals, self._esp_proposals = proposals, esp_proposals
        machine.run(f"mkdir -p {PROGRAMS} && (mountpoint -q {PROGRAMS} || "
                    f"mount --bind {programs} {PROGRAMS})")

    def _configuration(self):
        """`leftupdown`: routes are there already; its script would want libreswan installed."""
        local, remote = self.local, self.remote
        words = {
            "ikev2": "yes", "left": local.wan_address, "leftid": f"@{local.identity}",
            "leftsubnet": local.network(), "right": remote.wan_address,
            "rightid": f"@{remote.identity}", "rightsubnet": remote.network(),
            "ike": self._proposals, "esp": self._esp_proposals, "pfs": "yes", "esn": "yes",
            "replay-window": 128, "mobike": "no", "leftupdown": "%disabled", "auto": "add",
            "authby": "secret"}
        if self._pki is not None:
            words |= {"authby": "ecdsa-sha2", "leftcert": "ours", "leftsendcert": "always",
                      "rightca": "%same"}
        setup = {"logfile": "/mnt/machine/pluto.log", "nssdir": DATABASE}
        return "\n".join(["config setup", *[f"  {name}={value}" for name, value in setup.items()],
                          f"conn {CONNECTION}",
                          *[f"  {name}={value}" for name, value in words.items()]]) + "\n"

    def start(self):
        shared = self.machine.shared
        (shared / "ipsec.conf").write_text(self._configuration())
        (shared / "ipsec.secrets").write_text(
            f'@{self.local.identity} @{self.remote.identity} : PSK "{self._psk}"\n')
        self.machine.run(f"rm -rf {DATABASE} /run/pluto; "
                         f"mkdir -p {DATABASE} /run/pluto /etc/ipsec.d && "
                         f"cp /mnt/machine/ipsec.conf /mnt/machine/ipsec.secrets /etc && "
                         f"chmod 600 /etc/ipsec.secrets && "
                         f"certutil -N -d sql:{DATABASE} --empty-password", timeout=60)
        if self._pki is not None:
            self._import_certificate()
        self._process = self.machine.beside(
            [f"{PROGRAMS}/pluto", "--nofork", "--config", "/etc/ipsec.conf"], "pluto.out")
        require(self._process, self._answers, START_SECONDS, "pluto in the machine", 0.2)
        self._ipsec("addconn", "--config", "/etc/ipsec.conf", CONNECTION)
        self._ipsec("whack", "--listen")
        return self

    def _import_certificate(self):
        pair = self.machine.shared / "ours.p12"
        run("openssl", "pkcs12", "-export", "-in", self._pki.certificate, "-inkey", self._pki.key,
            "-certfile", self._pki.authorities[0], "-name", "ours", "-passout", "pass:", "-out", pair)
        self.machine.run(f"pk12util -i /mnt/machine/{pair.name} -d sql:{DATABASE} -W ''", timeout=60)
        listed = self.machine.run(f"certutil -L -d sql:{DATABASE}")
        authority = re.search(r"^(.*?)\s+,,\s*$", listed, re.M).group(1)
        self.machine.run(f"certutil -M -d sql:{DATABASE} -n '{authority}' -t CT,,")

    def _answers(self):
        return self.machine.run("test -S /run/pluto/pluto.ctl && echo yes", check=False) != ""

    def _ipsec(self, program, *words, timeout=60.0, check=True):
        return self.machine.run(" ".join([f"{PROGRAMS}/{program}", *words]), timeout, check)

    # ---- what a test asks of either peer ----------------------------------------------------------

    def initiate(self):
        return self._ipsec("whack", "--initiate", "--name", CONNECTION)

    def rekey_child(self):
        return self._ipsec("whack", "--rekey-ipsec", "--name", CONNECTION)

    def rekey_ike(self):
        return self._ipsec("whack", "--rekey-ike", "--name", CONNECTION)

    def terminate_child(self):
        states = re.findall(r"^\S* ?#(\d+): .*ESTABLISHED_CHILD_SA", self._ipsec("whack", "--showstates"),
                            re.M)
        for state in states:
            self._ipsec("whack", "--deletestate", state)

    def terminate_ike(self):
        return self._ipsec("whack", "--terminate", "--name", CONNECTION)

    def sas(self):
        """Its IKE SAs, whatever they are called."""
        return re.findall(r"^.*ESTABLISHED_IKE_SA.*$", self._ipsec("whack", "--showstates"), re.M)

    def log(self):
        return (self.machine.shared / "pluto.log").read_text(errors="replace")

    def processes(self):
        return [self._process] if self._process else []

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process = None

    def stop(self):
        self.kill()
        self.machine.forget()
