"""Reading everything again: slowly and for ever, and at once when somebody asks (`onefold verify`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from onefold.core.messages import Finding, Problem, Verified
from onefold.core.model import NEW
from onefold.node.examine import ENTRY_BYTES, SUSPECTS_MAX, Examiner, Suspect
from onefold.node.sound import Pace
from onefold.ports import BaseStore, Clock, Spawn

BYTES_PER_SECOND_MIN = 1 << 20
"""The scrub reads at least so fast, and rests when it is done before its time."""
START_SECONDS = 60.0
REST_SECONDS_MAX = 3600.0
DAY_SECONDS = 86_400.0
REMEMBER_SECONDS = 60.0
"""How often the scrub writes down where it is."""
FINDINGS_MAX = 10_000
FINDINGS_TOLD = 200
"""In one answer: paths may have 16 KiB when shown, and a frame takes 8 MiB."""
PROBLEMS_MAX = 20


class Run:
    """A verification that somebody asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = 0
        self.total = 0
        self.findings: list[Finding] = []
        self.omitted = 0
        self.finished = False
        self.odd = False
        self.task: asyncio.Task[None] | None = None

    async def pace(self, count: int) -> None:
        self.done += count
        await asyncio.sleep(0)

    def find(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if len(self.findings) < FINDINGS_MAX:
                self.findings.append(finding)
            else:
                self.omitted += 1


class Scrubber:
    """Examines everything once in a while, and mends what the disk damaged. What cannot be mended is a problem."""

    def __init__(
        self,
        examiner: Examiner,
        base: BaseStore,
        clock: Clock,
        days: int,
        files: Callable[[], int],
        distrust: Callable[[], str],
        damaged: Callable[[], None],
        spawn: Spawn,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`days`: in which everything is read once (0: never). `files`: how many there are, about. `distrust`: why
        the catalogue cannot be trusted, "" when it can; `damaged()`: its rows are not what they were. `wall`: seconds
        since 1970, only to tell when the next scrub is due."""
        self._examiner = examiner
        self._base = base
        self._clock = clock
        self._days = days
        self._files = files
        self._distrust = distrust
        self._damaged = damaged
        self._spawn = spawn
        self._wall = wall
        self._turn = asyncio.Lock()
        self._run: Run | None = None
        self._unmended: dict[str, Problem] = {}
        self.mended = 0

    def problems(self) -> list[Problem]:
        """What was found damaged or different last, and is not mended."""
        return list(self._unmended.values())[:PROBLEMS_MAX]

    # -------------------------------------------------------------------------------------------- when asked

    def verify(self, name: str, repair: bool, known: int) -> Verified:
        """How far the run `name` is, which is started if it is not under way."""
        run = self._run
        if run is None or run.name != name:
            if run is not None and run.task is not None:
                run.task.cancel()
            run = self._run = Run(name)
            run.task = self._spawn(self._verify(run, repair))
        told = tuple(run.findings[known : known + FINDINGS_TOLD])
        finished = run.finished and known + len(told) == len(run.findings)
        return Verified(run.done, run.total, told, run.omitted, finished, run.odd)

    async def _verify(self, run: Run, repair: bool) -> None:
        async with self._turn:
            if not await self._examiner.catalogue_is_sound(_unpaced):
                self._damaged()
            run.total = self._examiner.bytes + ENTRY_BYTES * self._files()
            self._unmended.clear()
            if distrust := self._distrust():
                run.odd = True
                run.find([Finding(distrust, "", False)])
            else:
                at, suspects = NEW, list[Suspect]()
                while True:
                    after, more = await self._examiner.page(at, run.pace)
                    suspects += more
                    if after == at or len(suspects) >= SUSPECTS_MAX:
                        run.find(self._note(await self._examiner.settle(suspects, repair)))
                        suspects = []
                    if after == at:
                        break
                    at = after
            run.find(self._note(await self._examiner.objects(run.pace, repair)))
            run.finished = True

    # -------------------------------------------------------------------------------------------- for ever

    async def run(self) -> None:
        """Scrub for ever."""
        while not self._days:
            await self._clock.sleep(DAY_SECONDS)
        await self._clock.sleep(START_SECONDS)
        while True:
            if self._base.scrubbed == NEW:
                while (left := self._base.scrub_due - self._wall()) > 0:
                    await self._clock.sleep(min(left, REST_SECONDS_MAX))
                self._base.scrub_due = self._wall() + self._days * DAY_SECONDS
            await self._scrub()

    async def _scrub(self) -> None:
        """One round, from where the last was left."""
        pace = self._pace(BYTES_PER_SECOND_MIN)
        async with self._turn:
            sound = await self._examiner.catalogue_is_sound(pace)
        if not sound:
            self._damaged()
        pace = self._pace((self._examiner.bytes + ENTRY_BYTES * self._files()) / (self._days * DAY_SECONDS))
        if self._base.scrubbed == NEW:
            self._unmended.clear()
        at, suspects, remembered = self._base.scrubbed, list[Suspect](), self._clock.now()
        while True:
            while self._distrust():
                await self._clock.sleep(START_SECONDS)
            async with self._turn:
                after, more = await self._examiner.page(at, pace)
                suspects += more
                if after == at or len(suspects) >= SUSPECTS_MAX:
                    self._note(await self._examiner.settle(suspects, True))
                    suspects = []
            if after == at:
                break
            at = after
            if not suspects and self._clock.now() - remembered >= REMEMBER_SECONDS:
                self._base.scrubbed, remembered = at, self._clock.now()
        async with self._turn:
            self._note(await self._examiner.objects(pace, True))
        self._base.scrubbed = NEW

    def _pace(self, bytes_per_second: float) -> Pace:
        """At that rate at least; and at once while somebody waits for a verification."""
        rate = max(bytes_per_second, BYTES_PER_SECOND_MIN)

        async def pace(count: int) -> None:
            hurry = self._run is not None and not self._run.finished
            await self._clock.sleep(0 if hurry else count / rate)

        return pace

    def _note(self, findings: list[Finding]) -> list[Finding]:
        for finding in findings:
            if finding.mended:
                self.mended += 1
                self._unmended.pop(finding.where, None)
            else:
                self._unmended[finding.where] = Problem(finding.what, finding.where, "run `onefold verify --repair`")
        return findings


async def _unpaced(_: int) -> None:
    await asyncio.sleep(0)
