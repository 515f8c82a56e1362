"""A catalogue that one node gives and another takes, though entries go on being applied and peers fail (G1)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stations import report

from onefold.core.catalogue import Catalogue
from onefold.core.messages import AskCatalogue, CataloguePage, Message, Refused
from onefold.core.model import NEVER, NEW, ROOT, Batch, Kind, Origin, Pack, Put
from onefold.core.rows import Last
from onefold.edge.journal import CatalogueStore
from onefold.edge.log_memory import MemoryCluster, MemoryLog
from onefold.errors import PeerRefused
from onefold.node import give
from onefold.node.catch_up import CatchUp
from onefold.node.give import Giver

FILES = 25


class Donor:
    """A peer with a catalogue of its own, in which something changes whenever a page of it has been given."""

    def __init__(self, directory: Path, name: str) -> None:
        self.store = CatalogueStore(directory, "folder", name)
        self.catalogue = Catalogue(self.store)
        stub: Any = None
        ports: Any = type("Ports", (), {"objects": None, "contents": None, "base": None})
        who: Any = type("Who", (), {"name": name, "root": b"/"})
        self.giver = Giver(who, ports, self.catalogue, stub, lambda: self.distrust)
        self.given = 0
        self.distrust = ""
        for number in range(FILES):
            self.make(b"%d" % number)

    def make(self, name: bytes) -> None:
        index = self.catalogue.index + 1
        put = Put(NEW, NEVER, ROOT, name, Kind.FILE, 0o644, 0, 1, bytes(32))
        with self.store.transaction():
            applied = self.catalogue.apply(index, Pack((Batch(Origin("a", 7, index), (put,)),), {}))
        self.giver.applied(applied)

    def answer(self, message: Message) -> Message:
        assert isinstance(message, AskCatalogue)
        page = self.giver.page("me", message)
        self.given += 1
        self.make(b"later %d" % self.given)
        return page


class World:
    def __init__(self, directory: Path) -> None:
        self.donors = {name: Donor(directory / name, name) for name in ("a", "b")}
        self.store = CatalogueStore(directory / "me", "folder", "me")
        self.cluster = MemoryCluster()
        self.cluster.head = FILES
        self.cluster.trim(FILES - 1)
        self.broken: dict[str, Any] = {}
        self.asked: list[str] = []
        self.slept = asyncio.Event()
        self.applied = FILES
        me: Any = self
        self.catch_up = CatchUp(MemoryLog(self.cluster), self.store, me, me, self.report_of)

    def report_of(self, node: str) -> Any:
        return report(node, role="leader" if node == "a" else "voter", applied=self.applied)

    def connected(self) -> frozenset[str]:
        return frozenset(self.donors)

    async def ask(self, peer: str, message: Message, seconds: float) -> Message:
        self.asked.append(peer)
        answer = self.donors[peer].answer(message)
        spoil = self.broken.get(peer)
        if spoil is not None:
            answer = spoil(answer)
        if isinstance(answer, Refused):
            raise PeerRefused(answer.what)
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.set()
        await asyncio.sleep(0)

    def now(self) -> float:
        return 0.0

    def close(self) -> None:
        self.store.close()
        for donor in self.donors.values():
            donor.store.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(give, "PAGE_ROWS", 10)
    made = World(tmp_path)
    made.cluster.entries[FILES] = b"the newest"
    yield made
    made.close()


def restored(store: CatalogueStore) -> Catalogue:
    state = store.load_state()
    return Catalogue(store, state.index, state.digest, state.files, state.seeded)


async def test_the_catalogue_is_as_it_was_when_it_was_asked_for(world: World) -> None:
    with world.store.transaction():
        Catalogue(world.store).apply(1, Pack((Batch(Origin("a", 7, 1), ()),), {}))
        world.store.keep_pack(1, bytes(32))
    await world.catch_up.run()
    assert world.asked == ["b"] * 3  # who leads has other things to do
    ours = restored(world.store)
    assert (ours.index, ours.files) == (FILES, FILES)
    assert ours.recount() == ours.digest
    assert [row.name for row in world.store.children(ROOT)] == sorted(b"%d" % number for number in range(FILES))
    assert world.store.last("a") == Last(7, FILES, ())
    assert world.store.packs() == []
    assert world.catch_up.problems() == []


async def test_it_is_taken_from_another_where_one_gives_nonsense(world: World) -> None:
    def spoil(page: CataloguePage) -> CataloguePage:
        row = msgspec.structs.replace(page.rows[0], size=2)
        return msgspec.structs.replace(page, rows=(row, *page.rows[1:]))

    world.broken["b"] = spoil
    await world.catch_up.run()
    assert world.asked[-1] == "a"
    assert restored(world.store).recount() == restored(world.store).digest


async def test_a_page_of_another_copy_is_noticed(world: World) -> None:
    pages = iter(range(100))
    world.broken["b"] = lambda page: msgspec.structs.replace(page, index=page.index + next(pages))
    await world.catch_up.run()
    assert world.asked[-1] == "a"


async def test_a_peer_that_never_comes_to_an_end_is_left(world: World) -> None:
    first: list[CataloguePage] = []

    def spoil(page: CataloguePage) -> CataloguePage:
        first.append(page)
        return first[0]

    world.broken["b"] = spoil
    async with asyncio.timeout(10):
        await world.catch_up.run()
    assert world.asked[-1] == "a"


async def test_a_peer_that_refuses_is_a_problem_until_another_gives(world: World) -> None:
    world.broken = {"a": lambda _: Refused("it is busy"), "b": lambda _: Refused("it is busy")}
    taking = asyncio.create_task(world.catch_up.run())
    await world.slept.wait()
    assert "it is busy" in world.catch_up.problems()[0].what
    world.broken.clear()
    await taking
    assert world.catch_up.problems() == []


async def test_g1_a_node_whose_catalogue_is_not_to_be_trusted_does_not_give_it(world: World) -> None:
    world.donors["b"].distrust = "it differs from the others"
    await world.catch_up.run()
    assert world.asked[0] == "b"
    assert world.donors["b"].given == 0
    assert world.donors["a"].given > 0


async def test_a_peer_that_is_behind_what_the_log_holds_is_not_asked(world: World) -> None:
    world.applied = FILES - 2
    taking = asyncio.create_task(world.catch_up.run())
    await world.slept.wait()
    assert world.asked == []
    assert "no peer can give it the catalogue" in world.catch_up.problems()[0].what
    world.applied = FILES
    await taking


async def test_nothing_of_ours_is_touched_before_it_is_complete(world: World) -> None:
    catalogue = Catalogue(world.store)
    with world.store.transaction():
        catalogue.apply(1, Pack((Batch(Origin("a", 7, 1), (_put(b"ours"),)),), {}))
        world.store.save_state(1, catalogue.digest, 1, False)

    def end(_: Message) -> Message:
        raise KeyboardInterrupt  # as a crash would

    world.broken["b"] = lambda page: end(page) if page.last else page
    with pytest.raises(KeyboardInterrupt):
        await world.catch_up._take("b", FILES - 1)
    world.store.close()
    world.store = CatalogueStore(world.store._path.parent, "folder", "me")
    assert restored(world.store).index == 1
    assert [row.name for row in world.store.children(ROOT)] == [b"ours"]


def _put(name: bytes) -> Put:
    return Put(NEW, NEVER, ROOT, name, Kind.FILE, 0o644, 0, 1, bytes(32))
