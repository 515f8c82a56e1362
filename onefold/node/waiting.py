"""Waiting for an event, for a while; and before another try."""

from __future__ import annotations

import asyncio


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


def retry_seconds(tries: int, least: float, most: float) -> float:
    """How long to wait before another try after `tries`, be they thousands: twice as long each time, from twice the
    `least` to `most`."""
    return min(most, least * 2.0 ** min(tries, 64))
