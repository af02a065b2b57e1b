#!/usr/bin/python3
"""Many tunnels against one gateway: set up as fast as they go, then all child SAs rekeyed within a
window, while each of them carries traffic and a ping of 100 packets a second crosses a further
tunnel of the same gateway. States rate, memory and processor time; exit status 0 only when every
tunnel came up and was rekeyed, carried packets before and after, and no packet was lost. With
--flood instead: IKE_SA_INIT from forged sources, while established tunnels carry traffic and rekey,
and new peers get theirs. As root; makes network namespaces and removes them.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

from harness.configuration import SIDE_B, TunnelOptions  # noqa: E402
from harness.load import (ESP_PROPOSAL, IKE_PROPOSAL, Administration, Flood,  # noqa: E402
                          Peers, TunnelTraffic, Usage, add_namespace, device_counts, serve_peers,
                          wait_for_sas)
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
    parser.add_argument("--traffic", type=float, metavar="PER_SECOND",
                        help="echo requests through all tunnels together; unless told, one a "
                             "second in each, and 5000 at most")
    parser.add_argument("--proposal", default=IKE_PROPOSAL)
    parser.add_argument("--esp-proposal", default=ESP_PROPOSAL)
    parser.add_argument("--flood", action="store_true")
    parser.add_argument("--rate", type=float, default=100_000, help="of the flood, a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the flood")
    parser.add_argument("--claim-ike-sa", action="store_true",
                        help="each message of the flood names another IKE SA of the gateway's")
    parser.add_argument("--newcomers", type=int, default=20, help="new peers during the flood")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--keep-files", action="store_true", help="leave logs and configurations")
    return parser.parse_args()


def bring_up(bed, arguments):
    """Gateway a with everybody's configuration, b behind a tunnel of its own, the peers."""
    count = arguments.tunnels + (arguments.newcomers if arguments.flood else 0)
    configuration = serve_peers(bed.configuration("a", TunnelOptions()), bed.psk_file,
                                count, arguments.connections, arguments.proposal,
                                arguments.esp_proposal)
    namespace = add_namespace(bed)
    gateway = bed.add_gateway("a", configuration)
    bed.add_gateway("b", bed.configuration("b", TunnelOptions()))
    gateway.culvert("initiate", "net")
    return gateway, Peers(bed, namespace, count, arguments.proposal,
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
        print(f"memory of culvert-{name} for each tunnel: "
              f"{grown['VmRSS'] / tunnels / 1024:.1f} KiB resident, of it {grown['RssAnon'] / tunnels / 1024:.1f} KiB its own, "
              f"{grown['RssShmem'] / tunnels / 1024:.1f} KiB shared")


def say_administration(waits):
    print(f"administration meanwhile: {waits['answers']} answers of culvert-ike, "
          f"{waits['median_milliseconds']:.1f} ms (median), {waits['most_milliseconds']:.0f} ms "
          f"(most)")


def say_traffic(traffic):
    times, tunnels = traffic["milliseconds"], traffic["tunnels"]
    print(f"traffic in every tunnel: {traffic['sent']} sent in {traffic['seconds']:.1f} s, "
          f"{traffic['lost']} lost, {traffic['duplicates']} answered twice; "
          f"{times['median']:.2f} ms (median), {times['p95']:.2f} ms (95 %), "
          f"{times['most']:.0f} ms (most); {tunnels['by_first_sas']} tunnels carried some before "
          f"their rekey, {tunnels['by_later_sas']} after", flush=True)
    told = {what: traffic[what] for what in
            (*TunnelTraffic.FLAWS, "refused_by_kernel", "overrun_in_kernel") if traffic[what]}
    told.update({f"dropped by the gateway as {reason}": count
                 for reason, count in traffic["drops"].items()})
    told.update(traffic["devices"])
    if told:
        print("beside it: " + ", ".join(f"{what} {count}" for what, count in told.items()))
    if traffic["lost"]:
        print("LOST between " + ", ".join(f"{places}: {count}" for places, count
                                          in traffic["lost_between"].items()))
    for loss in traffic["losses"]:
        print(f"LOST {loss['peer']} packet {loss['number']} sent on {loss['spi']} after "
              f"{loss['seconds']:.3f} s")


def measure(bed, gateway, peers, arguments):
    figures = {"tunnels": arguments.tunnels, "connections": arguments.connections,
               "proposal": arguments.proposal, "esp_proposal": arguments.esp_proposal}
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    usage, administration = Usage(gateway), Administration(gateway)
    figures["set_up"] = peers.command("initiate", at_once=arguments.at_once,
                                      timeout=60 + arguments.tunnels / 5)
    figures["set_up_usage"] = usage.lap()
    say_outcome("set up", figures["set_up"], figures["set_up_usage"])
    say_memory(figures["set_up_usage"], arguments.tunnels)
    per_second = arguments.traffic or min(arguments.tunnels, 5000)
    one_each = 10 + 2 * arguments.tunnels / per_second  # seconds in which each tunnel has its turn
    traffic = TunnelTraffic(bed, gateway, peers, per_second)
    traffic.wait_until_carried("first", one_each)
    usage.lap()
    figures["rekey"] = peers.command("rekey", at_once=arguments.tunnels,
                                     seconds=arguments.rekey_window,
                                     timeout=60 + arguments.rekey_window + arguments.tunnels / 5)
    figures["rekey_usage"] = usage.lap()
    say_outcome("rekeyed", figures["rekey"], figures["rekey_usage"])
    figures["left"] = wait_for_sas(peers, 2 * figures["set_up"]["done"], timeout=30)
    traffic.wait_until_carried("later", one_each)
    figures["traffic"] = traffic.stop()
    say_traffic(figures["traffic"])
    figures["administration"] = administration.stop()
    say_administration(figures["administration"])
    result = ping.stop()
    figures["ping"] = {"sent": result.transmitted, "lost": len(result.lost_packets),
                       "median_milliseconds": result.median()}
    print(f"ping beside it: {result.transmitted} sent, {len(result.lost_packets)} lost, "
          f"{result.median():.2f} ms (median)")
    return figures


def measure_flood(bed, gateway, peers, arguments):
    """The first `tunnels` peers are there before, the last `newcomers` come during the flood."""
    old, everybody = arguments.tunnels, peers.count
    figures = {"tunnels": old, "newcomers": everybody - old, "rate": arguments.rate}
    figures["before"] = peers.command("initiate", end=old, timeout=60 + old / 5)
    ping = SteadyPing(bed["client-a"], SIDE_B.client_address(), bed.directory)
    before = {**gateway.drops(), **device_counts(gateway)}
    usage, administration = Usage(gateway), Administration(gateway)
    flood = Flood(bed, bed["peers"], arguments.rate, arguments.seconds,
                  proposal=arguments.proposal, claims_ike_sa=arguments.claim_ike_sa)
    time.sleep(2)
    figures["rekeyed"] = peers.command("rekey", end=old, at_once=old,
                                       seconds=arguments.seconds / 4, timeout=120)
    figures["new"] = peers.command("initiate", first=old, at_once=2, timeout=300)
    figures["over_before_they_were_done"] = not flood.running()
    figures["flood"] = flood.finish()
    figures["usage"] = usage.lap()
    figures["administration"] = administration.stop()
    time.sleep(1)
    result = ping.stop()
    figures["ping"] = {"sent": result.transmitted, "lost": len(result.lost_packets),
                       "median_milliseconds": result.median()}
    after = {**gateway.drops(), **device_counts(gateway)}
    figures["drops"] = {reason: after[reason] - before.get(reason, 0) for reason in after
                        if after[reason] != before.get(reason, 0)}
    figures["counters"] = gateway.ask("ike.sock", "counters")["result"]
    say_flood(figures)
    return figures


def say_flood(figures):
    flood, counters = figures["flood"], figures["counters"]
    print(f"flood: {flood['sent']} messages in {flood['seconds']:.1f} s, "
          f"{flood['per_second']:.0f} a second; {counters['cookies_sent']} cookies sent, "
          f"{counters['half_open']} half-open in the end; dropped: "
          + ", ".join(f"{count} {reason}" for reason, count in figures["drops"].items()))
    say_outcome("rekeyed meanwhile", figures["rekeyed"], figures["usage"])
    say_outcome("new peers meanwhile", figures["new"], figures["usage"])
    say_administration(figures["administration"])
    if figures["over_before_they_were_done"]:
        print("the flood was over before the new peers were done")
    ping = figures["ping"]
    print(f"ping beside it: {ping['sent']} sent, {ping['lost']} lost, "
          f"{ping['median_milliseconds']:.2f} ms (median)")


def survived(figures):
    return (figures["before"]["done"] == figures["rekeyed"]["done"] == figures["tunnels"]
            and figures["new"]["done"] == figures["newcomers"]
            and not figures["over_before_they_were_done"] and figures["ping"]["lost"] == 0)


def is_good(figures):
    tunnels, traffic = figures["tunnels"], figures["traffic"]
    for violation in figures["left"]["violations"]:
        print(f"VIOLATION {violation}")
    return (figures["set_up"]["done"] == tunnels and figures["rekey"]["done"] == tunnels
            and figures["left"] == {"sas": 2 * tunnels, "violations": []}
            and not any(traffic[flaw] for flaw in TunnelTraffic.FLAWS)
            and traffic["tunnels"]["by_first_sas"] == tunnels
            and traffic["tunnels"]["by_later_sas"] == tunnels
            and figures["ping"]["lost"] == 0)


def main():
    arguments = parse_arguments()
    bed = Testbed()
    try:
        gateway, peers = bring_up(bed, arguments)
        run = measure_flood if arguments.flood else measure
        figures = run(bed, gateway, peers, arguments)
    finally:
        bed.close(keep_files=arguments.keep_files)
        if arguments.keep_files:
            print(f"files: {bed.directory}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if (survived if arguments.flood else is_good)(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
