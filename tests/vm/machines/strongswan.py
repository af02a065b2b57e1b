"""strongSwan with the kernel's ESP: charon in a virtual machine, one for all tests, configured as in the
scenarios. A start takes seconds there; its connections and credentials are replaced while it runs."""

import contextlib
import shlex
import shutil
from pathlib import Path

from harness import strongswan
from harness.shell import CommandFailed, require

START_SECONDS = 60


class StrongSwan(strongswan.StrongSwan):
    """Its configuration and its log are in the share, for of this host's other files a machine keeps what
    it once read; its socket is the machine's."""

    plugins = strongswan.PLUGINS.replace("kernel-libipsec ", "")

    def __init__(self, machine, local, remote, **options):
        self.machine = machine
        super().__init__(machine.namespace, machine.shared / "strongswan", local, remote, "",
                         strongswan.PeerOptions(**options))
        inside = Path("/mnt/machine") / self.directory.name
        settings = {"STRONGSWAN_CONF": inside / "strongswan.conf", "SWANCTL_DIR": inside / "swanctl"}
        self._settings = " ".join(f"{name}={value}" for name, value in settings.items())
        self._process = machine.beside(["charon-systemd"], f"{self.directory.name}.log", settings)
        require(self._process, self._answers, START_SECONDS, "charon in the machine", 0.2)

    @property
    def log_file(self):
        return Path("/mnt/machine") / f"{self.directory.name}-charon.log"

    def _answers(self):
        return self.machine.run(f"test -S {self.directory}/vici.sock && echo yes", check=False) != ""

    def configure(self, psk, **options):
        """In place of what it had: a connection by `options`, those of PeerOptions."""
        self.options = strongswan.PeerOptions(**options)
        for folder in strongswan.SWANCTL_FOLDERS:
            shutil.rmtree(self.directory / "swanctl" / folder)
            (self.directory / "swanctl" / folder).mkdir()
        self._write_connection(psk)
        self.control("--load-all", "--clear")
        return self

    def control(self, *words, timeout=60.0):
        command = shlex.join(["swanctl", *map(str, words), "--uri", self.vici])
        return self.machine.run(f"{self._settings} {command}", timeout)

    def begin(self):
        """It initiates, whatever becomes of it."""
        with contextlib.suppress(CommandFailed):
            self.initiate()

    def log(self):
        return (self.machine.shared / self.log_file.name).read_text(errors="replace")

    def stop(self):
        """Its SAs go, and what of them is in the kernel; it stays."""
        with contextlib.suppress(CommandFailed):  # there may be none
            self.control("--terminate", "--ike", f"to-{self.remote.name}", "--force", "--timeout", 1)
        self.machine.forget()
