"""A wire that misbehaves, by a seed: loss, delay, duplication, reordering, corruption, a small MTU.

It takes the bridge's place between the two gateways (netem is not everywhere) and copies frames from
one veth to the other. The same seed and the same frames give the same faults.
"""

import contextlib
import heapq
import itertools
import random
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

PACKET_OUTGOING = 4
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
ROUTER_V4 = socket.inet_aton("192.0.2.254")
ROUTER_V6 = socket.inet_pton(socket.AF_INET6, "2001:db8:ffff::fe")


@dataclass
class Faults:
    """Probabilities are per frame of IP; ARP always passes. Sizes are of IP packets."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0
    reorder_by: int = 8          # frames that overtake a reordered one
    delay: float = 0.0           # seconds
    mtu: int = 0                 # 0: any
    tells: bool = True           # whether the router on the way sends ICMP about what is too big


class Relay:
    """Both directions between two devices of a namespace. `faults` may be replaced at any time, and so may
    `holds`: frames for which it is true are `held` until it is None again."""

    def __init__(self, namespace, devices=("to-a", "to-b"), seed=1, faults=None):
        self.faults = faults or Faults()
        self.counts = {name: 0 for name in ("passed", "lost", "duplicated", "corrupted",
                                            "both", "reordered", "too_big", "told")}
        self._random = random.Random(seed)
        self._order = itertools.count()
        self._delayed = []  # (due, order, socket, frame)
        self._overtaken = []  # [frames still to pass it, socket, frame]
        self.holds, self.held = None, []  # (socket, frame)
        self._sockets = [namespace.packet_socket(device) for device in devices]
        for one in self._sockets:
            request = struct.pack("IHH8s", _index_of(namespace, one), PACKET_MR_PROMISC, 0, b"")
            one.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        self._ended.set()
        self._thread.join(5)
        for one in self._sockets:
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- the loop -------------------------------------------------------------------------------

    def _run(self):
        while not self._ended.is_set():
            wait = 0.05
            if self._delayed:
                wait = max(0.0, min(wait, self._delayed[0][0] - time.monotonic()))
            for one in select.select(self._sockets, [], [], wait)[0]:
                self._drain(one)
            self._send_due()

    def _drain(self, source):
        target = self._sockets[1 - self._sockets.index(source)]
        for _ in range(64):
            try:
                frame, address = source.recvfrom(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if address[2] != PACKET_OUTGOING:
                self._pass(source, target, frame)

    def _pass(self, source, target, frame):
        faults, holds = self.faults, self.holds
        if struct.unpack_from("!H", frame, 12)[0] not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
            return self._send(target, frame)
        if holds and holds(frame):
            self.held.append((target, frame))
            return
        if faults.mtu and len(frame) - 14 > faults.mtu:
            return self._too_big(source, target, frame, faults)
        draw = self._random.random
        if draw() < faults.loss:
            self.counts["lost"] += 1
            return
        is_corrupted = draw() < faults.corrupt
        if is_corrupted:
            self.counts["corrupted"] += 1
            changed = bytearray(frame)
            # Behind the IP header, so that it arrives and the ICV has to find it.
            at = self._random.randrange(min(54, len(frame) - 1), len(frame))
            changed[at] ^= 1 << self._random.randrange(8)
            frame = bytes(changed)
        if draw() < faults.reorder:
            self.counts["reordered"] += 1
            self._overtaken.append([faults.reorder_by, target, frame])
            return
        self._deliver(target, frame, faults)
        if draw() < faults.duplicate:
            self.counts["duplicated"] += 1
            self.counts["both"] += is_corrupted
            self._deliver(target, frame, faults)

    def _deliver(self, target, frame, faults):
        if faults.delay:
            due = time.monotonic() + faults.delay
            heapq.heappush(self._delayed, (due, next(self._order), target, frame))
        else:
            self._send(target, frame)
        waiting, self._overtaken = self._overtaken, []
        for entry in waiting:
            if entry[1] is target:
                entry[0] -= 1
            if entry[0] > 0:
                self._overtaken.append(entry)
            else:
                self._send(entry[1], entry[2])

    def _send_due(self):
        while self.held and self.holds is None:
            self._send(*self.held.pop(0))
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(self._delayed)
            self._send(target, frame)

    def _send(self, target, frame):
        with contextlib.suppress(OSError):
            target.send(frame)
            self.counts["passed"] += 1

    # ---- a link in the middle that is too small -----------------------------------------------

    def _too_big(self, source, target, frame, faults):
        self.counts["too_big"] += 1
        is_v4 = struct.unpack_from("!H", frame, 12)[0] == ETHERTYPE_IPV4
        if is_v4 and not frame[20] & 0x40:
            for piece in fragments(frame[14:], faults.mtu):
                self._send(target, frame[:14] + piece)
            return
        if faults.tells:
            self.counts["told"] += 1
            build = too_big_v4 if is_v4 else too_big_v6
            source.send(frame[6:12] + frame[0:6] + frame[12:14] + build(frame[14:], faults.mtu))


@contextlib.contextmanager
def relayed(bed):
    """The bridge between the gateways gives way to a relay, for so long."""
    middle = bed["wan"]
    middle.ip_batch("link set to-a nomaster", "link set to-b nomaster", "link set bridge down")
    try:
        with Relay(middle) as relay:
            yield relay
    finally:
        middle.ip_batch("link set to-a master bridge", "link set to-b master bridge", "link set bridge up")


def _index_of(namespace, one):
    with namespace.entered():
        return socket.if_nametoindex(one.getsockname()[0])


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def fragments(packet, mtu):
    """An IPv4 packet without options, as a router cuts it (RFC 791 §3.2)."""
    total = struct.unpack_from("!H", packet, 2)[0]
    payload, step = packet[20:total], (mtu - 20) // 8 * 8
    for offset in range(0, len(payload), step):
        piece = payload[offset:offset + step]
        more = 0x2000 if offset + len(piece) < len(payload) else 0
        header = bytearray(packet[:20])
        struct.pack_into("!HxxH", header, 2, 20 + len(piece), more | offset // 8)
        struct.pack_into("!H", header, 10, 0)
        struct.pack_into("!H", header, 10, checksum(bytes(header)))
        yield bytes(header) + piece


def too_big_v4(packet, mtu):
    """Fragmentation needed and DF set, with the next hop's MTU (RFC 1191 §4)."""
    quoted = packet[:548]
    icmp = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0xC0, 20 + len(icmp), 0, 0, 64, 1, 0, ROUTER_V4,
                         packet[12:16])
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + icmp


def too_big_v6(packet, mtu):
    """Packet too big (RFC 4443 §3.2)."""
    quoted = packet[:1232]
    icmp = struct.pack("!BBHI", 2, 0, 0, mtu) + quoted
    pseudo = ROUTER_V6 + packet[8:24] + struct.pack("!II", len(icmp), 58)
    icmp = icmp[:2] + struct.pack("!H", checksum(pseudo + icmp)) + icmp[4:]
    return struct.pack("!IHBB", 6 << 28, len(icmp), 58, 64) + ROUTER_V6 + packet[8:24] + icmp
