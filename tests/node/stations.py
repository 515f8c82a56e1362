"""One part of a node, for as long as a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from onefold.core.messages import Report


async def run_until(happened: asyncio.Event, station: Coroutine[Any, Any, None]) -> None:
    """Run `station`, which has no end, until `happened` is set. Raises what it raises."""
    running = asyncio.create_task(station)
    waiting = asyncio.create_task(happened.wait())
    try:
        async with asyncio.timeout(10):
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        running.cancel()
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)


def report(node: str, role: str = "voter", applied: int = 0, in_place: int = 0, preferred: bool = False) -> Report:
    """What `node` says of itself when all is well."""
    return Report(node, 1, role, "b", 1, applied, in_place, 0, (), 0, 0, (), (), preferred, ready=True)


async def eventually(holds: Callable[[], object]) -> None:
    """Returns once `holds()`, which is asked again and again."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")
