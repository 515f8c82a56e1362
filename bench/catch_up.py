"""How soon a wiped node has everything again, and what edits elsewhere feel of it: see README.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import FIRST_PORT, Demo, first, scratch
from measure import median, quantile
from watching import Watching

from onefold import demo_control, status
from onefold.cli import fail
from onefold.errors import OnefoldError, OperatorError

NODES = 3
WIPED = "node3"
START_SECONDS = 120.0
LIMIT_SECONDS = 120.0
FILES_PER_DIRECTORY = 100
EDIT_EVERY_SECONDS = 0.01
POLL_SECONDS = 0.0005
CALM_SECONDS = 5.0
LOG_KEPT = 100
"""So that the log does not reach back to the files, and the catalogue must come from a peer."""


class Edits:
    """Somebody who edits one file after the other; each edit is timed until it is in another folder."""

    def __init__(self, here: Path, there: Path) -> None:
        self._here = here
        self._there = there
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took: list[tuple[float, float]] = []
        """When each began, and the seconds until it was there."""

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            began = time.perf_counter()
            name = f"edit-{number}"
            (self._here / name).write_text("x")
            while not (self._there / name).exists() and time.perf_counter() - began < LIMIT_SECONDS:
                time.sleep(POLL_SECONDS)
            self.took.append((began, time.perf_counter() - began))
            self._done.wait(EDIT_EVERY_SECONDS)

    def between(self, begin: float, end: float) -> list[float]:
        return [took for began, took in self.took if begin <= began < end]


def fill(demo: Demo, files: int, size: int) -> None:
    """That many files on the first node, and everywhere."""
    for number in range(files):
        directory = demo.folders[0] / f"d{number // FILES_PER_DIRECTORY}"
        if number % FILES_PER_DIRECTORY == 0:
            directory.mkdir()
        (directory / f"f{number}").write_bytes(os.urandom(size))
    status.wait(demo.configs[0], LIMIT_SECONDS)


def outrun_the_log(demo: Demo) -> None:
    """Edit until the log no longer holds what came before."""
    for number in range(2 * LOG_KEPT):
        (demo.folders[0] / "counter").write_text(str(number))
        status.wait(demo.configs[0], LIMIT_SECONDS)
    log = demo.configs[0].state / "onefold.log"
    deadline = time.monotonic() + LIMIT_SECONDS
    while "the log was trimmed" not in log.read_text():
        if time.monotonic() > deadline:
            raise OperatorError("the log was not trimmed", "see onefold.log of each node")
        time.sleep(0.1)


def wipe(demo: Demo) -> None:
    """Kill a node, and take its folder and its state directory away."""
    config = next(config for config in demo.configs if config.name == WIPED)
    demo_control.kill(demo.data, WIPED, node_only=False)
    shutil.rmtree(config.state)
    shutil.rmtree(config.folder)


async def catch_up(demo: Demo, files: int) -> float:
    """Start the wiped node; seconds until all of the files are in its folder."""
    watching = Watching(demo.configs)
    begin = time.perf_counter()
    async with watching.running():
        starting = asyncio.create_task(asyncio.to_thread(demo_control.start, demo.data, WIPED))
        while time.perf_counter() - begin < LIMIT_SECONDS:
            report = watching.of(WIPED)
            if report is not None and report.files >= files and report.progress is None and report.ready:
                took = time.perf_counter() - begin
                await starting
                return took
            await asyncio.sleep(POLL_SECONDS)
    raise OperatorError(f"not caught up within {LIMIT_SECONDS:g} s", "see onefold.log of each node")


def measure(demo: Demo, files: int, size: int) -> tuple[float, list[float], list[float]]:
    """Seconds to catch up; and those of each edit, before that and meanwhile."""
    fill(demo, files, size)
    outrun_the_log(demo)
    wipe(demo)
    edits = Edits(demo.folders[0], demo.folders[1])
    with edits.running():
        calm = time.perf_counter()
        time.sleep(CALM_SECONDS)
        begin = time.perf_counter()
        took = asyncio.run(catch_up(demo, files))
        end = time.perf_counter()
    status.wait(demo.configs[0], LIMIT_SECONDS)
    here, there = demo.folders[0], demo.folders[2]
    missing = sum(not (there / path.relative_to(here)).exists() for path in here.rglob("f*"))
    if missing:
        raise OperatorError(f"{missing} files are missing", "see onefold.log of each node")
    return took, edits.between(calm, begin), edits.between(begin, end)


def _line(of: str, seconds: list[float]) -> str:
    ms = [each * 1e3 for each in seconds]
    figures = f"median {median(ms):.1f} ms, p99 {quantile(ms, 0.99):.1f} ms, worst {max(ms):.1f} ms"
    return f"edits {of:18} {len(ms):5}: {figures}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4096, help="bytes of each")
    parser.add_argument("--work", type=Path, help="where to work: on the disk that is to be measured")
    parser.add_argument("--base-port", type=int, default=FIRST_PORT, help="where to look for free ports")
    given = parser.parse_args()
    if given.files <= 0 or given.size < 0:
        parser.error("--files must be above 0, and --size not below")
    try:
        with scratch(given.work) as work:
            demo = Demo(work / "data", NODES, given.base_port, f"[etcd]\nentries_kept = {LOG_KEPT}")
            try:
                demo.start(START_SECONDS)
                took, before, meanwhile = measure(demo, given.files, given.size)
            finally:
                demo.stop()
    except* OnefoldError as errors:
        fail(first(errors))
    print(f"{given.files} files of {given.size} bytes on a wiped node: {took:.2f} s")
    print(_line("before that", before))
    print(_line("meanwhile", meanwhile))


if __name__ == "__main__":
    main()
