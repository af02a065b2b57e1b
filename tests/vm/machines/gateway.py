"""Culvert's daemons in a virtual machine, seen as any other gateway of the scenarios.

A machine has this host's files under the same names, so configuration, keys and programs are where they
are here; what it writes stays in its memory, but for `/mnt/machine`.
"""

import json
import shlex

from harness.gateway import Gateway
from harness.shell import require, wait_until

from .machine import GuestProcess

START_SECONDS = 120  # hundreds of libraries are read through a translated processor


class MachineGateway(Gateway):
    def __init__(self, machine, build, configuration):
        self.machine = machine
        super().__init__(machine.namespace, build, machine.shared, configuration)

    def start(self):
        self.dataplane = self._daemon("culvert-dataplane", "dataplane/culvert-dataplane")
        require(self.dataplane, lambda: self._answers("dataplane.sock"), START_SECONDS,
                "the data plane in the machine", interval=0.2)
        self.ike = self._daemon("culvert-ike", "ike/culvert-ike")
        require(self.ike, lambda: self._answers("ike.sock"), START_SECONDS,
                "the key daemon in the machine", interval=0.2)
        wait_until(lambda: self.ike_status().get("dataplane_connected"), 20, "the channel", 0.2)
        return self

    def _daemon(self, name, program):
        # Through the share: of this host's other files a machine keeps what it once read.
        command = [self.build / program, "--config", f"/mnt/machine/{self.file.name}"]
        return GuestProcess(self.machine, command, f"{self.instance}-{name}.log",
                            {"CULVERT_RUN_DIR": self.run_directory})

    def ask(self, name, verb, timeout=20.0, **arguments):
        answer = self.machine.ask(self.socket(name), json.dumps({"verb": verb, "args": arguments}),
                                  timeout)
        if not answer:
            raise OSError(f"{name} does not answer")
        return json.loads(answer)

    def text(self, *words, timeout=60.0):
        command = [self.build / "cli/culvert", *words, "--instance", self.instance]
        return self.machine.run(f"CULVERT_RUN_DIR={self.run_directory} "
                                + shlex.join(map(str, command)), timeout)

    def culvert(self, *words, timeout=60.0):
        return json.loads(self.text(*words, "--json", timeout=timeout))

    def status(self):
        return self.culvert("status")
