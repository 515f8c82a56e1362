"""What is read again, against base and catalogue: the difference, and what mends it.

The rules:

1.  A file whose bytes differ though nothing in its stat does was damaged by the disk, not written by a program: every
    write(2) and truncate(2) changes its ctime, which nobody can set back. That holds once it is *at rest*: nobody can
    write to it, and its times are so old that stores through mmap, which show only when their page is first written to
    after it went to the disk, would show by now. Such damage is never an edit: it is not proposed, the committed
    version takes its place, and its bytes are kept aside.
2.  Whatever else differs from the base was done by somebody. It is an edit, for the writers mode to handle, and never
    mended from here.
3.  What the base does not have as the catalogue has it was not placed (yet): placing it is tried again.
4.  A row of the base that has the catalogue's version, and something else than that version, is wrong: it is given up,
    and placed anew.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from onefold.core.model import Absent, BaseRow, Kind, Observed, Present, Row, Unknown

ROTTEN = "its content is damaged: it changed on the disk without being written"


class Remedy(Enum):
    """What mends a difference."""

    NONE = "nothing that is done from here"
    PLACE = "place it again"
    RELEARN = "give the base's row up, and place it again"
    REPLACE = "bring the committed version, and keep aside what stands there"


class Difference(msgspec.Struct, frozen=True):
    """Something is not as the catalogue says: `what`, as the end of a sentence about that path."""

    what: str
    remedy: Remedy


def inspect(row: BaseRow | None, committed: Row | None, seen: Observed, at_rest: bool) -> Difference | None:
    """Compare what was `seen` with the base's `row` and the `committed` one of the same id; None when all is well.

    `at_rest`: as in rule 1.
    """
    if row is None:
        return _without_base(committed, seen)
    if committed is None:
        return Difference("it is still here, and was removed", Remedy.PLACE)
    if (row.version, row.placed, row.parent, row.name) != (
        committed.version, committed.placed, committed.parent, committed.name,
    ):  # fmt: skip
        return Difference("another version of it is committed", Remedy.PLACE)
    if isinstance(seen, Unknown):
        return Difference(seen.reason, Remedy.NONE)
    if isinstance(seen, Absent):
        return Difference("it is missing", Remedy.NONE)
    return _edited(row, seen, at_rest) or _wrong(row, committed)


def _without_base(committed: Row | None, seen: Observed) -> Difference | None:
    if committed is not None:
        return Difference("it is missing", Remedy.PLACE)
    return Difference("it is not in the catalogue", Remedy.NONE) if isinstance(seen, Present) else None


def _edited(row: BaseRow, seen: Present, at_rest: bool) -> Difference | None:
    if seen.kind is not row.kind:
        return Difference("something of another kind stands there", Remedy.NONE)
    if seen.content != row.content:
        if row.kind is not Kind.FILE or seen.stat != row.stat:
            return Difference("its content differs", Remedy.NONE)
        if not at_rest:
            return Difference("its content differs, though its times do not (yet)", Remedy.NONE)
        return Difference(ROTTEN, Remedy.REPLACE)
    if row.kind is not Kind.SYMLINK and seen.stat.mode != row.mode:
        return Difference(f"its mode is {seen.stat.mode:o} instead of {row.mode:o}", Remedy.NONE)
    if row.kind is Kind.FILE and seen.stat.mtime_ns != row.mtime_ns:
        return Difference("its time of change differs", Remedy.NONE)
    return None


def _wrong(row: BaseRow, committed: Row) -> Difference | None:
    if (row.kind, row.mode, row.mtime_ns, row.size, row.content) == (
        committed.kind, committed.mode, committed.mtime_ns, committed.size, committed.content,
    ):  # fmt: skip
        return None
    return Difference("something else than its version stands there", Remedy.RELEARN)
