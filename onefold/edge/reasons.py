"""Why an action is not carried out: one clause that names the fix, for the person who reads the node's problems."""

from __future__ import annotations

import errno
from typing import Final

from onefold.disk import lacks

HELD: Final = "a program holds it open for writing; it is replaced once that is closed"
CHANGED: Final = "it has just been changed here; it is tried again"
SPECIAL: Final = "a socket, pipe or device stands there; move it away"

_REASONS = {
    errno.EDQUOT: "the disk quota is used up; free space or raise it",
    errno.EEXIST: "a temporary of an earlier run is in the way; restart the node, which keeps it as a stray",
    errno.EACCES: "permission denied; let the user that runs Onefold write in its directory",
    errno.EPERM: "the system refuses it (immutable, or of another user); see lsattr and ls -l",
    errno.EROFS: "the file system is read-only; remount it for writing",
    errno.ENAMETOOLONG: "the name is too long for this file system; rename it",
    errno.EXDEV: "another file system is mounted there; unmount it or leave that directory out",
    errno.EBUSY: "something is mounted there; unmount it",
    errno.EILSEQ: "this file system does not take such a name; rename it",
    errno.EINVAL: "this file system cannot do it",
    errno.EIO: "the disk failed; check it",
    errno.EFBIG: "it is too large for this file system",
    errno.EMLINK: "too many directories in one; spread them",
}


class Stop(Exception):
    """The action cannot be carried out, for this reason; nothing of it is left behind."""


class NotHere(Stop):
    """The content that it needs is not here."""


def reason_of(error: OSError, folder: int) -> str:
    """`folder` is a descriptor of it."""
    if error.errno == errno.ENOSPC:
        return "; ".join(lacks(folder))
    return _REASONS.get(error.errno or 0, error.strerror or "failed")
