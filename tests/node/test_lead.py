"""When a voter takes a leader for dead, and when it does not."""

import asyncio
from typing import Any

import pytest
from stations import eventually

from onefold.core.messages import Message, Reached, Report
from onefold.edge.log_memory import MemoryCluster, MemoryLog
from onefold.errors import LogUnavailable, PeerRefused
from onefold.node.lead import PREFERRED_AFTER_SECONDS, SILENCE_SECONDS, START_SECONDS, Elector
from onefold.ports import Leader


class SlowLog(MemoryLog):
    """Its watchers hear of a new leader well before the one who took over does."""

    async def take(self, node: str, seen: int, reason: str) -> Leader | None:
        leader = await super().take(node, seen, reason)
        await asyncio.sleep(0.01)
        return leader


class World:
    """What node b sees: a log that a leads, a voter c that says whether it reaches a, and a clock that we turn."""

    def __init__(self) -> None:
        self.time = 100.0
        self.heard: dict[str, float] = {}
        self.up = {"c"}
        self.c_reaches = False
        self.took = asyncio.Event()
        self.looked = asyncio.Event()
        self.log = SlowLog(MemoryCluster())
        self.flushes = 0
        self.in_step = ""  # the preferred node, once it is
        self.deposed = asyncio.Event()
        self.behind = False
        self.applied = asyncio.Event()  # whatever an applier is to `reach`
        self.applied.set()
        self.reached: list[int] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    def connected(self) -> frozenset[str]:
        self.looked.set()
        return frozenset(self.up)

    async def ask(self, node: str, message: Message, seconds: float) -> Message:
        return Reached(self.c_reaches)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def elector(world: World) -> Any:
    log = world.log
    await log.take("a", 0, "start")
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Any) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    class Stub:
        index = 0

        async def lead(self, term: int, head: int) -> None:
            await world.deposed.wait()

        async def reach(self, index: int) -> None:
            world.reached.append(index)
            await world.applied.wait()

    followed = asyncio.Event()

    def changed(leader: Any, _: int) -> None:
        followed.set()
        if leader is not None and leader.node == "b":
            world.took.set()

    async def flush() -> None:
        world.flushes += 1
        raise PeerRefused("b could not propose its edits in time")

    preferred = Report("c", 1, "voter", "b", 1, 0, 0, 0, (), 0, 0, (), (), preferred=True, ready=True)
    stub: Any = Stub()
    peers: Any = world
    made = Elector(
        "b",
        ("a", "b", "c"),
        False,
        log,
        peers,
        stub,
        stub,
        world,
        report_of=lambda node: preferred if node == world.in_step else None,
        heard=world.heard.get,
        flush=flush,
        behind=lambda: world.behind,
        changed=changed,
        spawn=spawn,
    )
    spawn(made.follow())
    spawn(made.run())
    async with asyncio.timeout(10):
        await followed.wait()
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def considered(world: World, elector: Elector) -> None:
    """Returns once the elector has looked at the leader again, twice: the first look may have begun before."""
    async with asyncio.timeout(10):
        for _ in range(2):
            world.looked.clear()
            elector.wake()
            await world.looked.wait()


async def test_a_leader_that_was_never_heard_is_not_taken_for_dead_right_after_our_start(
    world: World, elector: Elector
) -> None:
    await considered(world, elector)
    assert elector.leader is not None
    assert elector.leader.node == "a"
    assert elector.reaches("a")


async def test_a_leader_that_is_still_unheard_of_after_a_while_is_replaced(world: World, elector: Elector) -> None:
    world.time += 2 * START_SECONDS
    elector.wake()
    async with asyncio.timeout(10):
        await world.took.wait()
    assert not elector.reaches("a")


async def test_a_leader_whose_connection_closed_is_replaced_at_once(world: World, elector: Elector) -> None:
    world.heard["a"] = world.time
    elector.wake()
    async with asyncio.timeout(10):
        await world.took.wait()


async def test_a_leader_that_fell_silent_is_replaced(world: World, elector: Elector) -> None:
    world.up.add("a")
    world.heard["a"] = world.time
    await considered(world, elector)
    assert not world.took.is_set()
    world.time += 2 * SILENCE_SECONDS
    elector.wake()
    async with asyncio.timeout(10):
        await world.took.wait()


async def test_a_leader_that_another_voter_reaches_stays(world: World, elector: Elector) -> None:
    world.heard["a"] = world.time
    world.c_reaches = True
    await considered(world, elector)
    assert not world.took.is_set()


async def taken_over(world: World, elector: Elector) -> None:
    """Node a resigned, and b takes over."""
    assert elector.leader is not None
    await world.log.resign(elector.leader.term)
    world.time += 2 * START_SECONDS
    elector.wake()
    async with asyncio.timeout(10):
        await world.took.wait()


async def test_who_is_shown_to_lead_before_its_takeover_is_answered_does_not_resign(
    world: World, elector: Elector
) -> None:
    await taken_over(world, elector)
    first = await world.log.leader()
    await asyncio.sleep(0.05)
    assert first is not None
    assert await world.log.leader() == elector.leader == first
    assert elector.leads() == "b"


async def test_a_node_that_cannot_follow_the_log_gives_back_the_leadership_that_it_is_handed(
    world: World, elector: Elector
) -> None:
    assert elector.leader is not None
    world.behind = True
    await world.log.hand_over(elector.leader.term, "b", "command")
    async with asyncio.timeout(10):
        await world.took.wait()
    await eventually(lambda: elector.leader is None)
    assert await world.log.leader() is None


async def test_g6_who_takes_over_leads_only_after_applying_through_the_logs_end(world: World, elector: Elector) -> None:
    assert elector.leader is not None
    await world.log.append(elector.leader.term, 1, b"the last word of a")
    world.applied.clear()
    await taken_over(world, elector)
    await eventually(lambda: world.reached == [1])
    assert not elector.active
    assert elector.leads() == ""
    world.applied.set()
    await eventually(lambda: elector.leads() == "b")


async def test_a_leader_that_cannot_hand_over_to_the_preferred_node_goes_on_and_tries_again(
    world: World, elector: Elector
) -> None:
    await taken_over(world, elector)
    world.in_step = "c"
    async with asyncio.timeout(10):
        while world.flushes < 2:
            world.heard["c"] = world.time = world.time + PREFERRED_AFTER_SECONDS
            elector.wake()
            await asyncio.sleep(0.01)
    assert elector.leads() == "b"


async def test_a_leader_whose_append_was_refused_resigns_as_soon_as_the_log_answers(
    world: World, elector: Elector, monkeypatch: pytest.MonkeyPatch
) -> None:
    await taken_over(world, elector)
    assert elector.leader is not None
    term = elector.leader.term
    tries = 0
    resign = world.log.resign

    async def unanswered(term: int) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise LogUnavailable("no majority of etcd answered")
        await resign(term)

    monkeypatch.setattr(world.log, "resign", unanswered)
    world.deposed.set()
    async with asyncio.timeout(10):
        async for leader in world.log.leaders():
            if leader is None or leader.term != term:
                break
    assert tries == 3


async def test_g2_a_leader_appends_only_once_it_knows_who_votes_since_it_took_over(
    world: World, elector: Elector
) -> None:
    asked, known = asyncio.Event(), asyncio.Event()

    async def prepare() -> None:
        asked.set()
        await known.wait()

    elector.prepare = prepare
    await taken_over(world, elector)
    await asked.wait()
    assert not elector.active
    known.set()
    await eventually(lambda: elector.active)


async def test_g1_a_leader_that_stands_down_leads_no_more_until_it_stands_up(world: World, elector: Elector) -> None:
    await taken_over(world, elector)
    await eventually(lambda: elector.active)
    elector.stand_down()
    assert elector.leads() == ""
    async with asyncio.timeout(10):
        async for leader in world.log.leaders():
            if leader is None:
                break
    assert not elector.active
    world.time += 2 * START_SECONDS
    for _ in range(5):
        await considered(world, elector)
    await asyncio.sleep(0.05)
    assert await world.log.leader() is None
    elector.stand_up()
    await eventually(lambda: elector.leads() == "b")


async def test_g1_who_is_given_leadership_while_standing_down_gives_it_up(world: World, elector: Elector) -> None:
    elector.stand_down()
    assert elector.leader is not None
    given = await world.log.hand_over(elector.leader.term, "b", "command")
    assert given is not None
    async with asyncio.timeout(10):
        async for leader in world.log.leaders():
            if leader is None or leader.term > given.term:
                break
    assert not elector.active


async def test_what_is_taken_after_standing_down_was_decided_is_not_taken(world: World, elector: Elector) -> None:
    """The decision to take over may be made, and the turn be waited for, when the catalogue is found to be odd."""
    world.heard["a"] = world.time
    slept = world.sleep

    async def stand_down_meanwhile(seconds: float) -> None:
        await slept(seconds)
        elector.stand_down()

    elector._clock.sleep = stand_down_meanwhile  # type: ignore[method-assign]
    await considered(world, elector)
    await asyncio.sleep(0.05)
    assert not world.took.is_set()
