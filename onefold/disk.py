"""What is wrong with a disk, in words that name the fix; and whether it takes what a node writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from onefold.errors import DiskTrouble

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
RESERVE_BYTES = 16 << 20
"""What objects and uploads leave free: the databases and etcd, which a node cannot do without, write a little at a
time."""
ROOM_BYTES = RESERVE_BYTES + (8 << 20)
"""How much a disk must take before it counts as one that is not full any more: with less, a node would go on only to
stop again."""

_PROBE = "probe"


def lacks(place: Path | int) -> tuple[str, str]:
    """Why there is no room on the disk of `place` (a path, or a descriptor), and the fix."""
    try:
        room = os.statvfs(place)
    except OSError:
        room = None
    if room is not None and room.f_files and not room.f_favail and room.f_bavail:
        return "the disk has no inode left", "remove files from it, however small"
    return "the disk is full", "free space"


def trouble(what: str, place: Path, error: OSError) -> DiskTrouble:
    """That `what` failed with `error` at `place`, as a sentence with the fix."""
    if error.errno in FULL:
        reason, fix = lacks(place)
        return DiskTrouble(f"{what}: {reason}", f"{fix} on the file system of {place}", full=True)
    reason = error.strerror or str(error)
    return DiskTrouble(f"{what}: {reason}", f"check the file system of {place} and its permissions")


def check_reserve(place: Path | int, size: int) -> None:
    """Raises `OSError` (`ENOSPC`) unless `RESERVE_BYTES` are left on the disk of `place` after `size` more."""
    room = os.statvfs(place)
    if room.f_bavail * room.f_frsize < size + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_room(directory: Path) -> None:
    """Raises `DiskTrouble` unless a new file of `ROOM_BYTES` can be made in `directory`, written and synced."""
    probe = directory / _PROBE
    try:
        fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, ROOM_BYTES)
            os.write(fd, bytes(4096))
            os.fsync(fd)
        finally:
            os.close(fd)
            os.unlink(probe)
    except OSError as error:
        raise trouble(f"the state directory {directory} takes nothing new", directory, error) from error
