"""What the node needs of the world, as Protocols. Each has an adapter in `edge/`, and one conformance suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from onefold.core.history import Record
from onefold.core.hooks import Placed
from onefold.core.messages import HookState, Message, Problem
from onefold.core.model import Action, BaseRow, Id, Kind, Observed, Result, Row, Unknown
from onefold.core.paths import RelPath
from onefold.core.roster import Roster, Standing
from onefold.core.rows import Last, Rows
from onefold.core.views import BaseView

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task whose failure is the failure of the node: nothing goes wrong in silence."""


class Clock(Protocol):
    """Time for the node: `now` is monotonic seconds; only for waiting and for people, never for a decision of order."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


# ---------------------------------------------------------------------------------------------------- the log


class Leader(msgspec.Struct, frozen=True):
    """Who leads. `term` is the mod-revision of the leader key: the fencing token. `reason` says how it came about
    ("start", "failover", "handover", "command")."""

    node: str
    term: int
    reason: str


class Append(msgspec.Struct, frozen=True):
    """How an append ended: `committed`, or else what stands there: the current term (0: nobody leads), the index of
    the newest entry, and the bytes of `log/index` (None: nothing)."""

    committed: bool
    term: int
    head: int
    standing: bytes | None


class Log(Protocol):
    """The replicated log of one folder, and the key that says who leads it.

    Every method that asks raises `LogUnavailable` when no majority answered in time; the outcome is then unknown and
    asking again with the same arguments is safe.
    """

    async def head(self) -> int:
        """The index of the newest entry, 0 for none; linearizable."""
        ...

    async def append(self, term: int, index: int, entry: bytes) -> Append:
        """Write `entry` at `index` if `term` still leads and `index` is the next; one transaction.

        If exactly these bytes already stand at `index`, an earlier attempt was committed: so is this answer.
        """
        ...

    def entries(self, first: int) -> AsyncIterator[tuple[int, bytes]]:
        """Every entry from `first` on, in order, without a gap, for ever: history, then live.

        Raises `LogTrimmed` when the log no longer holds the entry that would be next.
        """
        ...

    async def first(self) -> int:
        """The index of the oldest entry that the log holds; `head` + 1 when it holds none."""
        ...

    async def trim(self, term: int, through: int) -> None:
        """Forget the entries up to and including `through`, if `term` still leads; else nothing changes.

        Again, or late, is harmless. Raises `Bug` when `through` is not before the newest entry: that one always stays.

        Only what a majority has durable may go, and never the newest few: a leader recognises an append of its own
        that went unanswered by what stands in the log. It has one append in flight, the newest entry, so its own
        trimming never takes that. An old leader that repeats an append long after a later one trimmed it is told that
        it was not committed: it is deposed, and its batch is sent again and answered with its first outcome.
        """
        ...

    async def tidy(self, leads: bool) -> None:
        """Keep small what holds the log. Every voter calls it, about every 10 s; `leads`: this one leads the log."""
        ...

    async def leader(self) -> Leader | None:
        """Who leads, linearizable. None: nobody."""
        ...

    def leaders(self) -> AsyncIterator[Leader | None]:
        """Who leads, now and after each change, for ever. May skip an intermediate leader, never the newest."""
        ...

    async def take(self, node: str, seen: int, reason: str) -> Leader | None:
        """Become leader if the leader key is still as in term `seen` (0: nobody leads), and keep it alive from then on.

        Returns who leads afterwards: compare its `node` and that its term is new. A retry after `LogUnavailable` is
        safe: a first attempt that succeeded is recognised.
        """
        ...

    async def hand_over(self, term: int, node: str, reason: str) -> Leader | None:
        """Give leadership of `term` to `node`; returns who leads afterwards."""
        ...

    async def resign(self, term: int) -> None:
        """Give up leadership of `term` if it is still held; nobody leads then."""
        ...

    def problems(self) -> list[Problem]:
        """What keeps the log from answering just now."""
        ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------------- content


class Rereading(Protocol):
    """A file that is read again, slice by slice, from the disk rather than from memory. One thread at a time."""

    def step(self) -> int:
        """Read and hash the next slice; answers how long it is, 0 at the end. Raises `OSError`."""
        ...

    def digest(self) -> bytes:
        """The digest of all that was read."""
        ...

    def size(self) -> int:
        """How much was read."""
        ...

    def close(self) -> None: ...


class Objects(Protocol):
    """Immutable content by digest, verified on arrival, fsynced before it counts. Safe to call from any thread."""

    def has(self, digest: bytes) -> bool: ...

    def put(self, digest: bytes, data: bytes) -> None:
        """Store and fsync. Raises `ContentMismatch` if `data` is not what `digest` names."""
        ...

    def receive(self, digest: bytes, size: int, chunks: Iterable[bytes | memoryview]) -> None:
        """Store a stream, hashing as it arrives, and fsync. Raises `ContentMismatch`; leaves nothing behind then."""
        ...

    def resume(self, digest: bytes, size: int, chunks: Callable[[int], Iterable[bytes | memoryview]]) -> None:
        """As `receive`, from `chunks(offset)`, the bytes from there on: what arrived before is not asked for again.
        What has arrived is kept when `chunks` raises `PeerGone`."""
        ...

    def read(self, digest: bytes) -> bytes:
        """The whole content. Raises `KeyError` when it is not here."""
        ...

    def path(self, digest: bytes) -> Path:
        """The file that holds it, for reading only. Raises `KeyError` when it is not here."""
        ...

    def reread(self, digest: bytes) -> Rereading:
        """Its file, to be read again. Raises `KeyError` when it is not here, `OSError`."""
        ...

    def distrust(self, digest: bytes) -> None:
        """Its file is damaged: it is not here any more, until it is stored again."""
        ...

    def release(self, digest: bytes) -> None:
        """Forget it; no error when it is not here."""
        ...

    def digests(self) -> Iterator[bytes]:
        """All that are here."""
        ...


class Peers(Protocol):
    """Connections to the other nodes, mutually authenticated."""

    def connected(self) -> frozenset[str]:
        """The peers with a live connection, by name."""
        ...

    def tell(self, node: str, message: Message) -> None:
        """Send without an answer; dropped silently when there is no connection (reports are repeated anyway)."""
        ...

    async def ask(self, node: str, message: Message, seconds: float) -> Message:
        """Send and await the answer. Raises `PeerGone` (no connection, no answer in time) or `PeerRefused`."""
        ...

    def last_heard(self, node: str) -> float | None:
        """When `node` was last heard (monotonic seconds), None for never."""
        ...

    def problems(self) -> list[Problem]: ...

    async def fetch(self, digest: bytes, size: int, sources: Sequence[str]) -> None:
        """Bring the object into our `Objects`, durable, from the first of `sources` that has it.

        Raises `PeerError` when none could give it. Fetches of the same digest at once share one transfer.
        """
        ...


class PeerHandler(Protocol):
    """What the node does with what peers say. Called on the event loop."""

    async def answer(self, peer: str, message: Message) -> Message:
        """Answer an `ask`. A raised `OnefoldError` is sent as `Refused`."""
        ...

    def heard(self, peer: str, message: Message) -> None: ...

    def joined(self, peer: str) -> None: ...

    def left(self, peer: str) -> None: ...

    async def locate(self, digest: bytes) -> Path | bytes | None:
        """Where the content of `digest` can be read here: bytes, an object's file, or a file in the folder (which the
        receiver verifies). None: not here."""
        ...


# ---------------------------------------------------------------------------------------------------- the folder


class Hint(msgspec.Struct, frozen=True, gc=False):
    """The watcher's word that something may have changed at `path`.

    `certain`: look at once (a close after writing, a rename, a removal); else after a short quiet (an open file that is
    being written). `content`: the content may differ though the stat does not, so hash it. `tree`: everything below may
    differ as well. `origin`: it is a directory that was there before; what was hinted at below that is here now.
    """

    path: RelPath
    certain: bool
    content: bool
    tree: bool
    origin: RelPath | None = None


class Watcher(Protocol):
    """Says where to look. Hints may be superfluous; a lost one is repaired by `tree` hints and the sweep."""

    def drain(self) -> list[Hint]:
        """All hints of what happened before this call. Adds watches for directories as they appear."""
        ...

    def fileno(self) -> int:
        """Readable when `drain` has something to say."""
        ...

    def problems(self) -> list[Problem]: ...

    def close(self) -> None: ...


CHANGING = Unknown("the file is being written to")
"""What `Scanner.observe` answers for a file that changed during each reading: ask again, or take a snapshot of it."""

LARGE = Unknown("it is large: look again, off the loop")
"""What `Scanner.observe` answers instead of reading a large file when it was not told to."""


class Listing(msgspec.Struct, frozen=True):
    """A complete, error-free listing of one directory: the names that may be replicated."""

    names: tuple[bytes, ...]


class FileRereading(Rereading, Protocol):
    """A file of the folder that is read again."""

    def observed(self) -> tuple[Observed, bool]:
        """What was read, after the last slice; and whether it is at rest (`core.inspect`)."""
        ...


class Scanner(Protocol):
    """Looks. Safe to call from a thread; holds no state of the folder."""

    def session(self) -> AbstractContextManager[None]:
        """Around one round of looking: directories stay open, the ignore file is read once."""
        ...

    def observe(self, path: RelPath, known: BaseRow | None, content: bool, large: bool = False) -> Observed:
        """What stands at `path`. With `known` whose stat still holds and `content` False, nothing is read and the known
        content is repeated. Never follows a symlink, never leaves the file system of the root.

        Reading a file over `small_bytes_max` takes a while: without `large`, the answer is the constant `LARGE`.
        """
        ...

    def observe_snapshot(self, path: RelPath, destination: Path) -> Observed:
        """Copy the file at `path` as it is now to the new file `destination`, and answer for that copy: for a file that
        never rests. `destination` is not made when no file stands there. Raises `OSError` for trouble with the copy."""
        ...

    def reread(self, path: RelPath) -> FileRereading | Observed:
        """The file at `path`, to be read again whatever its stat says; or what else stands there."""
        ...

    def listing(self, path: RelPath) -> Listing | Observed:
        """The names in directory `path`; or what stands there instead (Present of another kind, Absent, Unknown)."""
        ...

    def ignored(self, path: RelPath, directory: bool) -> bool:
        """Whether `.onefoldignore` hides `path`. Ask only for paths that the base does not hold."""
        ...

    def rules_problem(self) -> str:
        """What is wrong with `.onefoldignore`; "" for nothing."""
        ...


class Hooks(Protocol):
    """The programs that are run after changes, and what is written down of changes that they have not been run for."""

    debounces: Mapping[str, float]
    """The hooks by name, each with the seconds for which its changes must rest."""

    def note(self, changes: Sequence[Placed]) -> None:
        """Write down that these came in place: after a crash they are known still. On the event loop, so it is quick.
        Raises `OSError`."""
        ...

    def sort(self) -> Sequence[str]:
        """Find out which hooks want what was noted, and answer those. Takes a while: in a thread. Raises `OSError`."""
        ...

    def waiting(self) -> Sequence[str]:
        """The hooks with changes that they have not been run for."""
        ...

    async def run(self, name: str, index: int) -> None:
        """Run the program of hook `name`, and return once it has ended, or was ended for taking too long. Its folder is
        in place at `index`. What becomes of it is in `states`. If this is cancelled, it is ended, and `waiting` again.
        Raises `OSError` for trouble with what is written down."""
        ...

    def states(self) -> Sequence[HookState]: ...


class Stray(msgspec.Struct, frozen=True):
    """Something kept aside: `path` is where it stood, `size` in bytes (0 for a directory), `when` in unix seconds. It
    is at `file`."""

    id: str
    path: RelPath
    kind: Kind
    size: int
    when: float
    reason: str
    file: Path


class Strays(Protocol):
    """What was kept aside on this node. Safe from any thread, but for `count`."""

    def count(self) -> int: ...

    def list(self) -> Sequence[Stray]:
        """All of them, oldest first."""
        ...

    def find(self, id: str) -> Stray:
        """Raises `NotFound`."""
        ...

    def remove(self, id: str) -> None:
        """Delete it for ever. Raises `NotFound`."""
        ...


class Contents(Protocol):
    """Where a plan's contents come from, by digest: bytes when small, else a file to copy from. Raises `KeyError`."""

    def __call__(self, digest: bytes) -> bytes | Path: ...


class Materialiser(Protocol):
    """Carries actions out in the folder: exchange, then verify. Safe to call from a thread, one call at a time."""

    def run(self, actions: Sequence[Action], contents: Contents, keep_edits: bool) -> list[Result]:
        """Carry out `actions` in order and answer one result each; never raises for one path's trouble.

        `keep_edits`: where an edit stands in the way, leave it there and answer `Edited`; otherwise keep it aside as a
        stray and go on.
        """
        ...

    def intents(self, actions: Sequence[Action]) -> bytes:
        """What must be known of `actions` to recover from a crash in the middle of them."""
        ...

    def sync(self) -> None:
        """Returns when everything written so far is on disk. Raises `DiskTrouble`: some of it may be lost then."""
        ...


# ---------------------------------------------------------------------------------------------------- memory


class CatalogueStore(Rows, Protocol):
    """Where the catalogue is kept: its rows, and its state after the newest entry. One transaction per entry."""

    durable: int
    """The index up to which a completed sync has put all of it on disk."""

    @property
    def copied(self) -> int:
        """The index at which it was copied from a peer, who had all contents; 0 if it never was."""
        ...

    def transaction(self) -> AbstractContextManager[None]: ...

    def keep_pack(self, index: int, digest: bytes) -> None:
        """Entry `index` came in the pack `digest`, an object that is kept for as long as the log keeps the entry."""
        ...

    def packs(self) -> Sequence[tuple[int, bytes]]:
        """All packs that are kept: the entry's index, and the digest."""
        ...

    def forget_packs(self, through: int) -> None:
        """The log keeps the entries up to `through` no more."""
        ...

    def note(self, records: Sequence[Record]) -> None:
        """What the newest entry did: in its transaction. The oldest records are forgotten."""
        ...

    def history(self, before: int, limit: int) -> Sequence[Record]:
        """The newest `limit` records with versions before `before`, newest first."""
        ...

    def history_of(self, path: RelPath, id: Id | None, before: int, limit: int) -> Sequence[Record]:
        """As `history`, of `id` and of whatever else was at `path`, wherever that was at other times."""
        ...

    def save_state(self, index: int, digest: int, files: int, seeded: bool) -> None: ...

    def begin_copy(self) -> None:
        """What `copy` is given from now on is another catalogue, that of a peer."""
        ...

    def copy(self, rows: Iterable[Row]) -> None:
        """More rows of it."""
        ...

    def end_copy(self, index: int, digest: int, files: int, seeded: bool, lasts: Iterable[tuple[str, Last]]) -> None:
        """It is complete, and takes the place of the catalogue that was here, in one transaction."""
        ...


class RecentContents(Protocol):
    """The small contents that came with recent packs, until they are in place and durable. Safe from any thread."""

    def remember(self, index: int, contents: dict[bytes, bytes]) -> None:
        """Keep what came with entry `index`; before the entry's transaction, so that what it names can be had."""
        ...

    def get(self, digest: bytes) -> bytes | None: ...

    def forget(self, up_to: int) -> None:
        """Forget what no entry after `up_to` brought."""
        ...


class BaseStore(BaseView, Protocol):
    """Where the base is kept."""

    joined: bool
    """Whether this base has been one with the catalogue since it was made: until then its node proposes nothing."""
    behind: int
    """As long as the catalogue has not come to this index, it is older than the folder, and no plan is made of it."""
    scrubbed: Id
    """Up to which id the scrub that is under way has come; `NEW` when none is."""
    scrub_due: float
    """When the next scrub is due, in seconds since 1970."""

    def transaction(self) -> AbstractContextManager[None]: ...

    def put(self, row: BaseRow) -> None:
        """Make `row` the row of its id. Whoever else stood at its place loses its row."""
        ...

    def delete(self, id: Id) -> None: ...

    def lookup(self, path: RelPath) -> BaseRow | None:
        """The row at `path`; None for the root, which has none."""
        ...

    def path(self, id: Id) -> RelPath:
        """Where the folder has `id`."""
        ...

    def by_content(self, digest: bytes) -> Sequence[BaseRow]: ...

    def page(self, after: Id, limit: int) -> Sequence[BaseRow]:
        """The first `limit` rows with ids beyond `after`, by id."""
        ...

    def open_intents(self, intents: Iterable[tuple[int, bytes]]) -> None:
        """Write down what is about to be done in the folder, before the first of it is done."""
        ...

    def close_intents(self) -> None:
        """What was intended is done and in the rows: in the transaction that puts those."""
        ...


# ---------------------------------------------------------------------------------------------------- the roster


class RosterStore(Protocol):
    """The cluster's roster: one document, replaced by compare-and-set. Whatever asks raises `LogUnavailable` when no
    majority answered in time; asking again is safe."""

    async def read(self) -> Standing:
        """As it stands now; linearizable."""
        ...

    async def replace(self, roster: Roster, revision: int) -> bool:
        """Put `roster` where the one of `revision` (0: none) stands; False when another has taken its place."""
        ...

    def follow(self) -> AsyncIterator[Standing]:
        """The roster, and then each later one, for ever. Of several in a row only the last may be told."""
        ...

    async def close(self) -> None: ...
