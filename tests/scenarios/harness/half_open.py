"""IKE SAs that somebody began and nobody goes on with, as a flood leaves them behind."""

import os


def leave_half_open(bed, port, request, count):
    """The request again, with SPIs of its own each, towards the gateway at that port of the bridge."""
    with bed["wan"].packet_socket(port) as wire:
        for _ in range(count):
            frame = bytearray(request)
            frame[40:42] = bytes(2)      # the UDP checksum: none
            frame[42:50] = os.urandom(8)  # the initiator's SPI
            wire.send(frame)
