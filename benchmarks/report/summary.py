"""The efficiencies that matter first: by direction and SAs down, by size across."""

ORDINARY = "aes128gcm16"
OTHER_POLICIES = 9  # of the ordinary rows, beside one an SA
SUMMARY_SIZES = {"64 B": 64, "512 B": 512, "1420 B": 1420, "IMIX": "imix"}


def is_ordinary(row):
    """With everything as it is unless a suite varies it."""
    return (row["suite"] == ORDINARY and row["policies"] == row["sas"] + OTHER_POLICIES
            and row["workers"] == 1)


def count(value):
    return f"{value:,}".replace(",", "\u202f")


def sa_text(row):
    return "1 SA" if row["sas"] == 1 else f"{count(row['sas'])} SAs"


def efficiencies(results):
    """A line of cells, the heading first, for each direction and number of SAs that was measured."""
    rows = {(row["direction"], row["sas"], row["size"]): row for row in results if is_ordinary(row)}
    lines = []
    for direction in ("out", "in"):
        for sas in sorted({row["sas"] for row in rows.values()}):
            found = [rows.get((direction, sas, size)) for size in SUMMARY_SIZES.values()]
            if any(found):
                lines.append([f"{direction}bound, {sa_text({'sas': sas})}",
                              *(f"{row['efficiency']:.2g}" if row else "" for row in found)])
    return lines


def as_text(results):
    """The lines to print; none when no ordinary row was measured."""
    lines = efficiencies(results)
    if not lines:
        return []
    return ["", f"{'efficiency':24}" + "".join(f"{size:>9}" for size in SUMMARY_SIZES)] + [
        f"{name:24}" + "".join(f"{cell:>9}" for cell in cells) for name, *cells in lines]
