"""Clients' traffic: ping with every reply accounted for, and iperf3."""

import contextlib
import itertools
import json
import re
import signal
import statistics
import time
from pathlib import Path

from .shell import CommandFailed, Process, wait_until

_REPLY = re.compile(r"icmp_seq=(\d+) ttl=\d+ time=([\d.]+) ms")
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) (?:packets )?received")
_STEADY_REPLY = re.compile(r"reply (\d+) ([\d.]+) ms")
_STEADY_SUMMARY = re.compile(r"(\d+) sent")
_ARP_ANSWER = re.compile(r"^answer ([\d.]+)$", re.MULTILINE)
_counter = itertools.count()


class PingResult:
    """Of packets numbered from 1 on."""

    def __init__(self, transmitted, replies):
        """`replies`: (number, milliseconds) each."""
        self.transmitted = transmitted
        self.received = {sequence for sequence, _ in replies}
        self.round_trips = [time for _, time in replies]  # ms
        self.duplicates = len(replies) - len(self.received)

    def lost(self, in_flight=0):
        """Sequence numbers without a reply; the last `in_flight` may still have been under way."""
        return [sequence for sequence in range(1, self.transmitted - in_flight + 1)
                if sequence not in self.received]

    def median(self):
        return statistics.median(self.round_trips)


def _result(text, summary, reply):
    """What a program said of its packets."""
    transmitted = summary.search(text)
    if not transmitted:
        raise CommandFailed(f"no summary of a ping:\n{text}")
    return PingResult(int(transmitted.group(1)),
                      [(int(number), float(milliseconds))
                       for number, milliseconds in reply.findall(text)])


def icmp_counts(namespace):
    """The kernel's own counters in there: {"InEchoReps": n, "Icmp6InEchoReplies": n, ...}."""
    with namespace.entered():
        v4, v6 = (Path("/proc/thread-self/net", name) for name in ("snmp", "snmp6"))
        names, values = [line.split()[1:] for line in v4.read_text().splitlines()
                         if line.startswith("Icmp:")]
        more = [line.split() for line in v6.read_text().splitlines()] if v6.exists() else []
    return {name: int(value) for name, value in [*zip(names, values), *more]}


def ping(namespace, address, count=3, interval=0.05, wait=2.0, size=56, extra=()):
    """A ping of `count` packets, to its end. Where any reply has come, ping waits for the last ones no
    longer than two round trips or an interval; if it was not woken in time on a busy machine, the
    kernel's counter says whether they came."""
    replies = "Icmp6InEchoReplies" if ":" in address else "InEchoReps"
    before = icmp_counts(namespace)[replies]
    completed = namespace.run(
        "ping", "-n", "-c", count, "-i", interval, "-W", wait, "-s", size, *extra, address,
        check=False, timeout=count * max(interval, 0.01) + wait + 20)
    result = _result(completed.stdout, _SUMMARY, _REPLY)
    last = max(result.received, default=result.transmitted)
    late = range(last + 1, result.transmitted + 1)
    if late and late[0] == result.lost()[0]:
        all_of_them = before + result.transmitted + result.duplicates
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: icmp_counts(namespace)[replies] >= all_of_them, wait, "late replies")
        if icmp_counts(namespace)[replies] == all_of_them:
            result.received.update(late)
    return result


class SteadyPing:
    """A hundred packets a second beside what a test does, every one accounted for at `stop`."""

    PER_SECOND = 100
    IN_FLIGHT = 25  # packets sent in the last quarter of a second before SIGINT
    MOST_SECONDS = 3600  # should nobody stop it
    PROGRAM = Path(__file__).with_name("pinger.py")

    def __init__(self, namespace, address, directory):
        log = directory / f"ping-{next(_counter)}.log"
        command = namespace.command("/usr/bin/python3", self.PROGRAM, address, self.PER_SECOND,
                                    self.MOST_SECONDS)
        self._process = Process(command, log)
        wait_until(lambda: _STEADY_REPLY.search(self._process.text()), 10, "the first reply to a ping")

    def replies(self):
        return len(_STEADY_REPLY.findall(self._process.text()))

    def wait_for_replies(self, count, timeout=10.0):
        """So many more replies have come: traffic went on after what was done before."""
        goal = self.replies() + count
        wait_until(lambda: self.replies() >= goal, timeout, f"{count} more replies to the ping", 0.05)

    def stop(self):
        """Ends it and returns the result without what was in flight."""
        self._process.stop(signal.SIGINT)
        result = _result(self._process.text(), _STEADY_SUMMARY, _STEADY_REPLY)
        result.lost_packets = result.lost(self.IN_FLIGHT)
        return result

    def kill(self):
        """Whether it was stopped or not."""
        self._process.kill()


class SteadyArp:
    """Fifty questions a second for a gateway's own address, which its main thread answers."""

    PER_SECOND = 50
    MOST_SECONDS = 3600  # should nobody stop it
    PROGRAM = Path(__file__).with_name("arp_asker.py")

    def __init__(self, namespace, device, address, directory):
        command = namespace.command("/usr/bin/python3", self.PROGRAM, device, address, self.PER_SECOND,
                                    self.MOST_SECONDS)
        self._process = Process(command, directory / f"arp-{next(_counter)}.log")
        self.wait_for_answer()

    def answers(self):
        """When each came, by time.monotonic."""
        return [float(moment) for moment in _ARP_ANSWER.findall(self._process.text())]

    def wait_for_answer(self, timeout=10.0):
        seen = len(self.answers())
        wait_until(lambda: len(self.answers()) > seen, timeout, "an answer to an ARP request", 0.05)

    def stop(self):
        """Ends it behind one answer more; the longest time without any."""
        self.wait_for_answer()
        self._process.stop(signal.SIGINT)
        return max(after - before for before, after in itertools.pairwise(self.answers()))


class Iperf3:
    """An iperf3 server in one namespace and a client in another."""

    def __init__(self, server, client, address, directory):
        self.client, self.address, self.directory = client, address, directory
        self._server = Process(server.command("iperf3", "-s", "-B", address),
                               directory / f"iperf3-server-{next(_counter)}.log")
        wait_until(lambda: "listening" in self._server.text() or _listens(server), 5,
                   "the iperf3 server")

    def start(self, seconds, reverse=False, megabits=None):
        words = ["iperf3", "-J", "-c", self.address, "-t", seconds, "--connect-timeout", 3000]
        words += ["-R"] if reverse else []
        # Short blocks: a default one (128 kB) would go out at once and fill a queue by itself.
        words += ["-b", f"{megabits}M", "-l", "8K"] if megabits else []
        return IperfRun(self.client.command(*words),
                        self.directory / f"iperf3-{next(_counter)}.json")

    def measure(self, seconds, **options):
        return self.start(seconds, **options).finish(seconds + 15)

    def stop(self):
        self._server.stop()


def _listens(namespace):
    return ":5201" in namespace.run("ss", "-ltn").stdout


class IperfRun:
    def __init__(self, command, log):
        self._process = Process(command, log)
        self._started = time.monotonic()

    def running(self):
        return self._process.running()

    def finish(self, timeout):
        """Megabits per second that arrived."""
        try:
            self._process.wait(timeout)
        except Exception:
            self._process.kill()
            raise
        report = json.loads(self._process.text())
        if "error" in report:
            raise CommandFailed(f"iperf3: {report['error']}")
        return report["end"]["sum_received"]["bits_per_second"] / 1e6

    def kill(self):
        self._process.kill()
