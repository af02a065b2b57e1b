"""The far gateway as scapy writes it: an IPsec layer that shares no line of code with ours.

It stands in the place of gateway b, without any kernel stack: it answers ARP and neighbour
discovery for its address, seals what a test sends and opens what our gateway sent.
"""

import logging
import select
import time

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.inet6 import (ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr,  # noqa: E402
                                IPv6)
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402
from scapy.layers.l2 import ARP, Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

NAT_T_PORT = 4500
PROTOCOL_ESP = 50


def raw_ip(packet):
    """The bytes again as the layer of their version: nothing that scapy remembers helps it."""
    data = bytes(packet)
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def without_udp(packet):
    """The same packet with its ESP directly behind IP (RFC 3948 §3.3 in the other direction);
    scapy's own decapsulation leaves the UDP header in IPv6 transport mode."""
    esp = Raw(bytes(packet[UDP].payload))
    header = packet.copy()
    header.remove_payload()
    if header.version == 4:
        header.proto = PROTOCOL_ESP
        del header.len, header.chksum
    else:
        header.nh = PROTOCOL_ESP
        del header.plen
    return raw_ip(header / esp)


class EspPeer:
    """Our gateway's peer, made of scapy, on the WAN device of a gateway's namespace."""

    def __init__(self, namespace, device, address, gateway_address):
        self.address, self.gateway_address = address, gateway_address
        self.mac = namespace.address_of_device(device)
        self._socket = namespace.packet_socket(device)
        self.gateway_mac = None

    def close(self):
        self._socket.close()

    # ---- the link -------------------------------------------------------------------------------

    def resolve_gateway(self, timeout=5.0):
        """Asks for the gateway's MAC address as any neighbour would."""
        deadline = time.monotonic() + timeout
        while self.gateway_mac is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.gateway_address} does not answer ARP or ND")
            self._socket.send(bytes(self._question()))
            self.receive(timeout=0.3, wanted=lambda packet: False)
        return self.gateway_mac

    def _question(self):
        if ":" not in self.gateway_address:
            return (Ether(src=self.mac, dst="ff:ff:ff:ff:ff:ff") /
                    ARP(op="who-has", hwsrc=self.mac, psrc=self.address,
                        pdst=self.gateway_address))
        return (Ether(src=self.mac, dst="33:33:ff:00:00:01") /
                IPv6(src=self.address, dst="ff02::1:ff00:1", hlim=255) /
                ICMPv6ND_NS(tgt=self.gateway_address) /
                ICMPv6NDOptDstLLAddr(type=1, lladdr=self.mac))

    def send(self, packet):
        """An IP packet to our gateway, in a frame."""
        # Without scapy's Ether around it, for which it would copy and build every layer again.
        ethertype = "0800" if packet.version == 4 else "86dd"
        header = (self.gateway_mac + self.mac).replace(":", "") + ethertype
        self._socket.send(bytes.fromhex(header) + bytes(packet))

    def receive(self, timeout, wanted):
        """The first IP packet from our gateway that `wanted` accepts, or None after `timeout` s."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return None
            frame = Ether(self._socket.recv(4096))
            if frame.src == self.mac:
                continue
            if self._answered_link_question(frame):
                continue
            for layer in (IP, IPv6):
                if layer in frame and wanted(frame[layer]):
                    return frame[layer]
        return None

    def _answered_link_question(self, frame):
        if ARP in frame:
            arp = frame[ARP]
            if arp.op == 2 and arp.psrc == self.gateway_address:
                self.gateway_mac = arp.hwsrc
            if arp.op == 1 and arp.pdst == self.address:
                self._socket.send(bytes(
                    Ether(src=self.mac, dst=arp.hwsrc) /
                    ARP(op="is-at", hwsrc=self.mac, psrc=self.address,
                        hwdst=arp.hwsrc, pdst=arp.psrc)))
            return True
        if ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt == self.gateway_address:
            self.gateway_mac = frame.src
            return True
        if ICMPv6ND_NS in frame and frame[ICMPv6ND_NS].tgt == self.address:
            self._socket.send(bytes(
                Ether(src=self.mac, dst=frame.src) /
                IPv6(src=self.address, dst=frame[IPv6].src, hlim=255) /
                ICMPv6ND_NA(tgt=self.address, R=0, S=1, O=1) /
                ICMPv6NDOptDstLLAddr(lladdr=self.mac)))
            return True
        return False


class ManualPair:
    """A pair of manually keyed SAs: scapy's objects and the same for our configuration."""

    def __init__(self, *, family=4, mode="tunnel", esn=False, nat_t=False, key_bits=128,
                 local="", remote="", spi_out=0x00001001, spi_in=0x00001002):
        self.family, self.mode, self.esn, self.nat_t = family, mode, esn, nat_t
        self.local, self.remote = local, remote  # our gateway's outer address, scapy's
        self.spi_out, self.spi_in = spi_out, spi_in
        self.key_bits = key_bits
        octets = key_bits // 8 + 4  # RFC 4106 §8.1: key ‖ salt
        self.key_out = bytes((0x11 + 7 * index) & 0xFF for index in range(octets))
        self.key_in = bytes((0x83 + 5 * index) & 0xFF for index in range(octets))

    def configuration(self, key_files, local_ts, remote_ts, replay_window=64):
        common = {"mode": self.mode, "local": self.local, "remote": self.remote,
                  "local_ts": local_ts, "remote_ts": remote_ts,
                  "suite": f"aes{self.key_bits}gcm16", "esn": self.esn}
        if self.nat_t:
            common["encap"] = "udp"
        return [
            {"name": "manual", "direction": "out", "spi": f"0x{self.spi_out:08x}", **common,
             "key_file": str(key_files[0])},
            {"name": "manual", "direction": "in", "spi": f"0x{self.spi_in:08x}", **common,
             "key_file": str(key_files[1]), "replay_window": replay_window}]

    def scapy(self, direction):
        """`direction` as our gateway sees it: "out" opens what we sealed, "in" seals for us."""
        spi, key = ((self.spi_out, self.key_out) if direction == "out"
                    else (self.spi_in, self.key_in))
        source, destination = ((self.local, self.remote) if direction == "out"
                               else (self.remote, self.local))
        layer = IP if self.family == 4 else IPv6
        header = layer(src=source, dst=destination)
        encapsulation = UDP(sport=NAT_T_PORT, dport=NAT_T_PORT) if self.nat_t else None
        return SecurityAssociation(
            ESP, spi=spi, crypt_algo="AES-GCM", crypt_key=key, seq_num=1,
            tunnel_header=header if self.mode == "tunnel" else None,
            nat_t_header=encapsulation, esn_en=self.esn, esn=0)

    def is_ours(self, packet):
        """An ESP packet that our gateway sent on the outbound SA."""
        return ESP in packet and packet[ESP].spi == self.spi_out


__all__ = ["EspPeer", "ManualPair", "raw_ip", "ESP", "IP", "IPv6", "UDP",
           "without_udp"]
