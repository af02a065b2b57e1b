"""Where keys are in a process's memory: what strongSwan's log names, sought in /proc/PID/mem."""

import re
import struct
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
CHUNK = 4 << 20
PIECE = 16                    # bytes of a key that are sought
PRESENT_OR_SWAPPED = 3 << 62  # of a word in /proc/PID/pagemap
SALT = 4                      # of AES-GCM, at the end of what the log calls a key

# `PeerOptions.log` for charon to write every key it derives.
LOG_KEYS = "ike = 4\n chd = 4"

_DUMP = re.compile(r"^\d+\[(?:IKE|CHD)\] (.+?) => (\d+) bytes @ \S+$")
_LINE = re.compile(r"^\d+\[(?:IKE|CHD)\] +\d+: ((?:[0-9A-F]{2} )+)")


def logged_secrets(log):
    """Every hex dump of charon's log as (name, bytes), in order. Names as charon has them."""
    result = []
    missing = 0
    for line in log.splitlines():
        if head := _DUMP.match(line):
            missing = int(head.group(2))
            result.append((head.group(1), b""))
        elif missing and (row := _LINE.match(line)):
            part = bytes.fromhex(row.group(1)[:3 * missing])
            result[-1] = (result[-1][0], result[-1][1] + part)
            missing -= len(part)
    return result


def ike_keys(log):
    """The last IKE SA's keys by name; with AES-GCM (RFC 5282), without salt."""
    dumps = {name.lower(): value for name, value in logged_secrets(log)}
    return {"SK_d": dumps["sk_d secret"],
            "SK_ei": dumps["sk_ei secret"][:-SALT], "SK_er": dumps["sk_er secret"][:-SALT],
            "SK_pi": dumps["sk_pi secret"], "SK_pr": dumps["sk_pr secret"],
            "g^ir": dumps["shared diffie hellman secret"], "SKEYSEED": dumps["skeyseed"]}


def esp_keys(log):
    """The last child's two AES-GCM keys by name, without salt (RFC 4106 §8.1)."""
    dumps = dict(logged_secrets(log))
    return {f"ESP {end}": dumps[f"encryption {end} key"][:-SALT]
            for end in ("initiator", "responder")}


@dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    name: str          # a file, [heap], or empty
    permissions: str
    flags: frozenset   # VmFlags of smaps: `dd` is left out of dumps, `lo` locked

    def __str__(self):
        return f"{self.name or 'anonymous'} {self.permissions} {' '.join(sorted(self.flags))}"


def mappings(pid):
    """Those that may hold a key, writable or shared, with the flags of /proc/PID/smaps."""
    result = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", words[0]):
            start, end = (int(word, 16) for word in words[0].split("-"))
            head = (start, end, " ".join(words[5:]), words[1])
        elif words[0] == "VmFlags:" and re.match("rw|r..s", head[3]):
            result.append(Mapping(*head, frozenset(words[1:])))
    return result


def _runs(mapping, pagemap):
    """Its parts that are there, at most CHUNK long. Of the memory that two daemons share all is:
    what one of them wrote is no page of the other's yet."""
    if "memfd:culvert" in mapping.name:
        present = [True] * ((mapping.end - mapping.start) // PAGE)
    else:
        pagemap.seek(mapping.start // PAGE * 8)
        words = pagemap.read((mapping.end - mapping.start) // PAGE * 8)
        present = [word & PRESENT_OR_SWAPPED for word, in struct.iter_unpack("=Q", words)]
    start = None
    for index, there in enumerate(present + [False]):
        address = mapping.start + index * PAGE
        if start is not None and (not there or address - start >= CHUNK):
            yield start, address
            start = None
        if there and start is None:
            start = address


def find_keys(pid, keys):
    """{name: the mappings it was found in} of a running process. Either end of a key counts: who
    frees memory without wiping it overwrites only its beginning."""
    found, seen = defaultdict(list), 0
    ends = {name: (key[:PIECE], key[-PIECE:]) for name, key in keys.items()}
    with open(f"/proc/{pid}/mem", "rb", 0) as memory, open(f"/proc/{pid}/pagemap", "rb") as pages:
        for mapping in mappings(pid):
            here, tail, tail_end = set(), b"", None
            for start, end in _runs(mapping, pages):
                memory.seek(start)
                data = memory.read(end - start)
                seen += len(data)
                text = (tail if tail_end == start else b"") + data
                here |= {name for name, (first, last) in ends.items()
                         if first in text or last in text}
                tail, tail_end = data[1 - PIECE:], end
            for name in here:
                found[name].append(mapping)
    assert seen > 512 << 10, f"only {seen} bytes of process {pid} could be read"
    return dict(found)
