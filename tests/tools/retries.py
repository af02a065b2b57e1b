"""What failed and may be tried again: what the machine's other work can explain, and nothing else.

A whole run shares its processors with itself, and must not be red for that. But what a test has found once
is found, however often it passes afterwards: a crash, what a sanitizer says, packets in clear, and what a
test itself calls a finding. Of a test that drew its input the same input is tried again.
"""

import re
import signal
from dataclasses import dataclass

MOST_TRIED_AGAIN = 5
SEED = "CULVERT_TEST_SEED"  # as tests/random_seed.hpp prints and reads it

_DRAWN = re.compile(rf"\b{SEED}=(\d+)")
# Not SIGKILL, SIGTERM and SIGINT, by which others end what takes too long.
_CRASHES = [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
            signal.SIGSYS]
_SAID = [
    # As the sanitizers begin, by clang and by g++.
    (re.compile(r"(?:ERROR|WARNING): \w+Sanitizer|:\d+:\d+: runtime error: "), "a sanitizer's report"),
    # tests/unit/finding.hpp
    (re.compile(r"^\W*FINDING: (.*)$", re.MULTILINE), "what is nobody's time"),
    # The scenarios' harness: a daemon of ours that ended so, and a program that was run to its end.
    (re.compile(r"CRASHED: \S+"), "a crash"),
    (re.compile(rf"\bstatus -(?:{'|'.join(str(int(number)) for number in _CRASHES)})\b"), "a crash"),
    # As pytest shows what did not hold of the scenarios' WireContents: unexpected(), or one of its counts.
    # Where a number of clear packets is expected, one that was not captured is nobody's leak.
    (re.compile(r"\{'(?:clear|fragment):|"
                r"\b(?!0\b)\d+ == 0\b.*?\b\d+ = <\S*WireContents object at 0x\w+>\.(?:inner_addresses|pattern)_seen|"
                r"\b(?!0\b)\d+ = [^\n]*\.inner_seen", re.DOTALL),
     "what was on the wire"),
]


@dataclass
class Failure:
    name: str
    text: str  # all that it said; of a scenario what did not hold
    status: int = 0  # as Popen has it: negative for a signal


def finding(failure):
    """Why it is not tried again; None when it may be."""
    if -failure.status in _CRASHES:
        return f"ended by {signal.Signals(-failure.status).name}"
    for pattern, what in _SAID:
        if pattern.search(failure.text):
            return what
    return None


def seed_of(text):
    """The environment that draws the same again; empty when nothing was drawn."""
    drawn = _DRAWN.search(text)
    return {SEED: drawn.group(1)} if drawn else {}


def may_be_tried_again(failures):
    """Those of them. None when there are many: that is no accident."""
    if len(failures) > MOST_TRIED_AGAIN:
        return []
    for failure in failures:
        if why := finding(failure):
            print(f"{failure.name}: not tried again: {why}", flush=True)
    return [failure for failure in failures if not finding(failure)]
