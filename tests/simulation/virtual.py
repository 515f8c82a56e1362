"""An event loop whose time is virtual: nothing waits, and what asyncio leaves open is drawn from the seed.

Each callback belongs to a `Life` (one run of one node's process) or to the world (network, disks, users, faults). What
one life scheduled runs in its own order, as asyncio promises; between lives the order is drawn. A life that has ended
runs no callback any more, not even a `finally`: that is what `kill -9` is.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

CALLBACK_SECONDS = 10e-6
"""What one callback costs: so time passes for whoever spins."""
THREAD_SECONDS_MAX = 0.01


class Killed(BaseException):
    """The process that makes this syscall is dead."""


class Stuck(BaseException):
    """Too much is done for so little time: somebody spins."""


LIFE: ContextVar[Life | None] = ContextVar("LIFE", default=None)


class Life:
    """One run of a node's process. `until`: it stands still (SIGSTOP) until then; `slow`: how long each of its
    callbacks may be late, in seconds."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.alive = True
        self.until = 0.0
        self.slow = 0.0
        self.ready: deque[events.Handle] = deque()
        self.waking = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.descriptors: set[int] = set()
        self.context = copy_context()
        self.context.run(LIFE.set, self)


class VirtualLoop(asyncio.BaseEventLoop):
    """`now` starts at 0 and moves only when nothing is left to do. `entered(life)` is called before each callback."""

    def __init__(self, rng: random.Random, entered: Callable[[Life | None], None]) -> None:
        super().__init__()
        self.rng = rng
        self.now = 0.0
        self.steps = 0
        self.limit = 0
        self.tasks = 0
        self._entered = entered
        self._world = Life("")
        self._runnable: list[Life] = []
        self._order = 0
        self._due: list[tuple[float, int, events.TimerHandle]] = []
        self._readers: dict[int, tuple[Life | None, Context, Callable[..., None], tuple[Any, ...]]] = {}
        self.broken: list[str] = []
        self.set_exception_handler(self._failed)
        self.set_task_factory(_task)

    # -------------------------------------------------------------------------------------------- asyncio's side

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = events.Handle(callback, args, self, context)
        self._queue(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        timer = events.TimerHandle(when, callback, args, self, context)
        self._order += 1
        heapq.heappush(self._due, (when, self._order, timer))
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """Skipped when its time comes."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """A thread: what it does happens at one later moment."""
        future = self.create_future()
        self.call_later(self.rng.random() ** 3 * THREAD_SECONDS_MAX, self._thread, future, func, args)
        return future

    def _thread(self, future: asyncio.Future[Any], func: Any, args: Any) -> None:
        try:
            result = func(*args)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def _add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        self._readers[fd] = (LIFE.get(), copy_context(), callback, args)

    def _remove_reader(self, fd: int) -> bool:
        return self._readers.pop(fd, None) is not None

    add_reader = _add_reader
    remove_reader = _remove_reader

    def _process_events(self, event_list: Any) -> None:
        raise NotImplementedError

    def _failed(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Killed):
            return
        self.broken.append(f"{context.get('message')}: {error!r}")

    # -------------------------------------------------------------------------------------------- the world's side

    def readable(self, fd: int, seconds: float) -> None:
        """What is open as `fd` has something to read: its reader is called that much later."""
        reader = self._readers.get(fd)
        if reader is not None:
            life, context, callback, args = reader
            if life is not None and life.alive:
                self.call_later(seconds, callback, *args, context=context)

    def within(self, life: Life | None, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback` soon, as a part of `life`."""
        self.call_soon(callback, *args, context=(life or self._world).context)

    def world_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback` as a part of the world, whoever asks."""
        self.call_at(self.now + seconds, callback, *args, context=self._world.context)

    def spawn(self, life: Life, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of `life`."""
        return life.context.run(self.create_task, work)

    def end(self, life: Life) -> None:
        """`life` is no more: whatever it was about to do is not done."""
        life.alive = False
        life.ready.clear()
        for task in life.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def stand_still(self, life: Life, seconds: float) -> None:
        life.until = max(life.until, self.now + seconds)

    def _queue(self, handle: events.Handle) -> None:
        life = handle._context.get(LIFE) or self._world  # type: ignore[attr-defined]
        if not life.alive:
            return
        life.ready.append(handle)
        if not life.waking:
            self._wake(life)

    def _wake(self, life: Life) -> None:
        life.waking = True
        at = max(life.until, self.now + life.slow * self.rng.random() if life.slow else 0.0)
        if at > self.now:
            self.call_at(at, self._woken, life, context=self._world.context)
        else:
            self._runnable.append(life)

    def _woken(self, life: Life) -> None:
        life.waking = False
        if life.ready:
            self._wake(life)

    def run_until(self, when: float, done: Callable[[], bool] = lambda: False) -> None:
        """Run what is due until `when`, or until `done()`, which is asked after each moment."""
        events._set_running_loop(self)
        try:
            while not done():
                self._run_ready()
                while self._due and self._due[0][2]._cancelled:  # type: ignore[attr-defined]
                    heapq.heappop(self._due)
                if not self._due or self._due[0][0] > when:
                    self.now = max(self.now, when)
                    return
                self.now = max(self.now, self._due[0][0])
                while self._due and self._due[0][0] <= self.now:
                    timer = heapq.heappop(self._due)[2]
                    if not timer._cancelled:  # type: ignore[attr-defined]
                        self._queue(timer)
        finally:
            events._set_running_loop(None)

    def _run_ready(self) -> None:
        runnable, rng, entered = self._runnable, self.rng, self._entered
        while runnable:
            at = int(rng.random() * len(runnable)) if len(runnable) > 1 else 0
            life = runnable[at]
            if not life.ready or life.until > self.now:
                del runnable[at]
                self._woken(life)
                continue
            handle = life.ready.popleft()
            if not handle._cancelled:  # type: ignore[attr-defined]
                self.steps += 1
                if self.steps > self.limit:
                    raise Stuck(f"more than {self.limit} callbacks by {self.now:.3f} s, the last of {life.node}")
                self.now += CALLBACK_SECONDS
                entered(None if life is self._world else life)
                handle._run()
                entered(None)
            if life.slow and life.ready:
                runnable.remove(life)
                self._wake(life)


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __new__(cls, *args: Any, loop: VirtualLoop, **more: Any) -> NumberedTask:
        task = super().__new__(cls)
        loop.tasks += 1
        task.number = loop.tasks
        return task

    def __hash__(self) -> int:
        return self.number


def _task(loop: Any, coro: Any, context: Context | None = None) -> asyncio.Task[Any]:
    task = NumberedTask(coro, loop=loop, context=context)
    life = (context.get(LIFE) if context is not None else None) or LIFE.get()
    if life is not None:
        life.tasks.append(task)
        if len(life.tasks) > 256:
            life.tasks = [each for each in life.tasks if not each.done()]
    return task
