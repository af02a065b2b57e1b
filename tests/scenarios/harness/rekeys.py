"""Children rekeyed every other second and the IKE SA now and then, under a steady ping: what each rekey
took, and where on its way each lost packet was seen last."""

import collections
import contextlib
import dataclasses
import json
import random
import re
import threading
import time

from .shell import CommandFailed, run, wait_until
from .traffic import icmp_counts

PERIOD = 2.0          # seconds from one rekey to the next
PINGS = 2             # at once: one alone sends 60 packets a second where the clock ticks 100 times
IKE_EVERY = 10        # of so many, one is the IKE SA's
STALLED = 20.0        # seconds after which a rekey counts as never done


class Journey:
    """Counts echo requests and replies at each place that they pass; losses are differences.

    ESP is counted where it comes from a gateway, before anything else on the wire sees it, the rest by
    the clients' kernels. Nobody else may ping meanwhile.
    """

    def __init__(self, bed):
        self._bed = bed
        chains = "\n".join(f"""
  counter from-{letter} {{ }}
  chain of-{letter} {{
    type filter hook ingress device "to-{letter}" priority 0;
    ip protocol esp counter name "from-{letter}"
    udp dport 4500 udp length > 12 @th,64,32 != 0 counter name "from-{letter}"
    udp sport 4500 udp dport != 4500 udp length > 12 @th,64,32 != 0 counter name "from-{letter}"
  }}""" for letter in "ab")
        run(*bed["wan"].command("nft", "-f", "-"),
            input_text=f"table netdev journey {{{chains}\n}}\n")
        self._begun = self._counts()

    def _counts(self):
        listed = json.loads(self._bed["wan"].run(
            "nft", "-j", "list", "counters", "table", "netdev", "journey").stdout)["nftables"]
        wire = {entry["counter"]["name"]: entry["counter"]["packets"]
                for entry in listed if "counter" in entry}
        near, far = (icmp_counts(self._bed[f"client-{letter}"]) for letter in "ab")
        return {"to the peer": wire["from-a"], "arrived": far["InEchos"],
                "answered": far["OutEchoReps"], "from the peer": wire["from-b"],
                "returned": near["InEchoReps"]}

    def counts(self, sent):
        """Packets at each place, in the order of the way there and back."""
        now = self._counts()
        return {"sent": sent, **{place: now[place] - self._begun[place] for place in now}}


def lost_by(counts):
    """Who had the packets last that did not come to the next place."""
    return {"gateway": (counts["sent"] - counts["to the peer"])
            + (counts["from the peer"] - counts["returned"]),
            "peer": (counts["to the peer"] - counts["arrived"])
            + (counts["answered"] - counts["from the peer"]),
            "far client": counts["arrived"] - counts["answered"]}


@dataclasses.dataclass
class Rekey:
    what: str       # child or ike_sa
    who: str        # culvert, peer or both
    seconds: float  # until both ends held the same new SAs and nothing else
    refused: list   # what those said who were asked


class Rekeying:
    """One rekey after another. A `both` has both ends begin within `apart` seconds of each other."""

    def __init__(self, pair, seed=1, apart=0.03):
        self.pair, self.apart = pair, apart
        self.dice = random.Random(seed)
        self.done = []

    def rekey(self, what, who):
        state = self.pair.child_spi if what == "child" else self.pair.ike_spi
        before = wait_until(state, STALLED, f"one {what} at both ends", 0.05)
        begun = time.monotonic()
        refused = self._begin([(one, what) for one in (("culvert", "peer") if who == "both" else (who,))])
        wait_until(lambda: state() not in (None, before), STALLED,
                   f"both ends to hold a new {what}, {who} having begun", 0.05)
        self.done.append(Rekey(what, who, time.monotonic() - begun, refused))
        if who != "both" and refused:
            raise CommandFailed(f"{who} did not rekey the {what}: {refused}")

    def _begin(self, acts):
        """All of (who, what), each in a moment of its own; what was answered to those refused."""
        refused = []
        askers = [threading.Thread(target=self._ask, args=(*act, refused), daemon=True) for act in acts]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(STALLED + 15)
        return refused

    def _ask(self, who, what, refused):
        time.sleep(self.dice.uniform(0, self.apart))
        try:
            self.pair.rekey(who, what)
        except (OSError, CommandFailed) as why:
            refused.append(f"{who}: {why}")

    def crossing(self, what, rounds):
        """Both ends begin at about the same moment, again and again; how often they really crossed."""
        before = self._create_child_sas()
        for _ in range(rounds):
            self.rekey(what, "both")
        return self._create_child_sas() - before - rounds

    def opposed(self, rounds):
        """One rekeys the child while the other rekeys the IKE SA, which may tell either to try again."""
        for number in range(rounds):
            whats = ("child", "ike_sa") if number % 2 else ("ike_sa", "child")
            before = self.pair.child_spi(), self.pair.ike_spi()
            begun = time.monotonic()
            refused = self._begin(list(zip(("culvert", "peer"), whats)))
            wait_until(lambda: self.pair.child_spi() and self.pair.ike_spi()
                       and (self.pair.child_spi(), self.pair.ike_spi()) != before, STALLED,
                       f"both ends to agree after {whats}", 0.05)
            self.done.append(Rekey(whats[0], "against peer", time.monotonic() - begun, refused))

    def _create_child_sas(self):
        """Exchanges of either side that made something new."""
        counted = self.pair.gateway.ask("ike.sock", "counters")["result"]["exchanges"]["create_child_sa"]
        return sum(counted[way][result] for way in ("initiated", "answered")
                   for result in ("ok", "failed"))

    def run(self, seconds, progress=None):
        """For so long; who begins alternates, with children and with the IKE SA."""
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            begun = time.monotonic()
            ike = number % IKE_EVERY == IKE_EVERY // 2
            turn = number // IKE_EVERY if ike else number
            self.rekey("ike_sa" if ike else "child", ("culvert", "peer")[turn % 2])
            number += 1
            if progress:
                progress(self.done)
            time.sleep(max(0.0, begun + PERIOD - time.monotonic()))


_EVENT = re.compile(r"info (ike_sa_rekeyed|child_rekeyed|ike_sa_established|child_established) ")


@dataclasses.dataclass
class Outcome:
    rekeys: dict     # so many of each "WHAT by WHO"
    longest: Rekey | None
    sent: int
    rate: float      # packets a second
    lost: list       # sequence numbers
    duplicates: int
    counts: dict     # packets at each place of their way
    drops: dict      # of our gateway, and of the peer if it is ours too
    peer_is_ours: bool
    events: dict     # in its log

    def lost_by(self):
        return lost_by(self.counts)

    def faults(self):
        """What may not be. A packet is strongSwan's loss only if it was on the wire to it and never
        arrived behind it, or the other way round."""
        found = []
        by = self.lost_by()
        ours = by["gateway"] or by["far client"] or (by["peer"] and self.peer_is_ours)
        if ours or min(by.values()) < 0:
            found.append(f"lost {by}")
        elif len(self.lost) > by["peer"]:
            found.append(f"{len(self.lost)} packets lost, {by['peer']} of them by the peer")
        if self.drops:
            found.append(f"dropped {self.drops}")
        if self.duplicates:
            found.append(f"{self.duplicates} answered twice")
        return found


def under_traffic(pair, act, seed=1, apart=0.03):
    """`act(Rekeying)`, or something else, beside a ping of a hundred packets a second or a little more."""
    rekeying, journey, begun = Rekeying(pair, seed, apart), Journey(pair.bed), time.monotonic()
    pings = [pair.ping_steadily() for _ in range(PINGS)]
    try:
        act(rekeying)
        pair.wait_until_mirrored()
        for ping in pings:
            ping.wait_for_replies(100)
    finally:
        results = [ping.stop() for ping in pings]
        seconds = time.monotonic() - begun
    kinds = collections.Counter(f"{one.what} by {one.who}" for one in rekeying.done)
    sent = sum(result.transmitted for result in results)
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: journey.counts(sent)["returned"] >= sent, 3, "what is under way", 0.1)
    longest = max(rekeying.done, key=lambda one: one.seconds, default=None)
    return Outcome(dict(kinds), longest, sent, sent / seconds,
                   [sequence for result in results for sequence in result.lost_packets],
                   sum(result.duplicates for result in results), journey.counts(sent),
                   {**pair.gateway.drops(), **(pair.peer.drops() if pair.peer_is_ours else {})},
                   pair.peer_is_ours,
                   dict(collections.Counter(_EVENT.findall("".join(pair.gateway.logs().values())))))
