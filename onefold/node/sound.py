"""Whether an object is still what its digest names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onefold.ports import Objects

Pace = Callable[[int], Awaitable[None]]
"""Called after so many bytes were read; waits as long as it wants the reading to rest."""


async def damage(objects: Objects, digest: bytes, pace: Pace | None = None) -> int | None:
    """Read the object again. Its size in bytes, if it is damaged or cannot be read (then 0): it does not count as here
    from now on. None when it is sound, or was let go meanwhile."""
    size = 0
    try:
        reading = await asyncio.to_thread(objects.reread, digest)
        try:
            while read := await asyncio.to_thread(reading.step):
                if pace is not None:
                    await pace(read)
            if reading.digest() == digest:
                return None
        finally:
            size = reading.size()
            reading.close()
    except KeyError:
        return None
    except OSError:
        pass  # what cannot be read is as good as damaged
    objects.distrust(digest)
    return size
