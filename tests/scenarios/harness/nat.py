"""A router with network address translation between a gateway and the wide-area link.

    gw-a ──(inside: 192.168.N.0/24)── nat-a ──(192.0.2.0/24: the bridge)── gw-b
"""

import contextlib
import dataclasses

from .configuration import (SIDE_A, SIDE_B, TunnelOptions, connection, gateway_configuration,
                            with_psk)
from .namespaces import Namespace, without_offloads
from .shell import run


@dataclasses.dataclass
class Nat:
    """One router: its namespace, the gateway's address behind it and the one it is seen as."""

    namespace: Namespace
    middle: Namespace  # where the bridge is
    link: str          # the gateway's, on the bridge when there is no router
    inside: str   # the gateway's own address
    router: str   # the gateway's next hop
    outside: str  # where the peer sees it

    def rules(self, source_ports=None, forward=False):
        """Masquerades, the source port chosen from `source_ports`; `forward` lets the peer begin."""
        to = f" to :{source_ports}" if source_ports else ""
        forwarding = (f"""
  chain in {{ type nat hook prerouting priority -100;
    iifname "outside" udp dport {{ 500, 4500 }} dnat to {self.inside}
  }}""" if forward else "")
        # All at once: no packet may pass with its own address between old rules and new ones.
        script = f"""
flush ruleset
table ip nat {{
  chain out {{ type nat hook postrouting priority 100;
    oifname "outside" meta l4proto udp masquerade{to}
    oifname "outside" masquerade
  }}{forwarding}
}}
"""
        run(*self.namespace.command("nft", "-f", "-"), input_text=script)

    def rebind(self, source_ports, forward=False):
        """The router forgets its mappings, as after a restart, and chooses other ports from now on."""
        self.rules(source_ports, forward)
        # Masquerading drops every mapping of a link that goes down.
        self.namespace.ip("link", "set", "outside", "down")
        self.namespace.ip("link", "set", "outside", "up")

    def close(self):
        """The gateway's link goes back to the bridge, the router away."""
        self.namespace.ip_batch("link set inside down", f"link set inside name {self.link}",
                                f"link set {self.link} netns {self.middle.name}")
        self.middle.ip("link", "set", self.link, "master", "bridge", "up")
        run("ip", "netns", "del", self.namespace.name, check=False)


def put_nat_before(bed, letter):
    """Takes gateway a's or b's link off the bridge and puts a router in between."""
    number = {"a": 1, "b": 2}[letter]
    middle = bed["wan"]
    router = Namespace(f"{bed.prefix}-nat-{letter}")
    run("ip", "netns", "add", router.name)
    nat = Nat(router, middle, f"to-{letter}", f"192.168.{number}.1", f"192.168.{number}.254",
              f"192.0.2.{10 + number}")
    middle.ip("link", "set", f"to-{letter}", "nomaster")
    middle.ip("link", "set", f"to-{letter}", "netns", router.name)
    router.ip("link", "set", f"to-{letter}", "name", "inside")
    run("ip", "-n", router.name, "link", "add", "outside", "type", "veth",
        "peer", "name", f"nat-{letter}", "netns", middle.name)
    middle.ip("link", "set", f"nat-{letter}", "master", "bridge", "up")
    router.ip("addr", "add", f"{nat.router}/24", "dev", "inside")
    router.ip("addr", "add", f"{nat.outside}/24", "dev", "outside")
    for device in ("inside", "outside"):
        without_offloads(router, device)
        router.ip("link", "set", device, "up")
    router.sysctl("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
                  "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    nat.rules()
    return nat


def behind(side, nat):
    """The same gateway with the address that it has behind the router."""
    return dataclasses.replace(side, wan=[f"{nat.inside}/24"])


def through(configuration, nat):
    """A gateway behind the router reaches everything through it."""
    for route in configuration["dataplane"]["routes"]:
        route["via"] = nat.router
    configuration["dataplane"]["routes"].append({"to": "0.0.0.0/0", "via": nat.router})
    return configuration


@contextlib.contextmanager
def nats_before(bed, letters):
    """The routers of some gateways, by letter; gone afterwards."""
    routers = {letter: put_nat_before(bed, letter) for letter in letters}
    try:
        yield routers
    finally:
        for router in routers.values():
            router.close()


@contextlib.contextmanager
def natted(bed, letters, forward="", mode="tunnel", **options):
    """Configurations of both gateways with routers in front of those named, of which some let the peer
    begin."""
    with nats_before(bed, letters) as routers:
        inside = {letter: dataclasses.replace(side, wan=side.wan[:1], networks=side.networks[:1])
                  for letter, side in (("a", SIDE_A), ("b", SIDE_B))}
        outside = dict(inside)
        for letter, nat in routers.items():
            outside[letter] = behind(inside[letter], nat)
            outside[letter].wan = [f"{nat.outside}/24"]
            inside[letter] = behind(inside[letter], nat)
            if letter in forward:
                nat.rules(forward=True)
        configurations = {}
        for letter, other in (("a", "b"), ("b", "a")):
            local, remote = inside[letter], outside[other]
            configuration = gateway_configuration(local.name, local, remote)
            if letter in routers:
                through(configuration, routers[letter])
            tunnel = TunnelOptions(mode=mode, connection_options={"dpd_delay": "5s"}, **options)
            configuration["connections"] = [connection(local, remote, tunnel)]
            with_psk(configuration, local, remote, bed.psk_file)
            configurations[letter] = configuration
        yield routers, configurations
