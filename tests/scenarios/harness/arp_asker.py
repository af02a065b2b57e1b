"""Who has ADDRESS, by ARP, at a steady rate until SIGINT: a line an answer, with the time of CLOCK_MONOTONIC.

usage: arp_asker.py DEVICE ADDRESS PER_SECOND MOST_SECONDS
Asked as whoever has no address yet (RFC 5227 §2.1.1), so that nobody takes what stands in the question for his neighbour.
"""

import select
import signal
import socket
import struct
import sys
import time

ETHERTYPE_ARP = 0x0806
REQUEST, REPLY = 1, 2
PAYLOAD = struct.Struct("!HHBBH6s4s6s4s")


def question(mac, address):
    arp = PAYLOAD.pack(1, 0x0800, 6, 4, REQUEST, mac, bytes(4), bytes(6), address)
    return b"\xff" * 6 + mac + struct.pack("!H", ETHERTYPE_ARP) + arp


def is_answer(frame, address):
    if len(frame) < 14 + PAYLOAD.size:
        return False
    _, _, _, _, operation, _, sender, _, _ = PAYLOAD.unpack_from(frame, 14)
    return operation == REPLY and sender == address


def main(device, address, per_second, most_seconds):
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP))
    link.bind((device, ETHERTYPE_ARP))
    address = socket.inet_aton(address)
    frame = question(link.getsockname()[4], address)
    interval = 1 / float(per_second)
    due = time.monotonic()
    end = due + float(most_seconds)
    while not stopped and due < end:
        wait = due - time.monotonic()
        if wait <= 0:
            link.send(frame)
            due = max(due + interval, time.monotonic() - interval)  # what was missed stays missed
        elif select.select([link], [], [], wait)[0] and is_answer(link.recv(2048), address):
            print(f"answer {time.monotonic():.6f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
