#!/usr/bin/python3
"""kill -9 of a key daemon at random points of a script of exchanges, under a ping of 100 packets a
second. Exit status 0 only when every kill was resumed within two seconds, no packet was lost and
none left in clear. As root; makes network namespaces and removes them.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

from harness.configuration import TunnelOptions  # noqa: E402
from harness.kills import rampage, spare_networks  # noqa: E402
from harness.pair import Pair, quick  # noqa: E402
from harness.testbed import Testbed  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", choices=["culvert", "strongswan"], default="culvert")
    parser.add_argument("--keep-files", action="store_true", help="leave logs and capture")
    return parser.parse_args()


def bring_up(bed, peer):
    if peer == "strongswan":
        both = Pair(bed, *quick()).up()
        return {"a": both.gateway}, both.peer
    for letter in ("a", "b"):
        bed.add_gateway(letter, spare_networks(bed.configuration(letter, TunnelOptions()), letter))
    bed.gateways["a"].culvert("initiate", "net")
    bed.gateways["b"].wait_for_child()
    return bed.gateways, None


def main():
    arguments = parse_arguments()
    bed = Testbed()
    started = time.monotonic()

    def progress(number, kill):
        if number % 50 == 0:
            print(f"{number} kills in {time.monotonic() - started:.0f} s; the last: {kill}",
                  flush=True)

    try:
        gateways, peer = bring_up(bed, arguments.peer)
        outcome = rampage(bed, gateways, arguments.kills, arguments.seed, peer, progress)
    finally:
        bed.close(keep_files=arguments.keep_files)
        if arguments.keep_files:
            print(f"files: {bed.directory}")
    for kill in outcome.broken:
        print(f"BROKEN {kill}")
    summary = outcome.summary
    print(f"{summary['kills']} kills, seed {arguments.seed}, peer {arguments.peer}: "
          f"{summary['resumed']} resumed, control again after {summary['control_median']:.2f} s "
          f"(median), {summary['control_most']:.2f} s (most)")
    print(f"{outcome.pings} packets sent, {len(outcome.lost)} lost {outcome.lost[:20]}; "
          f"{outcome.inner_seen} in clear, other frames {outcome.clear}; "
          f"{outcome.authentications} authentication(s) in all")
    print("done meanwhile: " + ", ".join(f"{count} {event}"
                                         for event, count in sorted(outcome.exchanges.items())))
    good = not (outcome.broken or outcome.lost or outcome.clear or outcome.inner_seen)
    return 0 if good and outcome.authentications == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
