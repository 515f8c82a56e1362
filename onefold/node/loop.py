"""The node: its stations put together, what it may do, and its life from start to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec
import structlog

from onefold.core.catalogue import Catalogue
from onefold.core.hooks import Placed, placed_here
from onefold.core.messages import Problem, Report
from onefold.core.model import Applied, Change, Entry, Id, Kind, Pack, Seed
from onefold.core.paths import ROOT_PATH, RelPath
from onefold.core.quorum import Standing
from onefold.core.views import path_of
from onefold.errors import Bug, LogTrimmed, OperatorError, PeerError, UserError
from onefold.node.answer import Answerer
from onefold.node.append import Appender
from onefold.node.apply import Applier
from onefold.node.catch_up import CatchUp
from onefold.node.changes import Changes
from onefold.node.durable import Keeper
from onefold.node.examine import Examiner
from onefold.node.fetch import Fetcher
from onefold.node.flush import Flusher
from onefold.node.give import Giver
from onefold.node.given import Identity, Ports
from onefold.node.guard import Guard
from onefold.node.hold import Holder
from onefold.node.hooks import HookRunner
from onefold.node.kept import Kept
from onefold.node.large import LargeContents
from onefold.node.lead import Elector
from onefold.node.place import Placer
from onefold.node.propose import Proposer, Stance
from onefold.node.read import Reader
from onefold.node.report import Reporter, brief, first_path
from onefold.node.scrub import Scrubber
from onefold.node.sweep import Sweeper
from onefold.node.trim import Trimmer, trim_point
from onefold.node.trust import Trust
from onefold.node.waiting import insist
from onefold.node.write import Writer
from onefold.ports import Hint, Leader, Traffic

DIGESTS_TOLD = 16
DRAIN_SECONDS = 1.0
STOP_SECONDS = 3.0
LAST_ANSWER_SECONDS = 0.2
"""How long an answer may take to leave before the node begins anew."""

log = structlog.get_logger()


class Renewed(Exception):
    """The catalogue is another one now: the node must start anew on what is on disk."""


class CatalogueGivenUp(Renewed):
    """The catalogue on disk is to be discarded before that."""


class Node:
    """One node. `run` lives until it is cancelled, or until something breaks that a restart must mend."""

    def __init__(
        self, who: Identity, ports: Ports, catalogue: Catalogue, joined: bool, durable: int, held: int = 0
    ) -> None:
        """`held`: how many files and directories the base has."""
        self.who = who
        self._ports = ports
        self._catalogue = catalogue
        self._joined = joined
        self._stopping = False
        self._unplaced: Iterable[Id] = ()
        self.changes = Changes(catalogue.index)
        self.problem_sources: list[Callable[[], list[Problem]]] = []
        """What else may be wrong with this node, beside its stations."""
        self.trust = Trust(who.name, who.voters, ports.base, lambda: catalogue.index)
        self._group = asyncio.TaskGroup()
        voters = frozenset(who.voters)
        self._holder = holder = Holder(who.name, voters, ports.peers, lambda: self.elector.term)
        self.appender = Appender(ports.log, holder, ports.objects, self._expect, self._committed)
        self.applier = Applier(
            ports.log,
            catalogue,
            ports.catalogue,
            ports.contents,
            ports.objects,
            ports.peers,
            self.trust.quorum,
            self._wrote,
            self._applied,
            lambda contents: self.fetcher.bring(contents),
            catalogue.index if joined else max(durable, ports.catalogue.copied),
        )
        self.catch_up = CatchUp(
            ports.log, ports.catalogue, ports.peers, ports.clock, lambda node: self.reporter.reports.get(node)
        )
        self.fetcher = Fetcher(
            ports.base,
            ports.contents,
            ports.objects,
            ports.peers,
            who.root,
            self._is_current,
            lambda ids: self.placer.again(ids),
            lambda digest: self.keeper.done_with(digest, catalogue.index),
            self._spawn,
        )
        self.placer = Placer(
            ports.catalogue,
            ports.base,
            self.fetcher,
            ports.materialiser,
            lambda: catalogue.index,
            self._keep_edits,
            self._look_again,
            lambda path: self.proposer.look_at(path, tree=True),
            self._in_place,
            None if ports.hooks is None else lambda changes: self.hooks.placed(changes),
        )
        self.hooks = HookRunner(
            ports.hooks,
            ports.clock,
            lambda: self.placer.busy,
            lambda: self.placer.progress() is not None,
            lambda: max(0, self.placer.in_place),
            lambda: self.reporter.change(),
            self._spawn,
        )
        self.large = LargeContents(who, ports, holder, self._look_at, self._spawn)
        self.proposer = Proposer(
            who,
            ports,
            self.placer,
            self.large,
            self.appender,
            self._stance,
            self._leader,
            lambda: self.elector.active,
            self._caught_up,
            lambda path: self.sweeper.doubt(path),
            lambda: self.sweeper.hurry(),
            Guard(who.name, held, ports.base.path),
            self._spawn,
        )
        self.sweeper = Sweeper(ports.base, ports.scanner, ports.clock, self.proposer.at_leisure, self.proposer.look_at)
        self.reporter = Reporter(ports.peers, ports.clock, self._report, self._leader, self.changes.everywhere)
        self.flusher = Flusher(
            who,
            ports,
            self.applier,
            self.placer,
            self.proposer,
            self.reporter,
            self._drain,
            self._leader,
        )
        self.elector = Elector(
            who.name,
            who.voters,
            who.preferred,
            ports.log,
            ports.peers,
            self.appender,
            self.applier,
            ports.clock,
            self.reporter.reports.get,
            ports.peers.last_heard,
            self.flusher.flush,
            lambda: self.catch_up.progress() is not None,
            self._leader_changed,
            self._spawn,
        )
        self.keeper = Keeper(
            ports.objects,
            ports.contents,
            ports.clock,
            ports.materialiser.sync,
            self._proven,
            self._synced,
            lambda: self.placer.refused(),
            durable,
        )
        self.examiner = Examiner(
            ports,
            catalogue,
            self.placer,
            self.keeper,
            self._look_at,
            self.proposer.pending,
            self.sweeper.doubts,
        )
        self.scrubber = Scrubber(
            self.examiner,
            ports.base,
            ports.clock,
            who.scrub_days,
            lambda: catalogue.files,
            self._distrust,
            self._damage,
            self._spawn,
        )
        self.trimmer = Trimmer(
            ports.log, ports.clock, who.entries_kept, lambda: self.elector.active, self._trim_point, self._trimmed
        )
        self.reader = Reader(who, ports, self.applier, self.fetcher, self.keeper, self._spawn)
        self.writer = Writer(
            who,
            ports,
            self.appender,
            holder,
            self.keeper,
            self._leader,
            lambda: self.elector.term,
            self._knows_the_folder,
            self.reader.linearize,
            self._spawn,
        )
        self.kept = Kept(who, ports, self.writer, self.reporter.change)
        self.giver = Giver(who, ports, catalogue, self.large, self._distrust)
        self.answerer = Answerer(
            who,
            ports,
            self.elector,
            self.appender,
            self.placer,
            self.proposer,
            self.fetcher,
            self.giver,
            self.large,
            self.keeper,
            self.reporter,
            self.flusher,
            self.scrubber,
            self.kept,
            self._reported,
            self._moved,
            self._give_up_catalogue,
        )

    # -------------------------------------------------------------------------------------------- life

    async def run(self, unplaced: Iterable[Id]) -> None:
        """Run until cancelled. `unplaced`: ids on which the catalogue and the base differ at the start.

        Raises `Renewed`, or what broke: `OperatorError`, `Bug`, or an unexpected error, after which only a restart
        helps.
        """
        is_placed = self._ports.base.by_content
        self.keeper.restore(
            self._catalogue.index, self._ports.catalogue.packs(), lambda digest: bool(is_placed(digest))
        )
        self._unplaced = self._placed_soon(unplaced)
        self._take_stand()
        self.proposer.hint([Hint(ROOT_PATH, True, False, True)])
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ports.watcher.fileno(), self._drain)
        try:
            async with self._group:
                for station in (
                    self._follow(),
                    self.elector.follow(),
                    self.elector.run(),
                    self._place(),
                    self.proposer.run(),
                    self.sweeper.run(),
                    self.sweeper.resolve(),
                    self.scrubber.run(),
                    self.reporter.run(),
                    self.keeper.run(),
                    self.trimmer.run(),
                    self.hooks.run(),
                    self._keep_draining(),
                ):
                    self._spawn(_endless(station))
        finally:
            loop.remove_reader(self._ports.watcher.fileno())

    async def _trimmed_at(self) -> int:
        """Apply what comes, until the log no longer holds the entry that this answers."""
        try:
            await self.applier.run()
        except LogTrimmed as trimmed:
            return trimmed.first
        raise Bug("the log has come to an end", "restart the node")

    async def _place(self) -> None:
        """Place for ever. A node without a base does so only from where the log is now: its catalogue may be older than
        what stands in its folder, which must not go back (G4)."""
        if not self._joined:
            head = await insist(self._ports.clock, self._ports.log.head, "the log does not answer")
            await self.applier.reach(head)
        await self.placer.run()

    async def _follow(self) -> None:
        """Follow the log for ever; where it does not reach back far enough, take over from a peer, and start anew."""
        trimmed = await self._trimmed_at()
        while self._catalogue.index >= trimmed:  # applied already: ahead of the watch, or only to be recalled
            self.applier.recall_no_more()
            trimmed = await self._trimmed_at()
        log.warning("behind what the log holds", wanted=trimmed)
        self.elector.stand_down()
        await self.catch_up.run()
        raise Renewed

    def change(self, voters: tuple[str, ...], members: tuple[str, ...]) -> None:
        """Others belong to the cluster now, or vote. Whom this node may talk to is the `Peers`' to know."""
        if (voters, members) == (self.who.voters, self.who.members):
            return
        log.info("members", voters=",".join(voters), members=",".join(members))
        gone = set(self.who.members) - set(members)
        self.who = msgspec.structs.replace(self.who, voters=voters, members=members)
        self.trust.change(voters, gone)
        self._holder.change(frozenset(voters))
        self.elector.change(voters)
        self.flusher.change(members)
        self.answerer.change(members)
        self.kept.change(members)
        self.large.term_changed()  # what is held for later is held by a majority of those who voted before
        self.writer.turned()
        self._take_stand()
        self._moved()
        self.reporter.change()

    async def stop(self) -> None:
        """Before the end of `run`: propose what is written, and let another lead. Bounded in time."""
        self._stopping = True
        self.reporter.change()
        await self._let_others_lead()

    async def _let_others_lead(self) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.elector.stop()
        except (TimeoutError, OperatorError, PeerError, UserError) as error:
            log.warning("leadership was not handed over", error=str(error) or "it took too long")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(work)

    def _drain(self) -> None:
        self.proposer.hint(self._ports.watcher.drain())

    async def _keep_draining(self) -> None:
        """What no event tells, every second: directories without a watch are polled by `drain`."""
        while True:
            await self._ports.clock.sleep(DRAIN_SECONDS)
            self._drain()
            self.proposer.retry()
            self.keeper.release(self._durable_of_voters(), len(self.who.voters))

    # -------------------------------------------------------------------------------------------- the flow

    def _expect(self, digest: bytes, pack: Pack) -> None:
        self.applier.expect(digest, pack)

    def _committed(self, index: int, entry: Entry, pack: Pack) -> None:
        flight = self.proposer.newest
        mine = next((b for b in pack.batches if flight and b.origin == flight.proposal.batch.origin), None)
        asked = self.writer.since(pack)
        since = flight.since if mine and flight else self._ports.clock.now() if asked is None else asked
        path = first_path(pack, self._ports.catalogue) or (flight.claims[0].path if mine and flight else b"")
        self.reporter.committed(index, pack, since, path)
        self.applier.feed(index, entry, pack)

    def _wrote(self, pack: Pack) -> bool:
        return all((b.origin.node, b.origin.incarnation) == (self.who.name, self.who.incarnation) for b in pack.batches)

    def _applied(self, entry: Entry, pack: Pack, applied: Applied) -> None:
        seeding = not self._joined and self.proposer.seeding
        self._placed_here(pack, applied)
        agreed = self.proposer.land(pack, applied)
        if seeding and self._catalogue.seeded and self.proposer.flight is None:
            self._join()
        if not self.trust.behind:
            self.placer.note(pack, applied, self._wrote(pack), agreed)
        self.keeper.applied(applied.index, entry, pack)
        self.giver.applied(applied)
        self.examiner.applied(applied.changes)
        self.changes.applied(applied, pack, self._ports.catalogue)
        if self.trust.in_doubt:
            self._take_stand()
        self.writer.land(pack, applied)
        self._advance()

    def _placed_here(self, pack: Pack, applied: Applied) -> None:
        """What this node's own edits changed is in place as soon as it is committed, and likewise where others changed
        what it had edited, too: nothing is left for the placer. The base still has it where it was before."""
        if self._ports.hooks is None:
            return
        me = (self.who.name, self.who.incarnation)
        ids: set[Id] = set()
        for batch in pack.batches:
            if (batch.origin.node, batch.origin.incarnation) == me:
                ids.update(command.id for command in batch.commands if not isinstance(command, Seed))
                ids.update(outcome.id for outcome in applied.outcomes[batch.origin])
        ids &= applied.changes.keys()
        changes = [change for id in sorted(ids) if (change := self._placed(id, applied.changes[id])) is not None]
        if changes:
            self.hooks.placed(changes)

    def _placed_soon(self, unplaced: Iterable[Id]) -> Iterable[Id]:
        """`unplaced`, noted as changes: the last life may have ended before it could say so of its own edits."""
        if self._ports.hooks is None:
            return unplaced
        ids = list(unplaced)
        found = (self._placed(id, Change(None, self._ports.catalogue.get(id))) for id in ids)
        self.hooks.placed([change for change in found if change is not None])
        return ids

    def _placed(self, id: Id, change: Change) -> Placed | None:
        base = self._ports.base
        before = base.path(id) if base.get(id) is not None else None
        row = change.after
        after = path_of(self._ports.catalogue, row.parent, row.name) if row is not None else None
        known = row or change.before or self._ports.base.get(id)
        return placed_here(before, after, known is not None and known.kind is Kind.DIRECTORY)

    def _in_place(self, index: int) -> None:
        self.reporter.arrive(index)
        self.hooks.arrived()
        self._moved()
        self.proposer.advance()

    def _is_current(self, id: Id, digest: bytes) -> bool:
        row = self._ports.catalogue.get(id)
        return row is not None and row.content == digest

    def _moved(self) -> None:
        """A folder has arrived somewhere, here or elsewhere, or a node is gone: it may be everywhere now."""
        if self.elector.active:
            self.reporter.arrived(self.placer.in_place)
        self.flusher.advance()

    def _reported(self, peer: str, report: Report) -> None:
        for entry in report.everywhere:
            self.changes.everywhere(entry)
        self.applier.compare(peer, report.digests)
        self._take_stand()
        self.proposer.advance()

    def _advance(self) -> None:
        """Something that others may wait for has moved on."""
        self.flusher.advance()
        self.proposer.advance()

    def _look_at(self, path: RelPath) -> None:
        self.proposer.look_at(path)

    def _look_again(self, path: RelPath) -> None:
        self.proposer.look_again(path)

    def _proven(self) -> int:
        """Up to where the folder is known to be in place. Before this node has joined, what its base says may be more
        than a crash left in the folder: contents must not be let go for that (G2)."""
        return self.placer.in_place if self._joined else 0

    def _synced(self, index: int) -> None:
        self._ports.catalogue.durable = index
        self.reporter.change()

    # -------------------------------------------------------------------------------------------- the log's tail

    def _trim_point(self, kept: int) -> int:
        reports = self.reporter.reports
        live = [r.durable if (r := reports.get(node)) else 0 for node in self._ports.peers.connected()]
        majority = len(self.who.voters) // 2 + 1
        live.append(self.keeper.durable)
        return trim_point(self._catalogue.index, live, self._durable_of_voters(), majority, kept)

    def _trimmed(self, index: int) -> None:
        self._ports.catalogue.forget_packs(index)
        self.keeper.trimmed(index)

    # -------------------------------------------------------------------------------------------- what it may do

    def _take_stand(self) -> None:
        """Whether this node's catalogue can be trusted may be known better by now: go on, or stop (G1)."""
        if self.trust.review():
            self.appender.permit(self.trust.standing is Standing.SOUND)
            if self.trust.standing is Standing.ODD:
                self.elector.stand_down()
            else:
                self.elector.stand_up()
            self.reporter.change()
        if self._unplaced and not self.trust.behind:
            unplaced, self._unplaced = self._unplaced, ()
            self.placer.want(unplaced)
        if self.trust.sound == self.placer.halted:
            if self.placer.halted:
                self.placer.go_on()
            else:
                self.placer.halt()
            self.proposer.stance_changed()
            self.writer.turned()

    def _damage(self) -> None:
        self.trust.damage()
        self._take_stand()

    def _give_up_catalogue(self) -> None:
        """Begin anew with an empty catalogue, to be filled from the log. Raises `PeerRefused`."""
        self.trust.give_up()
        self._spawn(self._begin_anew())

    async def _begin_anew(self) -> None:
        await self._ports.clock.sleep(LAST_ANSWER_SECONDS)
        raise CatalogueGivenUp

    def _leader(self) -> str:
        return self.elector.leads()

    def _stance(self) -> Stance:
        leader = self._leader()
        if not self.trust.sound or not leader:
            return Stance.WAIT
        lead = leader == self.who.name
        if not lead and not self._says_that_it_leads(leader):
            return Stance.WAIT  # it may have ended long ago: then what was edited since may be ours to propose
        if not self._catalogue.seeded:
            return Stance.PROPOSE if lead else Stance.WAIT
        if not self._joined:
            # Without a base nothing is proposed: what the catalogue has is adopted first, the rest is kept aside.
            arrived = self.placer.in_place >= self._catalogue.index
            return Stance.REVERT if arrived else Stance.WAIT
        if lead or self.who.writers == "any":
            return Stance.PROPOSE
        return Stance.REVERT

    def _says_that_it_leads(self, node: str) -> bool:
        report = self.reporter.reports.get(node)
        return report is not None and report.role == "leader"

    def _keep_edits(self) -> bool:
        """Whether an edit that stands in the way of a plan is left where it is, for this node to propose."""
        if not self._joined and self._catalogue.seeded:
            return False
        return self.proposer.flight is not None or self._stance() is not Stance.REVERT

    def _caught_up(self) -> None:
        """What is in this folder is in the log, or kept aside."""
        if self.elector.active and not self._catalogue.seeded:
            self.proposer.seed()
        elif not self._joined and self._stance() is Stance.REVERT and not self.placer.busy:
            self._join()

    def _join(self) -> None:
        """This node's base is one with the catalogue from now on: what differs later is an edit."""
        self._joined = True
        self._ports.base.joined = True
        self.proposer.stance_changed()
        self.reporter.change()

    def _leader_changed(self, leader: Leader | None, deposed: int) -> None:
        self.large.term_changed()
        if leader is not None:
            self.keeper.term_began(leader.term)
        if deposed and leader is not None and leader.node != self.who.name:
            self._drain()
            if self.trust.sound:
                self.proposer.deposed(deposed)
        self.proposer.stance_changed()
        self.writer.turned()
        self._advance()
        self.reporter.change()

    # -------------------------------------------------------------------------------------------- reports

    def durable(self) -> dict[str, int]:
        """How far each node's folder is on its disk, of those that have told."""
        known = {report.node: report.durable for report in self.reporter.reports.values()}
        return known | {self.who.name: self.keeper.durable}

    @property
    def index(self) -> int:
        """The newest index that this node has applied."""
        return self._catalogue.index

    def _durable_of_voters(self) -> list[int]:
        known = [r.durable for r in self.reporter.reports.values() if r.node in self.who.voters]
        return [*known, self.keeper.durable] if self.who.name in self.who.voters else known

    def _report(self) -> Report:
        leader = self.elector.leader
        name = self.who.name
        role = "leader" if self.elector.active else "voter" if name in self.who.voters else "replica"
        return Report(
            node=name,
            incarnation=self.who.incarnation,
            role=role,
            leader=leader.node if leader else "",
            term=leader.term if leader else 0,
            applied=self._catalogue.index,
            in_place=max(0, self.placer.in_place),
            durable=self.keeper.durable,
            digests=self.applier.newest_digests(DIGESTS_TOLD),
            files=self._catalogue.files,
            strays=self._ports.strays.count(),
            problems=tuple(self._problems()),
            reaches=tuple(sorted(self._ports.peers.connected())),
            preferred=self.who.preferred,
            ready=self._is_ready(),
            missing=self.proposer.guard.asking,
            progress=self.catch_up.progress() or self.placer.progress(),
            mended=self.scrubber.mended,
            hooks=self.hooks.states(),
        )

    def _knows_the_folder(self) -> bool:
        """Whether the catalogue is the folder: only then can anything be asked to be changed in it."""
        return self._catalogue.seeded and self.trust.sound and not self._stopping

    def _is_ready(self) -> bool:
        known = self._joined and self._catalogue.seeded and bool(self._leader())
        return known and self.trust.sound and not self._stopping

    @property
    def traffic(self) -> Traffic:
        return self._ports.peers.traffic

    @property
    def stored_bytes(self) -> int:
        """See `ports.Log`."""
        return self._ports.log.stored_bytes

    def unready(self) -> str:
        """Why nobody should rely on this node's folder just now; "" when everybody may."""
        if self._stopping:
            return "it is stopping"
        if not self.trust.sound:
            return "its catalogue cannot be trusted"
        leader = self._leader()
        if not leader or not (leader == self.who.name or self._says_that_it_leads(leader)):
            return "it reaches nobody that leads"
        if self._ports.log.problems():
            return "edits wait, since the log does not take them"
        if not self._is_ready() or self.catch_up.progress() or self.placer.progress():
            return "its folder is not yet what the others have"
        return ""

    def _problems(self) -> list[Problem]:
        found = [*self._ports.log.problems(), *self._ports.watcher.problems(), *self._ports.peers.problems()]
        found += [*self.proposer.problems(), *self.large.problems(), *self.appender.problems()]
        found += [*self.catch_up.problems(), *self.fetcher.problems(), *self.placer.problems()]
        found += [*self.scrubber.problems(), *self.hooks.problems()]
        found += [problem for source in self.problem_sources for problem in source()]
        return brief([*self.trust.problems(), *found])

    def _distrust(self) -> str:
        """Why this node's catalogue cannot be trusted; "" when it can."""
        found = self.trust.why_not()
        return "" if found is None else found.what


async def _endless(station: Coroutine[Any, Any, None]) -> None:
    await station
    raise Bug("a part of the node ended by itself", "restart the node")
