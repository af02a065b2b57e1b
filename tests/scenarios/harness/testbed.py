"""Whole gateways back to back: what a scenario starts from and what the demo shows."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from .capture import WanCapture
from .configuration import (SIDE_A, SIDE_B, TunnelOptions, connection, gateway_configuration,
                            with_psk, write_secret)
from .gateway import Gateway
from .namespaces import Topology, give_client_addresses
from .strongswan import PeerOptions, StrongSwan
from .traffic import ping

_counter = itertools.count()
REPOSITORY = Path(__file__).resolve().parents[3]


def build_directory():
    return Path(os.environ.get("CULVERT_BUILD", REPOSITORY / "build"))


class Testbed:
    """Namespaces, a directory for files and logs, and the gateways that were added to it."""

    __test__ = False  # for pytest: not a test class

    def __init__(self, prefix=None):
        # Namespaces are the machine's, and several runs may share it: the process tells them apart.
        self.prefix = prefix or f"cv{os.getpid()}-{next(_counter)}"
        self.directory = Path(tempfile.mkdtemp(prefix=f"culvert-{self.prefix}-"))
        self.directory.chmod(0o755)
        self._stoppable = []
        self.gateways = {}
        self.topology = Topology(self.prefix)
        self.psk = secrets.token_hex(24)
        self.psk_file = write_secret(self.directory / "pair.psk", self.psk)
        for side, letter in ((SIDE_A, "a"), (SIDE_B, "b")):
            give_client_addresses(self.topology[f"client-{letter}"], "eth0", side.client,
                                  [address.split("/")[0] for address in side.lan])

    def __getitem__(self, role):
        return self.topology[role]

    # ---- the ends -------------------------------------------------------------------------------

    def configuration(self, letter, options=None):
        """The configuration of gateway a or b; with `options` it has the connection to the other."""
        local, remote = (SIDE_A, SIDE_B) if letter == "a" else (SIDE_B, SIDE_A)
        configuration = gateway_configuration(local.name, local, remote)
        if options is not None:
            configuration["connections"] = [connection(local, remote, options)]
            with_psk(configuration, local, remote, self.psk_file)
        return configuration

    def add_gateway(self, letter, configuration, start=True):
        gateway = Gateway(self.topology[f"gw-{letter}"], build_directory(), self.directory,
                          configuration)
        self.gateways[letter] = gateway
        self._stoppable.append(gateway)
        if start:
            gateway.start()
        return gateway

    def two_gateways(self, options=None):
        """Both configured and started, side by side: a start is mostly waiting for the kernel."""
        options = options or TunnelOptions()
        pair = [self.add_gateway(letter, self.configuration(letter, options), start=False)
                for letter in "ab"]
        with concurrent.futures.ThreadPoolExecutor(len(pair)) as side_by_side:
            return tuple(side_by_side.map(Gateway.start, pair))

    def add_strongswan(self, options=None, behind=None):
        """strongSwan in the place of gateway b, behind a router if there is one (see nat.py)."""
        side = dataclasses.replace(SIDE_B, wan=[f"{behind.inside}/24"]) if behind else SIDE_B
        peer = StrongSwan(self.topology["gw-b"], self.directory / "strongswan", side, SIDE_A,
                          self.psk, options or PeerOptions(),
                          router=behind.router if behind else None)
        self._stoppable.append(peer)
        peer.prepare_kernel()
        return peer.start()

    def also_stop(self, item):
        """Something else with `processes` and `kill`."""
        self._stoppable.append(item)

    # ---- traffic --------------------------------------------------------------------------------

    def ping(self, family=4, **options):
        """From client a to client b."""
        self.topology.wait_until_up()
        return ping(self.topology["client-a"], SIDE_B.client_address(family), **options)

    @contextlib.contextmanager
    def capture(self, name="wan", **options):
        capture = WanCapture(self.topology, self.directory / f"{name}.pcap", **options)
        try:
            yield capture
        finally:
            capture.stop()

    def logs(self):
        """Every log in the directory, for a failure's report."""
        return {path.name: path.read_text(errors="replace")
                for path in sorted(self.directory.rglob("*.log"))}

    def processes(self):
        return [process for item in self._stoppable for process in item.processes()]

    def close(self, keep_files=False):
        for item in reversed(self._stoppable):
            with contextlib.suppress(Exception):
                item.kill()
        self._stoppable.clear()
        self.topology.close()
        if not keep_files:
            shutil.rmtree(self.directory, ignore_errors=True)
