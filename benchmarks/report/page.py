"""The report: one HTML file with all in it, nothing fetched from elsewhere."""

from html import escape

from .charts import Bar, bar_chart
from .results import transform_and_variant
from .summary import ORDINARY, SUMMARY_SIZES, count, efficiencies, is_ordinary, sa_text

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --paper: #fff; --faint: #d5dade;
        --out: #2f7d6d; --in: #b8722c; --floor: #c0392b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --paper: #16191c; --faint: #3a4148; --out: #53b09c; --in: #dd9c56; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; border-bottom: 1px solid var(--faint); text-align: right; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; font-size: 12px; } svg text { fill: var(--ink); }
svg .label { text-anchor: end; } svg .out { fill: var(--out); } svg .in { fill: var(--in); }
svg .spread { stroke: var(--ink); stroke-width: 1.5; } svg .floor { stroke: var(--floor); stroke-width: 2; }
.wide { overflow-x: auto; }
"""

EXPLANATION = """<p>A bar is the median rate of the workers in million packets a second, from receive
burst to transmit burst; the line on it reaches from the least to the most of the repeats. The upright
mark is the floor of the same repeats: bare receive and transmit of the same packets plus the raw
IPsec-MB call, nothing else. Efficiency is rate over floor. Sizes are bytes of the inner IP packet;
IMIX is 64×7, 570×4, 1400×1. Everything that a user has is on: policies, routing, lifetimes, replay
window, selector check, counters.</p>"""


def number(value):
    """Three digits that say something, however small the rate."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def bar_of(row, label):
    return Bar(label, row["mpps"], row["mpps_min"], row["mpps_max"], row["floor_mpps"],
               f"{number(row['mpps'])} Mpps, {row['efficiency']:.2f}", row["direction"])


def size_text(row):
    return "IMIX" if row["size"] == "imix" else f"{row['size']} B"


# Section by section: heading, which rows, how each is called. A section needs two rows to compare.


def rates_label(row):
    return f"{row['direction']}, {size_text(row)}, {sa_text(row)}"


def of_sas(row):
    return row["suite"] == ORDINARY and row["workers"] == 1 and row["size"] in (64, "imix") and (
        is_ordinary(row) or row["sas"] > 1024)


def sas_label(row):
    return f"{rates_label(row)}, {count(row['policies'])} policies"


def of_policies(row):
    _, variant = transform_and_variant(row["suite"])
    return row["sas"] == 1 and row["size"] == 64 and row["workers"] == 1 and (
        variant == "cold flows" or row["suite"] == ORDINARY)


def policies_label(row):
    _, variant = transform_and_variant(row["suite"])
    return f"{row['direction']}, {count(row['policies'])} policies, {variant or 'warm flows'}"


def of_windows(row):
    return transform_and_variant(row["suite"])[1].startswith("window ")


def windows_label(row):
    return f"{row['direction']}, {size_text(row)}, {transform_and_variant(row['suite'])[1]}"


def of_floods(row):
    return (transform_and_variant(row["suite"])[1].startswith("flood ")
            or is_ordinary(row) and (row["direction"], row["size"], row["sas"]) == ("in", 64, 1))


def floods_label(row):
    return f"{row['direction']}, {transform_and_variant(row['suite'])[1] or 'no flood'}"


def of_ipv6(row):
    variant = transform_and_variant(row["suite"])[1]
    return variant.startswith("IPv6") or variant == "IPv4 in IPv6"


def ipv6_label(row):
    return f"{rates_label(row)}, {transform_and_variant(row['suite'])[1]}"


def of_forms(row):
    return transform_and_variant(row["suite"])[1] in ("NAT-T", "ESN")


def forms_label(row):
    return f"{rates_label(row)}, {transform_and_variant(row['suite'])[1]}"


def of_transforms(row):
    return (not transform_and_variant(row["suite"])[1] and row["size"] == "imix" and row["sas"] == 1
            and row["workers"] == 1)


def transforms_label(row):
    return f"{row['direction']}, {row['suite']}"


def of_workers(row):
    return row["suite"] == ORDINARY and row["sas"] == 1024 and row["size"] in (64, "imix")


def workers_label(row):
    workers = "1 worker" if row["workers"] == 1 else f"{row['workers']} workers"
    return f"{row['direction']}, {size_text(row)}, {workers}"


SECTIONS = (
    ("Packet sizes", lambda row: is_ordinary(row) and row["sas"] <= 1024, rates_label),
    ("Security associations", of_sas, sas_label),
    ("Policies, with flows that the caches know (warm) and do not (cold)", of_policies,
     policies_label),
    ("Replay windows", of_windows, windows_label),
    ("Ten bad packets for each good one: good packets", of_floods, floods_label),
    ("IPv6", of_ipv6, ipv6_label),
    ("ESP in UDP, extended sequence numbers", of_forms, forms_label),
    ("Cipher suites, IMIX", of_transforms, transforms_label),
    ("Workers, 1 024 SAs", of_workers, workers_label),
)


def section(heading, rows, label):
    bars = [bar_of(row, label(row)) for row in rows]
    return f"<h2>{escape(heading)}</h2>\n{bar_chart(bars, heading)}"


def table(head, lines):
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in line) + "</tr>"
                     for line in lines)
    return f'<div class="wide"><table><tr>{cells}</tr>\n{body}</table></div>'


def summary(results):
    lines = efficiencies(results)
    if not lines:
        return ""
    return "<h2>Efficiency</h2>\n" + table(["", *SUMMARY_SIZES], lines)


def memory(document):
    lines = [[row["direction"], count(row["sas"]), count(row["policies"]),
              count(round(row["bytes_per_sa"])), f"{row['sas'] * row['bytes_per_sa'] / 1e6:.0f}",
              count(round(row["bytes_per_policy"])) if row["bytes_per_policy"] else ""]
             for row in document.get("memory", [])]
    if not lines:
        return ""
    return "<h2>Memory of the state</h2>\n" + table(
        ["direction", "SAs", "policies", "bytes an SA", "MB, all SAs", "bytes a policy"], lines)


def facts(document):
    machine, versions = document["machine"], document["versions"]
    measurement = document.get("measurement", {})
    lines = [[name.replace("_", " "), machine[name]] for name in machine]
    lines += [[name, versions[name]] for name in versions]
    lines += [[name, measurement[name]] for name in measurement]
    return "<h2>Machine and versions</h2>\n" + table(["", ""], lines)


def all_rows(results):
    head = ["suite", "direction", "size", "SAs", "policies", "workers", "Mpps", "least", "most",
            "floor", "efficiency"]
    return "<h2>All rows</h2>\n" + table(head, [
        [row["suite"], row["direction"], row["size"], count(row["sas"]), count(row["policies"]),
         row["workers"], number(row["mpps"]), number(row["mpps_min"]), number(row["mpps_max"]),
         number(row["floor_mpps"]), f"{row['efficiency']:.2g}"] for row in results])


def port_rows(document):
    rows = document.get("ports", [])
    if not rows:
        return ""
    lines = []
    for row in rows:
        floor = row.get("floor_mpps")
        begin = [row["direction"], row["size"], number(row["throughput_mpps"]), row["limited_by"],
                 *([number(floor), row["floor_limited_by"], f"{row['efficiency']:.2f}"] if floor else ["", "", ""]),
                 len(row["trials"])]
        for at in row["latency"] or [None]:
            lines.append(begin + ([f"{at['load']:.0%}", *(f"{value:.1f}" for value in at["us"].values())]
                                  if at else ["", "", "", "", "", ""]))
    return "<h2>Between physical ports: throughput (RFC 2544), latencies in microseconds</h2>\n" + table(
        ["direction", "size", "Mpps", "limit", "floor", "its limit", "efficiency", "trials", "load", "p50", "p90",
         "p99", "p99.9", "max"], lines)


STAGES = ("rx", "classify", "lookup", "header", "crypto", "check", "forward", "tx", "loop")


def stages(document):
    rows = document.get("stages", [])
    if not rows:
        return ""
    lines = [[row["row"], *(f"{row['nanoseconds'][stage]:.1f}" for stage in STAGES),
              f"{row['worker_nanoseconds']:.1f}", f"{row['floor_io_nanoseconds']:.1f}",
              f"{row['floor_crypto_nanoseconds']:.1f}"] for row in rows]
    return "<h2>Where the time goes, nanoseconds a packet</h2>\n" + table(
        ["row", *STAGES, "worker", "raw I/O", "raw call"], lines)


def skipped(document):
    lines = [[row["row"], row["reason"]] for row in document.get("skipped", [])]
    return "<h2>Not measured here</h2>\n" + table(["row", "why"], lines) if lines else ""


def in_ordinary_pages(document):
    lines = [[name] for name in document.get("in_ordinary_pages", [])]
    return "<h2>In ordinary pages, for want of huge ones</h2>\n" + table(["row"], lines) if lines else ""


def page(document):
    """The whole file's text."""
    results = document["results"]
    parts = [summary(results)]
    for heading, chosen, label in SECTIONS:
        rows = [row for row in results if chosen(row)]
        if len(rows) > 1:
            parts.append(section(heading, rows, label))
    parts += [port_rows(document), stages(document), memory(document), skipped(document),
              in_ordinary_pages(document), facts(document), all_rows(results)]
    title = f"Culvert {document['versions'].get('culvert', '')}: packet rates"
    return "\n".join([
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>\n<p>{escape(str(document['machine'].get('cpu', '')))}</p>",
        EXPLANATION, *filter(None, parts), "</body></html>\n"])
