#!/usr/bin/python3
"""Two whole gateways back to back: IKEv2, real traffic, rekeys, a killed key daemon, metrics.

Every claim that is printed is checked; the exit status is 0 only when all of them hold.
"""

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

from demo_peers import CulvertPeer, StrongSwanPeer  # noqa: E402
from demo_steps import Demo  # noqa: E402
from harness.configuration import SIDE_A, SIDE_B, TunnelOptions  # noqa: E402
from harness.testbed import Testbed, build_directory  # noqa: E402


class Report:
    """The table: what was looked at, what was seen, and whether it is as it must be."""

    def __init__(self):
        self.failed = []
        self._started = time.monotonic()

    def title(self, text):
        print(f"\n{text}", flush=True)

    def check(self, what, good, seen):
        if not good:
            self.failed.append(what)
        print(f"  {'PASS' if good else 'FAIL'}  {what:<46} {seen}", flush=True)
        return good

    def note(self, what, seen):
        print(f"        {what:<46} {seen}", flush=True)

    def seconds(self):
        return time.monotonic() - self._started


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true",
                        help="leave everything running and print what to try")
    parser.add_argument("--peer", choices=["culvert", "strongswan"], default="culvert",
                        help="who stands at the far end")
    parser.add_argument("--verbose", action="store_true",
                        help="also print the configurations and what culvert status says")
    return parser.parse_args()


def build_up(bed, arguments):
    """Gateway a and its peer, started."""
    far_is_culvert = arguments.peer == "culvert"
    options = TunnelOptions(inner_families=(4, 6) if far_is_culvert else (4,), start_action="start")
    near = bed.add_gateway("a", bed.configuration("a", options), start=False)
    if far_is_culvert:
        options.start_action = "trap"
        far = CulvertPeer(bed.add_gateway("b", bed.configuration("b", options)))
    else:
        far = StrongSwanPeer(bed.add_strongswan())
    if arguments.verbose:
        print(near.file.read_text())
    return near, far


def run_demo(bed, arguments, report):
    report.title(f"Two gateways: {SIDE_A.name} (Culvert) and {SIDE_B.name} "
                 f"({'Culvert' if arguments.peer == 'culvert' else 'strongSwan'})")
    near, far = build_up(bed, arguments)
    demo = Demo(bed, near, far, report)
    with bed.capture() as capture:
        demo.tunnel_comes_up()
        demo.traffic_passes()
        demo.rekeys_lose_nothing()
        demo.key_daemon_dies_and_returns()
        demo.counters_agree()
        demo.idle_is_cheap()
    demo.wire_holds_no_clear_text(capture)
    if arguments.verbose:
        print(near.text("status"), near.text("sas"), sep="\n")


def write_clean_up(bed):
    """A script that ends what --keep left running."""
    script = bed.directory / "clean-up"
    lines = ["#!/bin/sh"]
    for process in bed.processes():
        lines.append(f"kill {process.pid} 2>/dev/null")
    lines.append("sleep 1")
    lines += [f"ip netns del {bed[role].name}" for role in bed.topology.ROLES]
    lines.append(f"rm -rf {shlex.quote(str(bed.directory))}")
    script.write_text("\n".join(lines) + "\n")
    script.chmod(0o755)
    return script


def print_what_to_try(bed, near):
    culvert = f"CULVERT_RUN_DIR={near.run_directory} {build_directory()}/cli/culvert"
    client, gateway = bed["client-a"].name, bed["gw-a"].name
    print(f"""
It is all still running. To play with it:

  {culvert} status --instance {near.instance}
  {culvert} sas --instance {near.instance}
  {culvert} counters --drops --instance {near.instance}
  {culvert} rekey net --instance {near.instance}
  ip netns exec {client} ping {SIDE_B.client_address()}
  ip netns exec {bed["wan"].name} tcpdump -ni to-a
  ip netns exec {gateway} curl -s http://127.0.0.1:9464/metrics
  tail -f {bed.directory}/*.log

To end it and clean up:

  {write_clean_up(bed)}""")


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    bed = Testbed()
    keep = keep_files = False
    try:
        run_demo(bed, arguments, report)
        keep = arguments.keep
    except KeyboardInterrupt:
        report.failed.append("interrupted")
    except Exception as error:  # whatever it was: the table says so, and everything is cleaned up
        report.check("the demo runs to its end", False, f"{type(error).__name__}: {error}")
    finally:
        if report.failed and "interrupted" not in report.failed:
            keep_files = True
            print(f"\nlogs: {bed.directory}")
        if not keep:
            bed.close(keep_files)
    good = not report.failed
    print(f"\n{'All of it holds' if good else 'FAILED: ' + '; '.join(report.failed)}"
          f" ({report.seconds():.0f} s).")
    if keep:
        print_what_to_try(bed, bed.gateways["a"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
