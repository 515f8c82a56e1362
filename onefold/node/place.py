"""Catalogue into the folder: plan, fetch what is not here, carry out, and write down in the base what now stands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from onefold.core import wire
from onefold.core.messages import Problem
from onefold.core.model import (
    NEW,
    ROOT,
    Action,
    Applied,
    Aside,
    Attributes,
    BaseRow,
    Discard,
    Done,
    Edited,
    Failed,
    Id,
    Kind,
    Make,
    Pack,
    Replace,
    Result,
    Shift,
)
from onefold.core.paths import RelPath, show
from onefold.core.plan import plan
from onefold.core.views import RowView
from onefold.errors import ContentMismatch, OperatorError, PeerError
from onefold.ports import BaseStore, Materialiser, Objects, Peers, RecentContents, Spawn

SLICE = 256
"""Actions carried out before the loop gets its turn: about 25 ms of small files. Each slice is a transaction, which
writes every page of the base that it touches: smaller slices cost more than they please."""
INLINE_BYTES_MAX = 1 << 20
"""A slice that writes more is carried out in a thread."""
RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 5.0
PATIENCE = 6
"""Tries after which a path that still differs is a problem for a person to see; `in_place` no longer waits for it."""

EMPTY = wire.content_digest(b"")

log = structlog.get_logger()


class Placer:
    """Heads for the newest catalogue; a superseded version is never waited for. Where it has arrived is *in place*.

    Invariant: the base is changed only after the folder was, and the intents are written before. So at any crash the
    folder is what the base says, or what the intents say it was to become.
    """

    def __init__(
        self,
        catalogue: RowView,
        base: BaseStore,
        contents: RecentContents,
        objects: Objects,
        peers: Peers,
        materialiser: Materialiser,
        root: bytes,
        applied_index: Callable[[], int],
        keep_edits: Callable[[], bool],
        look_again: Callable[[RelPath], None],
        look_into: Callable[[RelPath], None],
        in_place: Callable[[int], None],
        spawn: Spawn,
    ) -> None:
        """`keep_edits`: whether this node may propose, so that an edit in the way is left for it. `look_again(path)`:
        an edit was met there. `look_into(path)`: a directory was met there, and may hold more than the base has in it.
        `in_place(index)`: the folder has arrived at that index."""
        self._catalogue = catalogue
        self._base = base
        self._contents = contents
        self._objects = objects
        self._peers = peers
        self._materialiser = materialiser
        self._root = root
        self._applied_index = applied_index
        self._keep_edits = keep_edits
        self._look_again = look_again
        self._look_into = look_into
        self._arrived = in_place
        self._spawn = spawn
        self._dirty: set[Id] = set()
        self._discards: list[Action] = []
        self._wake = asyncio.Event()
        self._recent: dict[bytes, bytes] = {}
        self._fetching: dict[bytes, asyncio.Task[None]] = {}
        self._stuck: set[bytes] = set()  # what is being fetched, and has no room here
        self._tries: dict[Id, int] = {}
        self._problems: dict[Id, Problem] = {}
        self._halted = False
        self.in_place = -1
        self.epoch = 0
        """Grows with every run in the folder."""
        self.folder = asyncio.Lock()
        """Held while the folder is written to; whoever compares it with the base holds it, too."""

    # -------------------------------------------------------------------------------------------- what is to be done

    def note(self, pack: Pack, applied: Applied, own: bool, agreed: set[Id]) -> None:
        """An entry was applied. `own`: this node alone wrote it, so its folder holds the contents already. `agreed`:
        ids for which the folder is what the catalogue says."""
        if not own:
            self._recent.update(pack.contents)
        self.want(applied.changes.keys() - agreed)

    def want(self, ids: Iterable[Id], actions: Sequence[Action] = ()) -> None:
        """Bring these ids, of which something is new, to what the catalogue says, after carrying out `actions`."""
        for id in ids:
            self._dirty.add(id)
            self._settled(id)  # what was tried before was something else
        self._discards.extend(actions)
        self._wake.set()

    def halt(self) -> None:
        """Touch the folder no more: the catalogue cannot be trusted."""
        self._halted = True

    def problems(self) -> list[Problem]:
        return list(self._problems.values())

    @property
    def busy(self) -> bool:
        """Whether the folder is still being brought to the catalogue."""
        fetching = self._fetching.keys() - self._stuck
        return bool(self._dirty or self._discards or fetching or any(t < PATIENCE for t in self._tries.values()))

    # -------------------------------------------------------------------------------------------- doing it

    async def run(self) -> None:
        """Place whatever is noted, for ever."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._halted:
                continue
            while (self._dirty or self._discards) and not self._halted:
                await self._round()
            if not self.busy:
                self._recent.clear()
                self.in_place = self._applied_index()
                self._arrived(self.in_place)

    async def _round(self) -> None:
        ids, self._dirty = self._dirty, set()
        discards = [action for action in self._discards if not self._is_overtaken(action)]
        self._discards = []
        # What is moved back may be wanted elsewhere by now: planned again once it is back.
        back = {action.base.id for action in discards if isinstance(action, Shift)}
        self._dirty |= back
        actions = [*discards, *plan(ids - back, self._catalogue, self._base)]
        for id in ids - {_subject(action) for action in actions}:
            self._settled(id)
        ready = [action for action in actions if self._content_is_here(action)]
        whole = any(isinstance(action, Aside) for action in ready)  # what is aside must not outlive its run
        step = len(ready) if whole else SLICE
        for first in range(0, len(ready), step or 1):
            await self._carry_out(ready[first : first + step])
            await asyncio.sleep(0)

    def _is_overtaken(self, action: Action) -> bool:
        """Whether what was to be discarded had to give way, or was adopted, before its turn came."""
        return isinstance(action, Discard) and self._base.lookup(action.path) is not None

    async def _carry_out(self, actions: list[Action]) -> None:
        async with self.folder:
            self._base.open_intents([(0, self._materialiser.intents(actions))])
            self.epoch += 1
            keep = self._keep_edits()
            if sum(map(_bytes, actions)) > INLINE_BYTES_MAX:
                results = await asyncio.to_thread(self._materialiser.run, actions, self._content, keep)
            else:
                results = self._materialiser.run(actions, self._content, keep)
            with self._base.transaction():
                self._base.close_intents()
                self._dirty |= store(self._base, self._rows(actions, results))

    def recovered(self, done: Sequence[tuple[Action, Result]]) -> None:
        """What the last run before a crash had carried out: into the base, before anything else is done."""
        with self._base.transaction():
            self._base.close_intents()
            rows = self._rows([action for action, _ in done], [result for _, result in done])
            self._dirty |= store(self._base, rows)

    def _rows(self, actions: Sequence[Action], results: Sequence[Result]) -> dict[Id, BaseRow | None]:
        """What the base must learn from a run."""
        rows: dict[Id, BaseRow | None] = {}
        lost: list[Id] = []
        for action, result in zip(actions, results, strict=True):
            if isinstance(action, Make) and isinstance(result, Done) and self._is_elsewhere(result.base, rows):
                result = Edited(action.row.id, action.path)
            if isinstance(result, Done):
                if isinstance(action, Aside) and result.base is None:
                    lost.append(action.base.id)
                if isinstance(action, Discard | Aside):
                    continue
                if isinstance(action, Replace) and action.base.id != action.row.id:
                    rows[action.base.id] = None
                rows[result.id] = result.base
                if result.adopted and isinstance(action, Make):
                    self._look_into(action.path)
                self._settled(result.id)
                continue
            if isinstance(action, Shift) and _moves_back(action):
                lost.append(action.base.id)  # what was moved is kept aside, and made anew where it belongs
                if action.source is not None:
                    self._look_again(action.source)
            self._look_again(result.path)
            reason = result.reason if isinstance(result, Failed) else "it was changed here"
            self._later(_subject(action), reason, result.path)
        # Last: what was done to it in the same run is not to outlive it.
        rows.update(dict.fromkeys(lost))
        self._dirty.update(lost)
        return rows

    def _is_elsewhere(self, made: BaseRow | None, rows: Mapping[Id, BaseRow | None]) -> bool:
        """Whether the directory adopted as `made` is one that the base has under another id: it was moved there."""
        if made is None or made.kind is not Kind.DIRECTORY:
            return False
        known = self._base.by_inode(made.stat.ino, made.stat.btime_ns)
        return known is not None and known.id != made.id and rows.get(known.id, known) is not None

    # -------------------------------------------------------------------------------------------- trying again

    def _later(self, id: Id, what: str, path: RelPath) -> None:
        if id == NEW:
            return
        tries = self._tries[id] = self._tries.get(id, 0) + 1
        if tries == 1:
            log.info("not done yet", path=show(path), reason=what)
        elif tries == PATIENCE:
            log.warning("the folder refused", path=show(path), reason=what)
        if tries >= PATIENCE:
            self._problems[id] = Problem.of(what, show(path), "it is tried again by itself")
        delay = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2**tries)
        asyncio.get_running_loop().call_later(delay, self._retry, id)

    def _retry(self, id: Id) -> None:
        if id in self._tries:
            self._again([id])

    def _again(self, ids: Iterable[Id]) -> None:
        self._dirty.update(ids)
        self._wake.set()

    def _settled(self, id: Id) -> None:
        self._tries.pop(id, None)
        self._problems.pop(id, None)

    # -------------------------------------------------------------------------------------------- contents

    def _content_is_here(self, action: Action) -> bool:
        """Whether `action` can be carried out now; starts to fetch what it lacks, after which its id is tried again."""
        if not isinstance(action, Make | Replace) or action.row.kind is not Kind.FILE:
            return True
        digest = action.row.content
        if digest in self._recent or self._objects.has(digest) or action.row.size == 0:
            return True
        if digest not in self._fetching:
            task = self._spawn(self._obtain(action.row.id, digest, action.row.size))
            self._fetching[digest] = task
        self._fetching[digest].add_done_callback(lambda _: self.want([action.row.id]))
        return False

    async def _obtain(self, id: Id, digest: bytes, size: int) -> None:
        """Bring content here: from this folder, from an entry kept here, else from any peer. Tries until superseded."""
        tries = 0
        try:
            while self._is_current(id, digest):
                try:
                    if not await self.obtain_here(digest, size):
                        await self._peers.fetch(digest, size, sorted(self._peers.connected()))
                    return
                except (PeerError, OperatorError) as error:
                    tries += 1
                    log.warning("content is not to be had yet", digest=digest.hex(), error=str(error))
                    if isinstance(error, OperatorError):  # a full disk: only a person can mend it
                        self._problems[id] = Problem(error.what, "", error.fix)
                        if tries == PATIENCE:
                            self._stuck.add(digest)
                            self._wake.set()
                    await asyncio.sleep(min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2**tries))
        finally:
            del self._fetching[digest]
            self._stuck.discard(digest)

    def _is_current(self, id: Id, digest: bytes) -> bool:
        row = self._catalogue.get(id)
        return row is not None and row.content == digest

    def retry(self) -> None:
        """A peer came back, or what was in the way has its verdict: what could not be done may be possible now."""
        self._again(self._tries)

    async def obtain_here(self, digest: bytes, size: int) -> bool:
        """Bring content into reach from what this node has in its folder, or kept from recent packs."""
        for row in self._base.by_content(digest):
            path = os.path.join(self._root, self._base.path(row.id))
            try:
                await asyncio.to_thread(self._objects.receive, digest, size, chunks(path))
                return True
            except (OSError, ContentMismatch) as error:
                log.info("a copy in the folder has changed", path=show(path), error=str(error))
        data = self._contents.get(digest)
        if data is not None:
            self._recent[digest] = data
        return data is not None

    def _content(self, digest: bytes) -> bytes | Path:
        data = self._recent.get(digest)
        if data is None and digest == EMPTY:
            data = b""
        return data if data is not None else self._objects.path(digest)


def store(base: BaseStore, rows: Mapping[Id, BaseRow | None]) -> set[Id]:
    """Set or (None) forget rows of the base; together they may swap places. Call it in a transaction.

    The base stays a tree: whoever stood where a row is put, and all below it or below what is forgotten, loses its row,
    too. Answers those ids: they are to be planned again.
    """
    lost: set[Id] = set()
    for id in rows:
        base.delete(id)
    for row in rows.values():
        if row is not None:
            there = base.child(row.parent, row.name)
            if there is not None:
                _forget(base, there, lost)
            base.put(row)
    for id, row in rows.items():
        if row is None:
            for below in base.children(id):
                _forget(base, below, lost)
        elif row.parent != ROOT and base.get(row.parent) is None and base.get(id) is not None:
            _forget(base, row, lost)
    return lost


def _forget(base: BaseStore, row: BaseRow, lost: set[Id]) -> None:
    base.delete(row.id)
    lost.add(row.id)
    for below in base.children(row.id):
        _forget(base, below, lost)


def _moves_back(action: Shift) -> bool:
    """Whether `action` undoes a move made in this folder: it leads to where the base has it."""
    return (action.parent, action.path.name) == (action.base.parent, action.base.name)


def _subject(action: Action) -> Id:
    """The id whose arrival `action` is; NEW for something that has none."""
    if isinstance(action, Make | Replace | Attributes):
        return action.row.id
    return NEW if isinstance(action, Discard) else action.base.id


def _bytes(action: Action) -> int:
    """How much content `action` writes."""
    return action.row.size if isinstance(action, Make | Replace) and action.row.kind is Kind.FILE else 0


def chunks(path: bytes | Path) -> Iterator[bytes]:
    """The content of the file at `path`, which must be no symlink. Raises `OSError`."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
        while chunk := file.read(1 << 20):
            yield chunk
