"""The places to look at, each with its time: at once where a change is complete, else after a quiet.

Times are seconds of the caller's clock, and given to every call: nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from onefold.core.paths import RelPath
from onefold.ports import Hint

QUIET_SECONDS_MAX = 2.0
"""An open file that is written to is looked at after a short quiet, and after this at the latest."""
RESTLESS_SECONDS = 5.0
"""A file that changes during every look is taken from a copy this often."""


class Due(msgspec.Struct):
    """A place to look at, not before `at`. `since`: when it was first hinted at. `certain`: a change is complete;
    otherwise it waits for a quiet, but not beyond `until`."""

    at: float
    since: float
    content: bool
    tree: bool
    certain: bool
    until: float

    def patient(self, now: float) -> bool:
        """Whether it may be left for later if it is large: it is being written to, and has not been for too long."""
        return not self.certain and self.since > now - RESTLESS_SECONDS


class Agenda:
    """What is due, once per place; true while there is anything."""

    def __init__(self, quiet_seconds: float) -> None:
        """`quiet_seconds`: how long an open file must be quiet before it is looked at."""
        self._quiet_seconds = quiet_seconds
        self._due: dict[RelPath, Due] = {}
        self._taken: dict[RelPath, Due] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, path: RelPath) -> bool:
        return path in self._due or path in self._taken

    def hint(self, hints: Iterable[Hint], now: float, soon: float) -> None:
        """The watcher's word, heard `now`. Complete changes are due at `soon`, all else after a quiet."""
        quiet = now + self._quiet_seconds
        for h in hints:
            if h.origin is not None:
                self._follow(h.origin, h.path)
            self._add(h.path, soon if h.certain else quiet, now, h.content, h.tree, h.certain)

    def _follow(self, origin: RelPath, path: RelPath) -> None:
        """The directory at `origin` is at `path` now. What was due in it is due at both: they may have been swapped.

        So is what is being looked at: whoever looks may come too late.
        """
        for place, due in [*self._taken.items(), *self._due.items()]:
            if place.below(origin):
                self._add(place.moved(origin, path), due.at, due.since, due.content, due.tree, due.certain)
            elif due.tree and (place == origin or origin.below(place)):
                self._add(path, due.at, due.since, due.content, True, due.certain)

    def add(self, path: RelPath, since: float, content: bool = False, tree: bool = False) -> None:
        """Look at `path` at once, for something that happened at `since`."""
        self._add(path, since, since, content, tree, True)

    def _add(self, path: RelPath, at: float, since: float, content: bool, tree: bool, certain: bool) -> None:
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

    def put_back(self, path: RelPath, due: Due) -> None:
        """It was taken, and could not be looked at; what was hinted since is newer."""
        self._due.setdefault(path, due)

    def postpone(self, path: RelPath, since: float) -> None:
        """It is large, and being written to since then: once it has been for too long, unless a change is complete."""
        until = since + RESTLESS_SECONDS
        self._due.setdefault(path, Due(until, since, True, False, False, until))

    def after_quiet(self, path: RelPath, since: float, now: float) -> None:
        """It changed while it was looked at, as it has since then: after another quiet, whatever was hinted."""
        at = now + self._quiet_seconds
        hinted = self._due.get(path)
        self._due[path] = Due(at, since, True, hinted is not None and hinted.tree, False, at)

    def expedite(self, now: float) -> None:
        """Whatever is due later is due now."""
        for due in self._due.values():
            due.at = min(due.at, now)
            due.certain = True

    def soonest(self) -> float | None:
        """When the next is due; None when nothing is."""
        return min((due.at for due in self._due.values()), default=None)

    def take(self, now: float) -> dict[RelPath, Due]:
        """What is due now is not due any more: it is being looked at, until `looked`.

        Whatever moved until now was hinted at before.
        """
        self._taken = {path: due for path, due in self._due.items() if due.at <= now}
        for path in self._taken:
            del self._due[path]
        return self._taken

    def looked(self) -> None:
        """What was taken has been looked at, and whatever moved meanwhile was hinted at before."""
        self._taken = {}
