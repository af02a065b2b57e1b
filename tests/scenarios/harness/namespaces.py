"""Network namespaces and the links between them.

    client-a ── gw-a ──(wan: a bridge in a namespace of its own)── gw-b ── client-b

The middle namespace sees every frame between the gateways in both directions; neither end does,
because DPDK's af_packet device sends past the kernel's packet taps.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from .shell import run, wait_until

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40  # linux/sockios.h, linux/if.h


def ip_batch(lines, namespace=None):
    """Several `ip` commands in one process: starting sixty of them would be most of a test."""
    where = ["-n", namespace] if namespace else []
    return run("ip", *where, "-batch", "-", input_text="\n".join(lines) + "\n")


class Namespace:
    """One network namespace that is there already, deleted by whoever made it."""

    def __init__(self, name):
        self.name = name

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def ip_batch(self, *lines):
        return ip_batch(lines, self.name)

    def command(self, *words):
        """The command line that runs `words` inside."""
        return ["ip", "netns", "exec", self.name, *[str(word) for word in words]]

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def sysctl(self, *settings):
        """Each `net.NAME=VALUE`; the kernel resolves /proc/sys/net in the writer's namespace."""
        with self.entered():
            for setting in settings:
                name, value = setting.split("=")
                Path("/proc/sys", *name.split(".")).write_text(value)

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

    def is_running(self, device):
        """Also where a test has put the device somewhere else."""
        with self.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                answer = fcntl.ioctl(control, _SIOCGIFFLAGS,
                                     struct.pack("16sH22x", device.encode(), 0))
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                return True
        return struct.unpack_from("H", answer, 16)[0] & _IFF_RUNNING != 0

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


def _set_namespace(descriptor):
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Topology:
    """The namespaces of one run and the names of the links in them."""

    ROLES = ("client-a", "gw-a", "wan", "gw-b", "client-b")

    def __init__(self, prefix):
        self.prefix = prefix
        self._namespaces = {}
        self._up = False
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, role):
        return self._namespaces[role]

    def _build(self):
        names = {role: f"{self.prefix}-{role}" for role in self.ROLES}
        self._namespaces = {role: Namespace(name) for role, name in names.items()}
        lines = [f"netns add {name}" for name in names.values()]
        for side in ("a", "b"):
            lines.append(f"link add lan netns {names[f'gw-{side}']} type veth "
                         f"peer name eth0 netns {names[f'client-{side}']}")
            lines.append(f"link add wan netns {names[f'gw-{side}']} type veth "
                         f"peer name to-{side} netns {names['wan']}")
        ip_batch(lines)
        for side in ("a", "b"):
            quiet_kernel(self[f"gw-{side}"], "lan", "wan")
            plain_client(self[f"client-{side}"], "eth0")
        middle = self["wan"]
        middle.sysctl("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        middle.ip_batch("link add bridge type bridge mcast_snooping 0",
                        "link set to-a master bridge up", "link set to-b master bridge up",
                        "link set bridge up", "link set lo up")

    def wait_until_up(self):
        """Once: the kernel looks after a link's carrier up to a second later, and until then it and a
        bridge above it lose what is sent."""
        if self._up:
            return
        links = [("gw-a", "lan", "wan"), ("gw-b", "lan", "wan"), ("wan", "to-a", "to-b"),
                 ("client-a", "eth0"), ("client-b", "eth0")]
        for role, *devices in links:
            wait_until(lambda: all(self[role].is_running(device) for device in devices), 5,
                       f"the links of {role}")
        self._up = True

    def adopt(self, role, namespace):
        """One more, which goes with the others."""
        self._namespaces[role] = namespace
        return namespace

    def close(self):
        ended = run("ip", "-force", "-batch", "-", check=False, input_text="".join(
            f"netns del {namespace.name}\n" for namespace in self._namespaces.values()))
        self._namespaces.clear()
        return ended


def quiet_kernel(gateway, *devices):
    """Links up, but the kernel has no address on them: every packet is the data plane's."""
    gateway.sysctl("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    without_offloads(gateway, *devices)
    gateway.ip_batch("link set lo up", *[f"link set {device} up" for device in devices])


def plain_client(client, device):
    """A link without offloads: over af_packet a checksum left to hardware is never filled in."""
    client.sysctl(f"net.ipv6.conf.{device}.accept_dad=0", f"net.ipv6.conf.{device}.accept_ra=0",
                  f"net.ipv6.conf.{device}.router_solicitations=0")
    without_offloads(client, device)
    client.ip_batch("link set lo up", f"link set {device} up")


# linux/ethtool.h and linux/sockios.h: `ethtool -K DEVICE tso off gso off gro off tx off`.
_SIOCETHTOOL = 0x8946
_SET_TSO, _SET_GSO, _SET_GRO, _SET_TX_CHECKSUMS = 0x1F, 0x24, 0x2C, 0x17


def without_offloads(namespace, *devices):
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for device in devices:
            for command in (_SET_TSO, _SET_GSO, _SET_GRO, _SET_TX_CHECKSUMS):
                value = ctypes.create_string_buffer(struct.pack("II", command, 0), 8)
                request = struct.pack("16sP", device.encode(), ctypes.addressof(value))
                fcntl.ioctl(control, _SIOCETHTOOL, request.ljust(40, b"\0"))


def give_client_addresses(client, device, addresses, gateways):
    """`addresses` with prefix length; each of `gateways` becomes its family's default route."""
    lines = [f"addr add {address} dev {device}" + (" nodad" if ":" in address else "")
             for address in addresses]
    # A batch knows no -4 and -6: the family is the gateway's.
    lines += [f"route add default via {gateway}" for gateway in gateways]
    client.ip_batch(*lines)
