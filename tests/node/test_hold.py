"""What is shown while no majority can hold content, and that it goes away."""

import asyncio
import inspect
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onefold.core import wire
from onefold.core.messages import Held, Hold, Message, Problem
from onefold.core.model import NEVER, NEW, ROOT, Batch, Kind, Origin, Present, Put
from onefold.core.paths import RelPath
from onefold.edge.log_memory import MemoryCluster, MemoryLog
from onefold.edge.objects import ObjectStore
from onefold.edge.scan import FolderScanner
from onefold.errors import PeerRefused
from onefold.node.answer import Answerer
from onefold.node.append import Appender, Proposal
from onefold.node.hold import Holder
from onefold.node.large import LargeContents

VOTERS = frozenset("abc")
TOO_FEW = "only 1 of the 2 voters needed hold new content (the disk of b is full: free space)"
FIX = "start the other nodes; it is proposed as soon as a majority is there"


class FullPeers:
    """Both refuse once for lack of space, and then have room. `shown`: what was shown when they were asked again."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.problems: Any = None
        self.shown: list[Problem] = []

    def connected(self) -> frozenset[str]:
        return VOTERS - {"a"}

    async def ask(self, node: str, message: Message, seconds: float) -> Message:
        assert isinstance(message, Hold)
        if node not in self.refused:
            self.refused.add(node)
            raise PeerRefused("the disk of b is full", "free space")
        self.shown = self.problems()
        return Held(message.digest)


@pytest.fixture
def peers() -> FullPeers:
    return FullPeers()


@pytest.fixture
def holder(peers: Any) -> Holder:
    return Holder("a", VOTERS, peers, lambda: 7)


async def test_a_pack_that_no_majority_holds_is_a_problem_until_one_does(
    tmp_path: Path, peers: FullPeers, holder: Holder
) -> None:
    log = MemoryLog(MemoryCluster())
    leader = await log.take("a", 0, "start")
    assert leader is not None
    committed = asyncio.Event()
    appender = Appender(log, holder, ObjectStore(tmp_path), lambda *_: None, lambda *_: committed.set())
    peers.problems = appender.problems
    data = os.urandom(100_000)
    digest = wire.content_digest(data)
    put = Put(NEW, NEVER, ROOT, b"f", Kind.FILE, 0o644, 0, len(data), digest)
    appender.submit(Proposal(Batch(Origin("a", 1, 1), (put,)), {digest: data}))
    leading = asyncio.create_task(appender.lead(leader.term, await log.head()))
    await committed.wait()
    assert peers.shown == [Problem(TOO_FEW, "", FIX)]
    assert appender.problems() == []
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


async def test_a_large_file_that_no_majority_holds_is_a_problem_until_one_does(
    tmp_path: Path, peers: FullPeers, holder: Holder
) -> None:
    path = RelPath(b"big")
    (tmp_path / "big").write_bytes(os.urandom(100_000))
    os.utime(tmp_path / "big", (1, 1))  # it rests
    scanner = FolderScanner(os.fsencode(tmp_path), small_bytes_max=10)
    seen = scanner.observe(path, None, True, large=True)
    assert isinstance(seen, Present)
    looked = asyncio.Queue[RelPath]()

    class Clock:
        def now(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None: ...

    no_base = SimpleNamespace(lookup=lambda path: None, by_inode=lambda ino, btime_ns: None)
    who: Any = SimpleNamespace(root=os.fsencode(tmp_path), copies=tmp_path, quiet_seconds=0.1)
    ports: Any = SimpleNamespace(
        base=no_base, scanner=scanner, objects=ObjectStore(tmp_path / "objects"), clock=Clock()
    )
    large = LargeContents(who, ports, holder, looked.put_nowait, lambda work: asyncio.create_task(work))
    peers.problems = large.problems
    assert large.must_be_held(path, seen)
    assert await looked.get() == path
    assert large.must_be_held(path, seen)
    assert await looked.get() == path
    assert not large.must_be_held(path, seen)
    assert peers.shown == [Problem(TOO_FEW, "big", FIX)]
    assert large.problems() == []
    scanner.close()


async def test_g2_what_is_to_be_held_is_let_go_by_nobody_while_it_comes(tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path / "objects")
    pinned: list[tuple[bytes, int, bool]] = []
    elector = SimpleNamespace(term=3)

    def put(digest: bytes, data: bytes) -> None:
        assert [digest for digest, _, _ in pinned] == [digest]
        elector.term = 4
        objects.put(digest, data)

    parts = dict.fromkeys(inspect.signature(Answerer).parameters)
    parts["ports"] = SimpleNamespace(objects=SimpleNamespace(has=objects.has, put=put))
    parts["elector"] = elector
    parts["who"] = SimpleNamespace(members=("a",))
    parts["keeper"] = SimpleNamespace(pin=lambda digest, term: pinned.append((digest, term, objects.has(digest))))
    made: Any = Answerer
    digest = wire.content_digest(b"data")
    assert await made(**parts).answer("a", Hold(digest, 4, b"data")) == Held(digest)
    assert pinned == [(digest, 3, False), (digest, 4, True)]
    pinned.clear()
    await made(**parts).answer("a", Hold(digest, 4, b"data", term=9))  # it knows of a term that has not come here yet
    assert pinned == [(digest, 9, True), (digest, 9, True)]
