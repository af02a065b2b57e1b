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
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.shell import Process, wait_until
from harness.testbed import build_directory
from harness.traffic import SteadyPing

INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}
SECONDS = int(os.environ.get("CULVERT_CHURN_SECONDS", "6"))
PAIRS = int(os.environ.get("CULVERT_MANY_SAS", "20000"))
MOST_BYTES = 5000  # an SA: key, window of 1 024 and all
SHAKEN = Path(os.environ.get("CULVERT_CHURN_BUILD", build_directory()))


def change_routes(gateway, number):
    """A reload in which a route and a policy come or go."""
    configuration = gateway.configuration
    routes = [route for route in configuration["dataplane"]["routes"]
              if not route["to"].startswith("203.0.113.")]
    configuration["policies"] = []
    if number % 2:
        routes.append({"to": f"203.0.113.{number % 200}/32", "via": SIDE_B.wan_address})
        configuration["policies"] = [{"action": "discard", "source": "10.1.0.0/24",
                                      "destination": "203.0.113.0/24"}]
    configuration["dataplane"]["routes"] = routes
    gateway.configure(configuration)
    gateway.dataplane.send_signal(signal.SIGHUP)


@pytest.mark.long
def test_a_thousand_changes_a_second_under_traffic(bed):
    # Given a gateway under a flood of its client's packets, and a neighbour to send them to
    far = bed.add_gateway("b", bed.configuration("b", TunnelOptions()), start=False)
    far.start_dataplane()
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()), start=False)
    gateway.build = SHAKEN
    gateway.start_dataplane()
    with bed.capture() as capture:
        flood = Process(bed["client-a"].command("ping", "-n", "-f", "-i", "0.002", "-s", "400",
                                                SIDE_B.client_address()),
                        bed.directory / "flood.log")
        # When a key daemon installs, moves, switches and deletes, and the operator reloads
        churn = Process([build_directory() / "tests/churn/churn", gateway.socket("channel.sock"),
                         SECONDS, SIDE_A.wan_address, SIDE_B.wan_address, SIDE_A.network(),
                         SIDE_B.network()], bed.directory / "churn.log")
        reloads = 0
        while churn.running():
            change_routes(gateway, reloads)
            reloads += 1
            time.sleep(0.1)
        status = churn.wait(5)
        flood.stop(signal.SIGINT)
    # Then it lives, everything was answered, and no packet of the client's left in clear
    assert status == 0, churn.text()
    assert gateway.dataplane.running(), gateway.dataplane.text()[-3000:]
    wire = WireContents(capture.frames(), INNER)
    assert wire.unexpected() == {} and wire.inner_addresses_seen == 0
    assert wire.protected() > 100, "some of the time there was an SA"
    assert "ERROR: AddressSanitizer" not in gateway.dataplane.text()
    totals = gateway.culvert("counters")["totals"]
    assert totals["received"] > 20 * SECONDS
    assert gateway.status()["dataplane"]["channel"]["invalid_requests"] == 0
    assert reloads >= SECONDS
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
    # When they are installed and removed again as fast as they are answered
    many = Process([build_directory() / "tests/churn/many_sas", gateway.socket("channel.sock"),
                    gateway.dataplane.pid, PAIRS, SIDE_A.wan_address, SIDE_B.wan_address,
                    SIDE_A.network(), SIDE_B.network()], bed.directory / "many.log")
    wait_until(lambda: not many.running(), 20 + PAIRS / 2000, "the SAs to come and go")
    # Then each had bounded memory, none is left, and the gateway answered all the while
    assert many.returncode() == 0, many.text()
    assert float(many.text().split("second, ")[1].split()[0]) <= MOST_BYTES, many.text()
    assert gateway.sas()["sas"] == []
    assert ping.stop().lost_packets == []
    print(many.text())
