"""Waiting for an event, for a while; for the log's answer; and before another try."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from onefold.errors import LogUnavailable
from onefold.ports import Clock

INSIST_SECONDS = 0.05

T = TypeVar("T")

log = structlog.get_logger()


async def happened(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until `event` is set (True), or for `seconds` (False; None: for ever).

    Not `asyncio.wait_for`: before Python 3.12 that loses a cancellation which comes together with the event.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def insist(clock: Clock, ask: Callable[[], Awaitable[T]], refused: str) -> T:
    """What the log answers, however often it must be asked; `refused` is logged each time that it does not."""
    while True:
        try:
            return await ask()
        except LogUnavailable as error:
            log.warning(refused, error=str(error))
            await clock.sleep(INSIST_SECONDS)


def retry_seconds(tries: int, least: float, most: float) -> float:
    """How long to wait before another try after `tries`, be they thousands: twice as long each time, from twice the
    `least` to `most`."""
    return min(most, least * 2.0 ** min(tries, 64))
