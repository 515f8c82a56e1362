"""Whether this node's catalogue can be trusted: it is not when it is odd or damaged, nor while it is made anew (G1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from onefold.core.messages import Problem
from onefold.core.quorum import Quorum, Standing
from onefold.errors import PeerRefused
from onefold.ports import BaseStore

REPAIR = "run `onefold verify --repair`"

log = structlog.get_logger()


class Trust:
    """What is known for and against the catalogue. `quorum` compares its digests with those of the others."""

    def __init__(self, me: str, voters: Sequence[str], base: BaseStore, index: Callable[[], int]) -> None:
        """`index` says how far the catalogue has come."""
        self._me = me
        self._base = base
        self._index = index
        self._behind = base.behind
        self._damaged = False
        self.quorum = Quorum(me, voters)
        self.standing = Standing.SOUND

    def change(self, voters: Sequence[str], gone: Iterable[str]) -> None:
        """These are the voters now; `gone`: who is no node of ours any more. `review` says what follows."""
        self.quorum.change(voters)
        for node in gone:
            self.quorum.forget(node)

    def review(self) -> bool:
        """Take into account what was heard since; whether `standing` is another one now."""
        if self._behind and self._index() >= self._behind:
            self._behind = self._base.behind = 0
        standing = Standing.ODD if self._damaged else self.quorum.standing()
        if standing is self.standing:
            return False
        log.error("standing", standing=standing.name, differs_from=self.quorum.odd(), damaged=self._damaged)
        self.standing = standing
        return True

    @property
    def in_doubt(self) -> bool:
        """Whether the next entry may change anything."""
        return bool(self._behind) or self.quorum.since() >= 0

    @property
    def behind(self) -> bool:
        """Whether the catalogue is made anew and still older than the folder: what it does not know yet would be
        removed from there."""
        return bool(self._behind)

    @property
    def sound(self) -> bool:
        return self.standing is Standing.SOUND and not self._behind

    def damage(self) -> None:
        """The rows are not those that the digest is of: the node stops, as one that is odd."""
        self._damaged = True

    def give_up(self) -> None:
        """Note that the catalogue is to be discarded and made anew; the folder stays as it is until then.

        Raises `PeerRefused` when it is not known to be the odd one.
        """
        if self.standing is not Standing.ODD:
            raise PeerRefused(f"the catalogue of {self._me} is not known to be the odd one", "see `onefold status`")
        self._base.behind = self._index()

    def why_not(self) -> Problem | None:
        """Why the catalogue cannot be trusted; None when it can."""
        odd = ", ".join(self.quorum.odd())
        if self._damaged:
            return Problem("the catalogue of this node is damaged, so it has stopped", "", REPAIR)
        if self.standing is Standing.ODD:
            return Problem(f"the catalogue of this node differs from that of {odd}, so it has stopped", "", REPAIR)
        if self.standing is Standing.UNDECIDED:
            what = f"the catalogue of this node differs from that of {odd}, and no majority agrees, so it waits"
            return Problem(what, "", "start the voters that are down; then " + REPAIR)
        if self._behind:
            what = f"the catalogue is made anew from the log, {self._index()} of {self._behind} entries so far"
            return Problem(what, "", "wait; the folder stays as it is until then")
        return None

    def problems(self) -> list[Problem]:
        """Of this node's catalogue, and of the others' that differ."""
        own = self.why_not()
        odd = self.quorum.odd() if self.standing is Standing.SOUND else []
        found = [] if own is None else [own]
        return found + [
            Problem(f"the catalogue of {node} differs from that of the majority", "", REPAIR) for node in odd
        ]
