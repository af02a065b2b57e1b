"""Every transform × mode × families × ESN × UDP encapsulation, both directions, against scapy.

One gateway holds a pair of manual SAs for each cell; scapy stands at the far end, seals an echo
request for each and opens the reply. No line of code is common to the two.
"""

import itertools
import time
from dataclasses import dataclass

import pytest

from harness.configuration import SIDE_A, SIDE_B, write_secret
from harness.esp_oracle import ESP, IP, IPv6, NAT_T_PORT, UDP, EspPeer, raw_ip, without_udp
from harness.esp_suites import SUITES, security_association
from harness.testbed import Testbed
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Raw

SHAPES = [(mode, outer, inner, esn, nat_t)
          for mode, outer, inner, esn, nat_t in itertools.product(
              ("tunnel", "transport"), (4, 6), (4, 6), (False, True), (False, True))
          if mode == "tunnel" or outer == inner]
FIRST_SPI_OUT, FIRST_SPI_IN = 0x00100000, 0x00200000
# RFC 4303 §A2.1: in steps of less than 2^31 the receiver follows the high half.
EXTENDED_STEPS = (0x7FFFFFF0, 0xFFFFFFF0, 0x100000001)


@dataclass
class Cell:
    """One suite in one shape: its addresses, its two SAs."""

    index: int
    suite: object
    mode: str
    outer: int
    inner: int
    esn: bool
    nat_t: bool

    @property
    def name(self):
        return (f"{self.suite.name} {self.mode} {self.inner}in{self.outer}"
                f"{' esn' if self.esn else ''}{' udp' if self.nat_t else ''}")

    @property
    def peer_address(self):
        """Of the host inside the tunnel, or of the peer itself: none other has it."""
        network = ("10.64", "2001:db8:64::") if self.mode == "tunnel" else ("172.16",
                                                                           "2001:db8:70::")
        if self.inner == 6:
            return f"{network[1]}{self.index + 1:x}"
        return f"{network[0]}.{self.index >> 8}.{self.index & 0xFF}"

    @property
    def our_address(self):
        return (SIDE_A.client_address(self.inner) if self.mode == "tunnel"
                else SIDE_A.wan_address_of(self.inner))

    @property
    def outer_local(self):
        return SIDE_A.wan_address_of(self.outer)

    @property
    def outer_remote(self):
        return (SIDE_B.wan_address_of(self.outer) if self.mode == "tunnel" else self.peer_address)

    @property
    def spi_out(self):
        return FIRST_SPI_OUT + self.index

    @property
    def spi_in(self):
        return FIRST_SPI_IN + self.index

    def configuration(self, key_file):
        host = "/32" if self.inner == 4 else "/128"
        common = {"mode": self.mode, "local": self.outer_local, "remote": self.outer_remote,
                  "local_ts": [self.our_address + host], "remote_ts": [self.peer_address + host],
                  "suite": self.suite.name, "esn": self.esn, "key_file": str(key_file)}
        if self.nat_t:
            common["encap"] = "udp"
        name = f"cell-{self.index}"
        return [{"name": name, "direction": "out", "spi": f"0x{self.spi_out:08x}", **common},
                {"name": name, "direction": "in", "spi": f"0x{self.spi_in:08x}", **common,
                 "replay_window": 64}]

    def association(self, spi, source, destination):
        layer = IP if self.outer == 4 else IPv6
        return security_association(
            self.suite, keymat(self.suite), spi,
            layer(src=source, dst=destination) if self.mode == "tunnel" else None,
            UDP(sport=NAT_T_PORT, dport=NAT_T_PORT) if self.nat_t else None, self.esn)

    # ---- packets --------------------------------------------------------------------------------

    def payload(self, sequence):
        return b"cell" * (1 + (self.index + sequence) % 5) + bytes((self.index + sequence) % 17)

    def sealed_request(self, sequence):
        """An echo request to our side with this ESP sequence number, as scapy seals it."""
        body = Raw(self.payload(sequence))
        ident = {"id": 7, "seq": sequence & 0xFFFF}
        if self.inner == 4:
            request = IP(src=self.peer_address, dst=self.our_address) / ICMP(**ident) / body
        else:
            request = (IPv6(src=self.peer_address, dst=self.our_address)
                       / ICMPv6EchoRequest(**ident) / body)
        sa = self.association(self.spi_in, self.outer_remote, self.outer_local)
        sa.esn = sequence >> 32
        sealed = sa.encrypt(raw_ip(request), seq_num=sequence & 0xFFFFFFFF)
        if self.nat_t:
            del sealed[UDP].len
        return sealed

    def check_reply(self, packet, sequence):
        """Opens our gateway's packet by scapy and expects the reply in it."""
        if self.nat_t:
            packet = without_udp(packet)
        sa = self.association(self.spi_out, self.outer_local, self.outer_remote)
        inner = raw_ip(sa.decrypt(packet))
        assert (inner.src, inner.dst) == (self.our_address, self.peer_address), self.name
        if self.inner == 4:
            assert (inner[ICMP].type, inner[ICMP].seq) == (0, sequence & 0xFFFF), self.name
        else:
            assert inner[ICMPv6EchoReply].seq == sequence & 0xFFFF, self.name
        assert bytes(inner).endswith(self.payload(sequence)), self.name


def keymat(suite):
    return bytes((0x35 + 11 * index) & 0xFF for index in range(suite.keymat))


CELLS = [Cell(index, suite, *shape)
         for index, (suite, shape) in enumerate(itertools.product(SUITES, SHAPES))]


class Matrix:
    """The gateway with all its SAs, and scapy as the peer of all."""

    def __init__(self):
        self.bed = Testbed()
        self.gateway = self.bed.add_gateway("a", self._configuration(), start=False)
        self.gateway.start_dataplane()
        self.peers = {}
        for family in (4, 6):
            self.peers[family] = EspPeer(self.bed["gw-b"], "wan", SIDE_B.wan_address_of(family),
                                         SIDE_A.wan_address_of(family))
            self.peers[family].resolve_gateway()

    def _configuration(self):
        configuration = self.bed.configuration("a")
        dataplane = configuration["dataplane"]
        dataplane["limits"] = {"sas": 4096, "policies": 8192}
        dataplane["routes"] += [
            {"to": network, "via": SIDE_B.wan_address_of(6 if ":" in network else 4)}
            for network in ("10.64.0.0/16", "172.16.0.0/16", "2001:db8:64::/64",
                            "2001:db8:70::/64")]
        files = {suite.name: write_secret(self.bed.directory / f"{suite.name}.key",
                                          keymat(suite).hex()) for suite in SUITES}
        configuration["manual_sas"] = [entry for cell in CELLS
                                       for entry in cell.configuration(files[cell.suite.name])]
        return configuration

    def exchange(self, cells, sequence, round_number):
        """One request for each cell, then the replies, each opened; all must come. In each cell it
        is our gateway's packet number `round_number`."""
        for cell in cells:
            self.peers[cell.outer].send(cell.sealed_request(sequence))
        for family in (4, 6):
            self._collect(family, [cell for cell in cells if cell.outer == family], sequence,
                          round_number)

    def _collect(self, family, cells, sequence, round_number):
        waiting = {cell.spi_out: cell for cell in cells}
        deadline = time.monotonic() + 10

        def is_wanted(seen):
            return (ESP in seen and seen.version == family and seen[ESP].seq == round_number
                    and seen[ESP].spi in waiting)

        while waiting:
            packet = self.peers[family].receive(deadline - time.monotonic(), is_wanted)
            assert packet is not None, ([cell.name for cell in waiting.values()],
                                        self.gateway.drops())
            waiting.pop(packet[ESP].spi).check_reply(packet, sequence)

    def close(self):
        for peer in self.peers.values():
            peer.close()
        self.bed.close()


@pytest.fixture(scope="module")
def matrix():
    made = Matrix()
    yield made
    made.close()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_mode_family_esn_and_encapsulation(matrix, suite):
    cells = [cell for cell in CELLS if cell.suite is suite]
    assert len(cells) == len(SHAPES)
    matrix.exchange(cells, 1, round_number=1)
    matrix.exchange([cell for cell in cells if not cell.esn], 2, round_number=2)
    for number, step in enumerate(EXTENDED_STEPS, start=2):
        matrix.exchange([cell for cell in cells if cell.esn], step, round_number=number)
    assert matrix.gateway.drops() == {}
