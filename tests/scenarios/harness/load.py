"""The far ends of many tunnels in a namespace beside the gateways: tests/load/ike_load."""

import contextlib
import ipaddress
import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path

from .configuration import SIDE_A
from .namespaces import Namespace, ip_batch, plain_client
from .shell import CommandFailed, Process, wait_until
from .testbed import build_directory
from .traffic import icmp_counts

ADDRESS = "192.0.2.66"            # of the namespace: the gateway's next hop to all peers
PEER_ADDRESSES = "10.64.0.0/14"   # where the peers are, to their kernel
PEER_NETWORKS = "10.128.0.0/14"   # one address of it behind each
FIRST_ADDRESS, FIRST_NETWORK = "10.64.0.1", "10.128.0.1"
IKE_PROPOSAL = "aes128gcm16-prfsha256-x25519"
ESP_PROPOSAL = "aes128gcm16"


def peer_name(number):
    return f"peer-{number + 1:05d}.example.org"


def serve_peers(configuration, psk_file, count, connections="one", proposal=IKE_PROPOSAL,
                esp_proposal=ESP_PROPOSAL):
    """Gateway a takes `count` peers: by `one` connection towards any address, or by one `each`."""
    dataplane = configuration["dataplane"]
    # The peers' network has the rest of the world behind it too: floods come from there.
    dataplane["routes"] += [{"to": "0.0.0.0/0", "via": ADDRESS}]
    dataplane["limits"] = {"sas": max(1024, 8 * count), "policies": max(1024, 4 * count)}

    def connection(name, remote, network):
        return {"name": name,
                "local": {"address": SIDE_A.wan_address, "id": SIDE_A.identity, "auth": "psk"},
                "remote": {**remote, "auth": "psk"},
                "proposals": [proposal],
                "children": [{"name": f"net-{name}", "local_ts": [SIDE_A.network()],
                              "remote_ts": [network], "esp_proposals": [esp_proposal],
                              "start_action": "none"}]}

    made = configuration.setdefault("connections", [])
    secrets = configuration.setdefault("secrets", [])
    if connections == "one":
        made.append(connection("peers", {"address": "%any"}, PEER_NETWORKS))
        secrets.append({"ids": [SIDE_A.identity], "psk_file": str(psk_file)})
        return configuration
    address = ipaddress.ip_address(FIRST_ADDRESS)
    network = ipaddress.ip_address(FIRST_NETWORK)
    for number in range(count):
        name = peer_name(number)
        made.append(connection(name.split(".")[0], {"address": str(address + number), "id": name},
                               f"{network + number}/32"))
        secrets.append({"ids": [SIDE_A.identity, name], "psk_file": str(psk_file)})
    return configuration


def add_namespace(bed):
    """The peers' namespace, on the same network as the gateways; the testbed removes it."""
    name = f"{bed.prefix}-peers"
    wan = bed["wan"].name
    ip_batch([f"netns add {name}", f"link add eth0 netns {name} type veth peer name to-peers "
              f"netns {wan}"])
    namespace = bed.topology.adopt("peers", Namespace(name))
    plain_client(namespace, "eth0")
    bed["wan"].ip_batch("link set to-peers master bridge up")
    # The gateway knows the network's own address only; a question with another one is refused.
    namespace.sysctl("net.ipv4.conf.eth0.arp_announce=2")
    namespace.ip_batch(f"addr add {ADDRESS}/24 dev eth0",
                       f"route add default via {SIDE_A.wan_address}",
                       f"route add local {PEER_ADDRESSES} dev lo")
    return namespace


class Peers:
    """The process with all far ends; a command goes to a range of them."""

    def __init__(self, bed, namespace, count, proposal=IKE_PROPOSAL, esp_proposal=ESP_PROPOSAL,
                 udp_encapsulation=False):
        program = build_directory() / "tests/load/ike_load"
        self.count = count
        self._log = open(bed.directory / "peers.log", "ab")
        self._process = subprocess.Popen(
            namespace.command(program, "--peers", count, "--gateway", SIDE_A.wan_address,
                              "--gateway-id", SIDE_A.identity, "--first-address", FIRST_ADDRESS,
                              "--first-network", FIRST_NETWORK, "--gateway-networks",
                              SIDE_A.network(), "--host", SIDE_A.client_address(), "--proposal",
                              proposal, "--esp-proposal", esp_proposal,
                              *(["--udp-encapsulation"] if udp_encapsulation else [])),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={**os.environ, "CULVERT_LOAD_PSK": bed.psk}, start_new_session=True)
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        bed.also_stop(self)
        self._answer(30)

    def _read(self):
        for line in self._process.stdout:
            self._answers.put(json.loads(line))

    def _answer(self, timeout):
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise CommandFailed(f"ike_load: no answer in {timeout:g} s, status "
                                f"{self._process.poll()}") from None
        if "error" in answer:
            raise CommandFailed(f"ike_load: {answer['error']}")
        return answer

    def begin(self, verb, first=0, end=None, at_once=64, seconds=0.0):
        """`initiate` or `rekey`, peers `first` to `end`; `finish` waits for the outcome."""
        self._say(f"{verb} {first} {self.count if end is None else end} {at_once} {seconds}")

    def finish(self, timeout=120.0):
        return self._answer(timeout)

    def command(self, verb, *, timeout=120.0, **options):
        self.begin(verb, **options)
        return self.finish(timeout)

    def sas(self):
        """SAs that the peers hold, and what their machines did that they must not do."""
        self._say("sas")
        return self._answer(10)

    def start_traffic(self, per_second):
        """Echo requests through the tunnels, one after the other, to client a."""
        self._say(f"traffic 0 {self.count} {per_second}")
        return self._answer(10)

    def traffic(self):
        """What became of them so far."""
        self._say("traffic")
        return self._answer(30)

    def stop_traffic(self):
        self._say("traffic stop")
        return self._answer(30)

    def _say(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def processes(self):
        return []

    def kill(self):
        self._process.kill()
        self._process.wait(10)
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()


def device_counts(gateway):
    """What its devices, or the kernel in front of them, dropped."""
    interfaces = gateway.ask("dataplane.sock", "status")["result"]["interfaces"]
    return {f"{interface['name']} {what}": interface[what] for interface in interfaces
            for what in ("rx_missed", "rx_errors", "tx_errors")}


class TunnelTraffic:
    """Packets in every tunnel of the peers, each of which client a's kernel answers; a loss is told
    with the places that it was between."""

    FLAWS = ("lost", "duplicates", "without_sa", "unknown_spi", "icv_wrong", "malformed")

    def __init__(self, bed, gateway, peers, per_second):
        self._host, self._gateway, self._peers = bed["client-a"], gateway, peers
        self._before = self._counts()
        peers.start_traffic(per_second)

    def _counts(self):
        echo = icmp_counts(self._host)
        return {"arrived": echo["InEchos"], "answered": echo["OutEchoReps"],
                "drops": self._gateway.drops(),
                "devices": device_counts(self._gateway)}

    def wait_until_carried(self, sas, timeout):
        """Whether each tunnel carried a packet there and back by its `first` pair of SAs, or by
        `later` ones."""
        with contextlib.suppress(TimeoutError):
            return wait_until(lambda: self._peers.traffic()["tunnels"][f"by_{sas}_sas"]
                              == self._peers.count, timeout, f"traffic by the {sas} SAs", 0.2)
        return False

    def stop(self):
        result = self._peers.stop_traffic()
        before, now = self._before, self._counts()
        arrived, answered = (now[place] - before[place] for place in ("arrived", "answered"))
        received = sum(result[what] for what in
                       ("answered", "duplicates", "unknown_spi", "icv_wrong", "malformed"))
        result["lost_between"] = {"peers and host": result["sent"] - arrived,
                                  "host": arrived - answered,
                                  "host and peers": answered - received}
        for what in ("drops", "devices"):
            result[what] = {name: count - before[what].get(name, 0)
                            for name, count in now[what].items()
                            if count != before[what].get(name, 0)}
        return result


class Flood:
    """IKE_SA_INIT from forged sources towards gateway a: tests/load/ike_flood.

    `claims_ike_sa`: messages that each name another IKE SA, of which there is none.
    """

    def __init__(self, bed, namespace, rate, seconds, seed=1, proposal=IKE_PROPOSAL,
                 claims_ike_sa=False):
        program = build_directory() / "tests/load/ike_flood"
        self._seconds = seconds
        self._process = Process(
            namespace.command(program, "--interface", "eth0", "--gateway", SIDE_A.wan_address,
                              "--gateway-mac", bed["gw-a"].address_of_device("wan"),
                              "--proposal", proposal, "--rate", rate, "--seconds", seconds,
                              "--seed", seed,
                              *(["--claim-ike-sa"] if claims_ike_sa else [])),
            bed.directory / "flood.log")
        bed.also_stop(self)

    def running(self):
        return self._process.running()

    def finish(self):
        """What was sent."""
        if self._process.wait(self._seconds + 30) != 0:
            raise CommandFailed(self._process.text())
        return json.loads(self._process.text())

    def processes(self):
        return [self._process]

    def kill(self):
        self._process.kill()


def resident_bytes(pid):
    """Memory of a process by kind, as /proc says: anonymous, files, shared."""
    kinds = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "RssAnon", "RssFile", "RssShmem"):
            kinds[name] = int(rest.split()[0]) * 1024
    return kinds


class Usage:
    """What both daemons of a gateway took since the last lap: memory and processor time."""

    def __init__(self, gateway):
        self._daemons = {"ike": gateway.ike, "dataplane": gateway.dataplane}
        self._before = self._now()

    def _now(self):
        return {name: (resident_bytes(daemon.pid), daemon.processor_seconds())
                for name, daemon in self._daemons.items()}

    def lap(self):
        now, before = self._now(), self._before
        self._before = now
        lap = {}
        for name, (memory, seconds) in now.items():
            lap[f"{name}_bytes"] = {kind: size - before[name][0][kind]
                                    for kind, size in memory.items()}
            lap[f"{name}_seconds"] = seconds - before[name][1]
        return lap


class Administration:
    """How long the key daemon lets an operator wait, asked for its counters ten times a second."""

    def __init__(self, gateway):
        self._gateway, self._over, self._waits = gateway, threading.Event(), []
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def _ask(self):
        while not self._over.wait(0.1):
            begun = time.monotonic()
            answer = self._gateway.ask("ike.sock", "counters", timeout=60)
            if answer.get("ok"):
                self._waits.append(time.monotonic() - begun)

    def stop(self):
        self._over.set()
        self._asking.join(70)
        waits = sorted(self._waits)
        return {"answers": len(waits), "median_milliseconds": 1000 * waits[len(waits) // 2],
                "most_milliseconds": 1000 * waits[-1]}


def wait_for_sas(peers, count, timeout):
    """Rekeyed pairs linger before they are deleted: until the peers hold `count`, or time is up."""
    deadline = time.monotonic() + timeout
    while True:
        answer = peers.sas()
        if answer["sas"] == count or time.monotonic() > deadline:
            return answer
        time.sleep(0.1)
