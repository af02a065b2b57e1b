"""One Culvert gateway: both daemons in a namespace, and the command that asks them."""

import contextlib
import json
import os
import signal
import socket
from pathlib import Path

from .configuration import to_yaml
from .metrics import scrape
from .shell import Process, require, run, wait_until

DATAPLANE_METRICS_PORT = 9464
IKE_METRICS_PORT = 9465
METRICS_SECONDS = 1.3  # the data plane publishes once a second


class CommandError(RuntimeError):
    """The culvert command refused; `status` is its exit code, `text` what it said."""

    def __init__(self, completed):
        super().__init__(f"{' '.join(completed.args)}: status {completed.returncode}\n"
                         f"{completed.stdout}{completed.stderr}")
        self.status = completed.returncode
        self.text = completed.stdout + completed.stderr


class Gateway:
    def __init__(self, namespace, build: Path, directory: Path, configuration):
        self.namespace = namespace
        self.build = Path(build)
        self.directory = Path(directory)
        self.instance = configuration["instance"]
        self.run_directory = self.directory / "run"
        self.run_directory.mkdir(parents=True, exist_ok=True)
        self.run_directory.chmod(0o755)
        self.file = self.directory / f"{self.instance}.yaml"
        self.environment = {**os.environ, "CULVERT_RUN_DIR": str(self.run_directory)}
        self.dataplane = None
        self.ike = None
        self.debug = False
        self.configure(configuration)

    def configure(self, configuration):
        self.configuration = configuration
        self.file.write_text(to_yaml(configuration) + "\n")
        self.file.chmod(0o644)

    # ---- the daemons ----------------------------------------------------------------------------

    def start(self):
        self.start_dataplane()
        self.start_ike()
        return self

    def start_dataplane(self):
        self.dataplane = self._daemon("culvert-dataplane", "dataplane/culvert-dataplane")
        require(self.dataplane, lambda: self._answers("dataplane.sock"), 20,
                f"the data plane of {self.instance}")

    def start_ike(self):
        self.launch_ike()
        self.wait_for_channel()

    def launch_ike(self):
        """Until it answers; by then it has asked the data plane for the channel."""
        self.ike = self._daemon("culvert-ike", "ike/culvert-ike")
        require(self.ike, lambda: self._answers("ike.sock"), 10,
                f"the key daemon of {self.instance}")

    def wait_for_channel(self):
        wait_until(lambda: self.ike_status().get("dataplane_connected"), 5,
                   "the key daemon's channel")

    def _daemon(self, name, program):
        log = self.directory / f"{self.instance}-{name}.log"
        command = self.namespace.command(self.build / program, "--config", self.file,
                                         *(["--debug"] if self.debug else []))
        return Process(command, log, self.environment)

    @property
    def instance_directory(self):
        return self.run_directory / self.instance

    def socket(self, name):
        return self.instance_directory / name

    def _answers(self, name):
        with contextlib.suppress(OSError, ValueError):
            return self.ask(name, "status").get("ok", False)
        return False

    def ask(self, name, verb, /, timeout=5.0, **arguments):
        """One request over a control socket: what the command does, without starting a process.
        For what is asked many times a second; what an operator sees comes from `culvert`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(timeout)
            control.connect(str(self.socket(name)))
            control.sendall(json.dumps({"verb": verb, "args": arguments}).encode() + b"\n")
            with control.makefile("rb") as answers:
                return json.loads(answers.readline())

    def kill_ike(self):
        """kill -9 of the key daemon, as a crash would be."""
        self.ike.kill()
        self.ike = None

    def stop(self):
        for daemon in self.processes():
            daemon.stop(signal.SIGTERM)
        self.ike = self.dataplane = None

    def kill(self):
        """Ends both without ceremony: the quick end of a test."""
        for daemon in self.processes():
            daemon.kill()
        self.ike = self.dataplane = None

    def processes(self):
        return [daemon for daemon in (self.ike, self.dataplane) if daemon is not None]

    def processor_seconds(self):
        return sum(daemon.processor_seconds() for daemon in self.processes())

    def logs(self):
        return {path.name: path.read_text(errors="replace")
                for path in sorted(self.directory.glob(f"{self.instance}-*.log"))}

    # ---- the command ----------------------------------------------------------------------------

    def _command(self, *words, timeout=30.0):
        return run(self.build / "cli/culvert", *words, "--instance", self.instance, "--json",
                   check=False, environment=self.environment, timeout=timeout)

    def text(self, *words):
        """What the command prints for an operator."""
        return run(self.build / "cli/culvert", *words, "--instance", self.instance, check=False,
                   environment=self.environment).stdout

    def culvert(self, *words, timeout=30.0):
        """`culvert WORDS --json`; raises CommandError unless its exit code is 0."""
        completed = self._command(*words, timeout=timeout)
        if completed.returncode != 0:
            raise CommandError(completed)
        return json.loads(completed.stdout)

    def status(self):
        completed = self._command("status")
        return json.loads(completed.stdout)

    def sas(self):
        return self.culvert("sas")

    def ike_status(self):
        """The key daemon's half of `status`; empty when it does not answer."""
        with contextlib.suppress(OSError, ValueError):
            return self.ask("ike.sock", "status").get("result", {})
        return {}

    def ike_sas(self, state="established"):
        return [sa for sa in self.ike_status().get("ike_sas", []) if sa["state"] == state]

    def children(self, name="net"):
        """The key daemon's view of the installed children of that name."""
        return [child for sa in self.ike_sas() for child in sa["children"]
                if child["child"] == name and child["state"] == "installed"]

    def child(self, name="net"):
        children = self.children(name)
        if len(children) != 1:
            raise AssertionError(f"{self.instance}: {len(children)} installed children {name}")
        return children[0]

    def wait_for_child(self, name="net", timeout=10.0):
        return wait_until(lambda: (self.children(name) or [None])[-1], timeout,
                          f"child {name} at {self.instance}")

    def drops(self):
        """Packets dropped so far, by reason, both directions together; without the multicasts that
        a client's kernel sends of its own accord."""
        totals = {}
        for drop in self.ask("dataplane.sock", "counters")["result"]["drops"]:
            if drop["reason"] == "destination_multicast":
                continue
            totals[drop["reason"]] = totals.get(drop["reason"], 0) + drop["packets"]
        return totals

    # ---- metrics --------------------------------------------------------------------------------

    def dataplane_metrics(self):
        return scrape(self.namespace, DATAPLANE_METRICS_PORT)

    def ike_metrics(self):
        return scrape(self.namespace, IKE_METRICS_PORT)

    def child_packets(self, direction, child="net"):
        return int(self.dataplane_metrics().total(
            "culvert_child_packets_total", child=child, direction=direction))
