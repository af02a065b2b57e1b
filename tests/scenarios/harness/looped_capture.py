"""The packet daemon alone between a capture that loops (net_pcap, infinite_rx) and a sink (net_null)."""

import json
import os
import socket
import time
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from .esp_oracle import ManualPair
from .shell import Process, require, run, wait_until
from .testbed import build_directory

# net_pcap's own: 02 and "pcap", and which of them it is.
GATEWAY_MAC = "02:70:63:61:70:00"
OUR_MAC = "02:00:00:00:00:09"
FRAMES = 256
SINK = "net_null0"

FAMILIES = {4: {"lan": "10.1.0.1/24", "wan": "198.51.100.1/24", "remote": "198.51.100.2",
                "client": "10.1.0.9", "far": "10.2.0.7", "lan_net": "10.1.0.0/24", "far_net": "10.2.0.0/16"},
            6: {"lan": "2001:db8:1::1/64", "wan": "2001:db8:ff::1/64", "remote": "2001:db8:ff::2",
                "client": "2001:db8:1::9", "far": "2001:db8:2::7", "lan_net": "2001:db8:1::/64",
                "far_net": "2001:db8:2::/48"}}


def default_routes(family):
    return [{"to": "0.0.0.0/0" if family == 4 else "::/0", "via": FAMILIES[family]["remote"]}]


class Telemetry:
    """DPDK's telemetry socket, version 2: a packet of text asks, one of JSON answers."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._most = json.loads(self._socket.recv(1024))["max_output_len"]

    def ask(self, question):
        self._socket.send(question.encode())
        return json.loads(self._socket.recv(self._most))[question.split(",")[0]]

    def port_of(self, device):
        for port in self.ask("/ethdev/list"):
            if self.ask(f"/ethdev/info,{port}")["name"] == device:
                return port
        raise AssertionError(f"{device} is no port of the daemon")

    def close(self):
        self._socket.close()


class Daemon:
    """culvert-dataplane alone, of one family, with manual SAs; `incoming` is where the capture is: each
    worker's queue plays it, over and over. `dataplane`: what else the file says there."""

    def __init__(self, folder, incoming, frames, family=4, neighbors=(), workers=1, dataplane=()):
        self.instance = f"looped{os.getpid()}"
        self.environment = {**os.environ, "CULVERT_RUN_DIR": str(folder / "run")}
        (folder / "run").mkdir()
        (folder / "run").chmod(0o755)
        wrpcap(str(folder / "in.pcap"), frames)
        source = "net_pcap0" + f",rx_pcap={folder}/in.pcap" * workers + ",infinite_rx=1"
        self.configuration = folder / "gateway.yaml"
        self.configuration.write_text(json.dumps(self._configure(
            folder, {"lan": source, "wan": SINK} if incoming == "lan" else {"lan": SINK, "wan": source},
            family, list(neighbors), workers, dict(dataplane))))
        self.process = Process([build_directory() / "dataplane/culvert-dataplane", "--config",
                                self.configuration], folder / "dataplane.log", self.environment)
        require(self.process, (folder / f"run/{self.instance}/dataplane.sock").exists, 60, "the gateway")
        # As docs/reference/packet-rate.md says; an unprivileged user's is elsewhere.
        self.telemetry = Telemetry(Path("/var/run/dpdk") / f"culvert-{self.instance}" / "dpdk_telemetry.v2")

    def _configure(self, folder, devices, family, neighbors, workers, dataplane):
        world = FAMILIES[family]
        pair = manual_pair(family)
        keys = []
        for name, key in (("out", pair.key_out), ("in", pair.key_in)):
            keys.append(folder / f"{name}.key")
            keys[-1].write_text(key.hex() + "\n")
            keys[-1].chmod(0o600)
        return {
            "instance": self.instance,
            "dataplane": {"workers": workers, "limits": {"sas": 64, "policies": 64, "flows": 1024},
                          "interfaces": [{"name": name, "device": devices[name], "addresses": [world[name]]}
                                         for name in ("lan", "wan")],
                          "routes": default_routes(family),
                          "neighbors": neighbors, **dataplane},
            "default_policy": "discard",
            "metrics": {"listen": "off"},
            "manual_sas": pair.configuration(keys, [world["lan_net"]], [world["far_net"]], replay_window=0),
        }

    def ask(self, verb):
        return json.loads(run(build_directory() / "cli/culvert", verb, "--json", "--instance", self.instance,
                              environment=self.environment).stdout)

    def passed(self):
        """(packets in, packets out) by what the drivers say, over a second or so."""
        inward, outward = (self.telemetry.port_of(name) for name in ("net_pcap0", SINK))

        def received():
            return self.telemetry.ask(f"/ethdev/stats,{inward}")["ipackets"]

        def sent():
            return self.telemetry.ask(f"/ethdev/stats,{outward}")["opackets"]
        wait_until(lambda: sent() > 10 * FRAMES, 30, "packets to go out")
        # The counters are not read at one time, and a busy machine may let some while pass between two: what was
        # received is counted over the shorter one.
        sent_before, received_before = sent(), received()
        time.sleep(1)
        received_after, sent_after = received(), sent()
        return received_after - received_before, sent_after - sent_before

    def close(self):
        self.telemetry.close()
        self.process.stop()


def manual_pair(family):
    world = FAMILIES[family]
    return ManualPair(family=family, local=world["wan"].split("/")[0], remote=world["remote"])


def framed(packets):
    """Bytes, so that nothing that scapy remembers of a sealed packet helps it."""
    kind = {4: 0x0800, 6: 0x86DD}
    return [Ether(src=OUR_MAC, dst=GATEWAY_MAC, type=kind[bytes(packet)[0] >> 4]) / Raw(bytes(packet))
            for packet in packets]


def clear_packets(family, source, destination):
    layer = IP if family == 4 else IPv6
    return [layer(src=source, dst=destination) / UDP(sport=1024 + number, dport=9) / Raw(bytes(64))
            for number in range(FRAMES)]


def sealed_packets(family):
    """What the far gateway sends to us."""
    world, association = FAMILIES[family], manual_pair(family).scapy("in")
    return [association.encrypt(packet)
            for packet in clear_packets(family, world["far"], world["client"])]
