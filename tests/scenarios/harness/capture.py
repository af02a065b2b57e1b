"""What really went over the wire between the gateways."""

import collections
import struct
import time

from .shell import Process, wait_until

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
PROTOCOL_UDP, PROTOCOL_ESP, PROTOCOL_ICMPV6 = 17, 50, 58
NEIGHBOR_DISCOVERY = range(133, 138)


class Frame:
    """Just enough of a frame to say what kind it is and who sent it. Addresses as bytes."""

    def __init__(self, data):
        self.data = data
        self.kind, self.source, self.destination, self.spi = classify(data)


def classify(data):
    """(kind, source, destination, SPI or None); kind is arp, nd, ike, esp, esp-in-udp, nat-keepalive
    or, for everything that has no business on the wire, clear:..."""
    (ethertype,) = struct.unpack_from("!H", data, 12)
    if ethertype == ETHERTYPE_ARP:
        return "arp", b"", b"", None
    if ethertype == ETHERTYPE_IPV4:
        header_length = (data[14] & 0x0F) * 4
        total = struct.unpack_from("!H", data, 16)[0]
        protocol, source, destination = data[23], data[26:30], data[30:34]
        payload = data[14 + header_length:14 + total]
        fragment = struct.unpack_from("!H", data, 20)[0] & 0x3FFF
        if fragment & 0x1FFF:
            return f"fragment:{protocol}", source, destination, None
    elif ethertype == ETHERTYPE_IPV6:
        protocol, source, destination = data[20], data[22:38], data[38:54]
        payload = data[54:54 + struct.unpack_from("!H", data, 18)[0]]
    else:
        return f"clear:ethertype-{ethertype:04x}", b"", b"", None
    kind, spi = _classify_payload(protocol, payload)
    return kind, source, destination, spi


def _classify_payload(protocol, payload):
    if protocol == PROTOCOL_ESP and len(payload) >= 8:
        return "esp", struct.unpack_from("!I", payload)[0]
    if protocol == PROTOCOL_ICMPV6 and payload and payload[0] in NEIGHBOR_DISCOVERY:
        return "nd", None
    if protocol == PROTOCOL_UDP and len(payload) >= 8:
        ports = struct.unpack_from("!HH", payload)
        body = payload[8:]
        if 500 in ports:
            return "ike", None
        if 4500 in ports and body == b"\xff":
            return "nat-keepalive", None
        if 4500 in ports and len(body) >= 8:
            spi = struct.unpack_from("!I", body)[0]
            return ("ike", None) if spi == 0 else ("esp-in-udp", spi)
    return f"clear:protocol-{protocol}", None


def read_pcap(path):
    """The frames of a classic pcap file in its writer's byte order; a torn last record is left out."""
    data = path.read_bytes()
    if len(data) < 24:
        return
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    offset = 24
    while offset + 16 <= len(data):
        captured = struct.unpack_from(order + "I", data, offset + 8)[0]
        if offset + 16 + captured > len(data):
            return
        yield data[offset + 16:offset + 16 + captured]
        offset += 16 + captured


class WanCapture:
    """tcpdump on one port of the middle bridge: it sees both directions once."""

    def __init__(self, topology, path, port="to-a", snap_length=200):
        self.path = path
        namespace = topology["wan"]
        path.with_suffix(".log").unlink(missing_ok=True)  # an earlier one's would say that it listens
        self._process = Process(
            namespace.command("tcpdump", "-n", "-i", port, "-U", "-B", "32768", "--immediate-mode",
                              "-s", snap_length, "-w", path),
            path.with_suffix(".log"))
        wait_until(lambda: "listening on" in self._process.text(), 10, "tcpdump")

    def stop(self):
        """Ends it; the frames come from `frames`."""
        time.sleep(0.2)  # tcpdump writes what the kernel has buffered
        self._process.stop()
        return self

    def frames(self):
        return (Frame(data) for data in read_pcap(self.path))

    def dropped(self):
        """Frames that the kernel could not hand to tcpdump."""
        for line in self._process.text().splitlines():
            if line.endswith("packets dropped by kernel"):
                return int(line.split()[0])
        return 0


class WireContents:
    """A capture, counted: kinds of frames, SPIs, and what must not be there."""

    def __init__(self, frames, inner_addresses=(), pattern=b""):
        self.kinds = collections.Counter()
        self.spis = set()
        self.inner_addresses_seen = 0
        self.pattern_seen = 0
        for frame in frames:
            self.kinds[frame.kind] += 1
            if frame.spi is not None:
                self.spis.add(frame.spi)
            if frame.source in inner_addresses or frame.destination in inner_addresses:
                self.inner_addresses_seen += 1
            if pattern and pattern in frame.data:
                self.pattern_seen += 1

    def unexpected(self):
        return {kind: count for kind, count in self.kinds.items()
                if kind.startswith(("clear:", "fragment:"))}

    def protected(self):
        return self.kinds["esp"] + self.kinds["esp-in-udp"]

    def describe(self):
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
