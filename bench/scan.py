"""How long a folder of many files takes to be in the log, and to be looked through at a restart: see README.md."""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import NamedTuple

from demo import FIRST_PORT, Demo, first, node_process, scratch

from onefold import status
from onefold.cli import fail
from onefold.config import Config
from onefold.errors import OnefoldError, OperatorError, PeerError

PER_DIRECTORY = 100
MIB = 1 << 20
LIMIT_SECONDS = 7200.0


class Memory(NamedTuple):
    """Of the node process, in MiB: now, and at most since it was started."""

    resident: float
    peak: float


class Start(NamedTuple):
    """Seconds from starting the demo until it was READY, and until all of the folder was looked at; etcd's start is in
    both. `files`: what is then in the log."""

    seconds: float
    scanned: float
    files: int
    memory: Memory


def make_tree(top: Path, files: int) -> None:
    """`files` files of one byte, a hundred to a directory, and a hundred of these to a directory."""
    for number in range(files):
        if number % PER_DIRECTORY == 0:
            at = number // PER_DIRECTORY
            directory = top / f"{at // PER_DIRECTORY:04d}" / f"{at % PER_DIRECTORY:02d}"
            directory.mkdir(parents=True)
        (directory / f"{number:08d}").write_bytes(b"x")


def start(demo: Demo, files: int) -> Start:
    """Start `demo`. Raises `OperatorError` when what is then in the log is not `files` files."""
    since = time.perf_counter()
    demo.start(LIMIT_SECONDS)
    seconds = time.perf_counter() - since
    (config,) = demo.configs
    _looked_through(config, since + LIMIT_SECONDS)
    scanned = time.perf_counter() - since
    report = status.cluster(config).nodes[config.name]
    if report is None or report.files != files:
        raise OperatorError(f"{report.files if report else 'no'} of {files} files are in the log", "this is a fault")
    return Start(seconds, scanned, report.files, _memory(node_process(config).pid))


def _looked_through(config: Config, until: float) -> None:
    """Return once `onefold wait` does. Raises `PeerError` when it does not `until` then."""
    while True:
        try:
            status.wait(config, max(1.0, until - time.perf_counter()))
            return
        except PeerError:  # a node asks for no more patience than half a minute
            if time.perf_counter() > until:
                raise


def _memory(pid: int) -> Memory:
    said = Path(f"/proc/{pid}/status").read_text()
    kib = {of: int(size) for of, size in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", said, re.MULTILINE)}
    return Memory(kib["VmRSS"] * 1024 / MIB, kib["VmHWM"] * 1024 / MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="where to work: on the disk that is to be measured")
    parser.add_argument("--base-port", type=int, default=FIRST_PORT, help="where to look for free ports")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args()
    if given.files <= 0:
        parser.error("--files must be above 0")
    try:
        with scratch(given.work) as work:
            demo = Demo(work / "data", 1, given.base_port)
            make_tree(demo.folders[0], given.files)
            try:
                fresh = start(demo, given.files)
                demo.stop()
                again = start(demo, given.files)
            finally:
                demo.stop()
    except* OnefoldError as errors:
        fail(first(errors))
    starts = {"first": fresh, "again": again}
    if given.json:
        print(json.dumps({of: each._asdict() | {"memory": each.memory._asdict()} for of, each in starts.items()}))
        return
    for of, each in starts.items():
        print(
            f"{of}: {each.files} files, READY after {each.seconds:.2f} s, looked through after {each.scanned:.2f} s,"
            f" node process {each.memory.resident:.0f} MiB"
        )
        print(f"{'':{len(of)}}  at most {each.memory.peak:.0f} MiB since its start")


if __name__ == "__main__":
    main()
