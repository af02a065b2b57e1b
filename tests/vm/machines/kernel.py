"""A Linux kernel's ESP in a virtual machine in the place of gateway b, for key daemons to fill."""

import re
from dataclasses import dataclass

from .machine import GuestProcess, Machine, Nic

# The ciphers would be loaded when the first SA asks for them, which lasts as long as an exchange may.
MODULES = ("virtio_net esp4 xfrm_user aesni_intel gcm ctr ghash_clmulni_intel authenc authencesn echainiv "
           "seqiv chacha20poly1305 chacha_x86_64 poly1305_x86_64 cbc cmac hmac sha256_ssse3 sha512_ssse3")


@dataclass
class KernelSa:
    """One state of `ip xfrm state`."""

    source: str
    spi: int
    mode: str
    esn: bool
    udp: bool
    packets: int
    algorithms: tuple  # as the kernel calls them: one AEAD, or integrity and encryption


class KernelGateway(Machine):
    """Forwards between its two links; the daemons of a test come and go."""

    def __init__(self, image, directory, namespace, side, remote):
        super().__init__(image, directory, namespace, [Nic("wan"), Nic("lan")])
        self.run(f"modprobe -a {MODULES}", timeout=120)
        self.run(" && ".join((
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 "
            "net.ipv4.conf.default.rp_filter=0 net.ipv6.conf.all.disable_ipv6=1 "
            "net.ipv6.conf.default.disable_ipv6=1",
            "ip link set eth0 name wan up", "ip link set eth1 name lan up",
            f"ip addr add {side.wan[0]} dev wan", f"ip addr add {side.lan[0]} dev lan",
            # Where clear packets would leave if a policy were missing.
            f"ip route add {remote.network()} via {remote.wan_address}")))

    def sas(self):
        return parse_states(self.run("ip -s -d xfrm state"))

    def forget(self):
        """What a daemon left behind must not serve the next."""
        self.run("ip xfrm state flush; ip xfrm policy flush")

    def beside(self, command, log, environment=()):
        return GuestProcess(self, command, log, environment)


_STATE = re.compile(r"^src (\S+) dst \S+\n\s+proto esp spi 0x([0-9a-f]+)\S* .*? mode (\w+)", re.M)
_ALGORITHM = re.compile(r"^\s+(?:aead|auth-trunc|enc) (\S+) 0x", re.M)
_PACKETS = re.compile(r"lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)")


def parse_states(text):
    """`ip -s -d xfrm state` as KernelSa; those that only wait for keys have no SPI and are left out."""
    found = []
    for part in re.split(r"^(?=src )", text, flags=re.M):
        head, packets = _STATE.match(part), _PACKETS.search(part)
        if not head or not packets or int(head.group(2), 16) == 0:
            continue
        found.append(KernelSa(head.group(1), int(head.group(2), 16), head.group(3),
                              re.search(r"flag[^\n]*\besn\b", part) is not None,
                              "encap type espinudp" in part, int(packets.group(1)),
                              tuple(_ALGORITHM.findall(part))))
    return found
