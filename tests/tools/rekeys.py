#!/usr/bin/python3
"""A child rekeyed every two seconds, who begins alternating, every tenth time the IKE SA instead, under a
ping of 100 packets a second or more. Exit status 0 only when no packet was lost, dropped or answered twice and
every rekey was done. A packet is the peer's loss, and not counted, only when counters on the wire prove
that it was given to strongSwan and did not come out behind it. As root; makes network namespaces and
removes them.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

from harness.pair import CulvertPair, Pair, quick  # noqa: E402
from harness.rekeys import under_traffic  # noqa: E402
from harness.testbed import Testbed  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/rekeys", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--peer", choices=["culvert", "strongswan"], default="strongswan")
    parser.add_argument("--keep-files", action="store_true", help="leave logs")
    return parser.parse_args()


def bring_up(bed, peer):
    if peer == "culvert":
        return CulvertPair(bed).up()
    return Pair(bed, *quick()).up()


def main():
    arguments = parse_arguments()
    bed = Testbed()
    started = time.monotonic()

    def progress(done):
        if len(done) % 50 == 0:
            print(f"{len(done)} rekeys in {time.monotonic() - started:.0f} s; the last: {done[-1]}",
                  flush=True)

    try:
        outcome = under_traffic(bring_up(bed, arguments.peer),
                                lambda rekeying: rekeying.run(arguments.minutes * 60, progress))
    finally:
        bed.close(keep_files=arguments.keep_files)
        if arguments.keep_files:
            print(f"files: {bed.directory}")
    print(f"{arguments.minutes:g} minutes, peer {arguments.peer}: " + ", ".join(
        f"{count} {kind}" for kind, count in sorted(outcome.rekeys.items()))
        + f"; the longest took {outcome.longest.seconds:.2f} s "
        f"({outcome.longest.what} by {outcome.longest.who})")
    print("in the gateway's log: " + ", ".join(f"{count} {event}"
                                               for event, count in sorted(outcome.events.items())))
    print(f"{outcome.sent} packets sent ({outcome.rate:.0f} a second), {len(outcome.lost)} lost {outcome.lost[:20]}, "
          f"{outcome.duplicates} answered twice; dropped by the gateway: {outcome.drops or 'none'}")
    print("on the way: " + ", ".join(f"{count} {place}" for place, count in outcome.counts.items())
          + f"; lost by {outcome.lost_by()}")
    for fault in outcome.faults():
        print(f"FAULT {fault}")
    return 1 if outcome.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
