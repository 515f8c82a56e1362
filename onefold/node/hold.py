"""Content on a majority of voters, durable and out of any user's reach, before an entry may name it (G2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onefold.core.messages import Held, Hold
from onefold.errors import PeerError, PeerGone
from onefold.ports import Peers

Era = tuple[int, int]
BYTES_PER_SECOND_MIN = 1_000_000
ANSWER_SECONDS = 5.0


class Holder:
    """Asks voters to hold objects.

    Invariant: `hold` returns only when a majority of all voters has the object fsynced. This node's own folder is no
    copy (its user may overwrite it in place): it counts as a voter only by an object of its own, which is made when
    the other voters alone are too few.
    """

    def __init__(self, me: str, voters: frozenset[str], peers: Peers, term: Callable[[], int]) -> None:
        """`term()`: the newest term that this node knows, 0 for none."""
        self._me = me
        self._peers = peers
        self._term = term
        self._changes = 0
        self.change(voters)

    def change(self, voters: frozenset[str]) -> None:
        """These are the voters from now on; what is being held is held by a majority of those before."""
        self._changes += 1
        self._others = sorted(voters - {self._me})
        self._own_counts = self._me in voters
        self._majority = len(voters) // 2 + 1

    @property
    def era(self) -> Era:
        """What is held by now is held for this one: in another term it may be let go of, and of other voters a majority
        may not have it."""
        return self._term(), self._changes

    async def hold(self, digest: bytes, size: int, data: bytes | None, make_own: Callable[[], Awaitable[None]]) -> None:
        """Returns once a majority holds it. `make_own` makes this node's own object durable.

        Raises `PeerGone` when a majority cannot be had now; trying again is safe.
        """
        others, own_counts, majority = self._others, self._own_counts, self._majority
        connected = self._peers.connected()
        asked = [
            asyncio.create_task(self._ask(node, Hold(digest, size, data, (self._me,), self._term())))
            for node in others
            if node in connected
        ]
        for each in asked:
            each.add_done_callback(_heard)  # also those that nobody waits for any more
        held = 0
        if len(asked) < majority and own_counts:
            await make_own()
            held += 1
        failed: list[PeerError] = []
        for answer in asyncio.as_completed(asked):
            if held >= majority:
                break
            try:
                await answer
                held += 1
            except PeerError as error:
                failed.append(error)
                if own_counts and len(failed) == 1 and len(asked) >= majority:
                    await make_own()
                    held += 1
        if held < majority:
            raise PeerGone(
                f"only {held} of the {majority} voters needed hold new content" + (f" ({failed[0]})" if failed else ""),
                "start the other nodes; it is proposed as soon as a majority is there",
            )

    async def _ask(self, node: str, hold: Hold) -> None:
        answer = await self._peers.ask(node, hold, ANSWER_SECONDS + hold.size / BYTES_PER_SECOND_MIN)
        if not isinstance(answer, Held):
            raise PeerGone(f"{node} answered a hold with {type(answer).__name__}")


def _heard(task: asyncio.Task[None]) -> None:
    """Its failure, if it is one, is known of."""
    if not task.cancelled():
        task.exception()
