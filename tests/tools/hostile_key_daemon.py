#!/usr/bin/python3
"""A process of the service user that takes the key daemon's place at the channel and goes mad.

usage: hostile_key_daemon.py CHANNEL_SOCKET SECONDS SEED
Two kinds of madness in turn: noise in every page, indices included; and well-formed rings whose
messages are random (channel/layout.hpp: the header describes four rings).
"""

import array
import contextlib
import mmap
import os
import pwd
import random
import socket
import struct
import sys
import time

SERVICE_USER = "culvert"
RING_HEADER_BYTES = 128  # produced and consumed, a cache line each
REQUESTS, TO_NETWORK = 0, 2  # the rings that a key daemon produces


def become_service_user():
    user = pwd.getpwnam(SERVICE_USER)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def enter(path, patience=5.0):
    """Connects until the data plane welcomes us: (connection, memory, bell)."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        connection.settimeout(2)
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(16))
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[:len(data) - len(data) % 4])
        if len(descriptors) >= 2:
            size = os.fstat(descriptors[0]).st_size
            return connection, mmap.mmap(descriptors[0], size), descriptors[1]
        connection.close()
        time.sleep(0.05)
    raise TimeoutError("the data plane did not welcome us")


class Ring:
    """A ring as its description in the memory's first page has it."""

    def __init__(self, memory, number):
        self.memory = memory
        self.offset, self.slot_bytes, self.slots = struct.unpack_from("<QII", memory,
                                                                      24 + 16 * number)

    def push(self, message):
        produced = struct.unpack_from("<Q", self.memory, self.offset)[0]
        start = self.offset + RING_HEADER_BYTES + produced % self.slots * self.slot_bytes
        self.memory[start:start + len(message)] = message
        struct.pack_into("<Q", self.memory, self.offset, produced + 1)


def random_request(noise, size):
    """A type that may exist, an id, and a body of small, huge or arbitrary numbers."""
    body = bytearray(noise.choice((noise.randbytes(size - 16), bytes(size - 16))))
    for _ in range(noise.randrange(12)):
        struct.pack_into("<I", body, noise.randrange(len(body) // 4) * 4,
                         noise.choice((0, 1, 2, 16, 17, 0xFFFFFFFF, noise.getrandbits(32))))
    return struct.pack("<IIQ", noise.randrange(12), 0, noise.getrandbits(64)) + bytes(body)


def random_datagram(noise, size):
    message = bytearray(noise.randbytes(64) + bytes(200))
    struct.pack_into("<I", message, 44, noise.choice((0, 1, 28, 8064, 8065, 0xFFFFFFFF)))
    return bytes(message[:size])


def send_random_messages(memory, bell, noise):
    requests, datagrams = Ring(memory, REQUESTS), Ring(memory, TO_NETWORK)
    for _ in range(64):
        requests.push(random_request(noise, requests.slot_bytes))
        datagrams.push(random_datagram(noise, datagrams.slot_bytes))
    ring(bell)


def write_noise(memory, bell, noise):
    for _ in range(100):
        offset = noise.randrange(0, len(memory) - 4096)
        memory[offset:offset + 4096] = noise.randbytes(4096)
    for _ in range(500):
        offset = noise.randrange(0, len(memory) // 8 - 1) * 8
        memory[offset:offset + 8] = noise.getrandbits(64).to_bytes(8, "little")
    ring(bell)


def ring(bell):
    with contextlib.suppress(OSError):
        os.write(bell, b"\1")


def main():
    path, seconds, noise = sys.argv[1], float(sys.argv[2]), random.Random(int(sys.argv[3]))
    become_service_user()
    _connection, memory, bell = enter(path)
    middle, end = time.monotonic() + seconds / 2, time.monotonic() + seconds
    while time.monotonic() < middle:
        send_random_messages(memory, bell, noise)
        time.sleep(0.002)  # so that the data plane takes them before the next come
    while time.monotonic() < end:
        write_noise(memory, bell, noise)
    return 0


if __name__ == "__main__":
    sys.exit(main())
