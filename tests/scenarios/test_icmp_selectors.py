"""Selectors of ICMP types, from the file to both ends of a tunnel (RFC 4301 §4.4.1.1)."""

import socket
import struct

from harness.configuration import SIDE_A, SIDE_B, TunnelOptions
from harness.shell import wait_until


def test_icmp_is_selected_by_its_type(bed):
    """Echo passes through the tunnel, another type is refused with its reason."""
    types = (8, 0)
    a, b = with_selectors(bed, types)
    assert bed.ping(count=3).lost() == []
    for gateway, local, remote in ((a, SIDE_A, SIDE_B), (b, SIDE_B, SIDE_A)):
        sa = next(sa for sa in gateway.sas()["sas"] if sa["direction"] == "out")
        assert sorted(sa["local_ts"]) == sorted(f"{local.network()}[icmp/{n}]" for n in types)
        assert sorted(sa["remote_ts"]) == sorted(f"{remote.network()}[icmp/{n}]" for n in types)
    assert "no_policy_match" not in a.drops()
    timestamp_request(bed["client-a"], SIDE_B.client_address())
    wait_until(lambda: a.drops().get("no_policy_match") == 1, 5, "the packet that no policy names")
    assert "no_policy_match" not in b.drops()


def with_selectors(bed, types):
    for letter, local, remote in (("a", SIDE_A, SIDE_B), ("b", SIDE_B, SIDE_A)):
        options = TunnelOptions(child_options={
            "local_ts": [f"{local.network()}[icmp/{number}]" for number in types],
            "remote_ts": [f"{remote.network()}[icmp/{number}]" for number in types]})
        bed.add_gateway(letter, bed.configuration(letter, options))
    a, b = bed.gateways["a"], bed.gateways["b"]
    a.culvert("initiate", "net")
    b.wait_for_child()
    return a, b


def timestamp_request(namespace, address):
    """ICMP type 13 (RFC 792)."""
    message = bytearray(struct.pack("!BBHHHIII", 13, 0, 0, 1, 1, 0, 0, 0))
    total = sum(struct.unpack("!10H", message))
    total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", message, 2, ~total & 0xFFFF)
    with namespace.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with raw:
        raw.sendto(message, (address, 0))
