"""Physical ports: the throughput of RFC 2544 §26.1 by search, and latencies beneath it.

`port_trial` runs the trials; what is decided from them is decided here.
"""

import json
import math
import subprocess
from dataclasses import dataclass

LATENCY_LOADS = (0.5, 0.9)  # of the throughput
AS_ASKED = 0.98  # a tester that sends less than this of what it was asked is at its own limit
MOST_MPPS = 14.88  # to try where nobody says how fast the links are
LEAST_SHARE = 0.001  # of the most: where even that is too much, nothing passes
IMIX = (64,) * 7 + (570,) * 4 + (1400,)


class NoTrial(Exception):
    """A trial could not be run; the message says why."""


def split_devices(text):
    """"A,B" with the arguments that virtual devices have: a word with "=" belongs to the one before.

    "0000:03:00.0,0000:03:00.1"; "net_af_packet0,iface=veth0,net_af_packet1,iface=veth1".
    """
    devices = []
    for word in text.split(","):
        if "=" in word and devices:
            devices[-1] += "," + word
        else:
            devices.append(word)
    if len(devices) != 2 or not all(devices):
        raise ValueError(f"--ports takes two devices, the LAN's and the WAN's: {text}")
    return devices


class Trials:
    """`port_trial` at work."""

    def __init__(self, program, lan, wan, *options):
        self._process = subprocess.Popen(
            [str(program), *options, lan, wan], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        self.tester = self._answer()  # machine, versions and links

    def __call__(self, direction, size, mpps, seconds, forwarded=False):
        """What came of sending at a rate: port_trial's object. `forwarded`: the same packets between
        addresses that the gateway has no SA for, in clear from port to port."""
        try:
            self._process.stdin.write(f"{direction} {size} {mpps:.9f} {seconds}"
                                      f"{' forwarded' if forwarded else ''}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the line that is missing says it
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise NoTrial(f"port_trial ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise NoTrial(answer["error"])
        return answer

    def close(self):
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Outcome:
    """A trial's rates in million packets a second, and whether it passed."""

    asked: float
    sent: float
    received: float
    lost: float  # share of what was sent
    passed: bool


def outcome(asked, seen, loss):
    """`loss`: the share that may be lost."""
    sent, received = seen["sent"], seen["received"]
    lost = 1 - received / sent if sent else 1.0
    return Outcome(asked, sent / seen["seconds"] / 1e6, received / seen["seconds"] / 1e6, lost,
                   sent > 0 and lost <= loss)


def wire_bytes(inner, sealed):
    """What a packet takes on Ethernet: its header and FCS, preamble and gap around it; sealed with the
    outer IPv4 header, SPI and number, IV, padding to four bytes, and ICV (RFC 4303 §2, RFC 4106)."""
    packet = 20 + 8 + 8 + (inner + 2 + 3) // 4 * 4 + 16 if sealed else inner
    return max(14 + packet + 4, 64) + 8 + 12


def link_mpps(links, size, forwarded=False):
    """The most packets a second that both links carry, in millions; None: they do not say their speed.
    `links`: Mbit/s of the LAN's, where packets are clear, and of the WAN's, null where unknown."""
    sizes = IMIX if size == "imix" else (int(size),)
    carried = []
    for mbps, sealed in zip(links or (), (False, not forwarded)):
        if mbps:
            carried.append(mbps / 8 * len(sizes) / sum(wire_bytes(one, sealed) for one in sizes))
    return min(carried, default=None)


@dataclass(frozen=True)
class Found:
    """What a search ends with. All rates in million packets a second."""

    best: Outcome | None
    step: float  # from what passed to the least that did not; 0: nothing did not
    tried: list


def search(trial, top, loss, resolution):
    """The highest rate that passes, from `top` downwards.

    Ends when the best that passed and the least that did not are nearer than `resolution` of it, however
    far below `top` they are. It goes down to what came through, which is near as a rule, and in steps
    that double where that does not pass either; a step up from what came through and passes; then it
    halves what is between.
    """
    tried = [outcome(top, trial(top), loss)]
    if tried[0].passed:
        return Found(tried[0], 0.0, tried)
    best, low, high = None, 0.0, min(top, tried[0].sent or top)
    least, step, guess = high * LEAST_SHARE, resolution, tried[0].received or high / 10
    while high - low > resolution * high and high > least:
        rate = guess if low < guess < high else math.sqrt(low * high) or high * (1 - step)
        came_through = tried[-1].received
        tried.append(outcome(rate, trial(rate), loss))
        guess = 0.0
        if tried[-1].passed:
            if rate == came_through:
                guess = rate * (1 + resolution)
            best, low = tried[-1], rate
            continue
        high = rate
        if best is None:
            step = min(2 * step, 0.9)
            guess = min(tried[-1].received, high * (1 - step)) or high / 10
    return Found(best, high - low, tried)


def limited_by(best, top, link=None):
    """`link`: what the links carry. A driver that says less than was sent does not know its link's speed."""
    if best is None:
        return "gateway"
    if link and AS_ASKED * link <= best.sent <= link / AS_ASKED:
        return "link"
    if best.sent < AS_ASKED * best.asked:
        return "tester"
    return "rate" if best.asked >= top else "gateway"


def measure(trial, direction, size, settings, links=None):
    """One row: the floor, throughput, and latencies at shares of it. `settings`: rate (None: what the
    links carry), seconds, loss, resolution. The floor is the throughput of the same packets merely
    forwarded, first."""
    def throughput(**how):
        link = link_mpps(links, size, **how)
        top = settings["rate"] or link or MOST_MPPS
        found = search(lambda mpps: trial(direction, size, mpps, settings["seconds"], **how),
                       top, settings["loss"], settings["resolution"])
        return found, limited_by(found.best, top, link)
    forwarded, floor_limit = throughput(forwarded=True)
    found, limit = throughput()
    floor, best = forwarded.best, found.best
    row = {"direction": direction, "size": size, "throughput_mpps": best.sent if best else 0.0,
           "step_mpps": found.step, "limited_by": limit,
           "floor_mpps": floor.sent if floor else None,
           "floor_limited_by": floor_limit,
           "efficiency": (best.sent if best else 0.0) / floor.sent if floor else None, "latency": [],
           "trials": [{"mpps": one.sent, "received_mpps": one.received, "lost": one.lost}
                      for one in found.tried]}
    for load in LATENCY_LOADS if best else ():
        seen = trial(direction, size, best.sent * load, settings["seconds"])
        row["latency"].append({"load": load, "mpps": seen["sent"] / seen["seconds"] / 1e6,
                               "received": seen["received"], "us": seen["latency_us"]})
    return row


HEADING = (f"{'dir':4} {'size':>5} {'Mpps':>9} {'limit':>8} {'floor':>9} {'limit':>8} {'eff.':>5} "
           f"{'trials':>6} {'load':>5} "
           f"{'p50 us':>8} {'p90':>8} {'p99':>8} {'p99.9':>8} {'max':>8}")


def floor_of(row):
    if row["floor_mpps"] is None:  # a gateway whose configuration is of an earlier version
        return f"{'none':>9} {'':>8} {'':>5}"
    return f"{row['floor_mpps']:9.4g} {row['floor_limited_by']:>8} {row['efficiency']:5.2f}"


def lines_of(row):
    begin = (f"{row['direction']:4} {row['size']:>5} {row['throughput_mpps']:9.4g} "
             f"{row['limited_by']:>8} " + floor_of(row) + f" {len(row['trials']):6}")
    if not row["latency"]:
        return [begin + "  nothing passed: the least rate still lost "
                f"{row['trials'][-1]['lost']:.1%}"]
    return [f"{begin if number == 0 else ' ' * len(begin)} {at['load']:5.0%} "
            + " ".join(f"{at['us'][name]:8.1f}" for name in ("p50", "p90", "p99", "p999", "max"))
            for number, at in enumerate(row["latency"])]


GATEWAY = """# For scripts/bench --ports: a tester at 198.18.0.2 behind the LAN, its ESP end at 198.18.1.2.
# The key is published: for measuring alone. Put your devices in; start it anew before each run, for
# the tester counts its sequence numbers from 1.
instance: bench
dataplane:
  workers: 1
  interfaces:
    - {{name: lan, device: "{lan}", addresses: [198.18.0.1/24]}}
    - {{name: wan, device: "{wan}", addresses: [198.18.1.1/24]}}
  idle: busy
default_policy: discard
policies:  # for the floor: between the tester's own addresses packets are merely forwarded
  - {{action: bypass, source: 198.18.0.2/32, destination: 198.18.1.2/32}}
manual_sas:
  - {{name: tester, direction: out, spi: 4096, suite: aes128gcm16, esn: true, key_file: bench.key,
     local: 198.18.1.1, remote: 198.18.1.2, local_ts: [198.18.0.0/24], remote_ts: [198.19.0.0/16]}}
  - {{name: tester, direction: in, spi: 4097, suite: aes128gcm16, esn: true, key_file: bench.key,
     local: 198.18.1.1, remote: 198.18.1.2, local_ts: [198.18.0.0/24], remote_ts: [198.19.0.0/16],
     replay_window: 1024}}
"""


def write_gateway(folder, lan="0000:03:00.0", wan="0000:03:00.1"):
    """A gateway's configuration and key file in `folder`; the names of what was written."""
    configuration, key = folder / "gateway.yaml", folder / "bench.key"
    configuration.write_text(GATEWAY.format(lan=lan, wan=wan), encoding="utf-8")
    key.write_text(bytes(range(1, 21)).hex() + "\n", encoding="utf-8")
    key.chmod(0o600)
    return configuration, key
