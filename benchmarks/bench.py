#!/usr/bin/python3
"""The front of the packet-rate suite: measures, compares runs, writes the report.

scripts/bench builds what it needs and calls it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report.compare import report as comparison  # noqa: E402
from report import ports  # noqa: E402
from report.page import page  # noqa: E402
from report.results import BadResults, key_of, load, name_of, port_key_of  # noqa: E402
from report.summary import as_text  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("CULVERT_BENCH_BUILD", REPOSITORY / "build-release"))
SLOWER, UNUSABLE = 1, 2  # exit statuses


def arguments(words=None):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(
        "Packets per second of a worker beside the floor of the same run: bare I/O plus the raw "
        "IPsec-MB call. Without --quick every suite and a report: half an hour."))
    parser.add_argument("--quick", action="store_true", help="the summary alone: a minute or two")
    parser.add_argument("--stages", action="store_true",
                        help="where a worker's time goes: nanoseconds a packet by stage")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--html", metavar="FILE", help="write the report there")
    parser.add_argument("--from", metavar="FILE", dest="source",
                        help="measure nothing: the report of results that are there")
    parser.add_argument("--compare", metavar="FILE", nargs="+",
                        help="an old run's results with those of another, or of the same rows now")
    parser.add_argument("--fail-if-slower", metavar="PERCENT", type=float,
                        help="with --compare: exit 1 if a row is slower by more, beyond the spreads")
    parser.add_argument("--ports", metavar="LAN,WAN",
                        help="measure the gateway that is cabled to these two ports of ours instead")
    parser.add_argument("--directions", default="out,in", help="with --ports (out,in)")
    parser.add_argument("--sizes", default="64,512,1420,imix", help="with --ports (64,512,1420,imix)")
    parser.add_argument("--rate", metavar="MPPS", type=float,
                        help="with --ports: the most to try (what the links carry, with what Ethernet and ESP "
                        f"add; {ports.MOST_MPPS} where their drivers do not know their speed)")
    parser.add_argument("--loss", metavar="PERCENT", type=float, default=0.0,
                        help="with --ports: what a trial may lose and pass (0)")
    parser.add_argument("--resolution", metavar="PERCENT", type=float, default=1.0,
                        help="with --ports: how near the search goes, of what it finds (1)")
    parser.add_argument("--gateway-config", metavar="FOLDER",
                        help="write the configuration that --ports wants of the gateway, and stop")
    parser.add_argument("--suites", help="of rates,workers,policies,windows,floods,ipv6,forms,transforms,sas")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows by name: out/64/1")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--no-huge", action="store_true", help="leave the kernel's pool of huge pages alone")
    parser.add_argument("--repeats", type=int, help="measurements a row (5)")
    parser.add_argument("--seconds", type=float, help="length of a measurement (0.4; with --quick 0.2; with --ports 10)")
    chosen = parser.parse_args(words)
    if chosen.compare and len(chosen.compare) > 2:
        parser.error("--compare takes one or two files")
    if chosen.fail_if_slower is not None and not chosen.compare:
        parser.error("--fail-if-slower goes with --compare")
    if chosen.rate is not None and chosen.rate <= 0:
        parser.error("--rate takes more than 0 Mpps")
    if not 0.01 <= chosen.resolution < 100:
        parser.error("--resolution takes 0.01 to 100 percent")
    return chosen


def measure_ports(chosen):
    """Searches the throughput of each direction and size; the results. Their table on our output."""
    settings = {"rate": chosen.rate, "seconds": chosen.seconds or 10.0, "loss": chosen.loss / 100,
                "resolution": chosen.resolution / 100}
    return trial_rows(chosen, ports.split_devices(chosen.ports), settings,
                      [(direction, size) for direction in chosen.directions.split(",")
                       for size in chosen.sizes.split(",")])


def trial_rows(chosen, devices, settings, rows):
    """`rows`: (direction, size) of each. What there is stands in the file of --json after each row: a
    trial that cannot be run ends the program, not what was measured before."""
    lan, wan = devices
    trials = ports.Trials(BUILD / "benchmarks/port_trial", lan, wan,
                          *(["--no-huge"] if chosen.no_huge else []))
    try:
        document = {**trials.tester, "results": [], "ports": [],
                    "measurement": {"devices": [lan, wan], **settings}}
        print(ports.HEADING, flush=True)
        for direction, size in rows:
            row = ports.measure(trials, direction, size, settings, trials.tester.get("links"))
            document["ports"].append(row)
            write(chosen.json, document)
            print("\n".join(ports.lines_of(row)), flush=True)
    except ports.NoTrial as error:
        kept = len(document["ports"]) if chosen.json else 0
        raise ports.NoTrial(f"{error}" + (f"; {kept} of {len(rows)} rows are in {chosen.json}" if kept else "")) from error
    finally:
        trials.close()
    return document


def write(file, document):
    """Whole or not at all: a run may be interrupted. `file` None: nowhere."""
    if not file:
        return
    unfinished = Path(f"{file}.part")
    unfinished.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(file)


def measure(chosen, only=None):
    """Runs packet_rate, its table on our output; the results. Ends the program when it fails."""
    words = [BUILD / "benchmarks/packet_rate"]
    for name in ("quick", "stages", "list", "no_huge"):
        if getattr(chosen, name):
            words.append("--" + name.replace("_", "-"))
    for name in ("suites", "repeats", "seconds"):
        if getattr(chosen, name) is not None:
            words += ["--" + name, getattr(chosen, name)]
    for row in only or chosen.only or []:
        words += ["--only", row]
    with tempfile.TemporaryDirectory(prefix="culvert-bench-") as folder:
        kept = chosen.json or Path(folder) / "results.json"
        ended = subprocess.run([str(word) for word in [*words, "--json", kept]])
        if ended.returncode != 0 or chosen.list:
            sys.exit(ended.returncode)
        return load(kept)


def measure_again(chosen, old):
    """The rows of an earlier run, now, as they were measured then: kind of pages, length and number of
    measurements, ports and their search. --no-huge, --seconds, --repeats and --ports go before."""
    then = old.get("measurement", {})
    chosen.no_huge = chosen.no_huge or old["machine"].get("huge_pages") is False
    if not old.get("ports"):
        if not old["results"]:
            raise BadResults(f"{chosen.compare[0]}: there is no row in it to measure again")
        chosen.repeats = chosen.repeats or then.get("repeats")
        chosen.seconds = chosen.seconds or then.get("seconds")
        return measure(chosen, [name_of(key_of(row)) for row in old["results"]])
    devices = chosen.ports and ports.split_devices(chosen.ports) or then.get("devices")
    if not devices:
        raise BadResults(f"{chosen.compare[0]}: it does not say which ports it measured; give --ports")
    settings = {name: then[name] for name in ("rate", "seconds", "loss", "resolution")}
    if chosen.seconds:
        settings["seconds"] = chosen.seconds
    return trial_rows(chosen, devices, settings, [port_key_of(row) for row in old["ports"]])


def compare(chosen):
    old = load(chosen.compare[0])
    new = load(chosen.compare[1]) if len(chosen.compare) == 2 else measure_again(chosen, old)
    lines, failed = comparison(old, new, chosen.fail_if_slower)
    print("\n".join(lines))
    return SLOWER if failed else 0


def run(chosen):
    if chosen.compare:
        return compare(chosen)
    if chosen.gateway_config:
        folder = Path(chosen.gateway_config)
        folder.mkdir(parents=True, exist_ok=True)
        for written in ports.write_gateway(folder):
            print(f"written: {written}")
        return 0
    if not (chosen.quick or chosen.ports or chosen.stages or chosen.only or chosen.suites or chosen.list or chosen.source):
        chosen.json = chosen.json or "culvert-bench.json"
        chosen.html = chosen.html or "culvert-bench.html"
    if chosen.source:
        document = load(chosen.source)
    else:
        document = measure_ports(chosen) if chosen.ports else measure(chosen)
    print("\n".join(as_text(document["results"])))
    if chosen.html:
        Path(chosen.html).write_text(page(document), encoding="utf-8")
    for written in filter(None, (None if chosen.source else chosen.json, chosen.html)):
        print(f"written: {written}")
    return 0


def main():
    try:
        return run(arguments())
    except (BadResults, ports.NoTrial, ValueError, OSError) as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
