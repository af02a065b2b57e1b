"""Every transform × mode × families × ESN × UDP encapsulation, both directions, against scapy.

One gateway holds a pair of manual SAs for each cell; scapy stands at the far end, seals a request for
each and opens the reply: an echo's in every cell, and where known flows have a short way (AES-GCM in tunnels,
but not ICMP) datagrams of one flow. No line of code is common to the two.
"""

import itertools
import select
import socket
import threading
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
# Of what the gateway sends, so that its second packet of a flow has a high half.
FIRST_EXTENDED_OUT = 0xFFFFFFFE
DATAGRAMS = 2  # the first one's flow is remembered for the second
ANSWERING_PORT = 4000


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
        return [{"name": name, "direction": "out", "spi": f"0x{self.spi_out:08x}", **common,
                 "first_sequence": self.sequence_out(1)},
                {"name": name, "direction": "in", "spi": f"0x{self.spi_in:08x}", **common,
                 "replay_window": 64}]

    def sequence_out(self, number):
        """Of the gateway's packet with this number, from 1."""
        return number + (FIRST_EXTENDED_OUT - 1 if self.esn else 0)

    def association(self, spi, source, destination):
        layer = IP if self.outer == 4 else IPv6
        return security_association(
            self.suite, keymat(self.suite), spi,
            layer(src=source, dst=destination) if self.mode == "tunnel" else None,
            UDP(sport=NAT_T_PORT, dport=NAT_T_PORT) if self.nat_t else None, self.esn)

    # ---- packets --------------------------------------------------------------------------------

    def payload(self, sequence):
        return b"cell" * (1 + (self.index + sequence) % 5) + bytes((self.index + sequence) % 17)

    def echo_request(self, sequence):
        ident = {"id": 7, "seq": sequence & 0xFFFF}
        if self.inner == 4:
            return IP(src=self.peer_address, dst=self.our_address) / ICMP(**ident)
        return IPv6(src=self.peer_address, dst=self.our_address) / ICMPv6EchoRequest(**ident)

    def datagram(self, _):
        """Of one flow, to the client, who answers it."""
        layer = IP if self.inner == 4 else IPv6
        return (layer(src=self.peer_address, dst=self.our_address)
                / UDP(sport=5000, dport=ANSWERING_PORT))

    def sealed(self, request, sequence):
        """A request to our side with this ESP sequence number, as scapy seals it."""
        sa = self.association(self.spi_in, self.outer_remote, self.outer_local)
        sa.esn = sequence >> 32
        sealed = sa.encrypt(raw_ip(request(self, sequence) / Raw(self.payload(sequence))),
                            seq_num=sequence & 0xFFFFFFFF)
        if self.nat_t:
            del sealed[UDP].len
        return sealed

    def check_reply(self, packet, sequence, number):
        """Opens our gateway's packet by scapy and expects the reply in it."""
        if self.nat_t:
            packet = without_udp(packet)
        sa = self.association(self.spi_out, self.outer_local, self.outer_remote)
        sa.esn = self.sequence_out(number) >> 32
        inner = raw_ip(sa.decrypt(packet))
        assert (inner.src, inner.dst) == (self.our_address, self.peer_address), self.name
        if UDP in inner:
            assert (inner[UDP].sport, inner[UDP].dport) == (ANSWERING_PORT, 5000), self.name
        elif self.inner == 4:
            assert (inner[ICMP].type, inner[ICMP].seq) == (0, sequence & 0xFFFF), self.name
        else:
            assert inner[ICMPv6EchoReply].seq == sequence & 0xFFFF, self.name
        assert bytes(inner).endswith(self.payload(sequence)), self.name


class Answering:
    """The client sends back every datagram that comes to its port, in both families."""

    def __init__(self, namespace):
        with namespace.entered():
            self._sockets = [socket.socket(family, socket.SOCK_DGRAM)
                             for family in (socket.AF_INET, socket.AF_INET6)]
            for one, anywhere in zip(self._sockets, ("0.0.0.0", "::")):
                if one.family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind((anywhere, ANSWERING_PORT))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ended.is_set():
            for one in select.select(self._sockets, [], [], 0.1)[0]:
                one.sendto(*one.recvfrom(2048))

    def close(self):
        self._ended.set()
        self._thread.join(5)
        for one in self._sockets:
            one.close()


def keymat(suite):
    return bytes((0x35 + 11 * index) & 0xFF for index in range(suite.keymat))


CELLS = [Cell(index, suite, *shape)
         for index, (suite, shape) in enumerate(itertools.product(SUITES, SHAPES))]


class Matrix:
    """The gateway with all its SAs, and scapy as the peer of all."""

    def __init__(self):
        self.bed = Testbed()
        self.replies = [0] * len(CELLS)  # of each cell's, so far
        self.gateway = self.bed.add_gateway("a", self._configuration(), start=False)
        self.gateway.start_dataplane()
        self.answering = Answering(self.bed["client-a"])
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

    def exchange(self, cells, request, sequence):
        """One request for each cell, then the replies, each opened; all must come."""
        for cell in cells:
            self.replies[cell.index] += 1
            self.peers[cell.outer].send(cell.sealed(request, sequence))
        for family in (4, 6):
            self._collect(family, [cell for cell in cells if cell.outer == family], sequence)

    def _collect(self, family, cells, sequence):
        waiting = {cell.spi_out: cell for cell in cells}
        deadline = time.monotonic() + 10

        def number_of(cell):
            return self.replies[cell.index]

        def is_wanted(seen):
            if ESP not in seen or seen.version != family or seen[ESP].spi not in waiting:
                return False
            cell = waiting[seen[ESP].spi]
            return seen[ESP].seq == cell.sequence_out(number_of(cell)) & 0xFFFFFFFF

        while waiting:
            packet = self.peers[family].receive(deadline - time.monotonic(), is_wanted)
            assert packet is not None, ([cell.name for cell in waiting.values()],
                                        self.gateway.drops())
            cell = waiting.pop(packet[ESP].spi)
            cell.check_reply(packet, sequence, number_of(cell))

    def close(self):
        self.answering.close()
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
    matrix.exchange(cells, Cell.echo_request, 1)
    matrix.exchange([cell for cell in cells if not cell.esn], Cell.echo_request, 2)
    extended = [cell for cell in cells if cell.esn]
    for step in EXTENDED_STEPS:
        matrix.exchange(extended, Cell.echo_request, step)
    assert all(cell.sequence_out(matrix.replies[cell.index]) >> 32 for cell in extended)
    # One by one: what comes in one burst with its flow's first goes as that one does.
    tunnels = [cell for cell in cells if cell.mode == "tunnel" and suite.cipher == "AES-GCM"]
    for number in range(DATAGRAMS):
        matrix.exchange([cell for cell in tunnels if not cell.esn], Cell.datagram, 3 + number)
        matrix.exchange([cell for cell in tunnels if cell.esn], Cell.datagram,
                        EXTENDED_STEPS[-1] + 1 + number)
    assert matrix.gateway.drops() == {}
