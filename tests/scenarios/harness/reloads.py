"""SIGHUP to a gateway's daemons, and what they say of it."""

import signal
import time

from .shell import wait_until


def _send(daemon, seconds=10):
    """What the daemon has said since."""
    before = len(daemon.text())

    def answer():
        said = daemon.text()[before:]
        return said if "reloaded " in said or "reload_refused" in said else None

    daemon.send_signal(signal.SIGHUP)
    return wait_until(answer, seconds, "the reload", 0.05)


def reload(gateway, dataplane_only=False, seconds=10):
    """The data plane first: it must know a child before the key daemon negotiates it. `seconds` it may take, and how
    many it took."""
    gateway.configure(gateway.configuration)
    began = time.monotonic()
    for daemon in [gateway.dataplane] if dataplane_only else [gateway.dataplane, gateway.ike]:
        said = _send(daemon, seconds)
        assert "reload_refused" not in said, said
    return time.monotonic() - began


def refused_reload(gateway, daemon):
    """Why this daemon does not take the gateway's configuration."""
    gateway.configure(gateway.configuration)
    said = _send(daemon)
    assert "reload_refused" in said
    return next(line for line in said.splitlines() if "reload_refused" in line)
