"""A Linux kernel's ESP in a virtual machine in the place of gateway b, for key daemons to fill."""

import contextlib
import re
from dataclasses import dataclass

from .machine import GuestProcess, Machine, Nic

# The ciphers would be loaded when the first SA asks for them, which lasts as long as an exchange may. So
# would a generator for IVs: drbg, whose tests of itself take three seconds, unless there is another one.
MODULES = ("virtio_net esp4 xfrm_user aesni_intel gcm ctr ghash_clmulni_intel authenc authencesn echainiv "
           "seqiv ansi_cprng chacha20poly1305 chacha_x86_64 poly1305_x86_64 cbc cmac hmac sha256_ssse3 sha512_ssse3")


@dataclass
class KernelSa:
    """One state of `ip xfrm state`."""

    source: str
    destination: str
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
        self._side, self._remote = side, remote

    @contextlib.contextmanager
    def may_move(self, address):
        """Yields what gives it this address in place of its own; it has that again afterwards."""
        own = self._side.wan[0]
        network = f"ip route replace {self._remote.network()} via {self._remote.wan_address}"
        routes = f"ip route replace default via {self._remote.wan_address} && {network}"
        try:
            self.run(routes)  # libreswan takes its address from the one to everywhere
            # The second address of a network stays when the first goes, routes from the first do not.
            yield lambda: self.run("sysctl -qw net.ipv4.conf.wan.promote_secondaries=1 && "
                                   f"ip addr add {address}/24 dev wan && ip addr del {own} dev wan && "
                                   f"{routes}")
        finally:
            self.run(f"ip addr flush dev wan && ip addr add {own} dev wan && {network}")

    @contextlib.contextmanager
    def behind(self, nat):
        """It has an address behind that router (see harness.nat) for so long."""
        network = self._remote.network()
        self.run(f"ip addr flush dev wan && ip addr add {nat.inside}/24 dev wan && "
                 f"ip route add default via {nat.router} && ip route replace {network} via {nat.router}")
        try:
            yield
        finally:
            self.run(f"ip addr flush dev wan && ip addr add {self._side.wan[0]} dev wan && "
                     f"ip route replace {network} via {self._remote.wan_address}")

    def ping(self, address, count):
        """It does so itself: how many came back, as it counts, for ping may end before the last is seen."""
        came_back = "nstat -asz IcmpInEchoReps | awk '/Reps/ {print $2}'"
        said = self.run(f"before=$({came_back}); ping -n -q -c {count} -i 0.05 -W 2 {address} >&2; "
                        f"for _ in $(seq 20); do after=$({came_back}); "
                        f"test $after -ge $((before + {count})) && break; sleep 0.1; done; "
                        "echo replies: $((after - before))", check=False)
        return int(re.search(r"replies: (\d+)", said).group(1))

    def sas(self):
        return parse_states(self.run("ip -s -d xfrm state"))

    def forget(self):
        """What a daemon left behind must not serve the next."""
        self.run("ip xfrm state flush; ip xfrm policy flush")

    def beside(self, command, log, environment=()):
        return GuestProcess(self, command, log, environment)


_STATE = re.compile(r"^src (\S+) dst (\S+)\n\s+proto esp spi 0x([0-9a-f]+)\S* .*? mode (\w+)", re.M)
_ALGORITHM = re.compile(r"^\s+(?:aead|auth-trunc|enc) (\S+) 0x", re.M)
_PACKETS = re.compile(r"lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)")


def parse_states(text):
    """`ip -s -d xfrm state` as KernelSa; those that only wait for keys have no SPI and are left out."""
    found = []
    for part in re.split(r"^(?=src )", text, flags=re.M):
        head, packets = _STATE.match(part), _PACKETS.search(part)
        if not head or not packets or int(head.group(3), 16) == 0:
            continue
        found.append(KernelSa(head.group(1), head.group(2), int(head.group(3), 16), head.group(4),
                              re.search(r"flag[^\n]*\besn\b", part) is not None,
                              "encap type espinudp" in part, int(packets.group(1)),
                              tuple(_ALGORITHM.findall(part))))
    return found
