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
NUMBER_BYTES = 8
LONG = 12_500
"""So often a long value repeats its number: too much for an entry of the log."""
AT_FDCWD = -100

# ------------------------------------------------------------------------------------------------ the model itself


def model(leader: str = "") -> Model:
    """One in which node1 has written x and then y, in its place, in a folder that holds s elsewhere."""
    made = Model(("p", "q"), leader)
    made.does("node1", {"q": b"s"})
    made.ends({"q": b"s"}, set(), True)
    made.begins({"q": b"s"}, leader)
    made.does("node1", {"p": b"x"})
    made.does("node1", {"p": b"y"}, b"x")
    return made


def test_the_model_explains_any_later_version_and_the_last_one_at_the_end() -> None:
    users = model()
    for value in (None, b"x", b"y"):
        users.sees("node2", "p", value)
    users.sees("node3", "p", b"y")
    users.ends({"p": b"y", "q": b"s"}, set(), True)


def explain(users: Model, seen: list[bytes], found: dict[str, bytes]) -> None:
    """What is `seen` on node2, and `found` at the end."""
    for value in seen:
        users.sees("node2", "p", value)
    users.ends(found, set(), True)


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ([b"y", b"x"], {"p": b"y", "q": b"s"}),  # an older version again
        ([b"s"], {"p": b"y", "q": b"s"}),  # what stands elsewhere
        ([], {"p": b"x", "q": b"s"}),  # not the last version
        ([], {"q": b"s"}),  # lost
        ([], {"p": b"y", "p.conflict": b"x", "q": b"s"}),  # a copy, though nobody else changed it
        ([b"z"], {"p": b"y", "q": b"s"}),  # written by nobody
    ],
)
def test_the_model_does_not_explain(seen: list[bytes], found: dict[str, bytes]) -> None:
    with pytest.raises(AssertionError):
        explain(model(), seen, found)


def test_with_one_leader_what_others_do_is_kept_aside() -> None:
    users = model("node1")
    users.does("node2", {"q": b"t"}, b"s")
    users.sees("node2", "q", b"t")
    users.sees("node2", "q", b"s")
    with pytest.raises(AssertionError):
        users.ends({"p": b"y", "q": b"t"}, set(), True)
    users.ends({"p": b"y", "q": b"s"}, {b"t"}, True)


# ------------------------------------------------------------------------------------------------ a real cluster

nodes = st.sampled_from(NODES)
paths = st.sampled_from(PATHS)
numbers = count(1)


def read(path: Path) -> bytes | None:
    try:
        return short(path.read_bytes())
    except FileNotFoundError:
        return None


def short(content: bytes) -> bytes:
    """By what a value is told: the number that it repeats. What is no value, or none whole, stays as it is."""
    number = content[:NUMBER_BYTES]
    return number if content in (number, number * LONG) else content


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
        value = self.value()
        new = self.aside()
        new.write_bytes(value * (LONG if long else 1))
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
                content = file.read()
                value, before = self.value(), short(content)
                self.model.sees(node, path, before)
                self.model.does(node, {path: value}, before)
                os.pwrite(file.fileno(), value * (len(content) // NUMBER_BYTES), 0)
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
        eventually(self.whole, "a whole cluster")
        tree = self.running.settled("", self.place)
        found = {
            os.fsdecode(path): short(self.at("node1", os.fsdecode(path)).read_bytes())
            for path, entry in tree.items()
            if entry.kind == "file"
        }
        strays = {short(data) for node in NODES for _, data in self.running.strays(node)}
        leads = (self.running.leader(), self.running.status()["term"])
        self.model.ends(found, strays, leads == self.led)
        self.led = leads
        self.model.begins(found, leads[0] if self.writers == "leader" else "")

    def whole(self) -> bool:
        """All are up; and where it matters who leads, the node leads to which leadership returns by itself."""
        told = self.running.status()
        leads = told["leader"] == "node1" if self.writers == "leader" else told["leader"] != ""
        return leads and all(node["role"] != "down" for node in told["nodes"].values())

    def teardown(self) -> None:
        self.stabilise()

    # how

    def value(self) -> bytes:
        """One that nobody ever wrote."""
        return b"%08d" % next(numbers)

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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("writers", [pytest.param("leader", marks=pytest.mark.slow), "any"])
def test_a_few_users_see_nothing_that_the_model_does_not_explain(tmp_path: Path, writers: str) -> None:
    check(tmp_path, writers, 2, 12, True)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("writers", ["leader", "any"])
def test_many_users_see_nothing_that_the_model_does_not_explain(tmp_path: Path, writers: str) -> None:
    check(tmp_path, writers, EXAMPLES, 30, False)
