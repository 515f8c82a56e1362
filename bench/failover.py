"""How soon edits flow again when the leader dies or hands over: see README.md."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from demo import FIRST_PORT, Demo, first, scratch
from measure import median, quantile
from watching import ASK_EVERY_SECONDS, Watching

from onefold import demo_control, status
from onefold.cli import fail
from onefold.errors import OnefoldError, OperatorError

NODES = 3
START_SECONDS = 120.0
LIMIT_SECONDS = 60.0
EDIT_EVERY_SECONDS = 0.05
POLL_SECONDS = 0.001
WHAT = ("machine", "node", "handover")


class Round(NamedTuple):
    """Seconds from the kill, or from the command to hand over. `led`: until a node said that it leads in a new term;
    `edited`: until the first edit made in its folder was on the other live node."""

    leader: str
    led: float
    edited: float


class Failover:
    """Rounds on a running demo."""

    def __init__(self, demo: Demo, what: str, watching: Watching) -> None:
        self._demo = demo
        self._what = what
        self._watching = watching
        self._folders = {config.name: config.folder for config in demo.configs}
        self._preferred = next(config.name for config in demo.configs if config.preferred)

    async def round(self, number: int) -> Round:
        """One change of leader; everything is at rest before it and after it."""
        await self._until(self._rested, "all nodes at rest")
        before, term = self._watching.leader()
        heir = next(node for node in self._folders if node != before)
        since = time.perf_counter()
        _, found = await asyncio.gather(
            asyncio.to_thread(self._change, before, heir), self._edit(number, term, before, since)
        )
        if self._what == "machine":
            await asyncio.to_thread(demo_control.start, self._demo.data, before)
        return found

    async def _edit(self, number: int, term: int, before: str, since: float) -> Round:
        """Make edits, each a file of its own, in the folder of whoever leads, until one of them has arrived."""
        await self._until(lambda: self._watching.leader()[1] > term, "a new leader")
        led = time.perf_counter() - since
        written: dict[str, list[Path]] = {}
        for count in itertools.count():
            leader, _ = self._watching.leader()
            if leader:
                path = Path(f"edit-{number}-{count}")
                (self._folders[leader] / path).write_text(f"{number} {count}\n")
                written.setdefault(leader, []).append(path)
            pause = time.perf_counter() + EDIT_EVERY_SECONDS
            while time.perf_counter() < pause:
                for author, paths in written.items():
                    others = self._others(author, before)
                    if any(all((other / path).exists() for other in others) for path in paths):
                        return Round(author, led, time.perf_counter() - since)
                await asyncio.sleep(POLL_SECONDS)
            if time.perf_counter() - since > LIMIT_SECONDS:
                break
        raise OperatorError(f"no edit arrived within {LIMIT_SECONDS:g} s", "see onefold.log of each node")

    def _others(self, author: str, before: str) -> list[Path]:
        """Where an edit by `author` must arrive: all other folders, but for that of a leader that was killed."""
        killed = "" if self._what == "handover" else before
        return [folder for node, folder in self._folders.items() if node not in (author, killed)]

    def _change(self, leader: str, heir: str) -> None:
        if self._what == "handover":
            status.move(self._demo.configs[0], heir)
        else:
            demo_control.kill(self._demo.data, leader, node_only=self._what == "node")

    def _rested(self) -> bool:
        """The preferred node takes leadership back once it is in step, which must not fall into a measurement; but
        leadership that was moved by command stays."""
        leader, _ = self._watching.leader()
        return self._watching.at_rest() and (self._what == "handover" or leader == self._preferred)

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise OperatorError(f"{what}: not within {LIMIT_SECONDS:g} s", "see onefold.log of each node")
            await asyncio.sleep(ASK_EVERY_SECONDS / 2)


async def measure(demo: Demo, what: str, rounds: int) -> list[Round]:
    """Raises `OnefoldError`."""
    watching = Watching(demo.configs)
    failover = Failover(demo, what, watching)
    async with watching.running():
        return [await failover.round(number) for number in range(1, rounds + 1)]


def _line(of: str, seconds: Sequence[float]) -> str:
    return f"{of:22} median {median(seconds):.3f} s, p90 {quantile(seconds, 0.9):.3f} s, worst {max(seconds):.3f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--what", choices=WHAT, default="machine", help="what ends: see README.md")
    parser.add_argument("--work", type=Path, help="where to work: on the disk that is to be measured")
    parser.add_argument("--base-port", type=int, default=FIRST_PORT, help="where to look for free ports")
    parser.add_argument("--json", action="store_true", help="all rounds, for programs")
    given = parser.parse_args()
    if given.rounds <= 0:
        parser.error("--rounds must be above 0")
    try:
        with scratch(given.work) as work:
            demo = Demo(work / "data", NODES, given.base_port)
            try:
                demo.start(START_SECONDS)
                rounds = asyncio.run(measure(demo, given.what, given.rounds))
            finally:
                demo.stop()
    except* OnefoldError as errors:
        fail(first(errors))
    if given.json:
        print(json.dumps({"what": given.what, "rounds": [each._asdict() for each in rounds]}, indent=2))
        return
    print(f"{given.what}, {len(rounds)} rounds")
    print(_line("a new leader", [each.led for each in rounds]))
    print(_line("its edit is elsewhere", [each.edited for each in rounds]))


if __name__ == "__main__":
    main()
