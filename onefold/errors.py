"""Every error Onefold raises on purpose, as a small tree by who must act.

An error carries what happened, to which node or path, and what to do about it, so that its text is one clear
sentence with the fix. `UserError` and `OperatorError` end a command with that sentence and a non-zero exit, never
with a traceback; `PeerError` is handled by the node (retried elsewhere, or refused); `Bug` is ours and is never caught.
"""

from __future__ import annotations


class OnefoldError(Exception):
    """Base of all. `what` says what happened and to what; `fix` says what to do ("" when nothing can be done)."""

    exit_code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}: {fix}" if fix else what)


class UserError(OnefoldError):
    """Whoever gave the command, the name or the setting must give another."""

    exit_code = 2


class BadPath(UserError):
    """A name or path that no folder of ours may hold."""


class NotFound(UserError):
    """Nothing stands at a path, or nothing is called so."""


class InTheWay(UserError):
    """What stands there does not allow what was asked: a directory that is not empty, a file above a path."""


class PreconditionFailed(UserError):
    """What stands there is not what the asker made a condition; nothing was changed."""


class BadSetting(UserError):
    """A setting is unknown, malformed or out of range."""


class OperatorError(OnefoldError):
    """Whoever runs the machine must act: a port, a disk, a package, a permission."""

    exit_code = 3


class Dismissed(OperatorError):
    """This node is no member of the cluster any more: it ends, and is not started again."""

    exit_code = 5


class DiskTrouble(OperatorError):
    """A disk is full, failed, is not mounted or closed to us: what failed works again once that is mended. A node that
    cannot go on without it stands by until then. `full`: nothing is wrong with what it holds."""

    def __init__(self, what: str, fix: str = "", full: bool = False) -> None:
        self.full = full
        super().__init__(what, fix)


class LogUnavailable(OperatorError):
    """No majority of etcd answered in time. The outcome of what was asked is unknown; asking again is safe."""


class LogTrimmed(OnefoldError):
    """The log no longer holds entry `first`, which was asked for: what it did has to come from a peer's state."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the log no longer holds entry {first}", "let this node join anew, from a peer's state")
        self.first = first


class Unavailable(OperatorError):
    """Not now: nobody leads, no majority answers, or this node does not know the folder yet. `unknown`: what was asked
    may have been done all the same, or be done later."""

    def __init__(self, what: str, fix: str = "", unknown: bool = False) -> None:
        self.unknown = unknown
        super().__init__(what, fix)


class PeerError(OnefoldError):
    """Another node failed, vanished, refused or sent something wrong."""

    exit_code = 4


class PeerGone(PeerError):
    """The connection to the peer closed, or it did not answer in time."""


class PeerRefused(PeerError):
    """The peer answered that it will not or cannot."""


class PeerAway(PeerRefused):
    """The peer stands by: another one may answer."""


class ContentMismatch(PeerError):
    """Bytes arrived that are not those their digest names; they were dropped."""


class Bug(OnefoldError):
    """An invariant of ours is broken: the node stops rather than spread it."""

    exit_code = 70
