"""One run beside another: the ratio of their efficiencies, row by row.

Efficiencies are of the floor in the same run, so that a machine that was slower as a whole, or is
another one, does not show.
"""

from dataclasses import dataclass

from .compare_ports import port_lines
from .results import BadResults, key_of, name_of, port_key_of, port_name_of


@dataclass(frozen=True)
class Change:
    key: tuple
    before: float  # efficiency
    after: float
    spreads_touch: bool  # what one run saw at times, the other saw too

    @property
    def ratio(self):
        return self.after / self.before

    def is_slower_by(self, percent):
        """By more than that, and by more than either run's own unrest explains."""
        return not self.spreads_touch and self.ratio < 1 - percent / 100


def spread(row):
    """Least and most efficiency of a row's repeats, about."""
    scale = row["efficiency"] / row["mpps"]
    return row["mpps_min"] * scale, row["mpps_max"] * scale


def changes(old, new):
    """A Change for each row of both, in the order of the new run."""
    before = {key_of(row): row for row in old["results"]}
    found = []
    for row in new["results"]:
        earlier = before.get(key_of(row))
        if earlier is None:
            continue
        (old_least, old_most), (least, most) = spread(earlier), spread(row)
        found.append(Change(key_of(row), earlier["efficiency"], row["efficiency"],
                            least <= old_most and old_least <= most))
    return found


def names_in(document):
    """Of every row, whichever kind it is of."""
    return ([name_of(key_of(row)) for row in document["results"]]
            + [port_name_of(port_key_of(row)) for row in document.get("ports", [])])


def only_in(one, other):
    """Names of rows that the other run lacks."""
    there = set(names_in(other))
    return [name for name in names_in(one) if name not in there]


def _some(names):
    """"out/64, out/512 and 7 more"; "nothing"."""
    shown = ", ".join(names[:3]) or "nothing"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def report(old, new, percent):
    """The lines to print, and whether a row is slower than `percent`, or is not there any more (None:
    none is judged). Runs without a row in common are no comparison: BadResults."""
    missing = only_in(old, new)
    if len(missing) == len(names_in(old)):
        raise BadResults("the two runs have no row in common: "
                         f"{_some(names_in(old))} before, {_some(names_in(new))} after")
    lines = [f"{'row':44} {'before':>7} {'after':>7} {'ratio':>6}"]
    failed = False
    for change in changes(old, new):
        remark = ""
        if percent is not None and change.is_slower_by(percent):
            failed, remark = True, f"  slower by more than {percent:g} %"
        elif change.spreads_touch:
            remark = "  within the spread"
        lines.append(f"{name_of(change.key):44} {change.before:7.3f} {change.after:7.3f} "
                     f"{change.ratio:6.3f}{remark}")
    of_ports, ports_failed = port_lines(old, new, percent)
    lines += of_ports
    failed |= ports_failed or (percent is not None and bool(missing))
    lines += [f"only before: {name}" for name in missing]
    lines += [f"only after:  {name}" for name in only_in(new, old)]
    return lines + other_circumstances(old, new), failed


def other_circumstances(old, new):
    """A line for each thing beside what is compared that the runs do not have in common."""
    pages = {True: "huge", False: "ordinary", None: None}
    seen = []
    for name, value_in in (("machines", lambda run: run["machine"].get("cpu")),
                           ("pages", lambda run: pages[run["machine"].get("huge_pages")])):
        seen.append((name, value_in(old), value_in(new)))
    seen += [(f"pages of {name}", *kinds) for name, *kinds in pages_of_rows(old, new)]
    for part in ("versions", "measurement"):
        was, now = old.get(part) or {}, new.get(part) or {}
        seen += [(name, was.get(name), now.get(name)) for name in dict.fromkeys((*was, *now))]
    return [f"other {name}: {_said(before)} before, {_said(after)} after"
            for name, before, after in seen if before != after]


def pages_of_rows(old, new):
    """(name, kind before, kind after) of rows in the pages of one run's machine, but not of the other's."""
    def kind(run, name):
        return "ordinary" if name in run.get("in_ordinary_pages", []) else "huge"
    if not (old["machine"].get("huge_pages") and new["machine"].get("huge_pages")):
        return []
    return [(name, kind(old, name), kind(new, name)) for name in names_in(new) if name in names_in(old)]


def _said(value):
    return "not said" if value is None else ",".join(value) if isinstance(value, list) else value
