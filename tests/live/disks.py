"""Small disks for nodes to lie on: a file system each, in a file; full, read-only, broken, or not mounted at will."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BALLAST = Path(".onefold") / "ballast"
"""Beside what is replicated, in a folder; just a file elsewhere."""
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_BLOCK_BYTES = 1 << 16


class Disk:
    """The ext4 in the file `image`, mounted at the directory `at`."""

    def __init__(self, image: Path, at: Path) -> None:
        self._image = image
        self.at = at

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.at))

    def unmount(self) -> None:
        """Take it out of the tree of directories, in use or not: who has files open in it keeps them."""
        _run("umount", "-l", str(self.at))

    def fill(self, leave_bytes: int = 0) -> None:
        """Leave no room but that. Whatever is freed meanwhile is filled as well."""
        ballast = self._ballast()
        ballast.mkdir(parents=True, exist_ok=True)
        with (ballast / "blocks").open("ab", buffering=0) as file:
            size = _BLOCK_BYTES
            while size >= 1:
                room = os.statvfs(self.at)
                if leave_bytes and room.f_bavail * room.f_frsize <= leave_bytes:
                    return
                try:
                    file.write(bytes(size))
                    os.fsync(file.fileno())
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def use_up_inodes(self) -> None:
        """Leave no inode."""
        ballast = self._ballast()
        ballast.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            for number in range(1 << 20):
                (ballast / str(number)).touch()
        assert os.statvfs(self.at).f_favail == 0

    def free(self) -> None:
        """Give back what `fill` and `use_up_inodes` took."""
        for file in self._ballast().iterdir():
            file.unlink()

    def read_only(self, yes: bool) -> None:
        _run("mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(self.at))

    def break_down(self) -> None:
        """From now on everything fails with EIO, as when the device is gone."""
        fd = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", 2))
        finally:
            os.close(fd)

    def replace(self) -> None:
        """Put another device in its place, which holds what had reached this one."""
        self.unmount()
        copy = self._image.with_suffix(".copy")
        _run("cp", "--sparse=always", str(self._image), str(copy))
        self._image = copy
        self.mount()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.at)], capture_output=True, check=False)

    def _ballast(self) -> Path:
        return self.at / BALLAST


@contextmanager
def disk(image: Path, at: Path, mib: int = 24, inodes: int = 1024) -> Iterator[Disk]:
    """A new disk, mounted at the directory `at`, which is made. Skips the test where mounts are not permitted."""
    at.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(mib << 20)
    try:
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), str(image))
        made = Disk(image, at)
        made.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk of its own can be made and mounted here: {error}")
    try:
        (at / "lost+found").rmdir()
        yield made
    finally:
        made.close()


def _run(*words: str) -> None:
    subprocess.run(words, capture_output=True, check=True)
