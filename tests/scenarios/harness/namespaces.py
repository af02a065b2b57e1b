"""Network namespaces and the links between them.

    client-a ── gw-a ──(wan: a bridge in a namespace of its own)── gw-b ── client-b

The middle namespace sees every frame between the gateways in both directions; neither end does,
because DPDK's af_packet device sends past the kernel's packet taps.
"""

import contextlib
import ctypes
import os
import socket

from .shell import run

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class Namespace:
    """One network namespace, made here and deleted by `close`."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def command(self, *words):
        """The command line that runs `words` inside."""
        return ["ip", "netns", "exec", self.name, *[str(word) for word in words]]

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def sysctl(self, *settings):
        self.run("sysctl", "-qw", *settings)

    @contextlib.contextmanager
    def entered(self):
        """This thread stands inside; sockets that it makes stay there afterwards."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _set_namespace(there)
            yield
        finally:
            _set_namespace(home)
            os.close(there)
            os.close(home)

    def packet_socket(self, device):
        """An AF_PACKET socket for whole Ethernet frames on `device`."""
        with self.entered():
            frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            frames.bind((device, 0))
        return frames

    def tcp_connection(self, address, port, timeout=3.0):
        with self.entered():
            return socket.create_connection((address, port), timeout)

    def address_of_device(self, device):
        """The MAC address as text."""
        return self.run("cat", f"/sys/class/net/{device}/address").stdout.strip()

    def close(self):
        run("ip", "netns", "del", self.name, check=False)


def _set_namespace(descriptor):
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Topology:
    """The namespaces of one run and the names of the links in them."""

    ROLES = ("client-a", "gw-a", "wan", "gw-b", "client-b")

    def __init__(self, prefix):
        self.prefix = prefix
        self._namespaces = {}
        try:
            for role in self.ROLES:
                self._namespaces[role] = Namespace(f"{prefix}-{role}")
            self._build()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, role):
        return self._namespaces[role]

    def _build(self):
        for side in ("a", "b"):
            gateway, client = self[f"gw-{side}"], self[f"client-{side}"]
            run("ip", "-n", gateway.name, "link", "add", "lan", "type", "veth",
                "peer", "name", "eth0", "netns", client.name)
            run("ip", "-n", gateway.name, "link", "add", "wan", "type", "veth",
                "peer", "name", f"to-{side}", "netns", self["wan"].name)
            quiet_kernel(gateway, "lan", "wan")
            plain_client(client, "eth0")
        middle = self["wan"]
        middle.ip("link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
        middle.sysctl("net.ipv6.conf.all.disable_ipv6=1")
        for port in ("to-a", "to-b"):
            middle.ip("link", "set", port, "master", "bridge", "up")
        middle.ip("link", "set", "bridge", "up")

    def close(self):
        for namespace in self._namespaces.values():
            namespace.close()
        self._namespaces.clear()


def quiet_kernel(gateway, *devices):
    """Links up, but the kernel has no address on them: every packet is the data plane's."""
    gateway.sysctl("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    for device in devices:
        gateway.ip("link", "set", device, "up")
        without_offloads(gateway, device)


def plain_client(client, device):
    """A link without offloads: over af_packet a checksum left to hardware is never filled in."""
    client.sysctl(f"net.ipv6.conf.{device}.accept_dad=0", f"net.ipv6.conf.{device}.accept_ra=0",
                  f"net.ipv6.conf.{device}.router_solicitations=0")
    without_offloads(client, device)
    client.ip("link", "set", device, "up")


def without_offloads(namespace, device):
    namespace.run("ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off",
                  check=False)


def give_client_addresses(client, device, addresses, gateways):
    """`addresses` with prefix length; each of `gateways` becomes its family's default route."""
    for address in addresses:
        extra = ["nodad"] if ":" in address else []
        client.ip("addr", "add", address, "dev", device, *extra)
    for gateway in gateways:
        family = "-6" if ":" in gateway else "-4"
        client.ip(family, "route", "add", "default", "via", gateway)
