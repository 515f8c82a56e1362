"""Catalogue into the folder: plan, have what is lacking fetched, carry out, and write down what now stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import structlog

from onefold.core.hooks import Placed, placed_by
from onefold.core.messages import Problem, Progress
from onefold.core.model import (
    NEVER,
    ROOT,
    Action,
    Applied,
    Aside,
    Attributes,
    BaseRow,
    Discard,
    Done,
    Drop,
    Edited,
    Failed,
    Id,
    Kind,
    Lacking,
    Make,
    Pack,
    Replace,
    Result,
    Row,
    Shift,
    index_of,
)
from onefold.core.paths import RelPath, show
from onefold.core.plan import plan
from onefold.core.views import RowView
from onefold.node.fetch import Fetcher
from onefold.node.waiting import retry_seconds
from onefold.ports import BaseStore, Materialiser

SLICE = 256
"""Actions carried out before the loop gets its turn: about 25 ms of small files. Each slice is a transaction, which
writes every page of the base that it touches: smaller slices cost more than they please."""
IDS_MAX = 20_000
"""Planned at once, and fetched for at once: more would only take memory."""
MUCH = 100
"""So much to bring to the catalogue is worth telling how far it is."""
INLINE_BYTES_MAX = 1 << 20
"""A slice that writes more is carried out in a thread."""
RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 5.0
REFUSED_SECONDS = 1.0
"""After so long, what could not be kept aside is looked at again."""
PATIENCE = 6
"""Tries after which a path that still differs is a problem for a person to see; `in_place` no longer waits for it."""

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
        fetcher: Fetcher,
        materialiser: Materialiser,
        applied_index: Callable[[], int],
        keep_edits: Callable[[], bool],
        look_again: Callable[[RelPath], None],
        look_into: Callable[[RelPath], None],
        in_place: Callable[[int], None],
        placed: Callable[[list[Placed]], None] | None = None,
    ) -> None:
        """`keep_edits`: whether this node may propose, so that an edit in the way is left for it. `look_again(path)`:
        an edit was met there. `look_into(path)`: a directory was met there, and may hold more than the base has in it.
        `in_place(index)`: the folder has arrived at that index. `placed(changes)`: these were made in the folder, and
        the base is to learn of them next; so whoever writes them down misses none in a crash."""
        self._catalogue = catalogue
        self._base = base
        self._fetcher = fetcher
        self._materialiser = materialiser
        self._applied_index = applied_index
        self._keep_edits = keep_edits
        self._look_again = look_again
        self._look_into = look_into
        self._arrived = in_place
        self._placed = placed
        self._dirty: set[Id] = set()
        self._backlog: list[Id] = []  # sorted; dirty, too, but too much to plan at once
        self._discards: list[Action] = []
        self._wake = asyncio.Event()
        self._tries: dict[Id, int] = {}
        self._problems: dict[Id, Problem] = {}
        self._refused: dict[Id, bytes] = {}  # contents that were tried in vain
        self.halted = False
        self._most = 0
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
            self._fetcher.bring(pack.contents)
        self.want(applied.changes.keys() - agreed)

    def want(self, ids: Iterable[Id], actions: Sequence[Action] = ()) -> None:
        """Bring these ids, of which something is new, to what the catalogue says, after carrying out `actions`."""
        for id in ids:
            self._dirty.add(id)
            self._settled(id)  # what was tried before was something else
        self._discards.extend(actions)
        self._wake.set()

    def halt(self) -> None:
        """Touch the folder no more: the catalogue cannot be trusted, or is older than the folder."""
        self.halted = True

    def go_on(self) -> None:
        """The catalogue can be trusted."""
        self.halted = False
        self._wake.set()

    def problems(self) -> list[Problem]:
        return list(self._problems.values())

    def refused(self) -> set[bytes]:
        """The contents that the folder did not take when they were tried last."""
        return set(self._refused.values())

    def is_due(self, committed: Row | None) -> bool:
        """Whether what is `committed` (None: nothing any more) should be in the folder by now."""
        if committed is None:
            return not self.busy
        return index_of(max(committed.version, committed.placed)) <= self.in_place

    @property
    def busy(self) -> bool:
        """Whether the folder is still being brought to the catalogue."""
        left = self._left - self._fetcher.stuck
        return bool(left or self._discards or any(t < PATIENCE for t in self._tries.values()))

    @property
    def _left(self) -> int:
        """How many files and directories are still to be brought to the catalogue."""
        return len(self._dirty) + len(self._backlog) + len(self._fetcher)

    def progress(self) -> Progress | None:
        """How far it is, when there is much to do."""
        left = self._left
        self._most = max(self._most, left) if left else 0
        return Progress("files", self._most - left, self._most) if self._most >= MUCH else None

    # -------------------------------------------------------------------------------------------- doing it

    async def run(self) -> None:
        """Place whatever is noted, for ever."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.halted:
                continue
            while (self._dirty or self._discards or self._may_take_up()) and not self.halted:
                await self._round()
            self._fetcher.make_room()
            if not self.busy:
                self._fetcher.clear()
                self.in_place = self._applied_index()
                self._arrived(self.in_place)

    def _may_take_up(self) -> bool:
        return bool(self._backlog) and len(self._fetcher) < IDS_MAX

    def _take_up(self) -> set[Id]:
        """What to plan now. Of too much at once the newest first: what is removed goes before its directory."""
        ids, self._dirty = self._dirty, set()
        if len(ids) > IDS_MAX:
            self._backlog = sorted(ids.union(self._backlog))
            ids = set()
        if self._backlog and len(ids) < IDS_MAX and self._may_take_up():
            ids.update(self._backlog[-IDS_MAX:])
            del self._backlog[-IDS_MAX:]
        return ids

    async def _round(self) -> None:
        ids = self._take_up()
        discards = [action for action in self._discards if not self._is_overtaken(action)]
        self._discards = []
        # What is moved back may be wanted elsewhere by now: planned again once it is back.
        back = {action.base.id for action in discards if isinstance(action, Shift)}
        self._dirty |= back
        actions = [*discards, *plan(ids - back, self._catalogue, self._base)]
        for id in ids - {id for action in actions for id in _subjects(action)}:
            self._settled(id)
        ready = [action for action in actions if self._is_ready(action)]
        whole = any(isinstance(action, Aside) for action in ready)  # what is aside must not outlive its run
        step = len(ready) if whole else SLICE
        for first in range(0, len(ready), step or 1):
            await self._carry_out(ready[first : first + step])
            await asyncio.sleep(0)
        self._fetcher.tried()

    def _is_ready(self, action: Action) -> bool:
        """Whether `action` can be carried out now; else what it lacks is wanted, and its id comes again with it.

        What is to be made is tried without its content, once: it may stand there already.
        """
        if not isinstance(action, Make | Replace) or action.row.kind is not Kind.FILE:
            return True
        row = action.row
        if self._fetcher.has(row.content) or (isinstance(action, Make) and not self._fetcher.wants(row.content)):
            return True
        self._want_content(action)
        return False

    def _want_content(self, action: Make | Replace) -> None:
        """With it comes the id that it is for, and the one that makes room: by then one may go without the other."""
        for id in _subjects(action):
            self._fetcher.want(id, action.row.content, action.row.size)

    def _is_overtaken(self, action: Action) -> bool:
        """Whether what was to be discarded had to give way, or was adopted, before its turn came."""
        return isinstance(action, Discard) and self._base.lookup(action.path) is not None

    async def _carry_out(self, actions: list[Action]) -> None:
        async with self.folder:
            results = await self._run(actions, self._keep_edits())
            self._tell(actions, results)
            with self._base.transaction():
                self._base.close_intents()
                self._dirty |= store(self._base, self._rows(actions, results))
            self._fetcher.placed(
                action.row.content
                for action, result in zip(actions, results, strict=True)
                if isinstance(action, Make | Replace) and isinstance(result, Done)
            )

    async def _run(self, actions: list[Action], keep_edits: bool) -> list[Result]:
        """Carry `actions` out; the caller holds `folder`, and puts into the base what came of it."""
        self._base.open_intents([(0, self._materialiser.intents(actions))])
        self.epoch += 1
        if sum(map(_bytes, actions)) > INLINE_BYTES_MAX:
            return await asyncio.to_thread(self._materialiser.run, actions, self._fetcher.get, keep_edits)
        return self._materialiser.run(actions, self._fetcher.get, keep_edits)

    async def replace_damaged(self, row: BaseRow) -> bool:
        """The disk damaged what stands in the folder for `row`: bring the committed version; its bytes become a stray.

        Answers whether that was done; not when the row is not what is committed, or changes meanwhile. Until it is
        done, the base stays as it is: its stat still holds, so that nobody takes the damage for an edit, also after a
        crash. Raises `PeerError` and `OperatorError` when the content is not to be had.
        """
        committed = self._catalogue.get(row.id)
        if committed is None or (committed.version, committed.content) != (row.version, row.content):
            return False
        await self._fetcher.obtain(row.content, row.size)
        async with self.folder:
            if self.halted or self._base.get(row.id) != row or self._catalogue.get(row.id) != committed:
                return False
            actions: list[Action] = [Replace(committed, self._base.path(row.id), _given_up(row))]
            results = await self._run(actions, False)
            self._tell(actions, results)
            done = results[0]
            with self._base.transaction():
                self._base.close_intents()
                if isinstance(done, Done):
                    self._dirty |= store(self._base, {row.id: done.base})
        return isinstance(done, Done)

    async def relearn(self, row: BaseRow) -> None:
        """The base's `row` is wrong about the version that stands there: bring that version again."""
        async with self.folder:
            if self._base.get(row.id) == row:
                with self._base.transaction():
                    self._base.put(msgspec.structs.replace(row, version=NEVER))
        self.want([row.id])

    def recovered(self, done: Sequence[tuple[Action, Result]]) -> None:
        """What the last run before a crash had carried out: into the base, before anything else is done."""
        self._tell([action for action, _ in done], [result for _, result in done])
        with self._base.transaction():
            self._base.close_intents()
            rows = self._rows([action for action, _ in done], [result for _, result in done])
            self._dirty |= store(self._base, rows)

    def _tell(self, actions: Sequence[Action], results: Sequence[Result]) -> None:
        """Whoever wants to know learns what came in place; the base still says what was there before."""
        if self._placed is None:
            return
        found = (
            placed_by(action, result, self._where(action)) for action, result in zip(actions, results, strict=True)
        )
        changes = [change for change in found if change is not None]
        if changes:
            self._placed(changes)

    def _where(self, action: Action) -> RelPath | None:
        """Where the base has what `action` moves or removes, if it has it."""
        if isinstance(action, Shift | Drop) and self._base.get(action.base.id) is not None:
            return self._base.path(action.base.id)
        return None

    def _rows(self, actions: Sequence[Action], results: Sequence[Result]) -> dict[Id, BaseRow | None]:
        """What the base must learn from a run."""
        rows: dict[Id, BaseRow | None] = {}
        lost: list[Id] = []
        for action, result in zip(actions, results, strict=True):
            if isinstance(action, Make) and isinstance(result, Done) and self._has_no_place(result.base, rows):
                result = Edited(action.row.id, action.path)
            if isinstance(result, Done):
                if isinstance(action, Aside) and result.base is None:
                    lost.append(action.base.id)
                if isinstance(action, Discard | Aside):
                    continue
                if isinstance(action, Replace) and action.base.id != action.row.id:
                    rows[action.base.id] = None
                rows[result.id] = self._moved(action, result.base) if isinstance(action, Shift) else result.base
                if result.adopted and isinstance(action, Make):
                    self._look_into(action.path)
                for id in _subjects(action):
                    self._settled(id)
                continue
            if isinstance(result, Lacking):
                if isinstance(action, Make | Replace):
                    self._want_content(action)
                continue
            if isinstance(action, Shift) and _moves_back(action):
                lost.append(action.base.id)  # what was moved is kept aside, and made anew where it belongs
                if action.source is not None:
                    self._look_again(action.source)
            reason = result.reason if isinstance(result, Failed) else "it was changed here"
            seconds = max((self._later(id, reason, result.path) for id in _subjects(action)), default=REFUSED_SECONDS)
            if isinstance(action, Make | Replace) and action.row.kind is Kind.FILE:
                self._refused[action.row.id] = action.row.content
                if isinstance(result, Failed):
                    self._fetcher.examine(action.row.id, action.row.content)
            if isinstance(result, Failed) or any(self._tries.get(id, 0) >= PATIENCE for id in _subjects(action)):
                # Not at once: as long as the folder refuses, what is found there is found again and again.
                asyncio.get_running_loop().call_later(seconds, self._look_again, result.path)
            else:
                self._look_again(result.path)
        # Last: what was done to it in the same run is not to outlive it.
        rows.update(dict.fromkeys(lost))
        self._dirty.update(lost)
        return rows

    def _moved(self, action: Shift, moved: BaseRow | None) -> BaseRow | None:
        """`moved`, or what the base has learned of it since the plan was made, at its new place."""
        now = self._base.get(action.base.id)
        if moved is None or now is None or now.version == action.base.version:
            return moved
        return msgspec.structs.replace(now, parent=moved.parent, name=moved.name, placed=moved.placed)

    def _has_no_place(self, made: BaseRow | None, rows: Mapping[Id, BaseRow | None]) -> bool:
        """Whether `made` cannot be a row of the base yet: it is another's, or its directory has no row."""
        if made is None:
            return False
        homeless = made.parent != ROOT and rows.get(made.parent, self._base.get(made.parent)) is None
        return homeless or self._is_elsewhere(made, rows)

    def _is_elsewhere(self, made: BaseRow, rows: Mapping[Id, BaseRow | None]) -> bool:
        """Whether the directory adopted as `made` is one that the base has under another id: it was moved there."""
        if made.kind is not Kind.DIRECTORY:
            return False
        known = self._base.by_inode(made.stat.ino, made.stat.btime_ns)
        return known is not None and known.id != made.id and rows.get(known.id, known) is not None

    # -------------------------------------------------------------------------------------------- trying again

    def _later(self, id: Id, what: str, path: RelPath) -> float:
        """Try `id` again after as many seconds as this answers."""
        tries = self._tries[id] = self._tries.get(id, 0) + 1
        if tries == 1:
            log.info("not done yet", path=show(path), reason=what)
        elif tries == PATIENCE:
            log.warning("the folder refused", path=show(path), reason=what)
        if tries >= PATIENCE:
            self._problems[id] = Problem.of(what, show(path), "it is tried again by itself")
        delay = retry_seconds(tries, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        asyncio.get_running_loop().call_later(delay, self._retry, id)
        return delay

    def _retry(self, id: Id) -> None:
        if id in self._tries:
            self.again([id])

    def again(self, ids: Iterable[Id]) -> None:
        """Plan these ids again, of which nothing is new: what they lacked may be had now."""
        self._dirty.update(ids)
        self._wake.set()

    def retry(self) -> None:
        """A peer came back, or what was in the way has its verdict: what could not be done may be possible now."""
        self.again(self._tries)

    def _settled(self, id: Id) -> None:
        self._tries.pop(id, None)
        self._problems.pop(id, None)
        self._refused.pop(id, None)


def _given_up(row: BaseRow) -> BaseRow:
    """`row` as the base of something that is not what it says: what comes out of an exchange for it is kept."""
    nothing = msgspec.structs.replace(row.stat, mtime_ns=0, size=-1)
    return msgspec.structs.replace(row, version=NEVER, content=b"", stat=nothing)


def store(base: BaseStore, rows: Mapping[Id, BaseRow | None]) -> set[Id]:
    """Set or (None) forget rows of the base; together they may swap places. Call it in a transaction.

    The base stays a tree: whoever stood where a row is put, and all below it or below what is forgotten, loses its row,
    too; and whoever would stand below itself. Answers those ids: they are to be planned again.
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
        elif row.parent != ROOT and base.get(id) is not None and not _is_rooted(base, row):
            _forget(base, row, lost)
    return lost


def _is_rooted(base: BaseStore, row: BaseRow) -> bool:
    """Whether what is above `row` leads to the root. Not below what has no row; nor in a circle: of a directory that is
    not where the base has it, something above may be moved into it."""
    seen: set[Id] = set()
    id = row.parent
    while id != ROOT:
        above = base.get(id)
        if above is None or id in seen:
            return False
        seen.add(id)
        id = above.parent
    return True


def _forget(base: BaseStore, row: BaseRow, lost: set[Id]) -> None:
    base.delete(row.id)
    lost.add(row.id)
    for below in base.children(row.id):
        _forget(base, below, lost)


def _moves_back(action: Shift) -> bool:
    """Whether `action` undoes a move made in this folder: it leads to where the base has it."""
    return (action.parent, action.path.name) == (action.base.parent, action.base.name)


def _subjects(action: Action) -> tuple[Id, ...]:
    """The ids whose arrival `action` is, or whose end."""
    if isinstance(action, Discard):
        return ()
    if isinstance(action, Replace):
        return (action.row.id,) if action.base.id == action.row.id else (action.row.id, action.base.id)
    return (action.row.id if isinstance(action, Make | Attributes) else action.base.id,)


def _bytes(action: Action) -> int:
    """How much content `action` writes."""
    return action.row.size if isinstance(action, Make | Replace) and action.row.kind is Kind.FILE else 0
