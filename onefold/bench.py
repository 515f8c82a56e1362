"""`onefold bench`: how long a change takes in this cluster, measured from here as a program would see it.

What is written goes into a directory of its own in the folder, through the API, and is removed at the end. `committed`
is when the write was answered; `everywhere` when every live node had it in its folder.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from onefold.cli_api import client
from onefold.client import Client
from onefold.config import Config
from onefold.status import wait

EDIT_BYTES = 1 << 10
SMALL_BYTES = 4 << 10
ASKED_AT_ONCE = 32
"""Of so many edits the delays are asked for together; the leader remembers those of the last 64 entries."""
WRITERS = 8
WAIT_SECONDS = 120.0
MIB = 1 << 20


class Measured(NamedTuple):
    """One kind of change: made so many `times`, and figures by name; `_ms` are milliseconds, `_s` seconds."""

    name: str
    times: int
    figures: dict[str, float]


def run(config: Config, edits: int, files: int, large_mib: int, as_json: bool) -> int:
    """Measure and print. Returns the exit code. Raises `ClientError`, `PeerError` when the cluster does not answer."""
    place = f"onefold-bench-{secrets.token_hex(4)}"
    say: Callable[[str], None] = (lambda line: None) if as_json else _show
    measured: list[Measured] = []
    with client(config) as folder:
        folder.make_directory(place)
        try:
            for measure, amount in ((_edits, edits), (_small, files), (_large, large_mib)):
                if amount:
                    measured.append(measure(config, folder, place, amount))
                    say(_line(measured[-1]))
        finally:
            folder.remove(place, recursive=True)
    if as_json:
        print(json.dumps([each._asdict() for each in measured], indent=2))  # noqa: T201
    return 0


def _edits(config: Config, folder: Client, place: str, count: int) -> Measured:
    """One small file, written again and again. The leader tells how long each was on its way after its commit."""
    committed: list[float] = []
    everywhere: list[float] = []
    asked: dict[int, float] = {}
    for number in range(1, count + 1):
        begun = time.perf_counter()
        index = folder.write(f"{place}/edit", os.urandom(EDIT_BYTES)).index
        asked[index] = time.perf_counter() - begun
        if len(asked) == ASKED_AT_ONCE or number == count:
            wait(config, WAIT_SECONDS)
            for entry in folder.status().recent:
                if entry.index in asked and entry.everywhere_ms is not None:
                    committed.append(asked[entry.index])
                    everywhere.append(asked[entry.index] + entry.everywhere_ms / 1e3)
            asked.clear()
    figures = {f"committed_{name}": value for name, value in _spread(committed).items()}
    figures |= {f"everywhere_{name}": value for name, value in _spread(everywhere).items()}
    return Measured("edit of 1 KiB", len(committed), figures)


def _small(config: Config, folder: Client, place: str, count: int) -> Measured:
    """Many small files at once."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda n: folder.write(f"{place}/small-{n}", os.urandom(SMALL_BYTES)), range(count)))
    committed = time.perf_counter() - begun
    wait(config, WAIT_SECONDS)
    took = time.perf_counter() - begun
    return Measured(
        "files of 4 KiB", count, {"committed_s": committed, "everywhere_s": took, "files_per_s": count / took}
    )


def _large(config: Config, folder: Client, place: str, mib: int) -> Measured:
    begun = time.perf_counter()
    folder.write(f"{place}/large", (os.urandom(MIB) for _ in range(mib)))
    committed = time.perf_counter() - begun
    wait(config, WAIT_SECONDS)
    took = time.perf_counter() - begun
    return Measured(f"file of {mib} MiB", 1, {"committed_s": committed, "everywhere_s": took, "mib_per_s": mib / took})


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median_ms": statistics.median(ordered) * 1e3,
        "p99_ms": ordered[math.ceil(0.99 * len(ordered)) - 1] * 1e3,
        "worst_ms": ordered[-1] * 1e3,
    }


def _line(measured: Measured) -> str:
    figures = ", ".join(f"{name.replace('_', ' ')} {value:,.1f}" for name, value in measured.figures.items())
    return f"{measured.times} x {measured.name}: {figures}"


def _show(line: str) -> None:
    print(line, file=sys.stdout, flush=True)  # noqa: T201
