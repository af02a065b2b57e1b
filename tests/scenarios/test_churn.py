"""SAs, policies and routes change without rest under traffic: no crash, nothing in clear.

CULVERT_CHURN_BUILD names the build of the gateway that is shaken, CULVERT_CHURN_SECONDS how long;
`scripts/test churn` gives the one with ASan and UBSan.
"""

import os
import signal
import time
from pathlib import Path

import pytest
from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions, write_secret
from harness.shell import Process, wait_until
from harness.testbed import build_directory
from harness.traffic import SteadyPing

INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}
SECONDS = int(os.environ.get("CULVERT_CHURN_SECONDS", "6"))
PAIRS = int(os.environ.get("CULVERT_MANY_SAS", "20000"))
AT_ONCE = 800  # routes and policies that a reload lets come or go
MOST_BYTES = 5000  # an SA: key, window of 1 024 and all
LEAST_BYTES = 1000  # its key alone: less was not measured
KEY = "5a" * 20  # of what the far gateway seals
SEALED_SPI = 0x1234
SHAKEN = Path(os.environ.get("CULVERT_CHURN_BUILD", build_directory()))


def sealed_by_hand(bed, local, remote, direction):
    """From client b to client a, by an SA that stays as it is."""
    return [{"name": "steady", "direction": direction, "spi": SEALED_SPI, "local": local.wan_address,
             "remote": remote.wan_address, "local_ts": [local.network()], "remote_ts": [remote.network()],
             "suite": "aes128gcm16", "key_file": str(write_secret(bed.directory / f"{direction}.key", KEY))}]


def carried_by_hand(gateway):
    return next(sa["packets"] for sa in gateway.sas()["sas"] if int(sa["spi"], 16) == SEALED_SPI)


def changed_by_reload(configuration, number):
    """Routes and policies come with every other reload and go with the next, other ones each time."""
    routes = [route for route in configuration["dataplane"]["routes"]
              if not route["to"].startswith("203.")]
    configuration["policies"] = []
    if number % 2 == 0:
        hosts = [f"203.{number % 250}.{host >> 8}.{host & 255}/32" for host in range(AT_ONCE)]
        routes += [{"to": host, "via": SIDE_B.wan_address} for host in hosts]
        configuration["policies"] = [{"action": "discard", "source": "10.1.0.0/24",
                                      "destination": host} for host in hosts]
    configuration["dataplane"]["routes"] = routes
    return configuration


class Reloads:
    """One after the other: a signal that comes before its daemon has looked would be lost."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._log = open(gateway.dataplane.log, errors="replace")
        self._new = ""
        self.made = self._seen = 0

    def done(self):
        """Of the log only what is new, in whole lines: the key daemon fills it."""
        *lines, self._new = (self._new + self._log.read()).split("\n")
        self._seen += sum(" reloaded reason=" in line for line in lines)
        return self._seen

    def another(self):
        self._gateway.configure(changed_by_reload(self._gateway.configuration, self.made))
        self._gateway.dataplane.send_signal(signal.SIGHUP)
        self.made += 1
        wait_until(lambda: self.done() == self.made or not self._gateway.dataplane.running(), 120,
                   "a reload", interval=0.01)


@pytest.mark.long
def test_thousands_of_changes_of_each_kind_under_traffic_both_ways(bed):
    """A thousand a second of each, where the machine and the gateway's sanitizers keep that; no rate is claimed."""
    # Given a gateway under a flood of its client's packets, and a neighbour that takes them and floods it with ESP
    configuration = bed.configuration("b")
    configuration["manual_sas"] = sealed_by_hand(bed, SIDE_B, SIDE_A, "out")
    far = bed.add_gateway("b", configuration, start=False)
    far.start_dataplane()
    configuration = bed.configuration("a", TunnelOptions())
    configuration["manual_sas"] = sealed_by_hand(bed, SIDE_A, SIDE_B, "in")
    configuration["dataplane"]["limits"]["policies"] = 1024
    gateway = bed.add_gateway("a", configuration, start=False)
    gateway.build = SHAKEN
    gateway.start_dataplane()
    with bed.capture() as capture:
        floods = [Process(bed[f"client-{letter}"].command("ping", "-n", "-f", "-i", "0.002", "-s", "400",
                                                          other.client_address()),
                          bed.directory / f"flood-{letter}.log")
                  for letter, other in (("a", SIDE_B), ("b", SIDE_A))]
        # When a key daemon installs, moves, switches and deletes SAs and policies, and the operator
        # reloads other routes and policies, by the hundred
        churn = Process([build_directory() / "tests/churn/churn", gateway.socket("channel.sock"),
                         SECONDS, SIDE_A.wan_address, SIDE_B.wan_address, SIDE_A.network(),
                         SIDE_B.network()], bed.directory / "churn.log")
        began = time.monotonic()
        reloads = Reloads(gateway)
        while churn.running() or reloads.made < SECONDS:
            reloads.another()
            if not gateway.dataplane.running():
                churn.kill()  # it would wait for answers
                break
        status = churn.wait(5)
        lasted = time.monotonic() - began
        for flood in floods:
            flood.stop(signal.SIGINT)
    # Then it lives, everything was answered, and no packet of the client's left in clear
    assert gateway.dataplane.running(), gateway.dataplane.text()[-3000:]
    assert status == 0, churn.text()
    wire = WireContents(capture.frames(), INNER)
    assert wire.unexpected() == {} and wire.inner_addresses_seen == 0
    sealed, opened = carried_by_hand(far), carried_by_hand(gateway)
    assert sealed >= opened > 20 * SECONDS, "authentic ESP came all the while"
    assert wire.protected() > sealed + 100, "some of the time there was an SA for what goes"
    assert "ERROR: AddressSanitizer" not in gateway.dataplane.text()
    counters = gateway.culvert("counters")
    assert counters["totals"]["received"] > 20 * SECONDS
    assert gateway.status()["dataplane"]["channel"]["invalid_requests"] == 0
    assert reloads.done() == reloads.made
    # How long a worker was kept is printed and no more: here it is mostly the machine's other work.
    # What a change costs a worker itself is held by tests/unit/dataplane/stall.
    print(f"{churn.text()}{opened} of {sealed} packets opened, {reloads.made * AT_ONCE} changes of routes by reload in {lasted:.1f} s, as "
          f"many of policies; iterations over 100 µs, 1 ms and 10 ms: "
          f"{counters['workers'][0]['long_iterations']}")
    assert gateway.dataplane.stop(signal.SIGTERM) == 0


@pytest.mark.long
def test_many_sas_come_and_go_through_the_channel(bed):
    """CULVERT_MANY_SAS says how many pairs; a million is what the limits allow."""
    # Given a gateway with room for them, and traffic that no SA protects
    configuration = bed.configuration("a", TunnelOptions())
    configuration["dataplane"]["limits"]["sas"] = 1 << (PAIRS + 1024).bit_length()
    configuration["dataplane"]["memory_mib"] = 640
    gateway = bed.add_gateway("a", configuration, start=False)
    gateway.start_dataplane()
    ping = SteadyPing(bed["client-a"], SIDE_A.lan_address(), bed.directory)
    # When they are installed, told of and removed again as fast as they are answered
    many = Process([build_directory() / "tests/churn/many_sas", gateway.socket("channel.sock"),
                    gateway.dataplane.pid, PAIRS, SIDE_A.wan_address, SIDE_B.wan_address,
                    SIDE_A.network(), SIDE_B.network()], bed.directory / "many.log")
    # Some 17 000 a second come and 57 000 go; a machine with other work may take ten times as long.
    wait_until(lambda: not many.running(), 120 + PAIRS / 600, "the SAs to come and go")
    # Then each had bounded memory, none is left, and the gateway answered all the while
    assert many.returncode() == 0, many.text()
    assert LEAST_BYTES <= float(many.text().split("second, ")[1].split()[0]) <= MOST_BYTES, many.text()
    assert gateway.sas()["sas"] == []
    assert ping.stop().lost_packets == []
    print(many.text())
