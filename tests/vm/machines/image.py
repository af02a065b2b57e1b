"""The kernel and the first file system of the test machines, made once from a Debian package.

There is no disk image: a machine's root is this host's root, read-only, under a file system in its own
memory. Only a kernel, its modules and what mounts the root are needed, and they are kept in the build.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.shell import run

GUEST = Path(__file__).resolve().parent / "guest"
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "cpio": "cpio", "depmod": "kmod"}
BUSYBOX = Path("/bin/busybox")
# What mounts the root, in the order of insmod once their dependencies are resolved.
FIRST_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
# Folders of the kernel's modules that a machine may ask for; the whole would be 400 MB.
WANTED = ("arch", "crypto", "drivers/char", "drivers/iommu", "drivers/net/ethernet/intel",
          "drivers/net/*.ko", "drivers/uio", "drivers/vfio", "drivers/virtio", "fs/9p", "fs/fscache",
          "fs/netfs", "fs/overlayfs", "lib", "net/9p", "net/core", "net/ipv4", "net/ipv6", "net/key",
          "net/xfrm", "virt")


class Unavailable(RuntimeError):
    """No machine can be had here; the text says why."""


@dataclass
class Image:
    kernel: Path
    initramfs: Path
    modules: Path  # what belongs at /lib/modules

    @classmethod
    def make(cls, directory: Path):
        """From `directory` when it is there, else from a download of about 70 MB."""
        require_programs()
        package = kernel_package()
        release = package.removeprefix("linux-image-")
        image = cls(directory / f"vmlinuz-{release}", directory / f"initramfs-{release}",
                    directory / release / "lib/modules")
        with only_one(directory):
            if not image.kernel.exists():
                unpack_kernel(downloaded(package, directory), directory / release, release)
                shutil.copy(directory / release / f"boot/vmlinuz-{release}", image.kernel)
            pack_initramfs(image, directory / "initramfs", release)
        return image


@contextlib.contextmanager
def only_one(directory: Path):
    """Files run side by side, and runs may share a build: one at a time makes what is kept there."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_programs():
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not there: install {package}")
    if not BUSYBOX.exists() or b"/ld-linux" in BUSYBOX.read_bytes()[:4096]:
        raise Unavailable(f"{BUSYBOX} is not there or needs libraries: install busybox-static")


def kernel_package():
    """What Debian's linux-image-amd64 stands for today, linux-image-6.1.0-…"""
    listed = run("apt-cache", "depends", "linux-image-amd64", check=False).stdout
    found = re.search(r"Depends: (linux-image-\S+)", listed)
    if not found:
        raise Unavailable("apt knows no linux-image-amd64: apt-get update")
    return found.group(1)


def downloaded(package, directory: Path):
    """The package's file, not installed, in `directory`."""
    there = sorted(directory.glob(f"{package}_*.deb"))
    if there:
        return there[-1]
    # In a folder of its own: a download that was cut off must not look like a package.
    folder = directory / "download"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    completed = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, text=True,
                               capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
    files = list(folder.glob("*.deb"))
    if completed.returncode != 0 or not files:
        raise Unavailable(f"{package} cannot be downloaded: {completed.stderr.strip()[-300:]}")
    return files[0].rename(directory / files[0].name)


def unpack_kernel(package, directory: Path, release):
    modules = f"./lib/modules/{release}"
    patterns = [f"./boot/vmlinuz-{release}", f"{modules}/modules.*"]
    patterns += [f"{modules}/kernel/{folder}" for folder in WANTED]
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as source:
        subprocess.run(["tar", "-x", "-C", directory, "--wildcards", *patterns],
                       stdin=source.stdout, stderr=subprocess.DEVNULL, timeout=120)
    run("depmod", "-b", directory, release)


def pack_initramfs(image: Image, folder: Path, release):
    """busybox, the modules that the root needs, and guest/first."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("bin", "modules"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    (folder / "bin/sh").symlink_to("busybox")
    shutil.copy(GUEST / "first", folder / "init")
    (folder / "init").chmod(0o755)
    files = []
    for module in FIRST_MODULES:
        shown = run("modprobe", "-d", image.modules.parents[1], "-S", release, "--show-depends", module)
        files += [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("insmod")]
    order = list(dict.fromkeys(files))
    for file in order:
        shutil.copy(file, folder / "modules")
    (folder / "modules/order").write_text("".join(Path(file).name + "\n" for file in order))
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))]
    completed = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=folder, check=True,
                               capture_output=True, input="\n".join(names).encode() + b"\n")
    # Beside, then in place: two runs may share the build.
    beside = image.initramfs.with_suffix(f".{os.getpid()}")
    beside.write_bytes(completed.stdout)
    beside.rename(image.initramfs)
