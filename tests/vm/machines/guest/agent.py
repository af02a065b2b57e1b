"""Inside a machine: runs what it is asked over a virtio port, several at a time.

A request is one JSON line, {"id", "command", "timeout"}; the answer {"id", "status", "output"}. With
"socket" instead, "line" goes to that Unix socket and its first line is the output.
"""

import json
import os
import signal
import socket
import subprocess
import threading

PORT = "/dev/vport0p1"
TIMED_OUT = 124
_turn = threading.Lock()


def run(request):
    """Its own session, so that what does not end in time goes with all its children."""
    process = subprocess.Popen(["sh", "-c", request["command"]], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=request["timeout"])
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return TIMED_OUT, process.communicate()[0]


def ask(request):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(request["timeout"])
        control.connect(request["socket"])
        control.sendall(request["line"].encode() + b"\n")
        with control.makefile("rb") as answers:
            return 0, answers.readline()


def serve(request, port):
    try:
        status, output = ask(request) if "socket" in request else run(request)
    except OSError as error:
        status, output = 1, str(error).encode()
    answer = {"id": request["id"], "status": status, "output": output.decode(errors="replace")}
    with _turn:
        port.write(json.dumps(answer).encode() + b"\n")


def main():
    with open(PORT, "r+b", buffering=0) as port:
        port.write(b'{"id": 0, "status": 0, "output": "ready"}\n')
        for line in iter(port.readline, b""):
            threading.Thread(target=serve, args=(json.loads(line), port), daemon=True).start()


main()
