#!/usr/bin/python3
"""Many tunnels against one gateway: set up as fast as they go, then all child SAs rekeyed within a
window, while a ping of 100 packets a second crosses a further tunnel of the same gateway. States
rate, memory and processor time; exit status 0 only when every tunnel came up and was rekeyed and no
packet was lost. As root; makes network namespaces and removes them.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

from harness.configuration import SIDE_B, TunnelOptions  # noqa: E402
from harness.load import (ESP_PROPOSAL, IKE_PROPOSAL, Peers, Usage, add_namespace,  # noqa: E402
                          serve_peers, wait_for_sas)
from harness.testbed import Testbed  # noqa: E402
from harness.traffic import SteadyPing  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/load", description=__doc__)
    parser.add_argument("--tunnels", type=int, default=1000)
    parser.add_argument("--connections", choices=["one", "each"], default="one",
                        help="the gateway's configuration: one connection towards any address, or "
                             "one for each peer")
    parser.add_argument("--at-once", type=int, default=64, help="handshakes under way")
    parser.add_argument("--rekey-window", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--proposal", default=IKE_PROPOSAL)
    parser.add_argument("--esp-proposal", default=ESP_PROPOSAL)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--keep-files", action="store_true", help="leave logs and configurations")
    return parser.parse_args()


def bring_up(bed, arguments):
    """Gateway a with everybody's configuration, b behind a tunnel of its own, the peers."""
    configuration = serve_peers(bed.configuration("a", TunnelOptions()), bed.psk_file,
                                arguments.tunnels, arguments.connections, arguments.proposal,
                                arguments.esp_proposal)
    namespace = add_namespace(bed)
    gateway = bed.add_gateway("a", configuration)
    bed.add_gateway("b", bed.configuration("b", TunnelOptions()))
    gateway.culvert("initiate", "net")
    return gateway, Peers(bed, namespace, arguments.tunnels, arguments.proposal,
                          arguments.esp_proposal)


def say_outcome(what, outcome, usage):
    times = outcome["milliseconds"]
    print(f"{what}: {outcome['done']} in {outcome['seconds']:.1f} s, {outcome['per_second']:.0f} "
          f"tunnels/s; each {times['median']:.1f} ms (median), {times['p95']:.1f} ms (95 %), "
          f"{times['most']:.0f} ms (most); {outcome['retransmits']} requests sent again; "
          f"processor time: culvert-ike {usage['ike_seconds']:.2f} s, culvert-dataplane "
          f"{usage['dataplane_seconds']:.2f} s", flush=True)
    if outcome["failed"]:
        print(f"FAILED {outcome['failed']}, the first: {outcome['first_failure']}")


def say_memory(usage, tunnels):
    for name in ("ike", "dataplane"):
        grown = usage[f"{name}_bytes"]
        print(f"memory of culvert-{name} for each tunnel: {grown['VmRSS'] / tunnels / 1024:.1f} KiB "
              f"resident, of it {grown['RssAnon'] / tunnels / 1024:.1f} KiB its own, "
              f"{grown['RssShmem'] / tunnels / 1024:.1f} KiB shared")


def measure(bed, gateway, peers, arguments):
    figures = {"tunnels": arguments.tunnels, "connections": arguments.connections,
               "proposal": arguments.proposal, "esp_proposal": arguments.esp_proposal}
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    usage = Usage(gateway)
    figures["set_up"] = peers.command("initiate", at_once=arguments.at_once,
                                      timeout=60 + arguments.tunnels / 5)
    figures["set_up_usage"] = usage.lap()
    say_outcome("set up", figures["set_up"], figures["set_up_usage"])
    say_memory(figures["set_up_usage"], arguments.tunnels)
    figures["rekey"] = peers.command("rekey", at_once=arguments.tunnels,
                                     seconds=arguments.rekey_window,
                                     timeout=60 + arguments.rekey_window + arguments.tunnels / 5)
    figures["rekey_usage"] = usage.lap()
    say_outcome("rekeyed", figures["rekey"], figures["rekey_usage"])
    figures["left"] = wait_for_sas(peers, 2 * figures["set_up"]["done"], timeout=30)
    time.sleep(1)
    result = ping.stop()
    figures["ping"] = {"sent": result.transmitted, "lost": len(result.lost_packets),
                       "median_milliseconds": result.median()}
    print(f"ping beside it: {result.transmitted} sent, {len(result.lost_packets)} lost, "
          f"{result.median():.2f} ms (median)")
    return figures


def is_good(figures):
    tunnels = figures["tunnels"]
    for violation in figures["left"]["violations"]:
        print(f"VIOLATION {violation}")
    return (figures["set_up"]["done"] == tunnels and figures["rekey"]["done"] == tunnels
            and figures["left"] == {"sas": 2 * tunnels, "violations": []}
            and figures["ping"]["lost"] == 0)


def main():
    arguments = parse_arguments()
    bed = Testbed()
    try:
        gateway, peers = bring_up(bed, arguments)
        figures = measure(bed, gateway, peers, arguments)
    finally:
        bed.close(keep_files=arguments.keep_files)
        if arguments.keep_files:
            print(f"files: {bed.directory}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if is_good(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
