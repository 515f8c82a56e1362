"""How long things take, counted into a few buckets: cheap enough for the way of every edit."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Timings:
    """A histogram: `counts[i]` took at most `BOUNDS_SECONDS[i]` and more than the bound before; the last, longer."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.seconds += seconds
