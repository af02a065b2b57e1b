"""Echo requests to one address at a steady rate until SIGINT: a line a reply, then how many went out.

usage: pinger.py ADDRESS PER_SECOND MOST_SECONDS
ping occupies a core between two packets of less than twenty milliseconds; fping does not say how many
it has sent when it is stopped.
"""

import os
import select
import signal
import socket
import struct
import sys
import time

PAYLOAD_BYTES = 56
ECHO_TYPES = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}  # request, reply


def checksum(message):
    """RFC 1071. For ICMPv6 the kernel's own takes its place."""
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


class Pinger:
    def __init__(self, address):
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
        self.socket = socket.socket(self._family, socket.SOCK_RAW, protocol)
        self.socket.setblocking(False)
        self.socket.connect((address, 0))
        self._identifier = os.getpid() & 0xffff
        self.sent = 0

    def send(self):
        """The next one. The whole number is in the payload: a header has 16 bits of it."""
        self.sent += 1
        request, _ = ECHO_TYPES[self._family]
        payload = struct.pack("!QQ", self.sent, time.monotonic_ns()) + bytes(range(16, PAYLOAD_BYTES))
        rest = struct.pack("!HH", self._identifier, self.sent & 0xffff) + payload
        sum_of_all = checksum(struct.pack("!BBH", request, 0, 0) + rest)
        try:
            self.socket.send(struct.pack("!BBH", request, 0, sum_of_all) + rest)
        except OSError:
            pass  # no route for now, or an ICMP error: one that is lost

    def replies(self):
        """(number, milliseconds) of what has come."""
        while True:
            try:
                packet = self.socket.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error, told once
            message = packet[(packet[0] & 15) * 4:] if self._family == socket.AF_INET else packet
            if len(message) < 24 or message[0] != ECHO_TYPES[self._family][1]:
                continue
            if struct.unpack_from("!H", message, 4)[0] != self._identifier:
                continue
            number, begun = struct.unpack_from("!QQ", message, 8)
            yield number, (time.monotonic_ns() - begun) / 1e6


def main(address, per_second, most_seconds):
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    pinger = Pinger(address)
    interval = 1 / float(per_second)
    due = time.monotonic()
    end = due + float(most_seconds)
    while not stopped and due < end:
        wait = due - time.monotonic()
        if wait <= 0:
            pinger.send()
            due = max(due + interval, time.monotonic() - interval)  # what was missed stays missed
            continue
        select.select([pinger.socket], [], [], wait)
        for number, milliseconds in pinger.replies():
            print(f"reply {number} {milliseconds:.3f} ms", flush=True)
    print(f"{pinger.sent} sent", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
