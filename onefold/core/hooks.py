"""What came in place in a folder, for the programs that are to be run then; and when they are run.

A program is run once its changes rest: no more of them for its debounce, and the folder has everything that is on its
way to it, so that it finds what belongs together. But not for ever: `LATEST_SECONDS` after the first of them it is run
anyway; only a node that has much to catch up with goes on until it has.
"""

from __future__ import annotations

import math

import msgspec

from onefold.core.model import Action, Aside, Attributes, Discard, Done, Kind, Make, Replace, Result, Shift
from onefold.core.paths import RelPath

LATEST_SECONDS = 10.0
MOVES_KEPT = 1000
PLACES_MAX = 32


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A change that came in place at `path`. With `origin`, it was moved here from there; a `directory` then with all
    that is in it."""

    path: RelPath
    directory: bool
    origin: RelPath | None = None


def placed_by(action: Action, result: Result, known: RelPath | None) -> Placed | None:
    """What `action` brought in place, by its `result`; None when nothing. `known`: where the base has what it moves or
    removes, if it has that still."""
    if not isinstance(result, Done):
        return None
    match action:
        case Aside() | Discard():
            return None  # it is on its way; and what is no one's was never replicated
        case Make(row, path) | Replace(row, path) | Attributes(row, path):
            return Placed(path, row.kind is Kind.DIRECTORY)
        case Shift():
            return Placed(action.path, action.base.kind is Kind.DIRECTORY, action.source or known)
    at = action.path or known
    return None if at is None else Placed(at, action.base.kind is Kind.DIRECTORY)


def placed_here(before: RelPath | None, after: RelPath | None, directory: bool) -> Placed | None:
    """What an edit that was made in this folder brought in place once it is committed: from `before` to `after`."""
    if after is None:
        return None if before is None else Placed(before, directory)
    return Placed(after, directory, before if before not in (None, after) else None)


class Moves:
    """The directories that were moved lately, each with where it was.

    What is in a moved directory is looked up a little later. By then something in it may be gone again, which is a
    change at its new place; so it is one at the old place, too.
    """

    def __init__(self) -> None:
        self._origins: dict[RelPath, RelPath] = {}

    def add(self, path: RelPath, origin: RelPath) -> None:
        """The directory at `path` was at `origin`."""
        self._origins.pop(path, None)
        self._origins[path] = origin
        if len(self._origins) > MOVES_KEPT:
            del self._origins[next(iter(self._origins))]

    def places(self, path: RelPath) -> list[RelPath]:
        """`path`, and where that was before what is above it was moved."""
        found = [path]
        for place in found:
            above = place.parent
            while above and len(found) < PLACES_MAX:
                origin = self._origins.get(above)
                if origin is not None and (before := place.moved(above, origin)) not in found:
                    found.append(before)
                above = above.parent
        return found


def due_in(now: float, first: float, last: float, debounce: float, busy: bool, much: bool) -> float:
    """In how many seconds a program is to be run whose changes came from `first` to `last`: 0 for at once, infinite for
    once the folder has arrived. `busy`: it has not yet; `much`: there is much to catch up with."""
    at = math.inf if busy else last + debounce
    if not (busy and much):
        at = min(at, first + max(LATEST_SECONDS, debounce))
    return max(0.0, at - now)
