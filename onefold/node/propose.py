"""The folder into the log: hints → look → diff → batch; or, where this node may not propose, back to the catalogue."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path

import msgspec
import structlog

from onefold.core.diff import Claim, Diff, diff
from onefold.core.messages import Forward, Problem
from onefold.core.model import (
    COMMANDS_MAX,
    ROOT,
    Absent,
    Applied,
    BaseRow,
    Batch,
    Id,
    Kind,
    Observed,
    Origin,
    Pack,
    Present,
    Put,
    Row,
    Seed,
    Unknown,
)
from onefold.core.paths import ROOT_PATH, RelPath, show
from onefold.core.settle import revert, settle
from onefold.core.views import RowView
from onefold.errors import ContentMismatch, PeerError
from onefold.node.append import Appender, Proposal
from onefold.node.hold import Holder
from onefold.node.look import SLICE, Glance, Look, remembered
from onefold.node.place import Placer, chunks, store
from onefold.node.waiting import happened
from onefold.ports import CHANGING, LARGE, BaseStore, Clock, Hint, Listing, Objects, Peers, Scanner, Spawn

REVERT_SECONDS = 0.025
"""Where edits are not proposed, nearly all that is seen is what the placer put there: it is looked at in batches, and
late enough for its stat to be trusted (20 ms)."""
QUIET_SECONDS_MAX = 2.0
"""An open file that is written to is looked at after a short quiet, and after this at the latest."""
RESTLESS_SECONDS = 5.0
"""A file that changes during every look is taken from a copy this often."""
RECHECK_SECONDS = 3.0
"""When to hash again what was too young to be trusted."""
RESEND_SECONDS = 1.0
SWEEP_SECONDS = 1.0
"""Between two directories of the sweep."""
BATCH_COMMANDS_MAX = 20_000

log = structlog.get_logger()


class Stance(Enum):
    """What to do about a local edit."""

    PROPOSE = "propose it"
    REVERT = "keep it aside, and let the committed version return"
    WAIT = "leave it until it is known who leads"


class Flight(msgspec.Struct, frozen=True):
    """The one batch of this node that is on its way, and what it was made from."""

    proposal: Proposal
    claims: tuple[Claim, ...]
    led: int
    since: float


class Due(msgspec.Struct):
    """A place to look at, not before `at`. `since`: when it was first hinted at. `certain`: a change is complete;
    otherwise it waits for a quiet, but not beyond `until`."""

    at: float
    since: float
    content: bool
    tree: bool
    certain: bool
    until: float


class Proposer:
    """One batch in flight; while it is, the next is being read. Never proposes a path that is in flight."""

    def __init__(
        self,
        me: str,
        incarnation: int,
        catalogue: RowView,
        base: BaseStore,
        scanner: Scanner,
        placer: Placer,
        holder: Holder,
        objects: Objects,
        appender: Appender,
        peers: Peers,
        clock: Clock,
        stance: Callable[[], Stance],
        leader: Callable[[], str],
        term: Callable[[], int],
        caught_up: Callable[[], None],
        spawn: Spawn,
        root: bytes,
        copies: Path,
        quiet_seconds: float,
    ) -> None:
        """`stance`, `leader` (a name, "" for nobody) and `term` (that this node leads, or 0) as they are when asked.
        `caught_up()`: everything hinted at is in the log, or reverted. `copies`: a directory for copies of files that
        never rest. `quiet_seconds`: how long an open file must be quiet before it is looked at."""
        self._me = me
        self._incarnation = incarnation
        self._sequence = 0
        self._catalogue = catalogue
        self._base = base
        self._scanner = scanner
        self._placer = placer
        self._holder = holder
        self._objects = objects
        self._appender = appender
        self._peers = peers
        self._clock = clock
        self._stance = stance
        self._leader = leader
        self._term = term
        self._caught_up = caught_up
        self._spawn = spawn
        self._root = root
        self._copies = copies
        self._quiet_seconds = quiet_seconds
        self._due: dict[RelPath, Due] = {}
        self._rechecks: dict[RelPath, None] = {}
        self._lately: dict[RelPath, Present] = {}
        self._held: set[bytes] = set()
        self._holding: dict[RelPath, asyncio.Task[None]] = {}
        self._taken: dict[RelPath, Present] = {}
        self._restless: dict[RelPath, float] = {}  # large files that changed while they were held: since when
        self._unknown: dict[RelPath, str] = {}
        self._wake = asyncio.Event()
        self._landed = asyncio.Event()
        self._landed.set()
        self._looking = False
        self._last_words = 0
        self._routed: asyncio.Task[None] | None = None
        self.flight: Flight | None = None
        self.newest: Flight | None = None
        """The batch in flight, or the last one that was: it may land before its append is answered."""
        self.serving: dict[bytes, RelPath] = {}
        """Large content of files here that voters may ask for before its entry is in the log."""

    # -------------------------------------------------------------------------------------------- hints

    def hint(self, hints: Iterable[Hint]) -> None:
        """The watcher's word."""
        now = self._clock.now()
        soon = now + REVERT_SECONDS if self._stance() is Stance.REVERT else now
        for h in hints:
            self._add(h.path, soon if h.certain else now + self._quiet_seconds, now, h.content, h.tree, h.certain)
        self._wake.set()

    def look_again(self, path: RelPath) -> None:
        """Something was met at `path` that the base does not know."""
        now = self._clock.now()
        self._add(path, now, now, True, True)
        self._wake.set()

    def _add(self, path: RelPath, at: float, since: float, content: bool, tree: bool, certain: bool = True) -> None:
        due = self._due.get(path)
        if due is None:
            self._due[path] = Due(at, since, content, tree, certain, since + QUIET_SECONDS_MAX)
            return
        if certain:
            due.at = min(at, due.at)
        elif not due.certain:
            due.at = min(at, due.until)
        due.certain |= certain
        due.content |= content
        due.tree |= tree

    def expedite(self) -> None:
        """Look at everything that is due later now."""
        now = self._clock.now()
        for due in self._due.values():
            due.at = min(due.at, now)
            due.certain = True
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether everything hinted at is in the log."""
        return not (self._due or self._looking or self.flight or self._holding)

    def stance_changed(self) -> None:
        """Who leads, or what is seeded or joined, has changed: what waited may go on."""
        self._wake.set()
        self._route()

    def advance(self) -> None:
        """The catalogue or the folder has moved on, and with them perhaps what this node may do."""
        if self._due:
            self._wake.set()

    async def sweep(self) -> None:
        """Look at everything, slowly and for ever: writes by mmap or through another hard link raise no event."""
        while True:
            queue = [(ROOT, ROOT_PATH)]
            while queue:
                id, path = queue.pop()
                await self._clock.sleep(SWEEP_SECONDS)
                if self._stance() is Stance.WAIT or self._due:
                    queue.append((id, path))
                    continue
                queue.extend(await self._sweep_directory(id, path))

    async def _sweep_directory(self, id: Id, path: RelPath) -> list[tuple[Id, RelPath]]:
        """Hint at what differs in one directory; answers the directories in it."""
        rows = self._base.children(id)
        listing = self._scanner.listing(path)
        names = set(listing.names) if isinstance(listing, Listing) else set()
        odd = [path.child(name) for name in sorted(names.difference(row.name for row in rows))]
        for first in range(0, len(rows), SLICE):
            with self._scanner.session():
                for row in rows[first : first + SLICE]:
                    place = path.child(row.name)
                    if not _stands(row, self._scanner.observe(place, row, False)):
                        odd.append(place)
            await asyncio.sleep(0)
        now = self._clock.now()
        for place in odd:
            self._add(place, now, now, False, False)
        self._wake.set()
        return [(row.id, path.child(row.name)) for row in rows if row.kind is Kind.DIRECTORY]

    def deposed(self, term: int) -> None:
        """What was written here until now was written on the leader: propose it once more, to the new one."""
        self._last_words = term if self._due or self._looking else 0
        self.expedite()

    def problems(self) -> list[Problem]:
        rules = self._scanner.rules_problem()
        found = [Problem(rules, ".onefoldignore", "mend that line")] if rules else []
        return found + [Problem(reason, show(path)) for path, reason in self._unknown.items()]

    # -------------------------------------------------------------------------------------------- the round

    async def run(self) -> None:
        """Propose what is hinted at, for ever."""
        while True:
            await self._until_due()
            self._looking = True
            try:
                await self._round(self._take())
            finally:
                self._looking = False
            self._check_idle()

    def _check_idle(self) -> None:
        if self.idle:
            self._caught_up()

    async def _until_due(self) -> None:
        while True:
            now = self._clock.now()
            soonest = min((due.at for due in self._due.values()), default=None)
            if soonest is not None and soonest <= now and self._stance() is not Stance.WAIT:
                return
            self._wake.clear()
            timeout = None if soonest is None or self._stance() is Stance.WAIT else soonest - now
            await happened(self._wake, timeout)

    def _take(self) -> dict[RelPath, Due]:
        now = self._clock.now()
        taken = {path: due for path, due in self._due.items() if due.at <= now}
        for path in taken:
            del self._due[path]
        return taken

    async def _round(self, taken: dict[RelPath, Due]) -> None:
        led = self._last_words
        look = Look(self._scanner, self._base, self._lately)
        epoch = self._placer.epoch
        restless = self._clock.now() - RESTLESS_SECONDS
        glances = [
            Glance(path, due.content, due.tree, not due.certain and due.since > restless) for path, due in taken.items()
        ]
        for glance in await look.at(glances):
            due = taken.get(glance.path)
            self._add(glance.path, 0.0, due.since if due else self._clock.now(), glance.content, glance.tree)
        for path in look.postponed:
            since = taken[path].since if path in taken else self._clock.now()
            until = since + RESTLESS_SECONDS
            self._due.setdefault(path, Due(until, since, True, False, False, until))
        if self._stance() is Stance.REVERT and not led:
            odd = self._not_as_in_base(look.seen)
            if not odd:
                return  # it is what the placer put there
            look.only(odd)
        await self._landed.wait()
        async with self._placer.folder:
            await look.settle()
            if self._placer.epoch != epoch:
                await look.again()
            seen = self._proposable(look.seen, taken)
            found = diff(seen, self._base)
            asked: dict[RelPath, Observed] = {}
            while found.look:
                # Of a place that cannot be proposed yet nothing is known: asked for again, it would be for ever.
                asked.update(dict.fromkeys(found.look, CHANGING))
                await look.at([Glance(path) for path in found.look], all=True)
                seen = asked | self._proposable(look.seen, taken)
                found = diff(seen, self._base)
            if found.refresh:
                with self._base.transaction():
                    store(self._base, {row.id: row for row in found.refresh})
            if found.commands:
                self._decide(found, taken, led)
        if led and led == self._last_words and not self._due:
            self._last_words = 0

    def _not_as_in_base(self, seen: dict[RelPath, Observed]) -> list[RelPath]:
        """The places that must be looked at again before they are taken for edits."""
        return [
            path
            for path, o in seen.items()
            if isinstance(o, Unknown) or path in self._unknown or not _stands(self._base.lookup(path), o)
        ]

    def _decide(self, found: Diff, taken: dict[RelPath, Due], led: int) -> None:
        stance = Stance.PROPOSE if led else self._stance()
        if stance is Stance.PROPOSE:
            self._take_off(found, min(due.since for due in taken.values()), led)
        elif stance is Stance.REVERT:
            reverted = revert(found, self._base)
            for claim in found.claims:
                log.warning("an edit on a node that does not lead", path=show(claim.path))
            with self._base.transaction():
                lost = store(self._base, reverted.rows)
            self._placer.want(lost | reverted.rows.keys(), reverted.actions)
            self._placer.retry()
        else:
            for path, due in taken.items():
                self._due.setdefault(path, due)

    # -------------------------------------------------------------------------------------------- what was seen

    def _proposable(self, seen: dict[RelPath, Observed], taken: dict[RelPath, Due]) -> dict[RelPath, Observed]:
        """`seen` without what cannot be proposed yet: unknown, restless, or large and not yet held by a majority."""
        proposable: dict[RelPath, Observed] = {}
        for path, o in seen.items():
            copy = self._taken.pop(path, None)
            if copy is not None and _is_later_state_of(o, copy):
                o = seen[path] = copy
            if isinstance(o, Unknown):
                self._not_known(path, o, taken.get(path))
                continue
            self._unknown.pop(path, None)
            if isinstance(o, Present):
                if not o.settled and path not in self._rechecks:
                    self._recheck(path)
                if o.kind is Kind.FILE and o.data is None and o.stat.size and self._must_be_held(path, o):
                    continue
            proposable[path] = o
        return proposable

    def _not_known(self, path: RelPath, o: Unknown, due: Due | None) -> None:
        if o is not CHANGING:
            self._unknown[path] = o.reason
            return
        now = self._clock.now()
        since = due.since if due is not None else now
        if now - since >= RESTLESS_SECONDS and path not in self._holding:
            self._holding[path] = self._spawn(self._take_copy(path))
        else:
            at = now + self._quiet_seconds
            self._due[path] = Due(at, since, True, False, False, at)

    def _recheck(self, path: RelPath) -> None:
        self._rechecks[path] = None
        if len(self._rechecks) == 1:
            asyncio.get_running_loop().call_later(RECHECK_SECONDS, self._recheck_all)

    def _recheck_all(self) -> None:
        now = self._clock.now()
        for path in self._rechecks:
            self._add(path, now, now, True, False)
        self._rechecks.clear()
        self._wake.set()

    # -------------------------------------------------------------------------------------------- large content

    def _must_be_held(self, path: RelPath, o: Present) -> bool:
        """Whether `o` is new content that no majority holds yet; has it held, and looked at again then."""
        if o.content in self._held or self._stance() is not Stance.PROPOSE:
            return False
        row = self._base.lookup(path) or self._base.by_inode(o.stat.ino, o.stat.btime_ns)
        if row is not None and row.content == o.content:
            return False
        if path not in self._holding:
            restless = self._clock.now() - self._restless.get(path, self._clock.now()) >= RESTLESS_SECONDS
            self._holding[path] = self._spawn(self._take_copy(path) if restless else self._have_held(path, o))
        return True

    async def _have_held(self, path: RelPath, o: Present) -> None:
        async def own() -> None:
            await asyncio.to_thread(
                self._objects.receive, o.content, o.stat.size, chunks(os.path.join(self._root, path))
            )

        since = self._clock.now()
        self.serving[o.content] = path
        try:
            await self._holder.hold(o.content, o.stat.size, None, own)
            self._held.add(o.content)
            self._lately[path] = o
            self._restless.pop(path, None)
        except (PeerError, ContentMismatch, OSError) as error:
            self.serving.pop(o.content, None)
            now = self._scanner.observe(path, remembered(path, o), False)
            if now is LARGE:  # it was written to meanwhile
                log.info("a file changed before it was held", path=show(path))
                self._restless.setdefault(path, since)
                await self._clock.sleep(self._quiet_seconds)
            else:
                self._restless.pop(path, None)
                if isinstance(now, Present) and now.stat == o.stat:
                    log.warning("content is not held yet", path=show(path), error=str(error))
                    await self._clock.sleep(RESEND_SECONDS)
        finally:
            del self._holding[path]
        self._again(path)

    async def _take_copy(self, path: RelPath) -> None:
        """Take a version of a file that never rests: from a copy that becomes an object of ours."""
        copy = self._copies / secrets.token_hex(8)
        self._restless.pop(path, None)
        try:
            o = await asyncio.to_thread(self._scanner.observe_snapshot, path, copy)
            if isinstance(o, Present) and o.kind is Kind.FILE:
                if o.data is None:
                    await asyncio.to_thread(self._objects.receive, o.content, o.stat.size, chunks(copy))
                    await self._holder.hold(o.content, o.stat.size, None, _nothing)
                    self._held.add(o.content)
                self._taken[path] = o
        except (PeerError, ContentMismatch, OSError) as error:
            log.warning("a copy of a restless file could not be taken", path=show(path), error=str(error))
        finally:
            copy.unlink(missing_ok=True)
            del self._holding[path]
        self._again(path)

    def _again(self, path: RelPath) -> None:
        now = self._clock.now()
        self._add(path, now, now, False, False)
        self._wake.set()

    # -------------------------------------------------------------------------------------------- the batch

    def _take_off(self, found: Diff, since: float, led: int) -> None:
        """Propose the first commands of `found` (references only point backwards); the rest is looked at again."""
        commands, claims = found.commands[:BATCH_COMMANDS_MAX], found.claims[:BATCH_COMMANDS_MAX]
        contents: dict[bytes, bytes] = {}
        for command, claim in zip(commands, claims, strict=True):
            seen = claim.seen
            if isinstance(command, Put) and command.content is not None and seen is not None and seen.data is not None:
                contents[seen.content] = seen.data
        for claim in found.claims[BATCH_COMMANDS_MAX:]:
            self._add(claim.path, 0.0, since, False, False)
        self._fly(Batch(self._origin(), commands), claims, contents, since, led)

    def _fly(
        self, batch: Batch, claims: tuple[Claim, ...], contents: dict[bytes, bytes], since: float, led: int
    ) -> None:
        assert len(batch.commands) <= COMMANDS_MAX
        self.flight = self.newest = Flight(Proposal(batch, contents), claims, led or self._term(), since)
        self._landed.clear()
        self._route()

    def _origin(self) -> Origin:
        self._sequence += 1
        return Origin(self._me, self._incarnation, self._sequence)

    @property
    def seeding(self) -> bool:
        """Whether our `Seed` is in flight."""
        return self.flight is not None and isinstance(self.flight.proposal.batch.commands[0], Seed)

    def seed(self) -> None:
        """The first leader's whole folder is in the log: say so."""
        self._fly(Batch(self._origin(), (Seed(),)), (Claim(ROOT_PATH, None, None),), {}, self._clock.now(), 0)

    def _route(self) -> None:
        """Send the batch in flight to whoever leads, and again whenever that changes, until it lands."""
        if self._routed is not None:
            self._routed.cancel()
            self._routed = None
        if self.flight is not None and self._leader() == self._me:
            self._appender.submit(self.flight.proposal)  # it answers for it while it leads
        elif self.flight is not None:
            self._routed = self._spawn(self._send(self.flight))

    async def _send(self, flight: Flight) -> None:
        while self.flight is flight:
            leader = self._leader()
            if leader and leader != self._me:
                try:
                    forward = Forward(flight.proposal.batch, flight.proposal.contents, flight.led)
                    await self._peers.ask(leader, forward, RESEND_SECONDS)
                except PeerError as error:
                    log.info("a batch was not taken", leader=leader, error=str(error))
            await self._clock.sleep(RESEND_SECONDS)

    def land(self, pack: Pack, applied: Applied) -> set[Id]:
        """An entry was applied: if it brought our batch, the base learns what became of it.

        Answers the ids for which the folder already is what the catalogue says.
        """
        flight = self.flight
        if flight is None or flight.proposal.batch.origin not in applied.outcomes:
            return set()
        batch = flight.proposal.batch
        offset = 0
        for other in pack.batches:
            if other.origin == batch.origin:
                break
            offset += len(other.commands)
        outcomes = applied.outcomes[batch.origin]
        settled = settle(batch.commands, flight.claims, outcomes, applied.index, offset, self._catalogue, self._base)
        with self._base.transaction():
            lost = store(self._base, settled.rows)
        self.flight = None
        self._landed.set()
        for command, claim, outcome in zip(batch.commands, flight.claims, outcomes, strict=True):
            self._lately.pop(claim.path, None)
            if isinstance(command, Put) and command.content is not None:
                self._held.discard(command.content)
                self.serving.pop(command.content, None)
            if not outcome.accepted:
                log.warning("a change was rejected", path=show(claim.path), reason=outcome.reason)
        for path in settled.look:
            self.look_again(path)
        self._placer.want(lost | (settled.rows.keys() - applied.changes.keys()))
        self._placer.retry()
        asyncio.get_running_loop().call_soon(self._check_idle)
        return {
            id for id, row in settled.rows.items() if id in applied.changes and _agrees(row, applied.changes[id].after)
        }


def _stands(row: BaseRow | None, o: Observed) -> bool:
    """Whether `o` is what the base says."""
    if row is None or not isinstance(o, Present):
        return row is None and isinstance(o, Absent)
    if o.kind is Kind.DIRECTORY:
        return row.kind is o.kind and row.stat.same_file(o.stat) and row.mode == o.stat.mode
    return row.stat == o.stat and row.content == o.content


def _agrees(ours: BaseRow | None, theirs: Row | None) -> bool:
    if ours is None or theirs is None:
        return ours is None and theirs is None
    return (ours.version, ours.placed, ours.parent, ours.name) == (
        theirs.version, theirs.placed, theirs.parent, theirs.name,
    )  # fmt: skip


def _is_later_state_of(o: Observed, copy: Present) -> bool:
    """Whether `o` is the file that `copy` is a copy of, and is to be proposed as that: it does not rest yet."""
    return o is CHANGING or (isinstance(o, Present) and o.data is None and o.stat.same_file(copy.stat))


async def _nothing() -> None:
    """The object is made already."""
