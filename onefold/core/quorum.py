"""Who is odd: the digests that nodes tell of their catalogues, compared at the same indices (G1).

The rules:

1.  A node *agrees* with another as of the newest index at which both are known, and *differs* from it since the first
    index at which they were found to differ. Digests of catalogues that differ do not become equal by applying more, so
    what was found at an index says enough about those before and after it, until the other is made anew.
2.  A node goes on while it differs from nobody; and while a majority of the voters, itself counted if it is one, agrees
    with it as of an index at which it already differs from those whom it differs from. Those are odd then.
3.  Otherwise it stops: it is odd itself when a majority of the voters agree with each other and differ from it. As long
    as no majority is known on either side, nobody goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum

import msgspec

NOT_YET = -1


class Standing(Enum):
    """What the comparison says of this node."""

    SOUND = "goes on"
    UNDECIDED = "stops: it differs, and no majority of the voters is known to agree"
    ODD = "stops: a majority of the voters agrees on something else"


class _Peer(msgspec.Struct):
    """`agreed`: the newest index at which it agreed; `differs`: the first at which it did not, since then. `told`: its
    newest digests."""

    agreed: int = NOT_YET
    differs: int = NOT_YET
    told: dict[int, bytes] = {}


class Quorum:
    """What one node has heard of the others' digests, and what follows from it."""

    def __init__(self, me: str, voters: Iterable[str]) -> None:
        self._me = me
        self._voters = frozenset(voters)
        self._peers: dict[str, _Peer] = {}

    def change(self, voters: Iterable[str]) -> None:
        """These are the voters now."""
        self._voters = frozenset(voters)

    def forget(self, peer: str) -> None:
        """`peer` is no node of ours any more: what it told says nothing."""
        self._peers.pop(peer, None)

    def hear(self, peer: str, digests: Iterable[tuple[int, bytes]], own: Mapping[int, bytes]) -> None:
        """`peer` told its newest `digests`, by index; `own` are this node's."""
        known = self._peers.setdefault(peer, _Peer())
        known.told = dict(digests)
        self._compare(known, own)

    def reach(self, index: int, digest: bytes) -> None:
        """This node has come to `index`, where some may have been before it."""
        for known in self._peers.values():
            if index in known.told:
                self._compare(known, {index: digest})

    def _compare(self, known: _Peer, own: Mapping[int, bytes]) -> None:
        common = [index for index in known.told if index in own]
        if not common:
            return
        newest = max(common)
        if known.told[newest] == own[newest]:
            known.agreed, known.differs = max(known.agreed, newest), NOT_YET
        elif known.differs == NOT_YET:
            known.differs = min(index for index in common if known.told[index] != own[index])

    def odd(self) -> list[str]:
        """Those that differ from this node, sorted."""
        return sorted(name for name, known in self._peers.items() if known.differs != NOT_YET)

    def since(self) -> int:
        """The index by which this node differs from all whom it differs from; `NOT_YET`: from nobody."""
        return max((known.differs for known in self._peers.values()), default=NOT_YET)

    def standing(self) -> Standing:
        """Whether this node may go on."""
        since = self.since()
        if since == NOT_YET:
            return Standing.SOUND
        agreeing = {name for name, known in self._peers.items() if known.differs == NOT_YET and known.agreed >= since}
        if self._majority(len(self._voters & {*agreeing, self._me})):
            return Standing.SOUND
        others = Counter(
            fact
            for name, known in self._peers.items()
            if known.differs != NOT_YET and name in self._voters
            for fact in known.told.items()
            if fact[0] >= known.differs
        )
        return Standing.ODD if any(map(self._majority, others.values())) else Standing.UNDECIDED

    def _majority(self, count: int) -> bool:
        return count * 2 > len(self._voters)
