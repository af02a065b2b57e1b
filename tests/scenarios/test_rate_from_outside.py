"""The daemon itself between a capture that loops and a sink, measured by DPDK's own telemetry.

What docs/reference/packet-rate.md says under "From outside", with these very device strings: no NIC,
no namespace, and nobody who answers ARP. Rates say nothing here, for the machine is busy; that what comes
in goes out does.
"""

import pytest

from harness.looped_capture import FAMILIES, FRAMES, Daemon, clear_packets, framed, sealed_packets
from harness.shell import wait_until

IN_HAND = 256  # of hundreds of thousands a second


@pytest.fixture
def start(tmp_path):
    daemons = []

    def begin(*words, **options):
        tmp_path.chmod(0o755)
        daemons.append(Daemon(tmp_path, *words, **options))
        return daemons[-1]
    yield begin
    for daemon in daemons:
        daemon.close()


def check_all_goes_through(daemon):
    received, sent = daemon.passed()
    assert received > FRAMES
    assert sent >= 0.95 * received, daemon.ask("counters")
    drops = daemon.ask("counters")
    assert drops["totals"]["dropped"] <= 0.01 * drops["totals"]["received"], drops
    # The worker does not stop for the question: what it has in hand is missing, what it sends meanwhile is too much.
    wait_until(lambda: abs(unaccounted(daemon.ask("counters")["totals"])) <= IN_HAND, 20, "every packet to be counted")


def unaccounted(totals):
    return (totals["received"] + totals["originated"]
            - totals["sent"] - totals["delivered"] - totals["dropped"])


@pytest.mark.parametrize("family", [4, 6])
def test_clear_packets_of_a_looped_capture_leave_as_esp(start, family):
    world = FAMILIES[family]
    daemon = start("lan", framed(clear_packets(family, world["client"], world["far"])), family=family)
    check_all_goes_through(daemon)
    assert "neighbors_assumed" in daemon.process.text()
    rows = {row["interface"]: row for row in daemon.ask("neighbors")["neighbors"]}
    assert {row["state"] for row in rows.values()} == {"assumed"}
    assert set(rows) == {"lan", "wan"}
    assert rows["wan"]["address"] == "any" and rows["wan"]["mac"] == "02:6e:6f:6f:6e:65"


@pytest.mark.parametrize("family", [4, 6])
def test_esp_of_a_looped_capture_leaves_in_clear(start, family):
    daemon = start("wan", framed(sealed_packets(family)), family=family)
    check_all_goes_through(daemon)


def test_a_static_neighbour_goes_before_the_assumed_one(start):
    world = FAMILIES[4]
    daemon = start("lan", framed(clear_packets(4, world["client"], world["far"])),
                   neighbors=[{"interface": "wan", "address": world["remote"], "mac": "02:00:00:00:00:02"}])
    check_all_goes_through(daemon)
    row, = (row for row in daemon.ask("neighbors")["neighbors"] if row["address"] == world["remote"])
    assert row["state"] == "static" and row["mac"] == "02:00:00:00:00:02"
