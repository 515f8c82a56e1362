"""How much of the log is kept: what a live node may still need, and a tail for those who are away for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from onefold.errors import LogUnavailable
from onefold.node.durable import reached
from onefold.ports import Clock, Log

TIDY_SECONDS = 10.0
LAG_FACTOR = 4
"""A live node that is behind holds the log back to so many times what is kept anyway; then it must take a copy."""
STEP_FACTOR = 8
"""The log is trimmed by an eighth of what is kept, at least: rarely, and then by much."""

log = structlog.get_logger()


def trim_point(head: int, live: Sequence[int], voters: Sequence[int], majority: int, kept: int) -> int:
    """Up to which index the log may be trimmed when it ends at `head`.

    `live` are the *durable* indices of all live nodes, this one's included, and `voters` those of the voters that are
    known, of which `majority` are one. Never beyond what a majority of voters has durable (G2); nor, as long as that is
    not too far back, beyond what any live node has, and what is kept anyway.
    """
    held = reached(voters, majority)
    wanted = min([head - kept, *live])
    return max(0, min(held, head - 1, max(wanted, head - LAG_FACTOR * kept)))


class Trimmer:
    """Trims the log as its leader, and lets all nodes forget what is trimmed. Also keeps etcd tidy."""

    def __init__(
        self,
        replicated: Log,
        clock: Clock,
        kept: int,
        leads: Callable[[], int],
        point: Callable[[int], int],
        trimmed: Callable[[int], None],
    ) -> None:
        """`kept`: entries that are kept whatever happens. `leads()`: the term that this node leads, or 0.
        `point(kept)`: up to where the log may be trimmed now. `trimmed(index)`: nothing up to there is in the log."""
        self._log = replicated
        self._clock = clock
        self._kept = kept
        self._leads = leads
        self._point = point
        self._trimmed = trimmed

    async def run(self) -> None:
        """Trim and tidy, for ever."""
        while True:
            await self._clock.sleep(TIDY_SECONDS)
            try:
                await self._tidy()
            except LogUnavailable as error:
                log.info("the log was not tidied", error=str(error))

    async def _tidy(self) -> None:
        first = await self._log.first()
        term = self._leads()
        through = self._point(self._kept) if term else 0
        if through - first >= self._kept // STEP_FACTOR:
            await self._log.trim(term, through)
            log.info("the log was trimmed", through=through)
            first = await self._log.first()
        self._trimmed(first - 1)
        await self._log.tidy(bool(term))
