"""A real cluster for the tests: `onefold demo` on a directory, its folders as trees, what its nodes said."""

from __future__ import annotations

import json
import os
import re
import select
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from ports import first_free

from onefold import status
from onefold.config import Config, load
from onefold.demo_dir import PORTS_APART, Wanted, configs, prepare

ONEFOLD = [sys.executable, "-P", "-m", "onefold"]
SECONDS = 60.0
"""Any single thing takes less, however busy the machine."""
LOG_TAIL_BYTES = 6_000
DIFFERENCES_SHOWN = 20


class Entry(NamedTuple):
    """What stands at a path, as far as it is replicated. `content`: the target, or a digest if the file is long."""

    kind: str
    mode: int
    mtime_ns: int
    content: bytes


Tree = dict[bytes, Entry]


def tree(folder: Path) -> Tree:
    """Everything in `folder` that is replicated, by its path."""
    found: Tree = {}
    queue = [b""]
    root = os.fsencode(folder)
    while queue:
        above = queue.pop()
        with os.scandir(os.path.join(root, above)) as entries:
            for entry in entries:
                path = os.path.join(above, entry.name)
                if path == b".onefold":
                    continue
                at = entry.stat(follow_symlinks=False)
                mode = stat.S_IMODE(at.st_mode)
                if entry.is_symlink():
                    found[path] = Entry("symlink", 0, 0, os.readlink(entry.path))
                elif entry.is_dir():
                    found[path] = Entry("directory", mode, 0, b"")
                    queue.append(path)
                elif entry.is_file():
                    found[path] = Entry("file", mode, at.st_mtime_ns, _content(entry.path, at.st_size))
    return found


def _content(path: bytes, size: int) -> bytes:
    with open(path, "rb") as file:
        if size <= 64:
            return file.read()
        digest = blake2b(digest_size=16)
        while part := file.read(1 << 20):
            digest.update(part)
        return digest.digest()


def differences(ours: Tree, theirs: Tree) -> list[str]:
    """A line for each path at which two trees differ."""
    return [
        f"{path!r}: {ours.get(path)} became {theirs.get(path)}"
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path)
    ]


def inodes(folder: Path) -> dict[bytes, int]:
    """The inode number of everything in `folder`, by its path."""
    root = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(above, name), root): os.lstat(os.path.join(above, name)).st_ino
        for above, directories, files in os.walk(root)
        for name in (*directories, *files)
    }


class Cluster:
    """Nodes by their settings; `live` are the names of those that run. Subclasses run them."""

    def __init__(self, nodes: Iterable[Config] = ()) -> None:
        self.nodes = {config.name: config for config in nodes}
        self.live = set(self.nodes)

    def folder(self, node: str) -> Path:
        return self.nodes[node].folder

    def folders(self) -> list[Path]:
        """The folders of the live nodes, in order."""
        return [self.folder(node) for node in sorted(self.live)]

    def others(self, *but: str) -> list[str]:
        """The live nodes except these."""
        return sorted(self.live.difference(but))

    def wait(self) -> None:
        """`onefold wait`."""
        status.wait(self.nodes[min(self.live)], SECONDS)

    def status(self) -> dict[str, Any]:
        """`onefold status --json`, its nodes by name."""
        return by_name(status.as_json(status.cluster(next(iter(self.nodes.values())))))

    def leader(self) -> str:
        return str(self.status()["leader"])

    def settled(self, like: str = "", below: str = "") -> Tree:
        """After `onefold wait`, all live folders are identical, and what `like`'s folder was before.

        Only what is in the directory `below` is compared. Answers the tree.
        """
        before = tree(self.folder(like) / below) if like else None
        self.wait()
        trees = {node: tree(self.folder(node) / below) for node in sorted(self.live)}
        first, *others = trees
        if before is not None:
            self._same(like, before, f"{like}, after waiting,", trees[like])
        for other in others:
            self._same(first, trees[first], other, trees[other])
        return trees[first]

    def _same(self, ours: str, our_tree: Tree, theirs: str, their_tree: Tree) -> None:
        found = differences(our_tree, their_tree)
        if found:
            more = len(found) - DIFFERENCES_SHOWN
            lines = found[:DIFFERENCES_SHOWN] + ([f"and {more} more"] if more > 0 else [])
            raise AssertionError("\n".join([f"{theirs} differs from {ours}:", *lines]))

    def strays(self, node: str) -> list[tuple[str, bytes]]:
        """What was kept aside on `node`: each with the path where it stood, and its bytes (of a file)."""
        homes = sorted((self.nodes[node].state / "strays").iterdir())
        homes = [home for home in homes if os.path.lexists(home / "kept")]  # else it is just being made
        return sorted((json.loads((home / "meta.json").read_text())["path"], _kept(home / "kept")) for home in homes)

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of what each node said."""
        for name, config in self.nodes.items():
            file = config.state / "onefold.log"
            if file.exists():
                yield name, tail(file)


def add_logs(report: pytest.TestReport, item: pytest.Item) -> pytest.TestReport:
    """To the report of a test that failed, what the nodes said that it was given."""
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Cluster):
                report.sections += [(f"log of {node}", text) for node, text in value.logs()]
    return report


def by_name(told: str) -> dict[str, Any]:
    """What `onefold status --json` told, its nodes by name."""
    found = json.loads(told)
    return found | {"nodes": {node["name"]: node for node in found["nodes"]}}


def tail(file: Path) -> str:
    """The end of a log."""
    return file.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


def _kept(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else b""


class Demo(Cluster):
    """`onefold demo`, and its output so far."""

    def __init__(self, data: Path, *options: str) -> None:
        super().__init__()
        self.data = data
        self.output = ""
        self.process = subprocess.Popen(
            [*ONEFOLD, "demo", "--data", str(data), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def ready(self) -> None:
        """Read on until the demo is ready."""
        try:
            self.until("READY")
        except AssertionError as error:
            told = (f"{file.parent.name}:\n{tail(file)}" for file in sorted(self.data.glob(".onefold/*/onefold.log")))
            raise AssertionError("\n".join([str(error), *told])) from None
        self.nodes = {config.name: config for config in configs(self.data)}
        self.live = set(self.nodes)

    def until(self, line: str) -> None:
        """Read on until the whole line `line` was printed."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + SECONDS
        while line not in self.output.splitlines():
            left = deadline - time.monotonic()
            assert left > 0, f"no {line!r} in: {self.output}"
            ready = select.poll()
            ready.register(self.process.stdout, select.POLLIN | select.POLLHUP)
            assert ready.poll(left * 1000), f"no {line!r} in: {self.output}"
            part = os.read(self.process.stdout.fileno(), 4096)
            assert part, f"the demo ended: {self.output}"
            self.output += part.decode()

    def family(self) -> list[psutil.Process]:
        """All processes of the demo but itself."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ONEFOLD, *words, "--data", str(self.data)], capture_output=True, text=True, timeout=2 * SECONDS
        )

    def does(self, *words: str) -> str:
        """The output of a command that must succeed."""
        done = self.command(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def roles(self) -> dict[str, str]:
        found = json.loads(self.does("status", "--json"))
        return {node["name"]: node["role"] for node in found["nodes"]}

    def stop_node(self, node: str) -> None:
        self.does("demo", "stop", node)
        self.live.discard(node)

    def kill_node(self, node: str) -> None:
        """As the death of its machine."""
        self.does("demo", "kill", node)
        self.live.discard(node)

    def start_node(self, node: str) -> None:
        self.does("demo", "start", node)
        self.live.add(node)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=SECONDS)
        finally:
            self.process.kill()
            self.process.wait()


@contextmanager
def demo(
    data: Path, *options: str, nodes: int = 3, fill: Callable[[Path], None] | None = None, settings: str = ""
) -> Iterator[Demo]:
    """A new demo in `data`, ready; `fill(data)` is called before it starts. `settings` go into every `node.toml`."""
    data.mkdir(exist_ok=True)
    if fill is not None:
        fill(data)
    ports = str(free_base_port(nodes))
    if settings:
        for config in prepare(data, Wanted(nodes, int(ports), None)):
            config.path.write_text(f"{config.path.read_text()}\n{settings}\n")
    running = Demo(data, "--base-port", ports, "--nodes", str(nodes), *options)
    try:
        running.ready()
        yield running
    finally:
        running.close()


@contextmanager
def resumed(data: Path) -> Iterator[Demo]:
    """The demo that was made in `data` before, ready again."""
    running = Demo(data)
    try:
        running.ready()
        yield running
    finally:
        running.close()


class Services(Cluster):
    """Nodes that were started one by one, each with `onefold run`."""

    def __init__(self, settings: Iterable[Path]) -> None:
        super().__init__(load(path) for path in settings)
        self._processes = []
        for config in self.nodes.values():
            with (config.state / "onefold.log").open("wb") as log:
                command = [*ONEFOLD, "run", "--config", str(config.path)]
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def connected(self) -> bool:
        """Whether every node has told of a connection with each of the others."""
        told = [len(set(re.findall(r"event=connected (peer=\w+)", text))) for _, text in self.logs()]
        return told == [len(self.nodes) - 1] * len(self.nodes)

    def family(self) -> list[psutil.Process]:
        """All processes that the nodes have started."""
        return [child for own in self._processes for child in psutil.Process(own.pid).children(recursive=True)]

    def close(self) -> None:
        end(self._processes)


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Stop them all in order; whatever does not stop is killed."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()


def eventually(holds: Callable[[], object], what: str = "it") -> None:
    """Return once `holds()`; ask again and again."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.02)


def free_base_port(nodes: int = 3) -> int:
    """The first of as many ports as the nodes' are spread over, that nobody uses just now."""
    count = nodes * PORTS_APART
    return first_free(range(20_000 + os.getpid() % 1000 * 10, 32_700 - count, count), count)
