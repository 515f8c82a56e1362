"""Writing through the API of any node, in a cluster of real nodes on simulated machines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import structlog

from onefold.core.messages import Forward, Refused, Taken
from onefold.core.model import Batch, Kind, Origin, Seed
from onefold.core.paths import RelPath
from onefold.core.request import Condition, Delete, Done, MakeDirectory, Rename, Request, Write
from onefold.core.wire import content_digest
from onefold.errors import InTheWay, NotFound, PreconditionFailed, Unavailable
from onefold.node import write
from onefold.node.loop import Node
from simulation.cluster import Cluster
from simulation.faces import installed
from simulation.virtual import Life

ABSENT = Condition(False)
ALWAYS = Condition()


def path(text: str) -> RelPath:
    return RelPath.parse(text.encode())


def having(data: bytes) -> Condition:
    return Condition(True, (content_digest(data),))


class Nodes:
    """n1, n2 and n3; n1 leads. Time passes while something is waited for."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.loop = cluster.loop
        self._killed: list[Life] = []

    def node(self, name: str) -> Node:
        node = self.cluster.processes[name].node
        assert node is not None
        return node

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.spawn(self.cluster.processes[name].life, work)

    def result(self, name: str, work: Coroutine[Any, Any, Any]) -> Any:
        task = self.spawn(name, work)
        self.until(task.done)
        return task.result()

    def begin(
        self, name: str, request: Request, content: bytes | None = None, seconds: float = 30
    ) -> asyncio.Task[Any]:
        return self.spawn(name, self.node(name).writer.do(request, content, seconds))

    def do(self, name: str, request: Request, content: bytes | None = None, seconds: float = 30) -> Done:
        answer = self.result(name, self.node(name).writer.do(request, content, seconds))
        assert isinstance(answer, Done)
        return answer

    def begin_put(self, name: str, where: str, data: bytes, condition: Condition = ALWAYS) -> asyncio.Task[Any]:
        return self.begin(name, self.write(where, data, condition), data)

    def put(self, name: str, where: str, data: bytes, condition: Condition = ALWAYS) -> Done:
        return self.do(name, self.write(where, data, condition), data)

    def write(self, where: str, data: bytes, condition: Condition) -> Write:
        self.cluster.witness.wrote(data)
        return Write(path(where), Kind.FILE, content_digest(data), len(data), 5_000, None, condition)

    def read(self, name: str, where: str) -> bytes:
        async def read() -> bytes:
            reader = self.node(name).reader
            await reader.linearize()
            content = await reader.content(reader.row(path(where)))
            try:
                data = content.read(0, content.size)
                assert content.intact()
                return data
            finally:
                content.close()

        data = self.result(name, read())
        assert isinstance(data, bytes)
        return data

    def until(self, holds: Callable[[], object], seconds: float = 60.0) -> None:
        self.loop.run_until(self.loop.now + seconds, lambda: bool(holds()) or self.cluster._failed())
        assert not self.cluster.witness.failures, self.cluster.witness.failures
        assert holds()

    def settle(self) -> None:
        self.until(self.cluster._at_rest, 120)
        self.cluster.witness.check_end()

    def folder(self, name: str) -> dict[str, bytes]:
        return {
            where[2:].decode() if where.startswith(b"./") else where.decode(): inode.data
            for where, inode in self.cluster.machines[name].folder.below()
            if inode.is_file
        }

    def strays(self) -> int:
        return sum(self.node(name).reporter.own().strays for name in self.cluster.members)

    def kill(self, name: str) -> None:
        self._killed.append(self.cluster.processes[name].life)
        self.cluster.kill(name)

    def end(self) -> None:
        """All that runs comes to its `finally`, also what was killed: none of it is to be met by a collector."""
        for life in self._killed:
            life.alive = True
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until(self.loop.now + 10, lambda: not asyncio.all_tasks(self.loop))
        for process in self.cluster.processes.values():
            self.loop.end(process.life)
        self.loop.close()

    def leader(self) -> str:
        leader = self.cluster.witness.cluster.leader
        return leader.node if leader is not None else ""


@contextmanager
def nodes_of(writers: str, knobs: dict[tuple[Any, str], Any]) -> Iterator[Nodes]:
    for seed in range(1000):
        cluster = Cluster(seed)
        if (len(cluster.members), cluster.preferred) == (3, "n1"):
            break
        cluster.loop.close()
    cluster.writers = writers
    cluster._races = 0
    cluster._arm()
    structlog.configure(processors=[cluster._log])
    with ExitStack() as stack:
        stack.callback(structlog.reset_defaults)
        stack.enter_context(installed(cluster.kernel, random.Random(1), lambda fd: None, knobs))
        for name in cluster.members:
            cluster.start(name)
        cluster._keep_lease()
        nodes = Nodes(cluster)
        stack.callback(nodes.end)
        nodes.until(lambda: cluster.witness.catalogue.seeded and nodes.leader() == "n1")
        nodes.settle()
        yield nodes


@pytest.fixture(params=[0, 64 << 10], ids=["held", "small"])
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """With contents that are held first, and with contents that ride along."""
    with nodes_of("leader", {(write, "SMALL_BYTES_MAX"): request.param}) as nodes:
        yield nodes


@pytest.mark.parametrize("name", ["n1", "n2"])
def test_what_is_written_through_any_node_is_committed_and_everywhere(nodes: Nodes, name: str) -> None:
    done = nodes.put(name, "x/y/a", b"one")
    assert done.created
    assert nodes.read("n3", "x/y/a") == b"one"
    assert not nodes.put(name, "x/y/a", b"two").created
    assert nodes.read(name, "x/y/a") == b"two"
    nodes.settle()
    assert [nodes.folder(each) for each in ("n1", "n2", "n3")] == [{"x/y/a": b"two"}] * 3


def test_directories_moves_and_removals(nodes: Nodes) -> None:
    nodes.do("n2", MakeDirectory(path("d")))
    nodes.put("n2", "d/a", b"one")
    nodes.put("n1", "d/e/b", b"two")
    nodes.do("n3", Rename(path("d/e"), path("f/g")))
    with pytest.raises(InTheWay, match="is not empty"):
        nodes.do("n1", Delete(path("d")))
    nodes.do("n2", Delete(path("d"), recursive=True))
    with pytest.raises(NotFound):
        nodes.do("n3", Delete(path("d")))
    nodes.settle()
    assert [nodes.folder(each) for each in ("n1", "n2", "n3")] == [{"f/g/b": b"two"}] * 3


def test_many_writes_at_once_share_few_entries(nodes: Nodes) -> None:
    before = nodes.cluster.witness.cluster.head
    tasks = [nodes.begin_put("n2", f"x{number % 3}/{number}", b"%d" % number) for number in range(200)]
    nodes.until(lambda: all(task.done() for task in tasks))
    assert all(task.result().created for task in tasks)
    assert nodes.cluster.witness.cluster.head - before < 40
    nodes.settle()
    assert nodes.folder("n1") == {f"x{number % 3}/{number}": b"%d" % number for number in range(200)}


def test_of_many_who_create_the_same_through_all_nodes_one_has_created_it(nodes: Nodes) -> None:
    tasks = [nodes.begin_put(name, "lock", b"", ABSENT) for name in ("n1", "n2", "n3") * 5]
    nodes.until(lambda: all(task.done() for task in tasks))
    assert sum(task.exception() is None for task in tasks) == 1
    assert all(isinstance(task.exception() or PreconditionFailed(""), PreconditionFailed) for task in tasks)


def test_a_counter_counts_every_increment_that_was_acknowledged(nodes: Nodes) -> None:
    nodes.put("n1", "n", b"0")

    async def count(name: str) -> int:
        node, counted = nodes.node(name), 0
        for _ in range(10):
            await node.reader.linearize()
            row = node.reader.row(path("n"))
            content = await node.reader.content(row)
            old = content.read(0, content.size)
            content.close()
            new = b"%d" % (int(old) + 1)
            try:
                await node.writer.do(nodes.write("n", new, having(old)), new)
                counted += 1
            except PreconditionFailed:
                continue
        return counted

    tasks = [nodes.spawn(name, count(name)) for name in ("n1", "n2", "n3")]
    nodes.until(lambda: all(task.done() for task in tasks))
    counted = sum(task.result() for task in tasks)
    assert counted >= 10
    assert nodes.read("n2", "n") == b"%d" % counted


def test_no_is_only_said_by_a_catalogue_that_has_all_that_was_committed(nodes: Nodes) -> None:
    """n3 does not hear of the log for a while; what is asked of it must not be judged by what it knows."""
    nodes.cluster.unavailable.add("n3")
    nodes.put("n1", "a", b"one")
    task = nodes.begin("n3", Rename(path("a"), path("b"), having(b"one")))
    nodes.loop.run_until(nodes.loop.now + 1)
    assert not task.done()
    nodes.cluster.unavailable.clear()
    nodes.until(task.done)
    task.result()
    assert nodes.read("n1", "b") == b"one"


def test_a_write_outlives_the_leader(nodes: Nodes) -> None:
    tasks = [nodes.begin_put("n2", f"a{number}", b"%d" % number) for number in range(20)]
    nodes.loop.run_until(nodes.loop.now + 0.002)
    nodes.kill("n1")
    more = [nodes.begin_put("n3", f"b{number}", b"%d" % number) for number in range(20)]
    nodes.until(lambda: all(task.done() for task in tasks + more))
    assert all(task.result().created for task in tasks + more)
    nodes.settle()
    assert len(nodes.folder("n3")) == 40


def test_without_a_majority_nothing_is_acknowledged_and_the_asker_is_told(nodes: Nodes) -> None:
    nodes.cluster.unavailable.update(("n1", "n2", "n3"))
    task = nodes.begin("n2", Delete(path("x")), seconds=3)
    nodes.until(task.done)
    with pytest.raises(Unavailable):
        task.result()
    nodes.cluster.unavailable.clear()
    nodes.until(lambda: len(nodes.node("n2").writer) == 0)


def test_g3_an_edit_that_waits_at_the_same_path_of_the_leader_is_not_lost(nodes: Nodes) -> None:
    nodes.put("n1", "a", b"one")
    nodes.settle()
    kernel, machine = nodes.cluster.kernel, nodes.cluster.machines["n1"]
    nodes.cluster.witness.wrote(b"edited here")
    task = nodes.begin_put("n2", "a", b"asked for")
    kernel.current = None
    fd = kernel.open(machine.path + b"/folder/a", 1)
    kernel.write(fd, b"edited here")
    nodes.until(task.done)
    kernel.current = None
    kernel.close(fd)
    task.result()
    nodes.settle()
    kept = set(nodes.folder("n1").values())
    assert b"edited here" in kept
    assert nodes.folder("n1")["a"] in (b"asked for", b"edited here")


def test_an_edit_of_a_follower_where_something_is_written_becomes_a_stray(nodes: Nodes) -> None:
    nodes.put("n1", "a", b"one")
    nodes.settle()
    kernel, machine = nodes.cluster.kernel, nodes.cluster.machines["n2"]
    nodes.cluster.witness.wrote(b"edited here")
    kernel.current = None
    fd = kernel.open(machine.path + b"/folder/a", 1)
    kernel.write(fd, b"edited here")
    kernel.close(fd)
    nodes.put("n2", "a", b"asked for")
    nodes.settle()
    assert nodes.folder("n2") == {"a": b"asked for"}
    assert nodes.node("n2").reporter.own().strays == 1


def test_who_does_not_wait_any_more_leaves_nothing_behind(nodes: Nodes) -> None:
    task = nodes.begin_put("n2", "a", b"one")
    nodes.loop.within(nodes.cluster.processes["n2"].life, task.cancel)
    nodes.until(task.done)
    nodes.until(lambda: len(nodes.node("n2").writer) == 0)
    nodes.settle()


def test_a_batch_of_the_api_is_only_taken_from_the_node_that_it_names(nodes: Nodes) -> None:
    leader = nodes.node("n1")
    for origin, answered, taken in (
        ("n2~api", True, True),
        ("n3~api", True, False),
        ("n2", True, False),
        ("n2~api", False, False),
    ):
        forward = Forward(Batch(Origin(origin, 1, 1), (Seed(),), answered), {}, 0)
        answer = nodes.result("n1", leader.answerer.answer("n2", forward))
        assert isinstance(answer, Taken if taken else Refused)


def test_g2_a_content_is_held_again_when_others_vote_before_it_is_in_the_log(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "SMALL_BYTES_MAX", 0)
    leader, author = nodes.node("n1"), nodes.node("n2")
    held: list[bytes] = []
    hold = author._holder.hold

    async def counted(digest: bytes, *rest: Any) -> None:
        held.append(digest)
        await hold(digest, *rest)

    monkeypatch.setattr(author._holder, "hold", counted)
    leader.appender.permit(False)
    task = nodes.begin_put("n2", "a", b"one")
    nodes.until(lambda: leader.appender.waiting)
    assert held == [content_digest(b"one")]
    nodes.loop.within(
        nodes.cluster.processes["n2"].life, lambda: author.change(("n1", "n2", "n4"), (*author.who.members, "n4"))
    )
    nodes.until(lambda: len(held) == 2)
    leader.appender.permit(True)
    nodes.until(task.done)
    task.result()
