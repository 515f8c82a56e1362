"""`onefold demo` in a directory of its own, started and ended by a benchmark, and a place to work in."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from onefold.config import Config
from onefold.demo_dir import PORTS_APART, Wanted, configs, prepare
from onefold.errors import OnefoldError, OperatorError
from onefold.process import Process
from onefold.supervisor import NODE_PID

ONEFOLD = (sys.executable, "-P", "-m", "onefold")
FIRST_PORT, LAST_PORT = 61_000, 65_500
"""Above what Linux gives to outgoing connections: none of them sits on a port when a killed node wants it back."""
STOP_SECONDS = 60.0
LOG_TAIL_BYTES = 2_000
POLL_SECONDS = 0.01


class Demo:
    """A demo of `nodes` nodes in the directory `data`."""

    def __init__(self, data: Path, nodes: int, base_port: int, settings: str = "") -> None:
        """`base_port`: where to begin looking for free ports. `settings`: for the end of every node's settings."""
        self.data = data
        self.nodes = nodes
        self.folders = [data / f"node{number}" for number in range(1, nodes + 1)]
        self._base_port = base_port
        self._settings = settings
        self._process: Process | None = None
        self._starts = 0

    @property
    def configs(self) -> tuple[Config, ...]:
        """The settings of the nodes, once it was started."""
        return configs(self.data)

    def start(self, seconds: float) -> None:
        """Start it, or resume it, and return once it said READY. Raises `OperatorError` after `seconds`."""
        self.data.mkdir(parents=True, exist_ok=True)
        command = [*ONEFOLD, "demo", "--data", str(self.data)]
        if not self._starts:
            wanted = Wanted(self.nodes, free_base_port(self.nodes, self._base_port))
            for config in prepare(self.data, wanted):
                with config.path.open("a") as file:
                    file.write(f"\n{self._settings}\n")
        self._starts += 1
        log = self.data.with_name(f"{self.data.name}-{self._starts}.log")
        self._process = Process(command, log=log)
        self._process.start()
        deadline = time.monotonic() + seconds
        while "READY" not in log.read_text().splitlines():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise OperatorError(
                    f"the demo in {self.data} was not ready within {seconds:g} s", f"it said: {_tail(log)}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End it, and all of its nodes with it."""
        if self._process is not None:
            self._process.stop(STOP_SECONDS)
            self._process = None

    def processes(self) -> list[psutil.Process]:
        """Itself, its supervisors, etcd members and nodes."""
        return family(self._process)


def family(process: Process | None) -> list[psutil.Process]:
    """It and all its descendants; none when it has ended."""
    if process is None or process.pid is None:
        return []
    try:
        top = psutil.Process(process.pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def node_process(config: Config) -> psutil.Process:
    """The node process of the running node that has these settings."""
    return psutil.Process(int((config.state / NODE_PID).read_text()))


def free_base_port(nodes: int, first: int) -> int:
    """The first of as many ports as the nodes' are spread over, from `first` on, that nobody uses just now."""
    count = nodes * PORTS_APART
    for base in range(first, LAST_PORT - count, count):
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for port in range(base, base + count):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
            return base
    raise OperatorError(f"there are no {count} free ports in a row from {first} on", "give another with --base-port")


@contextlib.contextmanager
def scratch(work: Path | None) -> Iterator[Path]:
    """A new directory in `work` (None: where temporary files go); at the end, also by SIGTERM, it is removed.

    Only after an `OnefoldError` it stays, for the logs in it, and we say where.
    """
    signal.signal(signal.SIGTERM, _end)
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        work = work.absolute()
    directory = Path(tempfile.mkdtemp(prefix="onefold-bench-", dir=work))
    failed = False
    try:
        yield directory
    except* OnefoldError:
        failed = True
        raise
    finally:
        if failed:
            print(f"what was done is kept in {directory}", file=sys.stderr)
        else:
            # Not Python's own: it takes minutes for a million files.
            subprocess.run(["rm", "-rf", str(directory)], check=True)


def first(errors: BaseExceptionGroup[OnefoldError]) -> OnefoldError:
    """The error in a group, which task groups and `except*` make."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, OnefoldError)
    return error


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _tail(log: Path) -> str:
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
