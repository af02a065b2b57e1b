"""SIGHUP with a file whose end is long in coming: a pipe that nobody writes into yet. The reload waits for it, and
nothing else does."""

import copy
import os
import signal

import pytest

from harness.configuration import SIDE_A, SIDE_B, TunnelOptions, to_yaml
from harness.shell import wait_until
from harness.traffic import SteadyArp, SteadyPing


class SlowFile:
    """The gateway's file as a pipe, until it is `served`."""

    def __init__(self, gateway):
        self._file = gateway.file
        self._text = to_yaml(gateway.configuration) + "\n"
        self._file.unlink()
        os.mkfifo(self._file, 0o644)
        self._file.chmod(0o644)
        self._writer = None

    def _is_read(self):
        try:
            self._writer = os.open(self._file, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            return False
        os.set_blocking(self._writer, True)
        return True

    def wait_for_reader(self):
        wait_until(self._is_read, 10, "the file to be read")

    def serve(self):
        """Its end comes, and from here on it is a file like others."""
        os.write(self._writer, self._text.encode())
        whole = self._file.with_suffix(".whole")
        whole.write_text(self._text)
        whole.chmod(0o644)
        whole.rename(self._file)
        os.close(self._writer)


def is_alive(gateway, socket):
    return gateway.ask(socket, "status")["ok"]


def test_nobody_waits_for_a_file_that_is_read(bed):
    # Given a tunnel under traffic, and a file with one child more
    a, b = bed.two_gateways(TunnelOptions())
    a.culvert("initiate", "net")
    b.wait_for_child()
    client = bed["client-a"]
    steady = SteadyPing(client, SIDE_B.client_address(), bed.directory)
    asker = SteadyArp(client, "eth0", SIDE_A.lan_address(), bed.directory)
    children = a.configuration["connections"][0]["children"]
    children.append({**copy.deepcopy(children[0]), "name": "lab", "local_ts": ["10.1.9.0/24"],
                     "remote_ts": ["10.2.9.0/24"]})
    for daemon, socket in ((a.dataplane, "dataplane.sock"), (a.ike, "ike.sock")):
        before = len(daemon.text())

        def said(daemon=daemon, before=before):
            return daemon.text()[before:]

        # When a daemon has begun to read it, and is asked again meanwhile, more than once
        file = SlowFile(a)
        daemon.send_signal(signal.SIGHUP)
        file.wait_for_reader()
        for _ in range(2):
            daemon.send_signal(signal.SIGHUP)
            assert is_alive(a, socket) and is_alive(a, socket)
        # Then it goes on with everything else
        asker.wait_for_answer()
        steady.wait_for_replies(20)
        spi = a.child()["spi_out"]
        b.culvert("rekey", "net")
        wait_until(lambda spi=spi: len(a.children()) == 1 and a.child()["spi_out"] != spi, 10, "the rekey")
        assert "reloaded " not in said()
        # and when the file is there, takes it and reads it once more
        file.serve()
        wait_until(lambda said=said: said().count("reloaded ") == 2, 10, "both reloads", 0.05)
        assert is_alive(a, socket) and said().count("reloaded ") == 2
    a.culvert("policies")
    assert {child["child"] for child in a.status()["dataplane"]["children"]} == {"net", "lab"}
    asker.stop()
    assert steady.stop().lost_packets == []


@pytest.mark.parametrize("name", ["dataplane", "ike"])
def test_who_is_stopped_while_he_reads_ends_behind_it(bed, name):
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()))
    daemon = getattr(gateway, name)
    file = SlowFile(gateway)
    daemon.send_signal(signal.SIGHUP)
    file.wait_for_reader()
    daemon.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopped" in daemon.text(), 10, "the end of its work")
    wait_until(lambda: "reload_waited_for" in daemon.text(), 10, "a word of what it waits for")
    file.serve()
    assert daemon.wait(10) == 0
    assert "reloaded " not in daemon.text()
