"""What is installed fits together: the programs are where the service units and each other look for them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.testbed import build_directory


BROKEN_PKI = Path(__file__).resolve().parents[1] / "broken" / "pki"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", build_directory(), "--no-rebuild", "--quiet"], check=True,
                   env={**os.environ, "DESTDIR": str(root)})
    return root


def units(root):
    found = sorted(root.rglob("*.service"))
    assert [unit.name for unit in found] == ["culvert-dataplane@.service", "culvert-ike@.service"]
    return found


def programs(unit):
    """All that it runs but what the system has itself."""
    named = re.findall(r"^Exec\w*=(\S+)", unit.read_text(), re.M)
    return [program for program in named if not program.startswith("/bin/")]


def test_units_run_what_is_installed(installed):
    for unit in units(installed):
        assert programs(unit)
        for program in programs(unit):
            path = installed / program.removeprefix("/")
            assert os.access(path, os.X_OK), f"{unit.name} runs {program}"
            version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            assert re.search(r"\d+\.\d+\.\d+", version)


def test_no_unit_refuses_to_start_for_an_expired_certificate_of_ours(installed, tmp_path):
    """Its connection cannot come up, the others can: what a unit runs before a daemon lets it start."""
    shutil.copytree(BROKEN_PKI, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    configuration = str(tmp_path / "certificate-expired.yaml")
    for unit in units(installed):
        for line in re.findall(r"^ExecStartPre=(.+)", unit.read_text(), re.M):
            program, *words = line.replace("/etc/culvert/%i.yaml", configuration).split()
            ended = subprocess.run([installed / program.removeprefix("/"), *words], capture_output=True, text=True,
                                   check=False)
            assert ended.returncode == 0, f"{unit.name}: {line}: {ended.stdout}"


def test_the_key_daemon_finds_its_fetcher(installed):
    key_daemon, = installed.rglob("culvert-ike")
    assert os.access(key_daemon.parent / "culvert-fetch", os.X_OK)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_units_are_sound(installed):
    """Each word of them is one that systemd knows."""
    shutil.copytree("/lib/systemd/system", installed / "lib/systemd/system", symlinks=True, dirs_exist_ok=True)
    kill = installed / "bin/kill"
    kill.parent.mkdir()
    kill.touch(0o755)
    for unit in units(next(installed.rglob("culvert-ike@.service")).parent):
        assert "Bogus" in verified(installed, unit, "[Service]", "[Service]\nBogus=1")
        assert verified(installed, unit) == ""


def verified(root, unit, word="", instead=""):
    """What systemd says of a unit, with one word changed."""
    text = unit.read_text()
    unit.write_text(text.replace(word, instead, 1) if word else text)
    said = subprocess.run(["systemd-analyze", "verify", f"--root={root}", "--recursive-errors=no", unit.name],
                          capture_output=True, text=True, check=False)
    unit.write_text(text)
    return "".join(line for line in said.stderr.splitlines() if "culvert" in line)
