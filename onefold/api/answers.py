"""What the API answers, as values: the server makes them, `onefold.client` gives them to programs, and OpenAPI is
derived from them.

A path is told twice: `path` is for people (what is no UTF-8 shows as escapes), `href` for programs: percent-encoded
bytes, to be put into a URL as it is; `raw(href)` are the bytes. `digest` is BLAKE3 in hex.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

EntryKind = Literal["file", "directory", "symlink"]
Verb = Literal["created", "edited", "moved", "removed"]


def href(path: bytes) -> str:
    """`path` as it stands in a URL."""
    return quote_from_bytes(path)


def raw(href: str) -> bytes:
    """The path that `href` spells."""
    return unquote_to_bytes(href)


class ProblemTold(msgspec.Struct, frozen=True):
    """Something wrong that a person can mend: what, where (a path, or "" for the node), and the fix."""

    what: str
    where: str = ""
    fix: str = ""


class CatchingUp(msgspec.Struct, frozen=True):
    """How far a node has come that catches up: `done` of `total`, with the "catalogue", or with "files"."""

    what: str
    done: int
    total: int


class NodeStatus(msgspec.Struct, frozen=True):
    """A node as it is now. `role`: leader, voter, replica, standby or down; of the last two nothing else is known but
    their problems. `applied`, `in_place` and `durable` are indices of the log."""

    name: str
    role: str
    applied: int | None = None
    in_place: int | None = None
    durable: int | None = None
    digest: str | None = None
    files: int | None = None
    strays: int | None = None
    mended: int | None = None
    progress: CatchingUp | None = None
    problems: tuple[ProblemTold, ...] = ()


class RecentEntry(msgspec.Struct, frozen=True):
    """An entry of the log: its first path, how many commands it had, and the milliseconds from the first sign of the
    edit until it was in place on every live node (null: not yet)."""

    index: int
    path: str
    verb: str
    commands: int
    everywhere_ms: float | None = None


class Status(msgspec.Struct, frozen=True):
    """The cluster as the node `node` knows it; `leader` is "" while nobody leads."""

    node: str
    leader: str
    term: int
    nodes: tuple[NodeStatus, ...]
    recent: tuple[RecentEntry, ...] = ()


class MemberTold(msgspec.Struct, frozen=True):
    """A member; `address` is the first of its ports, `api` where its API answers."""

    name: str
    address: str
    api: str
    voter: bool
    role: str
    live: bool


class Members(msgspec.Struct, frozen=True):
    members: tuple[MemberTold, ...]


class Leads(msgspec.Struct, frozen=True):
    """Who leads, in which term."""

    leader: str
    term: int


class ConfirmedTold(msgspec.Struct, frozen=True):
    """`removals`: how many files and directories that are gone from the folder of `node` are removed everywhere now."""

    node: str
    removals: int


class ListEntry(msgspec.Struct, frozen=True):
    """One name in a directory. `digest` is for files, `target` for symlinks."""

    name: str
    href: str
    kind: EntryKind
    size: int
    mode: int
    mtime_ns: int
    digest: str | None
    target: str | None
    version: int
    id: int


class Listing(msgspec.Struct, frozen=True):
    """A directory as it was at `index`. `next`: there is more, after that name (percent-encoded)."""

    path: str
    href: str
    index: int
    entries: tuple[ListEntry, ...]
    next: str | None = None


class Written(msgspec.Struct, frozen=True):
    """What stands there now, and the entry of the log that says so."""

    path: str
    href: str
    version: int
    index: int
    digest: str | None = None
    size: int = 0


class Removed(msgspec.Struct, frozen=True):
    index: int


class MovedTo(msgspec.Struct, frozen=True):
    index: int
    version: int


class PastChange(msgspec.Struct, frozen=True):
    """A change that the history knows; `node` made it."""

    index: int
    version: int
    verb: Verb
    path: str
    href: str
    node: str
    size: int | None = None
    digest: str | None = None
    mtime_ns: int | None = None


class History(msgspec.Struct, frozen=True):
    """Newest first."""

    changes: tuple[PastChange, ...]


class StrayTold(msgspec.Struct, frozen=True):
    """Bytes of `node`'s folder that were kept aside. `kept_at`: seconds since 1970."""

    id: str
    node: str
    path: str
    href: str
    size: int
    kept_at: float


class StraysTold(msgspec.Struct, frozen=True):
    """`missing` names the nodes that did not answer."""

    strays: tuple[StrayTold, ...]
    missing: tuple[str, ...] = ()


class ChangeTold(msgspec.Struct, frozen=True):
    """One change of an entry. What was removed has the kind that it had, and nothing else."""

    verb: Verb
    path: str
    href: str
    kind: EntryKind
    size: int | None = None
    digest: str | None = None
    version: int | None = None


class Changed(msgspec.Struct, frozen=True):
    """An entry of the log was applied. `node` wrote it; of many changes some are `omitted`, which are so many."""

    index: int
    node: str
    changes: tuple[ChangeTold, ...]
    omitted: int = 0


class Placed(msgspec.Struct, frozen=True):
    """An entry is in place on every live node, so long after the first sign of the edit."""

    index: int
    everywhere_ms: float


class Reset(msgspec.Struct, frozen=True):
    """What happened after the index that was asked for is not known any more, up to `index`: list anew."""

    index: int


class ApiProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong: `title` is one sentence, `fix` says what to do. `away`: nothing was done, since this node stands
    by, and another one may do it."""

    status: int
    title: str
    fix: str = ""
    away: bool = False
