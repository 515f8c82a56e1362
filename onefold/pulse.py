"""The node's sign of life: a line for the supervisor, written by the event loop itself, so that a loop that hangs is
silent. The supervisor passes it on to the service manager (`onefold.notify`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from onefold.core.messages import Report
from onefold.notify import ALIVE, BUSY

SENTENCE_BYTES_MAX = 1000


class Pulse:
    """Writes to `descriptor` (-1: nobody listens) every `seconds`, while `beating`."""

    def __init__(self, descriptor: int = -1, seconds: float = 0.0) -> None:
        self._descriptor = descriptor
        self._seconds = seconds

    @classmethod
    def of(cls, argument: str) -> Pulse:
        """As `onefold.notify.Watch.argument` says it. Raises `ValueError`."""
        descriptor, _, seconds = argument.partition(":")
        return cls(int(descriptor), float(seconds))

    @contextmanager
    def beating(self, how: Callable[[], str]) -> Iterator[None]:
        """Now and every few seconds `how` says in a sentence how the node is. To be entered in the event loop that
        does the node's work."""
        if self._descriptor < 0:
            yield
            return
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def beat() -> None:
            nonlocal timer
            self._write(ALIVE + how().replace("\n", " ").encode(errors="replace")[:SENTENCE_BYTES_MAX])
            timer = loop.call_later(self._seconds, beat)

        beat()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            self._write(BUSY)

    def _write(self, line: bytes) -> None:
        with suppress(BlockingIOError):  # a supervisor that is stopped; it has enough to read
            os.write(self._descriptor, line + b"\n")


def sentence(report: Report) -> str:
    """How a node is that says `report` of itself."""
    follows = f"follows {report.leader}" if report.leader else "waits for a leader"
    role = "leads" if report.role == "leader" else follows
    place = "all in place" if report.in_place >= report.applied else f"{report.in_place} of {report.applied} in place"
    problems = ""
    if report.problems:
        more = f" and {len(report.problems) - 1} more" if len(report.problems) > 1 else ""
        problems = f"; problem: {report.problems[0].what}{more}"
    return f"{role}; {report.files} files, {place}{problems}"
