"""The packet-rate suite in its smallest form: that it runs, and that its results have their shape.

Its figures say nothing here: a measurement lasts a hundredth of a second and the machine is busy.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.shell import run
from harness.testbed import build_directory

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from report.results import check, key_of, name_of  # noqa: E402

SMALLEST = ("--no-huge", "--repeats", "1", "--seconds", "0.01")
# Both directions, a size and IMIX, many SAs, two workers, a variant, a suite that goes the general
# way, CBC with its two calls, and IPv6 inside and outside.
ROWS = ("aes128gcm16/out/64/1/10/1", "aes128gcm16/in/512/1024/1033/1",
        "aes128gcm16/in/imix/1024/1033/1", "aes128gcm16 window 64, out of order/in/64/1/10/1",
        "aes128gcm16/in/64/1024/1033/2", "aes128gcm16 window 65536/in/64/1/10/1",
        "aes128gcm16 flood of unknown SPIs/in/64/1/10/1",
        "aes128gcm16 flood of wrong ICVs/in/64/1/10/1", "aes128gcm16 flood of replays/in/64/1/10/1",
        "aes128-sha256/out/imix/1/10/1", "aes128-sha256/in/imix/1/10/1",
        "chacha20poly1305/in/imix/1/10/1", "aes128gcm16 IPv6/out/64/1/10/1",
        "aes128gcm16 IPv6/in/imix/1024/1033/1", "aes128gcm16 IPv6 in IPv4/in/64/1/10/1",
        "aes128gcm16 IPv4 in IPv6/in/64/1/10/1")


def program():
    return build_directory() / "benchmarks/packet_rate"


def listed(*words):
    return run(program(), "--list", *words).stdout.split("\n")[:-1]


def test_measured_rows_have_the_shape_that_the_reference_says(tmp_path):
    results = tmp_path / "results.json"
    words = [word for row in ROWS for word in ("--only", row)]
    table = run(program(), *SMALLEST, "--json", results, *words, timeout=120).stdout

    document = json.loads(results.read_text())
    assert check(document) is None
    measured = [name_of(key_of(row)) for row in document["results"]]
    missing = [row["row"] for row in document["skipped"]]
    assert sorted(measured + missing) == sorted(ROWS)
    assert all(row.endswith("/2") for row in missing), "only two workers may be too many here"
    assert "No huge pages" in table
    assert document["machine"]["huge_pages"] is False
    assert document["machine"]["cpu"] and document["versions"]["ipsec_mb"]
    # Who builds against a library beside the machine's own says which it must be.
    wanted = os.environ.get("CULVERT_TEST_IPSEC_MB", "")
    assert document["versions"]["ipsec_mb"].startswith(wanted)


def test_every_stage_of_a_packet_has_its_time(tmp_path):
    results = tmp_path / "results.json"
    run(program(), *SMALLEST, "--stages", "--only", "out/64/1", "--only", "in/64/1", "--only",
        "aes128-sha256/out/imix/1/10/1", "--json", results, timeout=120)
    document = json.loads(results.read_text())
    assert check(document) is None
    stages = {row["row"].rsplit("/", 4)[0]: row["nanoseconds"] for row in document["stages"]}
    assert len(stages) == 3
    both = {"rx", "classify", "lookup", "crypto", "tx"}
    outbound = both | {"header", "forward"}
    for row, expected in {"aes128gcm16/out": outbound, "aes128-sha256/out": outbound,
                          "aes128gcm16/in": both | {"check"}}.items():
        assert {stage for stage in stages[row] if stages[row][stage] > 0} >= expected
    assert stages["aes128gcm16/out"]["check"] == 0


def test_the_front_measures_compares_and_reports(tmp_path):
    def front(*words):
        return subprocess.run(
            ["/usr/bin/python3", REPOSITORY / "benchmarks/bench.py", *words], cwd=tmp_path, text=True,
            capture_output=True, timeout=120, env={"CULVERT_BENCH_BUILD": str(build_directory())})

    measured = front(*SMALLEST, "--only", "out/64/1", "--json", "a.json", "--html", "a.html")
    assert measured.returncode == 0, measured.stderr
    assert "<svg" not in (tmp_path / "a.html").read_text(), "one row has nothing beside it"
    again = front(*SMALLEST, "--compare", "a.json")
    assert again.returncode == 0, again.stderr
    assert "aes128gcm16/out/64/1/10/1" in again.stdout


def test_the_quick_run_has_the_summary():
    names = listed("--quick")
    assert len(names) == 20
    for direction in ("out", "in"):
        for size in ("64", "512", "1420", "imix"):
            assert f"aes128gcm16/{direction}/{size}/1/10/1" in names
            assert f"aes128gcm16/{direction}/{size}/1024/1033/1" in names
        for size in ("64", "imix"):
            assert f"aes128gcm16/{direction}/{size}/1000000/1000009/1" in names


def test_the_full_run_has_every_theme():
    names = listed()
    assert len(names) == len(set(names))
    for expected in ("/out/64/1000000/1000009/1", "/in/64/1000000/10/1", "/out/64/1/10000/1",
                     "cold flows/in/64/1/10000/1", "window 64/in/64/1/10/1",
                     "window 65536, out of order/in/64/1/10/1",
                     "cold flows, 351 shapes/out/64/1/10000/1",
                     "flood of replays/in/64/1/10/1", "IPv6/out/1420/1/10/1",
                     "NAT-T/in/imix/1/10/1", "ESN/in/64/1/10/1", "/out/64/1024/1033/2"):
        assert any(name.endswith(expected) for name in names), expected
    suites = [name for name in names if "/out/imix/1/10/1" in name and " " not in name]
    assert len(suites) == 39, "one a cipher suite"


@pytest.mark.parametrize("words", [("--only", "out/65/1"), ("--suites", "speed")])
def test_a_name_that_there_is_not_is_refused(words):
    ended = run(program(), *words, check=False)
    assert ended.returncode != 0
    assert "--list" in ended.stderr or "speed" in ended.stderr
