"""The values that everything else speaks in. Frozen, and valid by construction.

Identity. A file or directory is an *id*, not a path: the *version* (entry index and position in that entry) of the
command that created it. Both are one integer, `index << 20 | position`, so that they sort by age and fit a column.
The root is id 0 and always exists.

Two versions per row. `version` changes when content, mode or mtime change; `placed` changes when the row gets another
parent or name. So an edit and a move of the same file, made on two nodes at once, both stand.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NewType

import msgspec

from onefold.core.paths import RelPath

Id = NewType("Id", int)
Version = NewType("Version", int)

POSITION_BITS = 20
COMMANDS_MAX = 1 << POSITION_BITS
"""Most commands in one entry."""

ROOT = Id(0)
NEW = Id(-1)
"""As the id of a `Put`: make a new file or directory at (parent, name)."""

NEVER = Version(0)
"""As `expect`: there was nothing there. As the version of a base row: what stands in the folder is no version of the
catalogue, though every byte of it is accounted for (a rejected edit that lives on as a conflict copy, say)."""


def version(index: int, position: int) -> Version:
    """The version made by the command at `position` (from 0) of entry `index` (from 1)."""
    return Version(index << POSITION_BITS | position)


def index_of(v: int) -> int:
    """The index of the entry that made version (or id) `v`."""
    return v >> POSITION_BITS


def made_by(position: int) -> Id:
    """A reference, inside one batch, to the id that the batch's own command at `position` makes.

    References are below `NEW`: -2 for position 0, -3 for position 1, and so on.
    """
    return Id(-2 - position)


def position_of(reference: Id) -> int:
    """The position that a reference made by `made_by` stands for."""
    return -2 - reference


class Kind(IntEnum):
    """What a row is. Sockets, pipes and devices are never replicated."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file, directory or symlink of the catalogue.

    `mode` holds the permission bits (0o777; 0 for symlinks). `mtime_ns` is nanoseconds since 1970 for files and 0 for
    all else. `size` is in bytes, 0 for directories. `content` is the BLAKE3 digest (32 bytes) of a file, the target of
    a symlink, empty for a directory.
    """

    id: Id
    parent: Id
    name: bytes
    kind: Kind
    version: Version
    placed: Version
    mode: int
    mtime_ns: int
    size: int
    content: bytes


ROOT_ROW = Row(ROOT, ROOT, b"", Kind.DIRECTORY, NEVER, NEVER, 0o755, 0, 0, b"")
"""The root as every catalogue starts with it. Its own mode is not replicated."""


# ------------------------------------------------------------------------------------------------ commands


class Put(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Give `id` this content and these attributes; with `id` = NEW, create it at (parent, name).

    `expect` is the version that the author had of `id` (NEVER for a creation). (parent, name) is where the author saw
    it, used only for a creation and for the conflict copy of a rejected edit. `content` is as in `Row`, or None when
    only attributes change; `size` belongs to `content`. `parent` may be a reference (`made_by`). `route`: as in
    `Batch`, of `id`, or of `parent` for a creation.
    """

    id: Id
    expect: Version
    parent: Id
    name: bytes
    kind: Kind
    mode: int
    mtime_ns: int
    size: int
    content: bytes | None
    route: Version = NEVER


class Remove(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Remove `id`, whose `version` the author had as `expect`. A directory must be empty by then. `route`: as in
    `Batch`."""

    id: Id
    expect: Version
    route: Version = NEVER


class Move(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Give `id`, whose `placed` the author had as `expect`, another place. Everything below it moves along.

    `parent` may be a reference (`made_by`), and so may `expect`: the place that the batch's own `Move` at that position
    gave it (a swap goes through a third name). `version` is the version that it must have besides (NEVER: any).
    `route`: as in `Batch`, the newer one of those of `id` and of `parent`.
    """

    id: Id
    expect: Version
    parent: Id
    name: bytes
    version: Version = NEVER
    route: Version = NEVER


class Seed(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The first leader's folder is in the log: from here on, what a node has beyond it is a stray or an edit."""


Command = Put | Remove | Move | Seed


class Origin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who sent a batch: a node, a number that grows with each start of it, and one that grows with each batch."""

    node: str
    incarnation: int
    sequence: int


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Commands that one node proposes together, in order. References (`made_by`) count within the batch.

    A command is about an id, wherever that is by now: so does an edit arrive in a directory that was moved meanwhile.
    Who means a path names its `route`: the newest `placed` of the row and of all that is above it. That is another one
    as soon as any of these has moved. NEVER names none.

    `answered`: nothing of it stands in a folder, and its author waits for the outcomes. So what is rejected leaves
    nothing, not even a conflict copy.
    """

    origin: Origin
    commands: tuple[Command, ...]
    answered: bool = False


API = "~api"
"""After a node's name, the name under which it sends what was asked of its API: a session of its own, since of each
origin only the newest batch is remembered. No node's name has a `~`."""


def author(origin: Origin) -> str:
    """The node that sent a batch of `origin`."""
    return origin.node.removesuffix(API)


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """What one entry of the log brings: batches in order, and the small contents they name, by digest."""

    batches: tuple[Batch, ...]
    contents: dict[bytes, bytes]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the log, at most 16 KiB as bytes.

    `pack` is the pack's bytes when they fit; otherwise None, and `digest` and `size` name the object that holds them.
    `rules` is the version of the rules of `apply`; `nonce` tells a late duplicate of another attempt from a retry.
    """

    rules: int
    term: int
    nonce: bytes
    pack: bytes | None
    digest: bytes
    size: int


# ------------------------------------------------------------------------------------------------ outcomes


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of one command.

    `accepted`, or else a conflict with its `reason`. `id` is the row that the command made or changed (for a conflict:
    the conflict copy made of its content, or NEW when there is none).
    """

    accepted: bool
    id: Id
    reason: str = ""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One row of the catalogue before and after an entry; None where it did not exist."""

    before: Row | None
    after: Row | None


class Applied(msgspec.Struct, frozen=True):
    """What applying one pack did: every row that changed (first `before`, last `after`), and each batch's outcomes."""

    index: int
    changes: dict[Id, Change]
    outcomes: dict[Origin, tuple[Outcome, ...]]


# ------------------------------------------------------------------------------------------------ the folder as seen


class Stat(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What identifies a file and shows that it changed. Times in nanoseconds, `mode` with the permission bits only.

    (`ino`, `btime_ns`) is identity across renames: an inode number alone is reused at once.
    """

    ino: int
    btime_ns: int
    mtime_ns: int
    ctime_ns: int
    size: int
    mode: int

    def same_file(self, other: Stat) -> bool:
        """Whether both are the same inode, whatever happened to it."""
        return self.ino == other.ino and self.btime_ns == other.btime_ns

    def unchanged(self, other: Stat) -> bool:
        """Whether nothing was written between the two. ctime is left out: our own renames change it."""
        return (
            self.ino == other.ino
            and self.mtime_ns == other.mtime_ns
            and self.size == other.size
            and self.mode == other.mode
            and self.btime_ns == other.btime_ns
        )


class Present(msgspec.Struct, frozen=True, gc=False):
    """Something stands there.

    `content` is as in `Row`. `data` is the content itself when it is small enough to ride in a pack. `settled` is
    False when the stat was too young to be trusted (20 ms) at the time of reading: look again later.
    """

    kind: Kind
    stat: Stat
    content: bytes
    data: bytes | None = None
    settled: bool = True


class Absent(msgspec.Struct, frozen=True, gc=False):
    """Nothing stands there: its parent, on the same file system, could be listed and does not hold it."""


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """It cannot be told (permission, I/O error, another mount): proposes nothing, and is a problem with this text."""

    reason: str


Observed = Present | Absent | Unknown


class BaseRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What this node last saw or put in its own folder, under one id.

    `version` is the catalogue's version that stands there, or NEVER (see there). `parent` and `name` are where it
    stands in this folder, `placed` the catalogue's version of the place that this node last had it at. `kind`, `mode`,
    `mtime_ns`, `size`, `content` are as in `Row`; `stat` as the folder had them.
    """

    id: Id
    parent: Id
    name: bytes
    kind: Kind
    version: Version
    placed: Version
    mode: int
    mtime_ns: int
    size: int
    content: bytes
    stat: Stat


# ------------------------------------------------------------------------------------------------ actions
# What a plan asks of the folder. Paths are those that hold when the action's turn comes. `row` is the catalogue's row
# to bring about; `base` is what the folder is believed to hold there, to be verified after the exchange.


class Make(msgspec.Struct, frozen=True, gc=False):
    """Create `row` at `path`, where the base has nothing. Equal content that already stands there is adopted."""

    row: Row
    path: RelPath


class Replace(msgspec.Struct, frozen=True, gc=False):
    """Exchange the file or symlink at `path`, believed to be `base`, for `row`."""

    row: Row
    path: RelPath
    base: BaseRow


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """Give what stands at `path` the mode (and, for a file, the mtime) of `row`; its content is `row`'s already."""

    row: Row
    path: RelPath
    base: BaseRow


class Aside(msgspec.Struct, frozen=True, gc=False):
    """Rename `path` into the temporaries, under its id, to make room; a later `Shift` or `Drop` fetches it there."""

    base: BaseRow
    path: RelPath


class Shift(msgspec.Struct, frozen=True, gc=False):
    """Rename `base` from `source` (None: from where `Aside` put it) to `path`, replacing nothing.

    `path` is in directory `parent`, and the base is to learn that it stands there by the placing `placed`.
    """

    base: BaseRow
    source: RelPath | None
    path: RelPath
    parent: Id
    placed: Version


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Remove `base` from `path` (None: from where `Aside` put it)."""

    base: BaseRow
    path: RelPath | None


class Discard(msgspec.Struct, frozen=True, gc=False):
    """Keep aside as a stray what stands at `path` and is in no base; a directory is only removed if empty."""

    path: RelPath
    kind: Kind


Action = Make | Replace | Attributes | Aside | Shift | Drop | Discard


class Done(msgspec.Struct, frozen=True, gc=False):
    """The action is carried out. `base` is the row that now stands for `id` in the base, None if there is none.

    For `Aside` and `Discard`, `base` is the row as it was, or None. `strays` counts what was kept aside on the way.
    `adopted`: a directory stood there already, with who knows what in it.
    """

    id: Id
    base: BaseRow | None
    strays: int = 0
    adopted: bool = False


class Edited(msgspec.Struct, frozen=True, gc=False):
    """Someone wrote at `path` since the base was taken: nothing of theirs was touched, look there again."""

    id: Id
    path: RelPath


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The folder refused (permission, space, name too long): a problem of this path, to be tried again."""

    id: Id
    path: RelPath
    reason: str


class Lacking(msgspec.Struct, frozen=True, gc=False):
    """What is to be made does not stand there already, and its content is not here yet."""

    id: Id
    path: RelPath


Result = Done | Edited | Failed | Lacking
