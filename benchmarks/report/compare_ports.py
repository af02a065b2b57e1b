"""One run of `--ports` beside another: throughput and the 99th percentile of latency, row by row.

Rates, not efficiencies: the two must be of the same machines and links.
"""

from dataclasses import dataclass

from .results import port_key_of, port_name_of


@dataclass(frozen=True)
class PortChange:
    name: str  # "ports/out/64", "ports/out/64 p99 at 50%"
    before: float
    after: float
    is_worse: bool  # by more than either run's own unrest explains
    loss: float  # share that was lost of what was there; below 0: gained

    def is_slower_by(self, percent):
        return self.is_worse and self.loss > percent / 100

    @property
    def ratio(self):
        return self.after / self.before if self.before else float(self.after == 0) or float("inf")


def throughput_change(old, new, old_step):
    """`old_step`: how near the old run's search went, in Mpps. What passes lies between what is
    reported and a step above it: worse is what would be worse though the old search had been lucky."""
    name, before, after = port_name_of(port_key_of(new)), old["throughput_mpps"], new["throughput_mpps"]
    return PortChange(name, before, after, after + old_step < before, 1 - after / before if before else 0.0)


def latency_changes(old, new):
    """At each load that both were measured at. A trial's own unrest: from p90 to p99.9."""
    earlier = {at["load"]: at["us"] for at in old["latency"]}
    for at in new["latency"]:
        if at["load"] not in earlier:
            continue
        before, after = earlier[at["load"]], at["us"]
        yield PortChange(f"{port_name_of(port_key_of(new))} p99 at {at['load']:.0%}", before["p99"],
                         after["p99"], after["p90"] > before["p999"], after["p99"] / before["p99"] - 1)


def step_of(document, row):
    """Mpps between what passed and the least that did not, at the end of a search. Rows of earlier
    versions do not have it: their searches went by a share of the rate."""
    measurement = document["measurement"]
    return row.get("step_mpps", (measurement["rate"] or 0) * measurement["resolution"])


def port_changes(old, new):
    """(PortChange, unit, what the new run was limited by) for all that both have, in the new one's order."""
    before = {port_key_of(row): row for row in old.get("ports", [])}
    for row in new.get("ports", []):
        earlier = before.get(port_key_of(row))
        if earlier is None:
            continue
        step = max(step_of(old, earlier), step_of(new, row))
        yield throughput_change(earlier, row, step), "Mpps", row["limited_by"]
        for change in latency_changes(earlier, row):
            yield change, "us", row["limited_by"]


def port_lines(old, new, percent):
    """The lines to print, and whether something is slower than `percent` (None: nothing is judged)."""
    lines, failed = [], False
    for change, unit, limit in port_changes(old, new):
        remark = ""
        if percent is not None and change.is_slower_by(percent):
            failed, remark = True, f"  slower by more than {percent:g} %"
        elif not change.is_worse and change.loss > 0:
            remark = "  within the search's step" if unit == "Mpps" else "  within the spread"
        if unit == "Mpps" and limit != "gateway":
            remark += f"  (limited by the {limit})"
        lines.append(f"{change.name:44} {change.before:7.4g} {change.after:7.4g} {change.ratio:6.3f}"
                     f" {unit}{remark}")
    return lines, failed
