"""The guard at the start: a folder that lost most of what it held while its node was down is not taken at its word.

The node's first look at its whole folder proposes no removal. When it is over, whatever is gone is looked at once more:
what was below a directory that turned out to be renamed is not gone. If little is, the removals are proposed like any
other edit; if it is more than half of a large folder, they are kept back until a person confirms them, or everything is
back. What is removed later is an ordinary edit.

Only what would be proposed is kept back:
a node that does not lead, with `writers = leader`, brings the files back by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from onefold.core.diff import Diff
from onefold.core.messages import Problem
from onefold.core.model import Id, Kind, Move, Observed, Present, Remove
from onefold.core.paths import RelPath, show

LARGE = 100
"""Files and directories that a folder must have held for its loss to be asked about."""


class Phase(Enum):
    LOOKING = auto()
    CHECKING = auto()
    ASKING = auto()
    OVER = auto()


class Gone(NamedTuple):
    """What the base has at `path`, and the folder has not."""

    path: RelPath
    parent: Id
    kind: Kind


class Guard:
    """What is gone at the start, and whether its removal may be proposed."""

    def __init__(self, node: str, held: int, place: Callable[[Id], RelPath]) -> None:
        """`held`: how many files and directories the base of `node` has at the start; `place(id)`: where it has it."""
        self._node = node
        self._held = held
        self._place = place
        self._phase = Phase.LOOKING if held >= LARGE else Phase.OVER
        self._gone: dict[Id, Gone] = {}
        self._ids: dict[RelPath, Id] = {}
        self._waiting: dict[RelPath, None] = {}  # what else cannot be proposed without those removals
        self._reverted = 0

    @property
    def looking(self) -> bool:
        """Whether it is not known yet how much is gone."""
        return self._phase in (Phase.LOOKING, Phase.CHECKING)

    @property
    def asking(self) -> int:
        """How many removals wait to be confirmed."""
        return len(self._gone) if self._phase is Phase.ASKING else 0

    def problems(self) -> list[Problem]:
        if not self.asking:
            return []
        what = (
            f"{self.asking} of the {self._held} files and directories that were here when this node last ran are gone;"
            " their removal is not passed on"
        )
        fix = f"put them back (mount what is missing), or if they were meant to go: onefold confirm {self._node}"
        return [Problem(what, _above(gone.path for gone in self._gone.values()), fix)]

    def reverted(self, found: Diff) -> None:
        """What was gone returns by itself: it counts, should this node come to lead during its first look."""
        if self.looking:
            self._reverted += sum(isinstance(command, Remove) for command in found.commands)

    def seen(self, seen: Mapping[RelPath, Observed], found: Diff) -> None:
        """What is back, at its place or at another, is not gone."""
        if not self._gone:
            return
        here = [(self._ids[path], o) for path, o in seen.items() if path in self._ids]
        back = {id for id, o in here if isinstance(o, Present) and o.kind is self._gone[id].kind}
        back |= {claim.base.id for claim in found.claims if claim.seen is not None and claim.base is not None}
        for id in back & self._gone.keys():
            del self._ids[self._gone.pop(id).path]
        if not self._gone and self._phase is Phase.ASKING:
            self._phase = Phase.OVER

    def hold_back(self, found: Diff) -> Diff:
        """`found` without the removals that may not be proposed (yet)."""
        kept = len(found.commands)
        while kept and isinstance(found.commands[kept - 1], Remove):
            kept -= 1
        held_back: set[int] = set()
        above: set[Id] = set()  # directories that cannot go before what is in them
        for at in range(kept, len(found.commands)):
            row = found.claims[at].base
            assert row is not None
            if self.looking or (self.asking and (row.id in self._gone or row.id in above)):
                held_back.add(at)
                above.add(row.parent)
                path = self._place(row.id)
                self._gone[row.id] = Gone(path, row.parent, row.kind)
                self._ids[path] = row.id
        if not held_back:
            return found
        if any(
            isinstance(c, Move) and claim.seen is None for c, claim in zip(found.commands, found.claims, strict=True)
        ):
            # One of them steps aside for something new, and would be seen there by all: they wait together.
            self._waiting.update(dict.fromkeys(claim.path for claim in found.claims))
            return msgspec.structs.replace(found, commands=(), claims=())
        left = [at for at in range(len(found.commands)) if at not in held_back]
        commands, claims = (tuple(whole[at] for at in left) for whole in (found.commands, found.claims))
        return msgspec.structs.replace(found, commands=commands, claims=claims)

    def looked(self) -> list[RelPath]:
        """All that was to be looked at has been: what is to be looked at next."""
        if not self.looking:
            return []
        if self._phase is Phase.LOOKING and self._gone:
            return self._let_go(Phase.CHECKING)
        if self._gone and 2 * (len(self._gone) + self._reverted) > self._held:
            self._phase = Phase.ASKING
            return []
        return self._let_go(Phase.OVER)

    def confirm(self) -> list[RelPath]:
        """What is gone was meant to go: what is to be looked at again, and proposed."""
        return self._let_go(Phase.OVER) if self.asking else []

    def _let_go(self, phase: Phase) -> list[RelPath]:
        """Where what is gone was (of a tree, its top); it is judged anew, in `phase`."""
        self._phase = phase
        paths = [gone.path for gone in self._gone.values() if gone.parent not in self._gone]
        paths += self._waiting
        self._gone, self._ids, self._waiting = {}, {}, {}
        return paths


def _above(paths: Iterable[RelPath]) -> str:
    """The directory that all of `paths` are in; "" for the folder itself."""
    common: list[bytes] | None = None
    for path in paths:
        parts = path.parts[:-1]
        if common is None:
            common = parts
        else:
            same = 0
            while same < min(len(common), len(parts)) and common[same] == parts[same]:
                same += 1
            common = common[:same]
    return show(b"/".join(common or []))
