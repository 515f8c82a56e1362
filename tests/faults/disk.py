"""A disk of its own for a machine: ext4 in a file of ours, which can lose its power."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import eventually

from onefold import linux

EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
BYTES = 1 << 30
"""Of the file, which has holes: it takes what is written to the disk, no more."""


class Disk:
    """Mounted at `at`. What was written and not synced is lost with `lose_power`, unless the kernel was quicker."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self._image = at.with_name(f"{at.name}.img")
        self._mounted = False
        with self._image.open("wb") as file:
            file.truncate(BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        at.mkdir()
        self.mount()

    def mount(self) -> None:
        """Also after `lose_power` and `unmount`: the file system repairs itself from its journal, as at a boot.

        As long as a process that is just ending holds on to the old one, that would be mounted again, without power.
        """
        eventually(self._has_power, f"the power of {self.at.name}")

    def _has_power(self) -> bool:
        _run("mount", "-o", "loop", str(self._image), str(self.at))
        self._mounted = True
        try:
            os.rmdir(tempfile.mkdtemp(dir=self.at))
        except OSError:
            self.unmount()
            return False
        return True

    def unmount(self) -> None:
        """Nobody may use it any more."""
        _run("umount", str(self.at))
        self._mounted = False

    def sync(self) -> None:
        fd = os.open(self.at, os.O_RDONLY)
        try:
            linux.syncfs(fd)
        finally:
            os.close(fd)

    def lose_power(self) -> None:
        """From now on nothing gets onto the disk any more; whoever tries gets an I/O error."""
        fd = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(fd)

    def close(self) -> None:
        if self._mounted:
            eventually(self._is_unmounted, f"the end of the disk {self.at.name}")
        self._image.unlink()

    def _is_unmounted(self) -> bool:
        """Not as long as somebody who is just ending uses it."""
        return subprocess.run(["umount", str(self.at)], capture_output=True).returncode == 0


@contextmanager
def shared(directory: Path) -> Iterator[None]:
    """What is mounted in `directory`, or unmounted, is so for all processes, whatever mount namespace they have: else a
    file system would live on in those of the others."""
    _run("mount", "--bind", str(directory), str(directory))
    try:
        _run("mount", "--make-shared", str(directory))
        yield
    finally:
        _run("umount", str(directory))


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def permitted(directory: Path) -> str:
    """Why there can be no disks in `directory`; empty when there can be."""
    try:
        disk = Disk(directory / "may")
    except FileNotFoundError as error:
        return f"there is no `{error.filename}` (apt-get install e2fsprogs)"
    except AssertionError as error:
        return f"no loop mounts: {error}"
    try:
        disk.lose_power()
    except OSError as error:
        return f"ext4 cannot be shut down here: {error}"
    finally:
        disk.close()
    return ""
