"""When hooks are run: once their changes rest, one run at a time, and never in the way of anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from stations import eventually

from onefold.core.hooks import Placed
from onefold.core.messages import HookRun, HookState
from onefold.core.paths import RelPath
from onefold.node.hooks import GATHER_SECONDS, HookRunner

A, B = Placed(RelPath(b"a"), False), Placed(RelPath(b"b"), False)


class Clock:
    """Time that passes only when somebody waits for it."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class Programs:
    """Hooks that want everything, and run for as long as a test lets them."""

    def __init__(self, clock: Clock, *names: str) -> None:
        self.debounces = dict.fromkeys(names, 0.5)
        self._clock = clock
        self.noted: list[Placed] = []
        self.left: list[str] = []
        self.runs: list[tuple[str, float, int]] = []
        self.running = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.last: HookRun | None = None

    def note(self, changes: Sequence[Placed]) -> None:
        self.noted += changes

    def sort(self) -> Sequence[str]:
        found = list(self.debounces) if self.noted else []
        self.noted = []
        return found

    def waiting(self) -> Sequence[str]:
        return self.left

    async def run(self, name: str, index: int) -> None:
        self.runs.append((name, self._clock.now(), index))
        self.running += 1
        assert self.running <= len(self.debounces)
        await self.may_end.wait()
        self.running -= 1

    def states(self) -> Sequence[HookState]:
        return [HookState(name, False, False, self.last) for name in self.debounces]


class Station:
    """A runner, and the placer as it sees it."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.programs = Programs(self.clock, *names)
        self.busy = self.much = False
        self.index = 7
        self.changes = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.runner = HookRunner(
            self.programs,
            self.clock,
            lambda: self.busy,
            lambda: self.much,
            lambda: self.index,
            self._changed,
            self._spawn,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Programs]:
        self._spawn(self.runner.run())
        try:
            yield self.programs
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)


async def ran(programs: Programs, times: int) -> None:
    await eventually(lambda: len(programs.runs) == times)


async def no_more(programs: Programs) -> None:
    """Nothing is run, however long the loop goes on."""
    before = len(programs.runs)
    for _ in range(200):
        await asyncio.sleep(0.001)
    assert len(programs.runs) == before


async def test_a_hook_is_run_once_its_changes_rest() -> None:
    station = Station("a")
    async with station.running() as programs:
        station.runner.placed([A])
        station.runner.placed([B])
        await ran(programs, 1)
        name, time, index = programs.runs[0]
        assert (name, index) == ("a", 7)
        assert time >= 100.0 + GATHER_SECONDS + 0.5
        await no_more(programs)
        assert station.changes


async def test_what_comes_during_a_run_leads_to_one_more() -> None:
    station = Station("a")
    async with station.running() as programs:
        programs.may_end.clear()
        station.runner.placed([A])
        await ran(programs, 1)
        station.runner.placed([A])
        await eventually(lambda: not programs.noted)
        station.runner.placed([B])
        await no_more(programs)
        programs.may_end.set()
        await ran(programs, 2)
        await no_more(programs)


async def test_a_hook_that_takes_long_keeps_no_other_one_waiting() -> None:
    station = Station("a", "b")
    async with station.running() as programs:
        programs.may_end.clear()
        station.runner.placed([A])
        await ran(programs, 2)
        assert {name for name, _, _ in programs.runs} == {"a", "b"}


async def test_a_hook_waits_until_the_folder_has_arrived() -> None:
    station = Station("a")
    station.busy = station.much = True
    async with station.running() as programs:
        station.runner.placed([A])
        await no_more(programs)
        station.busy = False
        station.runner.arrived()
        await ran(programs, 1)


async def test_what_an_earlier_life_left_is_run_at_the_start() -> None:
    station = Station("a", "b")
    station.programs.left = ["b"]
    async with station.running() as programs:
        await ran(programs, 1)
        assert programs.runs[0][0] == "b"


async def test_a_run_that_failed_is_a_problem_until_one_succeeds() -> None:
    station = Station("a")
    station.programs.last = HookRun(0.0, 1.0, 1, 1, "no such host", "exit code 1")
    (problem,) = station.runner.problems()
    assert problem.what == "the hook a failed (exit code 1): no such host"
    assert problem.fix
    station.programs.last = HookRun(0.0, 1.0, 1, 0, "ok", "")
    assert not station.runner.problems()


async def test_a_node_without_hooks_has_nothing_to_do() -> None:
    station = Station()
    runner = HookRunner(None, station.clock, *(bool,) * 2, int, lambda: None, station._spawn)
    runner.placed([A])
    task = asyncio.ensure_future(runner.run())
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    assert runner.states() == ()
    assert runner.problems() == []
