"""One run beside another: the ratio of their efficiencies, row by row.

Efficiencies are of the floor in the same run, so that a machine that was slower as a whole, or is
another one, does not show.
"""

from dataclasses import dataclass

from .results import key_of, name_of


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


def only_in(one, other):
    """Names of rows that the other run lacks."""
    there = {key_of(row) for row in other["results"]}
    return [name_of(key_of(row)) for row in one["results"] if key_of(row) not in there]


def report(old, new, percent):
    """The lines to print, and whether a row is slower than `percent` (None: none is judged)."""
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
    lines += [f"only before: {name}" for name in only_in(old, new)]
    lines += [f"only after:  {name}" for name in only_in(new, old)]
    if old["machine"].get("cpu") != new["machine"].get("cpu"):
        lines.append(f"other machines: {old['machine'].get('cpu')} before, "
                     f"{new['machine'].get('cpu')} after")
    return lines, failed
