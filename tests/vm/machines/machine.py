"""One virtual machine: qemu in a namespace, its NICs on bridges there, and commands run inside.

KVM is not needed: qemu's own translator runs the guest, ten to twenty times slower than the processor.
"""

import contextlib
import itertools
import json
import shlex
import shutil
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from harness.namespaces import without_offloads
from harness.shell import CommandFailed, Process, require, wait_until

from .image import GUEST, Image

BOOT_SECONDS = 180  # twelve on a processor of one's own
FIRST_SLOT = 0x10  # of the PCI bus, for the first NIC

_VIRTIO_OF_A_KERNEL = "csum=off,gso=off,guest_csum=off,mrg_rxbuf=on"
_counter = itertools.count(1)


@dataclass
class Nic:
    """A NIC on the link `link` of the machine's namespace. `queues` is for virtio alone."""

    link: str
    model: str = "virtio-net-pci"
    queues: int = 1
    options: str = _VIRTIO_OF_A_KERNEL


class Machine:
    """`nodes`: NUMA nodes, when there are several each with one processor and an equal part of the memory."""

    def __init__(self, image: Image, directory: Path, namespace, nics, *, memory=512, processors=1,
                 iommu=False, nodes=1, kernel_options=""):
        self.namespace, self.nics = namespace, list(nics)
        self.directory = Path(directory)
        self.shared = self.directory / "machine"  # at /mnt/machine inside
        self.shared.mkdir(parents=True)
        for file in ("second", "agent.py"):
            shutil.copy(GUEST / file, self.shared)
        (self.shared / "second").chmod(0o755)
        self._answers, self._answered = {}, threading.Condition()
        self._ids = itertools.count(1)
        taps = [self._connect(nic, number) for number, nic in enumerate(self.nics)]
        self._process = Process(
            namespace.command(*self._command(image, taps, memory, processors, iommu, nodes, kernel_options)),
            self.directory / "qemu.log")
        try:
            self._wait_for_agent()
        except BaseException:
            self.kill()
            raise

    # ---- qemu -----------------------------------------------------------------------------------

    def _connect(self, nic, number):
        """A tap at the bridge of the NIC's link, which the first NIC there makes."""
        tap, bridge = f"tap{number}", f"at-{nic.link}"
        queues = " multi_queue" if nic.queues > 1 else ""
        self.namespace.ip(*f"tuntap add {tap} mode tap vnet_hdr{queues}".split())
        if nic.link not in {other.link for other in self.nics[:number]}:
            self.namespace.ip_batch(f"link add {bridge} type bridge mcast_snooping 0 forward_delay 0",
                                    f"link set {nic.link} master {bridge}",
                                    f"link set {bridge} up")
        self.namespace.ip("link", "set", tap, "master", bridge, "up")
        without_offloads(self.namespace, tap)
        return tap

    def _command(self, image, taps, memory, processors, iommu, nodes, kernel_options):
        machine = "q35" + (",kernel-irqchip=off" if iommu else "")
        words = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max",
                 "-machine", machine, "-m", memory, "-smp", processors, "-display", "none",
                 "-nodefaults", "-no-user-config", "-no-reboot",
                 "-kernel", image.kernel, "-initrd", image.initramfs, "-append",
                 "console=ttyS0 quiet panic=-1 mitigations=off nokaslr clocksource=hpet tsc=unstable " + kernel_options,
                 "-serial", f"file:{self.directory}/console.log",
                 "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent",
                 "-chardev", f"socket,id=agent,path={self.directory}/agent.sock,server=on,wait=off"]
        for node in range(nodes if nodes > 1 else 0):
            words += ["-object", f"memory-backend-ram,id=ram{node},size={memory // nodes}M",
                      "-numa", f"node,nodeid={node},cpus={node},memdev=ram{node}"]
        if iommu:
            words += ["-device", "intel-iommu,intremap=off,caching-mode=on"]
        for tag, path, options in (("host", "/", ",readonly=on,multidevs=remap"),
                                   ("modules", image.modules, ",readonly=on"),
                                   ("machine", self.shared, "")):
            words += ["-fsdev", f"local,id={tag},path={path},security_model=none{options}",
                      "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        for number, (nic, tap) in enumerate(zip(self.nics, taps)):
            words += self._nic_words(nic, number, tap, iommu)
        return words

    @staticmethod
    def _nic_words(nic, number, tap, iommu):
        queues = f",queues={nic.queues}" if nic.queues > 1 else ""
        device = (f"{nic.model},netdev=net{number},addr={FIRST_SLOT + number:#x},"
                  f"mac=52:54:00:00:{next(_counter):02x}:{number:02x}")
        if nic.model.startswith("virtio"):
            device += f",disable-legacy=on,{nic.options}"
            device += ",iommu_platform=on" if iommu else ""
            device += f",mq=on,vectors={2 * nic.queues + 2}" if nic.queues > 1 else ""
        return ["-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no,vhost=off{queues}",
                "-device", device]

    # ---- the agent ------------------------------------------------------------------------------

    def _wait_for_agent(self):
        path = self.directory / "agent.sock"
        require(self._process, path.exists, 10, "qemu's socket")
        self._port = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._port.connect(str(path))
        threading.Thread(target=self._read_answers, daemon=True).start()
        require(self._process, lambda: 0 in self._answers, BOOT_SECONDS, "the machine's agent")

    def _read_answers(self):
        with contextlib.suppress(OSError, ValueError), self._port.makefile("rb") as lines:
            for line in lines:
                answer = json.loads(line)
                with self._answered:
                    self._answers[answer["id"]] = answer
                    self._answered.notify_all()

    def _request(self, timeout, **request):
        number = next(self._ids)
        self._port.sendall(json.dumps({"id": number, "timeout": timeout, **request}).encode() + b"\n")
        with self._answered:
            if not self._answered.wait_for(lambda: number in self._answers, timeout + 15):
                raise TimeoutError(f"the machine did not answer within {timeout + 15} s: {request}")
            return self._answers.pop(number)

    def run(self, command, timeout=30.0, check=True):
        """A shell command inside, as root: what it printed."""
        answer = self._request(timeout, command=command)
        if check and answer["status"] != 0:
            raise CommandFailed(f"in the machine: {command}: status {answer['status']}\n"
                                f"{answer['output'][-4000:]}")
        return answer["output"]

    def ask(self, path, line, timeout=10.0):
        """One line to a Unix socket inside; the line that it answers, empty when nobody does."""
        answer = self._request(timeout, socket=str(path), line=line)
        return answer["output"] if answer["status"] == 0 else ""

    @staticmethod
    def pci_address(number):
        """Of the machine's NIC of that number."""
        return f"0000:00:{FIRST_SLOT + number:02x}.0"

    def processes(self):
        return [self._process]

    def kill(self):
        with contextlib.suppress(AttributeError, OSError):
            self._port.close()
        self._process.kill()


class GuestProcess:
    """A program beside us in a machine, its output in a file that we see; see harness.shell.Process."""

    def __init__(self, machine, command, log, environment=()):
        self.machine, self.command = machine, [str(word) for word in command]
        self.log = machine.shared / log
        settings = [f"{name}={value}" for name, value in dict(environment).items()]
        self.pid = int(machine.run(f"setsid env {shlex.join([*settings, *self.command])} "
                                   f"</dev/null >>/mnt/machine/{log} 2>&1 & echo $!"))

    def running(self):
        return self.machine.run(f"kill -0 {self.pid} 2>/dev/null && echo yes", check=False) != ""

    def returncode(self):
        return None if self.running() else "unknown"

    def text(self):
        return self.log.read_text(errors="replace")

    def kill(self):
        self.machine.run(f"kill -9 {self.pid} 2>/dev/null", check=False)
        wait_until(lambda: not self.running(), 10, f"{self.command[0]} to be gone", 0.05)

    def stop(self, *_):
        """SIGTERM, and SIGKILL after ten seconds."""
        self.machine.run(f"kill {self.pid} 2>/dev/null; "
                         f"timeout 10 tail --pid={self.pid} -f /dev/null", check=False)
        self.kill()
