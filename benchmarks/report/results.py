"""Results as `packet_rate` writes them: read, checked, told apart."""

import json
from pathlib import Path

KEY = ("suite", "direction", "size", "sas", "policies", "workers")
FIGURES = ("mpps", "mpps_min", "mpps_max", "floor_mpps", "efficiency")


class BadResults(Exception):
    """A file that holds no results; the message names it and what is wrong."""


def load(path):
    """The whole document, after `check`."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadResults(f"{path}: {error}") from error
    problem = check(document)
    if problem:
        raise BadResults(f"{path}: {problem}")
    return document


def check(document):
    """What is wrong with a document; None when nothing is."""
    if not isinstance(document, dict):
        return "expected an object with machine, versions and results"
    for name, kind in (("machine", dict), ("versions", dict), ("results", list)):
        if not isinstance(document.get(name), kind):
            return f"expected {name} to be {'an object' if kind is dict else 'a list'}"
    for number, row in enumerate(document["results"]):
        problem = check_row(row)
        if problem:
            return f"results[{number}]: {problem}"
    keys = [key_of(row) for row in document["results"]]
    for key in keys:
        if keys.count(key) > 1:
            return f"two results are of {name_of(key)}"
    return check_ports(document)


def check_ports(document):
    """The same of what `--ports` measured; a document without them is sound."""
    rows = document.get("ports", [])
    if not isinstance(rows, list):
        return "expected ports to be a list"
    for number, row in enumerate(rows):
        problem = check_port_row(row)
        if problem:
            return f"ports[{number}]: {problem}"
    keys = [port_key_of(row) for row in rows]
    for key in keys:
        if keys.count(key) > 1:
            return f"two rows are of {port_name_of(key)}"
    if rows and not _is_of_ports(document.get("measurement")):
        return "expected measurement to have the rate, seconds, loss and resolution of ports"
    return None


def _is_of_ports(measurement):
    """`rate` null: what the links carry."""
    return (isinstance(measurement, dict) and "rate" in measurement
            and (measurement["rate"] is None or _is_number(measurement["rate"]))
            and all(_is_number(measurement.get(name)) for name in ("seconds", "loss", "resolution")))


def check_port_row(row):
    if not isinstance(row, dict) or row.get("direction") not in ("out", "in") or "size" not in row:
        return "expected direction out or in, and a size"
    if not _is_number(row.get("throughput_mpps")) or not isinstance(row.get("limited_by"), str):
        return "expected throughput_mpps to be a number, and limited_by"
    if not _is_number(row.get("step_mpps", 0)):
        return "expected step_mpps to be a number"
    latency = row.get("latency")
    if not isinstance(latency, list) or not all(
            isinstance(at, dict) and _is_number(at.get("load")) and isinstance(at.get("us"), dict)
            and all(_is_number(at["us"].get(name)) and at["us"][name] > 0
                    for name in ("p90", "p99", "p999")) for at in latency):
        return "expected latency to have load, and us with p90, p99 and p999"
    return None


def check_row(row):
    if not isinstance(row, dict) or set(row) != {*KEY, *FIGURES}:
        return f"expected the keys {', '.join((*KEY, *FIGURES))}"
    if not isinstance(row["suite"], str) or row["direction"] not in ("out", "in"):
        return "expected a suite's name and direction out or in"
    if row["size"] != "imix" and not _is_count(row["size"]):
        return "expected size in bytes or imix"
    if not all(_is_count(row[name]) for name in ("sas", "policies", "workers")):
        return "expected sas, policies and workers to be whole numbers over 0"
    if not all(isinstance(row[name], (int, float)) and not isinstance(row[name], bool)
               and row[name] > 0 for name in FIGURES):
        return f"expected {', '.join(FIGURES)} to be numbers over 0"
    if not row["mpps_min"] <= row["mpps"] <= row["mpps_max"]:
        return "expected mpps to lie between mpps_min and mpps_max"
    return None


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def port_key_of(row):
    """Likewise of a row of `ports`."""
    return row["direction"], str(row["size"])


def port_name_of(key):
    return "/".join(("ports", *key))


def key_of(row):
    """What tells a row apart from the others of its run, and is the same in every run."""
    return tuple(row[name] for name in KEY)


def name_of(key):
    """As `packet_rate --only` takes it."""
    suite, direction, size, *numbers = key
    return "/".join([suite, direction, str(size), *map(str, numbers)])


def transform_and_variant(suite):
    """"aes128gcm16 cold flows" → ("aes128gcm16", "cold flows")."""
    transform, _, variant = suite.partition(" ")
    return transform, variant
