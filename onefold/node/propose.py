"""The folder into the log: hints → look → diff → batch; or, where this node may not propose, back to the catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import islice

import msgspec
import structlog

from onefold.core.diff import Claim, Diff, diff
from onefold.core.messages import Forward, Problem
from onefold.core.model import (
    COMMANDS_MAX,
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
from onefold.errors import OperatorError, PeerError
from onefold.node.append import BATCH_BYTES_MAX, Appender, Proposal, weight
from onefold.node.due import RESTLESS_SECONDS, Agenda, Due
from onefold.node.given import Identity, Ports
from onefold.node.guard import Guard
from onefold.node.large import LargeContents
from onefold.node.look import Glance, Look
from onefold.node.place import Placer, store
from onefold.node.sweep import stands
from onefold.node.waiting import happened
from onefold.ports import CHANGING, Hint, Spawn

REVERT_SECONDS = 0.025
"""Where edits are not proposed, nearly all that is seen is what the placer put there: it is looked at in batches, and
late enough for its stat to be trusted (20 ms)."""
GATHER_COMMANDS = 8
GATHER_SECONDS = 0.03
"""After a batch of that many commands, more of the same is likely to come: it is gathered for this long, since an entry
costs every node a consensus round and three transactions, however little is in it."""
RESEND_SECONDS = 1.0
LAST_WORDS_SECONDS = 30.0
"""How long a deposed leader may take to propose what was written on it: a file that never rests would take for ever."""
BATCH_COMMANDS_MAX = 20_000
RETRIED_AT_ONCE = 100

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


class Proposer:
    """One batch in flight; while it is, the next is being read. Never proposes a path that is in flight."""

    def __init__(
        self,
        who: Identity,
        ports: Ports,
        placer: Placer,
        large: LargeContents,
        appender: Appender,
        stance: Callable[[], Stance],
        leader: Callable[[], str],
        term: Callable[[], int],
        caught_up: Callable[[], None],
        doubt: Callable[[RelPath], None],
        hurry: Callable[[], None],
        guard: Guard,
        spawn: Spawn,
    ) -> None:
        """`stance`, `leader` (a name, "" for nobody) and `term` (that this node leads, or 0) as they are when asked.
        `caught_up()`: everything hinted at is in the log, or reverted. `doubt(path)`: what was seen there is to be
        hashed again. `hurry()`: what was done here got in the way of what was done elsewhere."""
        self._me = who.name
        self._incarnation = who.incarnation
        self._sequence = 0
        self._catalogue = ports.catalogue
        self._base = ports.base
        self._scanner = ports.scanner
        self._watcher = ports.watcher
        self._peers = ports.peers
        self._clock = ports.clock
        self._placer = placer
        self._large = large
        self._appender = appender
        self._stance = stance
        self._leader = leader
        self._term = term
        self._caught_up = caught_up
        self._doubt = doubt
        self._hurry = hurry
        self._spawn = spawn
        self.guard = guard
        self._agenda = Agenda(who.quiet_seconds)
        self._planned: float | None = None  # when it will look of itself, as long as nothing wakes it
        self._blocked = False  # it waits for its stance to change
        self._gather_until = 0.0
        self._unknown: dict[RelPath, str] = {}
        self._wake = asyncio.Event()
        self._landed = asyncio.Event()
        self._landed.set()
        self._looking = False
        self._last_words = 0
        self._last_words_until = 0.0
        self._routed: asyncio.Task[None] | None = None
        self.flight: Flight | None = None
        self.newest: Flight | None = None
        """The batch in flight, or the last one that was: it may land before its append is answered."""

    # -------------------------------------------------------------------------------------------- hints

    def hint(self, hints: Iterable[Hint]) -> None:
        """The watcher's word."""
        now = self._clock.now()
        soon = now + REVERT_SECONDS if self._stance() is Stance.REVERT else now
        hints = list(hints)
        self._agenda.hint(hints, now, soon)
        for h in hints:
            if h.origin is not None:
                for path in self._large.below(h.origin):
                    self._agenda.add(path.moved(h.origin, h.path), now)
        if self._planned is None or soon < self._planned:
            self._wake.set()

    def look_at(self, path: RelPath, content: bool = False, tree: bool = False) -> None:
        """Something may have changed at `path`; with `content` though the stat does not show it, with `tree` anywhere
        in that directory."""
        self._agenda.add(path, self._clock.now(), content, tree)
        self._wake.set()

    def look_again(self, path: RelPath) -> None:
        """Something was met at `path` that the base does not know."""
        self.look_at(path, content=True, tree=True)

    def expedite(self) -> None:
        """Look at everything that is due later now."""
        self._agenda.expedite(self._clock.now())
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many places are to be looked at."""
        return len(self._agenda)

    @property
    def idle(self) -> bool:
        """Whether everything hinted at is in the log."""
        return not (self._agenda or self._looking or self.flight or self._large.busy)

    def pending(self, path: RelPath) -> bool:
        """Whether something at `path` is still to be looked at, or in the batch that is on its way."""
        flying = self.flight is not None and any(claim.path == path for claim in self.flight.claims)
        return flying or path in self._agenda

    def at_leisure(self) -> bool:
        """Whether this node may look, and nothing waits for that."""
        return not self._agenda and self._stance() is not Stance.WAIT

    def retry(self) -> None:
        """Look again at some of what could not be looked at: that it can be raises no event."""
        for path in list(islice(self._unknown, RETRIED_AT_ONCE)):
            self.look_at(path, tree=True)

    def stance_changed(self) -> None:
        """Who leads, or what is seeded or joined, has changed: what waited may go on."""
        self._wake.set()
        self._route()
        self._check_idle()  # what was proposed under one leadership may have landed before the next began

    def advance(self) -> None:
        """The catalogue or the folder has moved on, and with them perhaps what this node may do."""
        if self._blocked:
            self._wake.set()

    def deposed(self, term: int) -> None:
        """What was written here until now was written on the leader: propose it once more, to the new one."""
        self._last_words = term if self._agenda or self._looking or self._large.busy else 0
        self._last_words_until = self._clock.now() + LAST_WORDS_SECONDS
        self.expedite()

    def problems(self) -> list[Problem]:
        rules = self._scanner.rules_problem()
        found = [Problem(rules, ".onefoldignore", "mend that line")] if rules else []
        found += self.guard.problems()
        return found + [Problem.of(reason, show(path)) for path, reason in self._unknown.items()]

    # -------------------------------------------------------------------------------------------- the round

    async def run(self) -> None:
        """Propose what is hinted at, for ever."""
        while True:
            await self._until_due()
            if (left := self._gather_until - self._clock.now()) > 0:
                await self._clock.sleep(left)
            self._looking = True
            try:
                self.hint(self._watcher.drain())
                await self._round(self._agenda.take(self._clock.now()))
                self.hint(self._watcher.drain())
                self._agenda.looked()
            finally:
                self._looking = False
            self._check_idle()

    def _check_idle(self) -> None:
        if self.idle:
            self._caught_up()

    async def _until_due(self) -> None:
        while True:
            now = self._clock.now()
            soonest = self._agenda.soonest()
            self._blocked = self._stance() is Stance.WAIT
            if soonest is not None and soonest <= now and not self._blocked:
                return
            self._wake.clear()
            self._planned = None if self._blocked else soonest
            await happened(self._wake, None if self._planned is None else self._planned - now)
            self._planned = None

    async def _round(self, taken: dict[RelPath, Due]) -> None:
        if self._clock.now() >= self._last_words_until:
            self._last_words = 0
        led = self._last_words
        look = Look(self._scanner, self._base, self._large.lately)
        epoch = self._placer.epoch
        now = self._clock.now()
        glances = [Glance(path, due.content, due.tree, due.patient(now)) for path, due in taken.items()]
        left = await look.at(glances)
        for glance in left:
            self._agenda.add(glance.path, self._since(taken.get(glance.path)), glance.content, glance.tree)
        for path in look.postponed:
            self._agenda.postpone(path, self._since(taken.get(path)))
        if self._stance() is Stance.REVERT and not led:
            odd = self._not_as_in_base(look.seen)
            if not odd:  # it is what the placer put there
                self._looked(left)
                return
            look.only(odd)
        await self._landed.wait()
        async with self._placer.folder:
            await look.settle()
            if self._placer.epoch != epoch:
                await look.again()
            seen = self._proposable(look.seen, taken, led)
            found = diff(seen, self._base)
            asked: dict[RelPath, Observed] = {}
            while found.look:
                # Of a place that cannot be proposed yet nothing is known: asked for again, it would be for ever.
                asked.update(dict.fromkeys(found.look, CHANGING))
                await look.at([Glance(path) for path in found.look], all=True)
                seen = asked | self._proposable(look.seen, taken, led)
                found = diff(seen, self._base)
            if found.refresh:
                with self._base.transaction():
                    store(self._base, {row.id: row for row in found.refresh})
            self.guard.seen(look.seen, found)
            if found.commands:
                self._decide(found, taken, led)
            self._looked(left)
        if led and led == self._last_words and not (self._agenda or self._large.busy):
            self._last_words = 0

    def _looked(self, left: list[Glance]) -> None:
        """A round is over. What is left goes into the next one, so after one with nothing left all was looked at."""
        if not left and self._stance() is not Stance.WAIT:
            for path in self.guard.looked():
                self.look_at(path)

    def confirm(self) -> int:
        """What was found gone at the start was meant to go: how many removals are proposed now."""
        count = self.guard.asking
        for path in self.guard.confirm():
            self.look_at(path)
        return count

    def _since(self, due: Due | None) -> float:
        """When a place was first hinted at: now, if it is met just now."""
        return due.since if due is not None else self._clock.now()

    def _not_as_in_base(self, seen: dict[RelPath, Observed]) -> list[RelPath]:
        """The places that must be looked at again before they are taken for edits."""
        return [
            path
            for path, o in seen.items()
            if isinstance(o, Unknown) or path in self._unknown or not stands(self._base.lookup(path), o)
        ]

    def _decide(self, found: Diff, taken: dict[RelPath, Due], led: int) -> None:
        stance = Stance.PROPOSE if led else self._stance()
        if stance is Stance.PROPOSE:
            found = self.guard.hold_back(found)
            if found.commands:
                self._take_off(found, min(due.since for due in taken.values()), led)
        elif stance is Stance.REVERT:
            reverted = revert(found, self._base)
            for claim in found.claims:
                log.warning("an edit on a node that does not lead", path=show(claim.path))
            self._hurry()
            self.guard.reverted(found)
            # What is so already is being tried, as patiently as need be.
            rows = {id: row for id, row in reverted.rows.items() if self._base.get(id) != row}
            with self._base.transaction():
                lost = store(self._base, rows)
            self._placer.want(lost | rows.keys(), reverted.actions)
            self._placer.retry()
        else:
            for path, due in taken.items():
                self._agenda.put_back(path, due)

    # -------------------------------------------------------------------------------------------- what was seen

    def _proposable(
        self, seen: dict[RelPath, Observed], taken: dict[RelPath, Due], led: int
    ) -> dict[RelPath, Observed]:
        """`seen` without what cannot be proposed yet: unknown, restless, or large and not yet held by a majority."""
        proposable: dict[RelPath, Observed] = {}
        for path, o in seen.items():
            o = seen[path] = self._large.or_copy(path, o)
            if isinstance(o, Unknown):
                self._not_known(path, o, taken.get(path))
                continue
            self._unknown.pop(path, None)
            if isinstance(o, Present):
                if not o.settled:
                    self._doubt(path)
                if o.kind is Kind.FILE and o.data is None and o.stat.size and self._must_be_held(path, o, led):
                    continue
            proposable[path] = o
        return proposable

    def _not_known(self, path: RelPath, o: Unknown, due: Due | None) -> None:
        if o is not CHANGING:
            self._unknown.pop(path, None)  # to the end: the others have their turn first
            self._unknown[path] = o.reason
            return
        now, since = self._clock.now(), self._since(due)
        if now - since < RESTLESS_SECONDS or not self._large.copy(path):
            self._agenda.after_quiet(path, since, now)

    def _must_be_held(self, path: RelPath, o: Present, led: int) -> bool:
        return (led > 0 or self._stance() is Stance.PROPOSE) and self._large.must_be_held(path, o)

    # -------------------------------------------------------------------------------------------- the batch

    def _take_off(self, found: Diff, since: float, led: int) -> None:
        """Propose the first commands of `found` (references only point backwards); the rest is looked at again."""
        contents: dict[bytes, bytes] = {}
        count = size = 0
        for command, claim in zip(found.commands[:BATCH_COMMANDS_MAX], found.claims, strict=False):
            seen = claim.seen
            size += weight(command) + (len(seen.data) if seen is not None and seen.data is not None else 0)
            if count and size > BATCH_BYTES_MAX:
                break
            count += 1
            if isinstance(command, Put) and command.content is not None and seen is not None and seen.data is not None:
                contents[seen.content] = seen.data
        for claim in found.claims[count:]:
            self._agenda.add(claim.path, since)
        self._fly(Batch(self._origin(), found.commands[:count]), found.claims[:count], contents, since, led)

    def _fly(
        self, batch: Batch, claims: tuple[Claim, ...], contents: dict[bytes, bytes], since: float, led: int
    ) -> None:
        assert len(batch.commands) <= COMMANDS_MAX
        self.flight = self.newest = Flight(Proposal(batch, contents), claims, led or self._term(), since)
        if len(batch.commands) >= GATHER_COMMANDS:
            self._gather_until = self._clock.now() + GATHER_SECONDS
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
        if len(outcomes) != len(batch.commands):
            raise OperatorError(
                f"the log has later batches of {self._me} than those of this start",
                "set this machine's clock, and see that no other node has that name; then restart the node",
            )
        settled = settle(batch.commands, flight.claims, outcomes, applied.index, offset, self._catalogue, self._base)
        with self._base.transaction():
            lost = store(self._base, settled.rows)
        self.flight = None
        self._landed.set()
        for command, claim, outcome in zip(batch.commands, flight.claims, outcomes, strict=True):
            self._large.landed(claim.path, command)
            if not outcome.accepted:
                log.warning("a change was rejected", path=show(claim.path), reason=outcome.reason)
        if lost or not all(outcome.accepted for outcome in outcomes):
            self._hurry()
        for path in settled.look if not lost else sorted({*settled.look, *(claim.path for claim in flight.claims)}):
            self.look_again(path)
        self._placer.want(lost | (settled.rows.keys() - applied.changes.keys()))
        self._placer.retry()
        asyncio.get_running_loop().call_soon(self._check_idle)
        return {
            id for id, row in settled.rows.items() if id in applied.changes and _agrees(row, applied.changes[id].after)
        }


def _agrees(ours: BaseRow | None, theirs: Row | None) -> bool:
    if ours is None or theirs is None:
        return ours is None and theirs is None
    return (ours.version, ours.placed, ours.parent, ours.name) == (
        theirs.version, theirs.placed, theirs.parent, theirs.name,
    )  # fmt: skip
