"""A firewall between the gateways rejects ESP, and says so by ICMP: the tunnel is up, and silent."""

import pytest

from harness.esp_oracle import raw_ip
from harness.shell import wait_until
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Raw
from test_manual_esp import ManualBed

SENT = 8


def unreachable_about(manual, quoted):
    """Communication administratively prohibited, as the peer's own firewall says it."""
    packet = Raw(bytes(quoted)[:200])
    if manual.pair.family == 4:
        return IP(src=manual.pair.remote, dst=manual.pair.local) / ICMP(type=3, code=13) / packet
    return IPv6(src=manual.pair.remote, dst=manual.pair.local) / ICMPv6DestUnreach(code=1) / packet


def sealed_by_us(bed, manual):
    """What the client behind us sends, on the wire."""
    bed.ping(count=SENT, interval=0.01, wait=0.2)
    packet = manual.next_sealed()
    assert packet is not None
    return raw_ip(packet)


def child(gateway):
    return gateway.status()["dataplane"]["children"][0]


@pytest.mark.parametrize("options", [{}, {"family": 6}, {"nat_t": True}], ids=["v4", "v6", "udp"])
def test_status_names_who_rejects_our_esp(bed, options):
    manual = ManualBed(bed, **options)
    quoted = sealed_by_us(bed, manual)
    # Given a forged one, about an SPI that no SA has: it is dropped, and changes nothing
    at = 20 if not options.get("family") else 40
    forged = bytearray(bytes(quoted))
    forged[at + (8 if options.get("nat_t") else 0)] ^= 1
    manual.send_and_count(unreachable_about(manual, forged), "icmp_ignored")
    assert child(manual.gateway)["unreachable"] is None
    # When the true one comes, then it is named, and what to do
    manual.peer.send(unreachable_about(manual, quoted))
    wait_until(lambda: child(manual.gateway)["unreachable"], 5, "the message")
    said = child(manual.gateway)["unreachable"]
    assert (said["from"], said["to"], said["messages"]) == (manual.pair.remote, manual.pair.remote, 1)
    assert said["meaning"] == "communication administratively prohibited"
    text = manual.gateway.text("status")
    form = "ESP in UDP" if options.get("nat_t") else "ESP"
    assert f"packets go out, none arrive: {manual.pair.remote} says of {form} to {manual.pair.remote}: " \
           "communication administratively prohibited" in text.splitlines()[0]
    assert "what to do: let " in text.splitlines()[1]
    # And the SA goes on sending
    before = manual.gateway.sas()["sas"]
    assert all(sa["state"] == "live" for sa in before)
    bed.ping(count=2, interval=0.01, wait=0.2)
    assert child(manual.gateway)["out"]["packets"] == SENT + 2
