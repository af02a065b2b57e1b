"""Running programs: to their end, or beside us until they are stopped by their own process id."""

import os
import signal
import subprocess
import time
from pathlib import Path


# What is ours and may never end by a signal of its own fault.
PROGRAMS = {"culvert-dataplane", "culvert-ike", "culvert", "churn", "many_sas", "packet_rate"}
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
           signal.SIGSYS}


class CommandFailed(RuntimeError):
    """A program ended with a status that its caller did not expect."""


def run(*command, check=True, timeout=30.0, input_text=None, environment=None):
    """Runs a program to its end and returns the CompletedProcess with its text output."""
    completed = subprocess.run(
        [str(word) for word in command], text=True, capture_output=True, timeout=timeout,
        input=input_text, env=environment)
    if check and completed.returncode != 0:
        raise CommandFailed(f"{' '.join(str(word) for word in command)}: status "
                            f"{completed.returncode}\n{completed.stdout}{completed.stderr}")
    return completed


def wait_until(condition, timeout, what, interval=0.02):
    """Polls `condition` and returns its first true value; the error says what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(interval)


class Process:
    """A program that runs beside us, its output in a file."""

    _begun = []  # since crashed() was asked last, and what ran then

    def __init__(self, command, log: Path, environment=None):
        self.command = [str(word) for word in command]
        self.log = Path(log)
        self._log_file = open(self.log, "ab")
        # Its own session: Ctrl-C reaches only us, and we stop what we started, in order.
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self._log_file,
            stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        Process._begun.append(self)

    @classmethod
    def crashed(cls):
        """Those of ours that have ended by a signal of their own fault since this was asked last."""
        ended = [process for process in cls._begun if not process.running()]
        cls._begun = [process for process in cls._begun if process not in ended]
        return [f"{process.program} by {signal.Signals(-process.returncode()).name}" for process in ended
                if process.program and -process.returncode() in CRASHES]

    @property
    def program(self):
        """Its name if it is one of ours, whatever namespace it is started in."""
        names = [Path(word).name for word in self.command]
        return next((name for name in names if name in PROGRAMS), None)

    @property
    def pid(self):
        return self._process.pid

    def running(self):
        return self._process.poll() is None

    def returncode(self):
        return self._process.poll()

    def text(self):
        return self.log.read_text(errors="replace")

    def send_signal(self, number):
        if self.running():
            os.kill(self.pid, number)

    def wait(self, timeout):
        return self._process.wait(timeout)

    def kill(self):
        """kill -9, and reaps it."""
        if self._log_file.closed:
            return
        self.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._log_file.close()

    def stop(self, number=signal.SIGTERM, timeout=20.0):
        """Asks it to end, insists after `timeout` seconds; returns the exit status."""
        self.send_signal(number)
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode
        self._log_file.close()
        return status

    def processor_seconds(self):
        """User and system time that it has used so far, from /proc/PID/stat (fields 14 and 15)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def require(process: Process, condition, timeout, what, interval=0.02):
    """Waits for `condition`; when the process ends first, the error shows the end of its log."""
    def ended_or_ready():
        return condition() or not process.running()

    wait_until(ended_or_ready, timeout, what, interval)
    if not condition():
        tail = "\n".join(process.text().splitlines()[-25:])
        raise CommandFailed(f"{process.command[0]} ended with status {process.returncode()} "
                            f"before {what}\n{tail}")
