"""IPsec-MB as the next Debian has it, unpacked into a folder of the build: never installed.

The packages come from the archive that this machine's own apt uses, by an apt configuration of their
own: neither /etc/apt nor the lists of the machine are touched.
"""

import re
import shutil
import subprocess
from pathlib import Path

RELEASE = "trixie"
VERSION = "2."  # how imb_get_version_str() begins there
PACKAGES = ("libipsec-mb2", "libipsec-mb-dev")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LIBRARY = "usr/lib/x86_64-linux-gnu"
APT_SECONDS = 300


class Unavailable(RuntimeError):
    """It cannot be had here; the text says why."""


def unpacked(directory: Path):
    """The folder in which its usr/ is; from `directory` when it is there, else downloaded."""
    root = directory / "root"
    if (root / "usr/include/intel-ipsec-mb.h").exists():
        return root
    if own_version().startswith(VERSION):
        raise Unavailable(f"the machine's own IPsec-MB is {own_version()}: every stage runs with it")
    shutil.rmtree(directory, ignore_errors=True)
    beside = directory / "unpacking"  # what was cut off must not look complete
    beside.mkdir(parents=True)
    for package in downloaded(directory):
        subprocess.run(["dpkg-deb", "-x", package, beside], check=True, timeout=APT_SECONDS)
    return beside.rename(root)


def own_version():
    """Of the machine's libipsec-mb-dev."""
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "libipsec-mb-dev"],
                           capture_output=True, text=True)
    return asked.stdout


def downloaded(directory: Path):
    """The packages' files, their archive's signature checked by apt."""
    sources = directory / "sources.list"
    signed_by = f" signed-by={KEYRING}" if KEYRING.exists() else ""
    sources.write_text(f"deb [arch=amd64{signed_by}] {archive()} {RELEASE} main\n")
    apt(directory, "update", "-q")
    apt(directory, "download", "-q", *PACKAGES)
    return sorted(directory.glob("*.deb"))


def archive():
    """Where this machine's apt has Debian itself from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)",
         "Created-By: Packages"], capture_output=True, text=True).stdout
    codename = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    found = re.search(rf"^Debian {codename.group(1) if codename else '-'} main (\S+)$", listed, re.M)
    if not found:
        raise Unavailable("apt knows no archive of Debian: apt-get update")
    return found.group(1)


def apt(directory: Path, *words):
    for folder in ("lists/partial", "cache/archives/partial"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    settings = {"Dir::Etc::SourceList": directory / "sources.list", "Dir::Etc::SourceParts": "-",
                "Dir::State::Lists": directory / "lists", "Dir::Cache": directory / "cache",
                "Acquire::Languages": "none", "APT::Sandbox::User": "root"}
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(["apt-get", *options, *words], cwd=directory, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=APT_SECONDS)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["apt-get fails"])[-1]
        raise Unavailable(f"{', '.join(PACKAGES)} of {RELEASE} cannot be downloaded: {why}")


def meson_options(root: Path):
    """That a build takes it, and finds it when it runs, in place of the machine's own."""
    library = root / LIBRARY
    return [f"-Dcpp_args=-isystem {root / 'usr/include'}",
            f"-Dcpp_link_args=-L{library} -Wl,-rpath,{library}"]
