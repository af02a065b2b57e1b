"""strongSwan with the kernel's ESP: charon in a virtual machine, configured as in the scenarios."""

import itertools
import shlex
from pathlib import Path

from harness import strongswan
from harness.shell import require

START_SECONDS = 60
_counter = itertools.count()


class StrongSwan(strongswan.StrongSwan):
    """Its configuration is among this host's files; its socket is the machine's, its log in the share."""

    plugins = strongswan.PLUGINS.replace("kernel-libipsec ", "")

    def __init__(self, machine, directory, local, remote, psk, pki=None, **options):
        self.machine = machine
        super().__init__(machine.namespace, directory / f"strongswan-{next(_counter)}", local, remote,
                         psk, strongswan.PeerOptions(pki=pki, **options))

    @property
    def log_file(self):
        return Path("/mnt/machine") / f"{self.directory.name}-charon.log"

    def start(self):
        settings = {name: self.environment[name] for name in ("STRONGSWAN_CONF", "SWANCTL_DIR")}
        self._settings = " ".join(f"{name}={value}" for name, value in settings.items())
        self._process = self.machine.beside(["charon-systemd"], f"{self.directory.name}.log", settings)
        require(self._process, self._answers, START_SECONDS, "charon in the machine", 0.2)
        self.control("--load-all")
        return self

    def _answers(self):
        return self.machine.run(f"test -S {self.directory}/vici.sock && echo yes", check=False) != ""

    def control(self, *words, timeout=60.0):
        command = shlex.join(["swanctl", *map(str, words), "--uri", self.vici])
        return self.machine.run(f"{self._settings} {command}", timeout)

    def log(self):
        return (self.machine.shared / self.log_file.name).read_text(errors="replace")

    def stop(self):
        self.kill()
        self.machine.forget()
