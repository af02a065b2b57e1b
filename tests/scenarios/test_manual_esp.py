"""Our ESP against scapy's independent IPsec layer: manual SAs, no key exchange.

scapy stands where gateway b would, so each packet that we sealed is opened by code that is not
ours, and each that it sealed must be opened by us.
"""

import itertools

import pytest

from harness.configuration import SIDE_A, SIDE_B, write_secret
from harness.esp_oracle import ESP, IP, IPv6, UDP, EspPeer, ManualPair, raw_ip, without_udp
from harness.shell import Process, wait_until
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Raw

PAYLOAD = b"given, when, then: the payload of a packet"


class ManualBed:
    """Gateway a with one pair of manual SAs, scapy at its far end, a client behind it."""

    def __init__(self, bed, inner=4, replay_window=64, **options):
        self.bed, self.inner = bed, inner
        family = options.get("family", 4)
        self.pair = ManualPair(local=SIDE_A.wan_address_of(family),
                               remote=SIDE_B.wan_address_of(family), **options)
        self.gateway = bed.add_gateway("a", self._configuration(replay_window), start=False)
        self.gateway.start_dataplane()
        self.peer = EspPeer(bed["gw-b"], "wan", self.pair.remote, self.pair.local)
        self.peer.resolve_gateway()
        self.inbound = self.pair.scapy("in")
        self.outbound = self.pair.scapy("out")

    def _configuration(self, replay_window):
        if self.pair.mode == "tunnel":
            selectors = [SIDE_A.network(self.inner)], [SIDE_B.network(self.inner)]
        else:
            length = "/32" if self.pair.family == 4 else "/128"
            selectors = [self.pair.local + length], [self.pair.remote + length]
        keys = [write_secret(self.bed.directory / f"{name}.key", key.hex())
                for name, key in (("out", self.pair.key_out), ("in", self.pair.key_in))]
        configuration = self.bed.configuration("a")
        configuration["manual_sas"] = self.pair.configuration(keys, *selectors, replay_window)
        return configuration

    # ---- packets --------------------------------------------------------------------------------

    def echo_request(self, sequence=1, source=None, destination=None, size=0):
        """From behind scapy (or, in transport mode, from scapy itself) to our side."""
        if self.pair.mode == "transport":
            source, destination = self.pair.remote, self.pair.local
        source = source or SIDE_B.client_address(self.inner)
        destination = destination or SIDE_A.client_address(self.inner)
        payload = Raw(PAYLOAD + bytes(size))
        if ":" in destination:
            return IPv6(src=source, dst=destination) / ICMPv6EchoRequest(
                id=7, seq=sequence) / payload
        return IP(src=source, dst=destination) / ICMP(id=7, seq=sequence) / payload

    def seal(self, packet, **options):
        """scapy's packet for the wire, with UDP's length as it must be (RFC 3948 §2.1)."""
        sealed = self.inbound.encrypt(raw_ip(packet), **options)
        if self.pair.nat_t:
            del sealed[UDP].len
        return sealed

    def open(self, packet):
        packet = raw_ip(packet)
        if self.pair.nat_t:
            packet = without_udp(packet)
        return raw_ip(self.outbound.decrypt(packet))

    def next_sealed(self, timeout=2.0):
        return self.peer.receive(timeout, self.pair.is_ours)

    def exchange(self, packet, **options):
        """Sends it sealed; what our gateway answered, opened by scapy, or None."""
        self.peer.send(self.seal(packet, **options))
        answer = self.next_sealed()
        return None if answer is None else self.open(answer)

    def send_and_count(self, packet, reason, count=1):
        """Sends a wire packet and waits until exactly `count` more drops have that reason."""
        before = self.gateway.drops().get(reason, 0)
        self.peer.send(packet)
        wait_until(lambda: self.gateway.drops().get(reason, 0) > before, 3, f"a drop: {reason}")
        assert self.gateway.drops()[reason] == before + count

    def answers(self, sequence):
        """Whether an echo request with this ESP sequence number gets a reply."""
        self.peer.send(self.seal(self.echo_request(), seq_num=sequence))
        return self.next_sealed(0.7) is not None

    def close(self):
        self.peer.close()


@pytest.fixture
def manual(bed):
    beds = []

    def make(**options):
        beds.append(ManualBed(bed, **options))
        return beds[-1]

    yield make
    for made in beds:
        made.close()


def is_reply(packet, sequence, inner):
    if inner == 4:
        return packet[ICMP].type == 0 and packet[ICMP].seq == sequence
    return ICMPv6EchoReply in packet and packet[ICMPv6EchoReply].seq == sequence


CASES = [
    dict(mode=mode, family=outer, inner=inner, esn=esn, nat_t=nat_t)
    for mode, outer, inner, esn, nat_t in itertools.product(
        ("tunnel", "transport"), (4, 6), (4, 6), (False, True), (False, True))
    if mode == "tunnel" or outer == inner]


def case_name(case):
    return (f"{case['mode']}-v{case['inner']}in{case['family']}-"
            f"{'esn' if case['esn'] else 'seq32'}-{'udp' if case['nat_t'] else 'esp'}")


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_echo_through_both_directions(manual, case):
    bed = manual(**case)
    for sequence in (1, 2, 3):
        reply = bed.exchange(bed.echo_request(sequence, size=sequence))
        assert reply is not None, bed.gateway.drops()
        assert is_reply(reply, sequence, case["inner"])
        assert bytes(reply).endswith(PAYLOAD + bytes(sequence))
    assert bed.gateway.drops() == {}


@pytest.mark.parametrize("key_bits", [128, 192, 256])
def test_key_lengths(manual, key_bits):
    bed = manual(key_bits=key_bits)
    assert is_reply(bed.exchange(bed.echo_request(9)), 9, 4)


@pytest.mark.parametrize("nat_t", [False, True], ids=["esp", "udp"])
def test_every_payload_length_is_padded_as_the_rfc_says(manual, nat_t):
    """RFC 4303 §2.4: the trailer ends on a four-octet boundary, whatever came before."""
    bed = manual(nat_t=nat_t)
    for size in range(9):
        request = bed.echo_request(size + 1, size=size)
        reply = bed.exchange(request)
        assert is_reply(reply, size + 1, 4)
        assert len(reply) == len(request)


def test_outbound_sequence_numbers_start_at_one_and_rise(manual):
    """RFC 4303 §3.3.3: the first packet of an SA has sequence number 1."""
    bed = manual()
    seen = []
    for sequence in (1, 2, 3):
        bed.peer.send(bed.seal(bed.echo_request(sequence)))
        seen.append(bed.next_sealed()[ESP].seq)
    assert seen == [1, 2, 3]


def test_client_traffic_comes_out_as_the_client_sent_it(manual):
    """A packet of the client's kernel, sealed by us, opened by scapy: only TTL and sum changed."""
    bed = manual()
    client = bed.bed["client-a"]
    process = Process(client.command("ping", "-n", "-c", "3", "-i", "0.2", "-W", "1",
                                     SIDE_B.client_address()), bed.bed.directory / "ping.log")
    packet = bed.open(bed.next_sealed(3))
    process.stop()
    assert (packet.src, packet.dst) == (SIDE_A.client_address(), SIDE_B.client_address())
    assert packet.ttl == 63
    assert packet[ICMP].type == 8
    checksum = packet.chksum
    del packet.chksum
    assert raw_ip(packet).chksum == checksum


def test_a_replayed_packet_is_dropped_and_counted(manual):
    bed = manual()
    sealed = bed.seal(bed.echo_request(1))
    bed.peer.send(sealed)
    assert bed.next_sealed() is not None
    bed.send_and_count(sealed, "replay_duplicate")
    assert bed.next_sealed(0.3) is None


@pytest.mark.parametrize("esn", [False, True], ids=["seq32", "esn"])
def test_the_replay_window_slides(manual, esn):
    """RFC 4303 §3.4.3 with a window of 64: late is accepted once, too late never."""
    bed = manual(esn=esn, replay_window=64)
    assert bed.answers(100)
    assert bed.answers(37), "the left edge of the window is still inside"
    assert not bed.answers(37)
    assert not bed.answers(36)
    assert bed.answers(101)
    assert not bed.answers(37)
    drops = bed.gateway.drops()
    if esn:  # RFC 4303 §A2.2: left of the window means the next 2^32, which the ICV denies
        assert drops["replay_duplicate"] == 1 and sum(drops.values()) == 3
    else:
        assert drops == {"replay_duplicate": 1, "replay_left_of_window": 2}


def test_a_wrong_icv_moves_nothing(manual):
    """RFC 4303 §3.4.3: the window moves only after the ICV has been verified."""
    bed = manual()
    assert bed.answers(5)
    forged = bytearray(bytes(bed.seal(bed.echo_request(2), seq_num=5000)))
    forged[-1] ^= 1
    bed.send_and_count(raw_ip(bytes(forged)), "icv_mismatch")
    assert bed.answers(6)


@pytest.mark.parametrize("where", ["spi-and-sequence", "iv", "ciphertext"])
def test_every_part_is_authenticated(manual, where):
    bed = manual()
    forged = bytearray(bytes(bed.seal(bed.echo_request(2), seq_num=10)))
    offset = {"spi-and-sequence": 20 + 7, "iv": 20 + 8, "ciphertext": 20 + 16}[where]
    forged[offset] ^= 0x02
    bed.send_and_count(raw_ip(bytes(forged)), "icv_mismatch")


def test_an_unknown_spi_is_counted(manual):
    bed = manual()
    packet = IP(src=bed.pair.remote, dst=bed.pair.local) / ESP(
        spi=0x0BADBAD0, seq=1, data=bytes(40))
    bed.send_and_count(packet, "sa_not_found")


def test_a_packet_outside_the_selectors_is_dropped(manual):
    """RFC 4301 §5.2: what comes out of the SA must be what the SA was made for."""
    bed = manual()
    stranger = bed.echo_request(1, source="172.16.0.9")
    bed.send_and_count(bed.seal(stranger), "inner_selector_mismatch")
    assert bed.answers(50)


def test_a_truncated_esp_packet_is_counted(manual):
    bed = manual()
    packet = IP(src=bed.pair.remote, dst=bed.pair.local) / ESP(
        spi=bed.pair.spi_in, seq=1, data=bytes(5))
    bed.send_and_count(packet, "esp_truncated")


def test_clear_text_that_should_have_been_protected_is_dropped(manual):
    """RFC 4301 §5.2: a clear packet that a protect policy covers came around the tunnel."""
    bed = manual()
    bed.send_and_count(bed.echo_request(1), "cleartext_violates_policy")
    assert bed.next_sealed(0.3) is None


def test_dummy_packets_are_discarded_in_silence(manual):
    """RFC 4303 §2.6: next header 59 is traffic-flow padding."""
    bed = manual()
    sa = bed.pair.scapy("in")
    from scapy.layers.ipsec import _ESPPlain
    plain = _ESPPlain(spi=sa.spi, seq=3, iv=bytes(8), data=b"", nh=59)
    sealed = sa.crypt_algo.encrypt(sa, sa.crypt_algo.pad(plain), sa.crypt_key)
    bed.send_and_count(IP(src=bed.pair.remote, dst=bed.pair.local) / sealed, "dummy_packet")


def test_a_nat_keepalive_is_taken_in(manual):
    """RFC 3948 §2.3: one octet 0xFF on port 4500 is dropped, as a keepalive."""
    bed = manual(nat_t=True)
    keepalive = IP(src=bed.pair.remote, dst=bed.pair.local) / UDP(
        sport=4500, dport=4500) / Raw(b"\xff")
    bed.send_and_count(keepalive, "nat_keepalive")
    assert bed.answers(2)


def test_esn_survives_the_wrap_of_the_low_half(manual):
    """RFC 4303 §A2.1: past 2^32 the receiver infers the high half, the ICV confirms it."""
    bed = manual(esn=True)
    # scapy takes a low half of 0 for "the next one", so that value alone is left out.
    for sequence in (0x7FFFFFF0, 0xFFFFFFF0, 0xFFFFFFFF, 0x100000001, 0x100000005):
        bed.peer.send(bed.seal(bed.echo_request(1), seq_num=sequence & 0xFFFFFFFF,
                               esn=sequence >> 32))
        assert bed.next_sealed() is not None, (hex(sequence), bed.gateway.drops())


@pytest.mark.parametrize("window", [32, 128])
def test_the_window_that_late_packets_over_the_wrap_need_is_told(manual, window):
    """RFC 4303 §A2.2: what is left of the window is taken for one of the next 2^32, whose ICV it has not;
    what is advised knows better, and that window takes it."""
    bed = manual(esn=True, replay_window=window)
    late = 0xFFFFFFF1
    for sequence in (0x7FFFFFF0, 0xFFFFFFF0, 0x100000040, late):
        bed.peer.send(bed.seal(bed.echo_request(1), seq_num=sequence & 0xFFFFFFFF,
                               esn=sequence >> 32))
        answered = bed.next_sealed(0.7) is not None
        assert answered == (sequence != late or window == 128), hex(sequence)
    child, = (child for child in bed.gateway.status()["dataplane"]["children"]
              if child["child"] == "manual")
    by_79 = {"accepted" if window == 128 else "missed": {"128": 1}}
    assert child["in"]["late"] == {"accepted": {}, "missed": {}, **by_79, "advised_window": 128}


def test_packets_are_conserved(manual):
    """received + originated = sent + delivered + dropped, after good, bad and repeated packets."""
    bed = manual()
    sealed = bed.seal(bed.echo_request(1))
    for _ in range(5):
        bed.peer.send(sealed)
    bed.next_sealed()
    bed.peer.send(bed.echo_request(1))

    def conserved():
        totals = bed.gateway.culvert("counters")["totals"]
        return (totals["received"] + totals["originated"]
                == totals["sent"] + totals["delivered"] + totals["dropped"])

    wait_until(conserved, 3, "the counters to balance")
