"""Who leads: following the leader key, noticing that a leader is gone, taking over, handing over.

Safety does not depend on anything here: every append compares the term (G6). So noticing may be eager. What keeps it
from flapping: a voter takes over only when a majority of the voters, itself included, cannot reach the leader; and of
several that could, the one that comes first in order tries first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from onefold.core.messages import Reach, Reached, Report
from onefold.errors import LogUnavailable, PeerError, UserError
from onefold.node.append import Appender
from onefold.node.apply import Applier
from onefold.node.waiting import happened, insist
from onefold.ports import Clock, Leader, Log, Peers, Spawn

SILENCE_SECONDS = 0.7
"""Without a word (heartbeats come every 0.25 s) for this long, a peer counts as unreachable, connected or not."""
FIRST_CONTACT_SECONDS = 1.0
"""How long after our own start a leader that we never heard may still be on its way to us, or we to it."""
CHECK_SECONDS = 0.2
REACH_SECONDS = 0.2
STAGGER_SECONDS = 0.04
START_SECONDS = 5.0
"""How long after its own start a node that is not preferred leaves leadership that is free to one that is: a new
folder is seeded from there, and what was edited while nothing ran was most likely edited there."""
PREFERRED_AFTER_SECONDS = 2.0
"""How long the preferred node must have been in step before leadership goes back to it."""

log = structlog.get_logger()


class Elector:
    """Follows the leader key. While this node holds it, runs the appender."""

    def __init__(
        self,
        me: str,
        voters: Sequence[str],
        preferred: bool,
        replicated: Log,
        peers: Peers,
        appender: Appender,
        applier: Applier,
        clock: Clock,
        report_of: Callable[[str], Report | None],
        heard: Callable[[str], float | None],
        flush: Callable[[], Awaitable[object]],
        behind: Callable[[], bool],
        changed: Callable[[Leader | None, int], None],
        spawn: Spawn,
    ) -> None:
        """`voters` in the order in which they take over. `behind()`: this node cannot follow the log just now, so
        it does not stand, and gives back what it is handed. `changed(leader, deposed)`: another term has begun;
        `deposed` is the term that this node led until then, or 0."""
        self._me = me
        self._voters = tuple(voters)
        self._preferred = preferred
        self._log = replicated
        self._peers = peers
        self._appender = appender
        self._applier = applier
        self._clock = clock
        self._report_of = report_of
        self._heard = heard
        self._flush = flush
        self._behind = behind
        self._changed = changed
        self._spawn = spawn
        self._wake = asyncio.Event()
        self._leading: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._started = clock.now()
        self._from_before = True  # if the key says that we lead, we did so in an earlier run
        self.leader: Leader | None = None
        self.prepare: Callable[[], Awaitable[None]] = _at_once
        """Called after each takeover: only once it has returned, this node appends."""
        self.fit = True
        """Whether this node may lead at all: `stand_down` and `stand_up` say so."""
        self.active = 0
        """The term that this node leads and appends in; 0 when it does not, or has not caught up yet."""

    def change(self, voters: Sequence[str]) -> None:
        """These are the voters now, in the order in which they take over."""
        self._voters = tuple(voters)
        self._wake.set()

    def wake(self) -> None:
        """A connection came or went: look at once whether the leader is gone."""
        self._wake.set()

    def leads(self) -> str:
        """Who leads and can append; "" for nobody."""
        if self.leader is None or (self.leader.node == self._me and not self.active):
            return ""
        return self.leader.node

    def stand_down(self) -> None:
        """This node's catalogue is not to be trusted, or is behind: it gives leadership up, and takes none."""
        self.fit = False
        if self._leading is not None and self.leader is not None:
            self._leading.cancel()
            self.active = 0
            self._leading = self._spawn(self._give_up(self.leader))
        self._wake.set()

    def stand_up(self) -> None:
        """It may lead again."""
        self.fit = True
        self._wake.set()

    @property
    def term(self) -> int:
        """The newest term that this node knows; 0 for none."""
        return self.leader.term if self.leader is not None else 0

    # -------------------------------------------------------------------------------------------- following

    async def follow(self) -> None:
        """Follow the leader key, for ever."""
        async for leader in self._log.leaders():
            from_before, self._from_before = self._from_before, False
            if from_before and leader is not None and leader.node == self._me and not self._preferred:
                await self._resign_from_before(leader)
            else:
                self._note(leader)

    async def _resign_from_before(self, leader: Leader) -> None:
        """The key says that we led when we ended. What was edited since was not edited on a leader."""
        try:
            await self._log.resign(leader.term)
        except LogUnavailable as error:
            log.warning("could not resign from before", error=str(error))
            self._note(leader)

    def _note(self, leader: Leader | None) -> None:
        if leader is not None and self.leader is not None and leader.term <= self.leader.term:
            return
        if leader == self.leader and leader is not None:
            return
        deposed = self.leader.term if self.leader is not None and self.leader.node == self._me else 0
        self.leader = leader
        self.active = 0
        if self._leading is not None:
            self._leading.cancel()
            self._leading = None
        if leader is not None:
            log.info("leader", node=leader.node, term=leader.term, reason=leader.reason)
            if leader.node == self._me:
                fit = self.fit and not self._behind()
                self._leading = self._spawn(self._lead(leader) if fit else self._give_up(leader))
        self._moved.set()
        self._changed(leader, deposed)
        self._wake.set()

    async def _lead(self, leader: Leader) -> None:
        """Lead: only after a read of the log's end made after the takeover, and after applying through it; and knowing
        who votes since then, of whom a majority must hold what is appended (G2)."""
        head = await insist(self._clock, self._log.head, "took over, but the log does not answer")
        await self._applier.reach(head)
        await insist(self._clock, self.prepare, "took over, but the roster cannot be read")
        self.active = leader.term
        self._moved.set()
        self._changed(leader, 0)
        await self._appender.lead(leader.term, head)
        self.active = 0
        await self._give_up(leader)

    async def _give_up(self, leader: Leader) -> None:
        """Until another leads, which cancels this: a key that is still ours would keep everyone waiting."""
        log.warning("no longer leading", term=leader.term)
        await insist(self._clock, lambda: self._log.resign(leader.term), "could not resign yet")
        # Nobody may tell: the late answer to our takeover may have brought us here after the end of that term was told.
        if self.leader == leader:
            self._leading = None
            self._note(None)

    # -------------------------------------------------------------------------------------------- taking over

    async def run(self) -> None:
        """Take over when nobody leads, and give leadership to the preferred node, for ever."""
        in_step_since: dict[str, float] = {}
        self._started = self._clock.now()
        while True:
            self._wake.clear()
            try:
                if self._me in self._voters and not self._behind():
                    await self._consider()
                if self.active:
                    await self._prefer(in_step_since)
            except LogUnavailable as error:
                log.warning("the log does not answer", error=str(error))
            except (PeerError, UserError) as error:  # it is busy, or they are gone: tried again
                log.warning("could not hand over to the preferred node", error=str(error))
            await happened(self._wake, CHECK_SECONDS)

    async def _consider(self) -> None:
        leader = self.leader
        others = len(self._voters) > 1
        starting = others and not self._preferred and self._clock.now() - self._started < START_SECONDS
        if leader is not None:
            if not self._gone(leader.node) or (starting and self._heard(leader.node) is None):
                return
            if not await self._majority_misses(leader.node):
                return
        elif starting:
            return
        await self._clock.sleep(STAGGER_SECONDS * self._before_me())
        if self.fit and self.leader == leader and not (leader is not None and self._reachable(leader.node)):
            self._from_before = False  # the key may show what we write before we hear that it was written
            self._note(await self._log.take(self._me, leader.term if leader else 0, "failover" if leader else "start"))

    def _before_me(self) -> int:
        """How many voters that we reach would rather take over."""
        if self._preferred:
            return 0
        before = 0
        for node in self._voters:
            if node == self._me:
                break
            before += self._reachable(node)
        return before

    def _reachable(self, node: str) -> bool:
        heard = self._heard(node)
        return node in self._peers.connected() and heard is not None and self._clock.now() - heard < SILENCE_SECONDS

    def _gone(self, node: str) -> bool:
        """Whether `node` is out of reach, and not only because this node has just started."""
        if node == self._me or self._reachable(node):
            return False
        return self._heard(node) is not None or self._clock.now() - self._started >= FIRST_CONTACT_SECONDS

    def reaches(self, node: str) -> bool:
        """Whether this node can reach `node`, or soon will: the answer to `Reach`."""
        return not self._gone(node)

    async def _majority_misses(self, node: str) -> bool:
        others = [v for v in self._voters if v not in (self._me, node)]
        answers = await asyncio.gather(*(self._misses(v, node) for v in others))
        return 1 + sum(answers) > len(self._voters) // 2

    async def _misses(self, voter: str, node: str) -> bool:
        try:
            answer = await self._peers.ask(voter, Reach(node), REACH_SECONDS)
        except PeerError:
            return False
        return isinstance(answer, Reached) and not answer.reached

    # -------------------------------------------------------------------------------------------- handing over

    async def _prefer(self, in_step_since: dict[str, float]) -> None:
        """Hand over to the preferred node once it has been in step for a while, unless a person chose otherwise."""
        leader = self.leader
        if self._preferred or leader is None or leader.reason == "command":
            return
        now = self._clock.now()
        for node in self._voters:
            report = self._report_of(node)
            if report is None or not report.preferred or not self._reachable(node) or not self._in_step(report):
                in_step_since.pop(node, None)
            elif now - in_step_since.setdefault(node, now) >= PREFERRED_AFTER_SECONDS:
                in_step_since.clear()
                await self.move(node, "preferred")
                return

    def _in_step(self, report: Report) -> bool:
        return report.in_place == report.applied == self._applier.index and report.ready

    async def move(self, node: str, reason: str) -> Leader:
        """Hand leadership to `node`, after proposing what is written here until now. Answers once it has it.

        Raises `UserError` when `node` cannot lead, or this node does not.
        """
        leader = self.leader
        if leader is None or leader.node != self._me or not self.active:
            raise UserError(f"{self._me} does not lead", "ask again in a moment")
        if node not in self._voters:
            raise UserError(f"{node} is not a voter", "choose one of " + ", ".join(self._voters))
        if node == self._me:
            return leader
        if not self._reachable(node):
            raise UserError(f"{node} cannot be reached from {self._me}", "start it first")
        await self._flush()
        self._note(await self._log.hand_over(leader.term, node, reason))
        if self.leader is None or self.leader.node != node:
            raise UserError(f"leadership went elsewhere: {self.leader.node if self.leader else 'nobody'} leads now")
        return self.leader

    async def settled(self, seconds: float) -> str:
        """As `leads`, once somebody does, or after `seconds`."""
        deadline = self._clock.now() + seconds
        while not self.leads() and self._clock.now() < deadline:
            self._moved.clear()
            await happened(self._moved, deadline - self._clock.now())
        return self.leads()

    async def stop(self) -> None:
        """Lead no more: hand over to a voter that is in step, else just resign."""
        leader = self.leader
        if leader is None or leader.node != self._me:
            return
        best = max(
            (node for node in self._voters if node != self._me and self._reachable(node)),
            key=lambda node: r.in_place if (r := self._report_of(node)) else -1,
            default=None,
        )
        if best is not None and self.active:
            await self.move(best, "handover")
        else:
            await self._log.resign(leader.term)


async def _at_once() -> None:
    """Nothing is to be prepared."""
