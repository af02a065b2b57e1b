"""kill -9 of a key daemon at random points of a script of exchanges, again and again, with a ping
through the tunnel all the time. What must hold after each kill, and over all of them."""

import collections
import contextlib
import dataclasses
import json
import random
import re
import socket
import statistics
import threading
import time

from .capture import WireContents
from .configuration import SIDE_A, SIDE_B
from .shell import CommandFailed, wait_until
from .traffic import SteadyPing

CHILD = "net"      # carries the ping: it is rekeyed, never taken down
SPARE = "spare"    # is initiated and deleted
INNER = {bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])}
CONTROL_WITHIN = 2.0  # seconds, from the kill to the tunnel's control


def spare_networks(configuration, letter):
    """A second child, for what may not happen to the first."""
    near, far = ("10.111.0.0/24", "10.112.0.0/24")
    if letter == "b":
        near, far = far, near
    connection = configuration["connections"][0]
    connection["children"].append({
        **connection["children"][0], "name": SPARE, "local_ts": [near], "remote_ts": [far],
        "start_action": "none"})
    via = (SIDE_B if letter == "a" else SIDE_A).wan_address
    configuration["dataplane"]["routes"].append({"to": far, "via": via})
    return configuration


@dataclasses.dataclass
class Kill:
    side: str
    exchange: str
    delay: float           # seconds from the command to the kill
    control_seconds: float
    resumed: int
    refused: dict


class Culprit:
    """Who does what to whom: one round is a command, a kill, a new life, and a look."""

    def __init__(self, gateways, seed, peer=None):
        self.gateways, self.peer = gateways, peer
        self.dice = random.Random(seed)
        self.kills = []

    def exchanges(self):
        """(name, act) of what may be going on when the key daemon dies."""
        acts = []
        for letter, gateway in self.gateways.items():
            for name, verb, arguments in (
                    ("rekey the child", "rekey", {"name": CHILD}),
                    ("rekey the child", "rekey", {"name": CHILD}),
                    ("rekey the IKE SA", "rekey", {"name": self.connection(letter), "ike": True}),
                    ("initiate", "initiate", {"name": SPARE}),
                    ("delete", "terminate", {"name": SPARE})):
                if self.peer is not None and arguments["name"] == SPARE:
                    continue  # strongSwan has the one child
                acts.append((f"{letter}: {name}", lambda gateway=gateway, verb=verb,
                             arguments=arguments: self.ask(gateway, verb, arguments)))
        if self.peer is not None:
            acts.append(("strongSwan: rekey the child", self.peer.rekey_child))
            acts.append(("strongSwan: rekey the IKE SA", self.peer.rekey_ike))
        return acts

    @staticmethod
    def connection(letter):
        return f"to-{SIDE_B.name}" if letter == "a" else f"to-{SIDE_A.name}"

    @staticmethod
    def ask(gateway, verb, arguments):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(10)
            control.connect(str(gateway.socket("ike.sock")))
            control.sendall(json.dumps({"verb": verb, "args": arguments}).encode() + b"\n")
            control.recv(65536)

    def kill_once(self):
        side = self.dice.choice(sorted(self.gateways))
        name, act = self.dice.choice(self.exchanges())
        # An exchange here takes some 5 ms; the Delete of what it replaced follows after 250.
        delay = self.dice.uniform(0, 0.02) if self.dice.random() < 0.75 else self.dice.uniform(0, 0.35)
        gateway = self.gateways[side]

        def quietly():
            # Whoever is asked may be killed before it answers.
            with contextlib.suppress(OSError, CommandFailed):
                act()

        command = threading.Thread(target=quietly, daemon=True)
        command.start()
        time.sleep(delay)
        gateway.kill_ike()
        killed_at = time.monotonic()
        gateway.start_ike()
        wait_until(lambda: in_control(gateway), 30, f"control of the tunnel again after {name}")
        seconds = time.monotonic() - killed_at
        recovery = gateway.ike_status()["recovery"]
        self.kills.append(Kill(side, name, delay, seconds, recovery["resumed_ike_sas"],
                               {**recovery["refused_records"],
                                **({recovery["not_resumed"]["reason"]: 1}
                                   if recovery["not_resumed"] else {})}))
        command.join(15)
        # The next round begins from a tunnel at rest, or not quite.
        time.sleep(self.dice.uniform(0, 0.4))

    def summary(self):
        seconds = [kill.control_seconds for kill in self.kills]
        return {
            "kills": len(self.kills),
            "resumed": sum(kill.resumed > 0 and not kill.refused for kill in self.kills),
            "control_median": statistics.median(seconds),
            "control_most": max(seconds),
        }

    def broken(self):
        """Kills after which something was not as it must be."""
        return [kill for kill in self.kills
                if kill.refused or not kill.resumed or kill.control_seconds > CONTROL_WITHIN]


def in_control(gateway):
    """Its key daemon knows an IKE SA that stands, and the child on it."""
    return any(child["child"] == CHILD and child["state"] in ("installed", "rekeying")
               for sa in gateway.ike_status().get("ike_sas", [])
               if sa["state"] in ("established", "rekeying") for child in sa["children"])


def initiator_spis(gateway):
    return {sa["initiator_spi"] for sa in gateway.ike_status().get("ike_sas", [])}


@dataclasses.dataclass
class Outcome:
    summary: dict
    broken: list
    lost: list
    duplicates: int
    pings: int
    clear: dict
    inner_seen: int
    authentications: int  # IKE_AUTH exchanges over all lives: one says that nobody began anew
    exchanges: dict       # what both gateways' logs say was done, by event


def authentications(gateway):
    return sum(log.count("ike_sa_established") for log in gateway.logs().values())


_EVENT = re.compile(r"info (ike_sa_rekeyed|child_rekeyed|child_established|child_deleted) ")


def exchanges(gateways):
    """So that nobody counts kills of a key daemon that had nothing to do."""
    return collections.Counter(event for gateway in gateways.values()
                               for log in gateway.logs().values() for event in _EVENT.findall(log))


def rampage(bed, gateways, kills, seed, peer=None, progress=None):
    """So many kills under a steady ping and a capture of the wire."""
    culprit = Culprit(gateways, seed, peer)
    with bed.capture("kills") as capture:
        steady = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
        for number in range(kills):
            culprit.kill_once()
            if progress:
                progress(number + 1, culprit.kills[-1])
        steady.wait_for_replies(700, timeout=20)  # past every grace
        result = steady.stop()
    wire = WireContents(capture.frames(), INNER)
    return Outcome(culprit.summary(), culprit.broken(), result.lost_packets, result.duplicates,
                   result.transmitted, wire.unexpected(), wire.inner_addresses_seen,
                   max(authentications(gateway) for gateway in gateways.values()),
                   exchanges(gateways))
