"""Programs run after changes: each hook once its changes rest, one run of it at a time, beside all else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from onefold.core.hooks import Placed, due_in
from onefold.core.messages import HookRun, HookState, Problem
from onefold.node.waiting import happened
from onefold.ports import Clock, Hooks, Spawn

GATHER_SECONDS = 0.05
"""What comes within this time is sorted together."""


class _Turn:
    """When the changes came that one hook is to be run for; `wanted` while there are any."""

    def __init__(self, debounce: float) -> None:
        self.debounce = debounce
        self.wanted = asyncio.Event()
        self.first = 0.0
        self.last = 0.0

    def change(self, now: float) -> None:
        if not self.wanted.is_set():
            self.first = now
        self.last = now
        self.wanted.set()


class HookRunner:
    """What came in place is written down at once (`placed`); what it means for which hook is found out beside."""

    def __init__(
        self,
        hooks: Hooks | None,
        clock: Clock,
        busy: Callable[[], bool],
        much: Callable[[], bool],
        in_place: Callable[[], int],
        changed: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        """`busy`: whether the folder is still being brought to the catalogue, and `much`: whether there is much to
        bring. `changed()`: something is different in `states`."""
        self._hooks = hooks
        self._clock = clock
        self._busy = busy
        self._much = much
        self._in_place = in_place
        self._changed = changed
        self._spawn = spawn
        self._noted = asyncio.Event()
        self._arrived = asyncio.Event()
        self._turns = {name: _Turn(seconds) for name, seconds in hooks.debounces.items()} if hooks is not None else {}

    def placed(self, changes: Sequence[Placed]) -> None:
        """These came in place."""
        if self._hooks is not None:
            self._hooks.note(changes)
            self._noted.set()

    def arrived(self) -> None:
        """The folder has arrived where the catalogue is."""
        self._arrived.set()

    def states(self) -> tuple[HookState, ...]:
        return tuple(self._hooks.states()) if self._hooks is not None else ()

    def problems(self) -> list[Problem]:
        """The hooks whose last run failed."""
        return [_problem(state.name, state.last) for state in self.states() if state.last and state.last.failure]

    async def run(self) -> None:
        """Run the hooks, for ever. What was noted in an earlier life of this node comes first."""
        if self._hooks is None:
            await asyncio.Event().wait()
            return
        for name in self._turns:
            self._spawn(self._attend(self._hooks, name))
        self._wanted(self._hooks.waiting())
        self._noted.set()
        while True:
            await self._noted.wait()
            await self._clock.sleep(GATHER_SECONDS)
            self._noted.clear()
            self._wanted(await asyncio.to_thread(self._hooks.sort))

    def _wanted(self, names: Sequence[str]) -> None:
        now = self._clock.now()
        for name in names:
            self._turns[name].change(now)
        if names:
            self._changed()

    async def _attend(self, hooks: Hooks, name: str) -> None:
        """Run the hook `name` whenever it is due."""
        turn = self._turns[name]
        while True:
            await turn.wanted.wait()
            await self._rest(turn)
            turn.wanted.clear()
            await hooks.run(name, self._in_place())
            self._changed()

    async def _rest(self, turn: _Turn) -> None:
        """Returns once the changes of `turn` rest."""
        while True:
            self._arrived.clear()
            now, busy = self._clock.now(), self._busy()
            seconds = due_in(now, turn.first, turn.last, turn.debounce, busy, self._much())
            if not seconds:
                return
            if busy:
                await happened(self._arrived, None if math.isinf(seconds) else seconds)
            else:
                await self._clock.sleep(seconds)


def _problem(hook: str, run: HookRun) -> Problem:
    said = f": {run.line}" if run.line else ""
    return Problem(
        f"the hook {hook} failed ({run.failure}){said}",
        "",
        "mend what it says; it is run again after the next change that it matches",
    )
