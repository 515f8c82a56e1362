"""Users on all nodes of a real cluster, whose nodes are stopped and killed: the model explains all that they see.

The gate runs a few examples, always the same; `pytest tests/live/test_folder_model.py -m slow` runs new ones,
`ONEFOLD_MODEL_EXAMPLES` of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from cluster import Demo, demo, eventually
from folder_model import Model
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from onefold import demo_control, linux

EXAMPLES = int(os.environ.get("ONEFOLD_MODEL_EXAMPLES", "60"))
NODES = ("node1", "node2", "node3")
PATHS = ("a", "b", "d/a", "d/b")
LONG_BYTES = 100_000
AT_FDCWD = -100

nodes = st.sampled_from(NODES)
paths = st.sampled_from(PATHS)
numbers = count(1)


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


class Users(RuleBasedStateMachine):
    """In a directory of their own on `running`; at most one node is down at a time."""

    def __init__(self, running: Demo, writers: str) -> None:
        super().__init__()
        self.running = running
        self.writers = writers
        self.place = f"example-{next(numbers)}"
        self.down = ""
        self.led = (running.leader(), running.status()["term"])
        self.model = Model(PATHS)
        self.outside = running.data / "outside"
        self.outside.mkdir(exist_ok=True)
        (running.folder("node1") / self.place / "d").mkdir(parents=True)
        self.stabilise()

    def at(self, node: str, path: str) -> Path:
        return self.running.folder(node) / self.place / path

    # what users do

    @rule(node=nodes, path=paths)
    def look(self, node: str, path: str) -> None:
        self.model.sees(node, path, read(self.at(node, path)))

    @rule(node=nodes, path=paths, long=st.sampled_from((False, False, False, True)))
    def write(self, node: str, path: str, long: bool) -> None:
        """As editors save: a new file, or one in exchange for what stands there."""
        value = self.value(long)
        new = self.aside()
        new.write_bytes(value)
        while True:
            if self.rename(new, self.at(node, path), linux.RENAME_EXCHANGE):
                came_out = read(new)
                break
            if self.rename(new, self.at(node, path), linux.RENAME_NOREPLACE):
                came_out = None
                break
        self.model.sees(node, path, came_out)
        self.model.does(node, {path: value}, came_out)

    @rule(node=nodes, path=paths)
    def write_in_place(self, node: str, path: str) -> None:
        try:
            with self.at(node, path).open("r+b") as file:
                before = file.read()
                value = self.value(len(before) == LONG_BYTES)
                self.model.sees(node, path, before)
                self.model.does(node, {path: value}, before)
                os.pwrite(file.fileno(), value, 0)
        except FileNotFoundError:
            self.model.sees(node, path, None)

    @rule(node=nodes, path=paths)
    def delete(self, node: str, path: str) -> None:
        removed = self.aside()
        if self.rename(self.at(node, path), removed, linux.RENAME_NOREPLACE):
            self.model.sees(node, path, read(removed))
            self.model.does(node, {path: None}, read(removed))

    @rule(node=nodes, path=paths, to=paths)
    def move(self, node: str, path: str, to: str) -> None:
        """To where nothing stands, else in exchange for what stands there."""
        source, target = self.at(node, path), self.at(node, to)
        if path != to and (
            self.rename(source, target, linux.RENAME_NOREPLACE) or self.rename(source, target, linux.RENAME_EXCHANGE)
        ):
            self.model.does(node, {path: read(source), to: read(target)})

    # what happens to nodes

    @precondition(lambda self: not self.down)
    @rule(node=nodes, how=st.sampled_from((demo_control.stop, lambda data, node: demo_control.kill(data, node, False))))
    def end(self, node: str, how: Callable[[Path, str], str]) -> None:
        how(self.running.data, node)
        self.running.live.discard(node)
        self.down = node

    @precondition(lambda self: self.down)
    @rule()
    def start(self) -> None:
        demo_control.start(self.running.data, self.down)
        self.running.live.add(self.down)
        self.down = ""

    @rule()
    def stabilise(self) -> None:
        """All are up and have shown each other everything: an epoch ends."""
        if self.down:
            self.start()
        eventually(self.whole, "a whole cluster that its preferred node leads")
        tree = self.running.settled("", self.place)
        found = {
            os.fsdecode(path): self.at("node1", os.fsdecode(path)).read_bytes()
            for path, entry in tree.items()
            if entry.kind == "file"
        }
        strays = {data for node in NODES for _, data in self.running.strays(node)}
        leads = (self.running.leader(), self.running.status()["term"])
        self.model.ends(found, strays, leads == self.led)
        self.led = leads
        self.model.begins(found, leads[0] if self.writers == "leader" else "")

    def whole(self) -> bool:
        told = self.running.status()
        return told["leader"] == "node1" and all(node["role"] != "down" for node in told["nodes"].values())

    def teardown(self) -> None:
        self.stabilise()

    # how

    def value(self, long: bool) -> bytes:
        """One that nobody ever wrote."""
        return b"%08d" % next(numbers) * (LONG_BYTES // 8 if long else 1)

    def aside(self) -> Path:
        """A place outside of all folders."""
        return self.outside / f"{next(numbers)}"

    def rename(self, source: Path, target: Path, how: int) -> bool:
        """Whether it was done: not where nothing stands, or something does."""
        try:
            linux.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), how)
        except (FileNotFoundError, FileExistsError):
            return False
        return True


def check(tmp_path: Path, writers: str, examples: int, steps: int, always_the_same: bool) -> None:
    with demo(tmp_path / "data", "--writers", writers) as running:
        run_state_machine_as_test(
            lambda: Users(running, writers),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                derandomize=always_the_same,
                print_blob=not always_the_same,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )


@pytest.mark.parametrize("writers", ["leader", "any"])
def test_a_few_users_see_nothing_that_the_model_does_not_explain(tmp_path: Path, writers: str) -> None:
    check(tmp_path, writers, 5, 16, True)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("writers", ["leader", "any"])
def test_many_users_see_nothing_that_the_model_does_not_explain(tmp_path: Path, writers: str) -> None:
    check(tmp_path, writers, EXAMPLES, 30, False)
