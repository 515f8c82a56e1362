"""The station that gives and takes seats: only while its node leads, until nothing is left to do, from anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from onefold.core.members import leave
from onefold.core.roster import Roster, RosterMember, Standing
from onefold.core.seats import Listed
from onefold.errors import OperatorError
from onefold.seating import Seating

URLS = {name: f"https://{name}" for name in "abc"}


class World:
    """The roster and etcd's members, in memory. `refuses`: etcd promotes nobody."""

    def __init__(self, roster: Roster, voting: str) -> None:
        self.standing = Standing(roster, 1)
        self.members = {URLS[name]: Listed(ord(name), URLS[name], False) for name in voting}
        self.refuses = False
        self.calls: list[str] = []

    async def read(self) -> Standing:
        return self.standing

    async def replace(self, roster: Roster, revision: int) -> bool:
        assert revision == self.standing.revision
        self.standing = Standing(roster, revision + 1)
        return True

    async def follow(self) -> AsyncIterator[Standing]:
        yield self.standing

    async def close(self) -> None:
        """Nothing is open."""

    async def listed(self) -> list[Listed]:
        return list(self.members.values())

    async def add_learner(self, peer_url: str) -> None:
        self.calls.append(f"add {peer_url}")
        self.members[peer_url] = Listed(ord(peer_url[-1]), peer_url, True)

    async def promote(self, id: int) -> None:
        self.calls.append(f"promote {chr(id)}")
        if self.refuses:
            raise OperatorError("etcd does not let its learner vote yet", "wait")
        self.members[URLS[chr(id)]] = Listed(id, URLS[chr(id)], False)

    async def remove(self, id: int) -> None:
        self.calls.append(f"remove {chr(id)}")
        del self.members[URLS[chr(id)]]


def seated(*names: str) -> tuple[RosterMember, ...]:
    return tuple(RosterMember(name, f"{name}:7400", seated=True) for name in names)


class Scene:
    """A station on node a, which leads as long as `leads`; everybody's disks are at `durable`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.leads = True
        self.durable = 5
        self.handed_over = 0
        self.seating = Seating(
            "a",
            world,
            world,
            lambda roster: URLS,
            lambda: self.leads,
            lambda: dict.fromkeys("abc", self.durable),
            lambda: 5,
            self._hand_over,
        )

    async def _hand_over(self) -> None:
        self.handed_over += 1
        self.leads = False
        raise OperatorError("another one leads by now", "")

    async def looked(self) -> None:
        """The station has had one look, and whatever followed from it."""
        await asyncio.wait_for(self.seating.look(), 10)


async def test_who_joined_is_added_promoted_and_seated_in_one_go() -> None:
    world = World(Roster(members=(*seated("a"), RosterMember("b", "b:7400"))), "a")
    await Scene(world).looked()
    assert world.calls == ["add https://b", "promote b"]
    assert world.standing.roster.members[1].seated


async def test_nobody_is_promoted_before_the_disks_have_what_was_there() -> None:
    world = World(Roster(members=(*seated("a"), RosterMember("b", "b:7400"))), "a")
    scene = Scene(world)
    scene.durable = 4
    await scene.looked()
    assert world.calls == ["add https://b"]
    scene.durable = 5
    await scene.looked()
    assert world.standing.roster.members[1].seated


async def test_what_etcd_refuses_is_a_problem_until_it_does_not() -> None:
    world = World(Roster(members=(*seated("a"), RosterMember("b", "b:7400"))), "a")
    scene = Scene(world)
    world.refuses = True
    await scene.looked()
    assert [problem.what for problem in scene.seating.problems()] == ["etcd does not let its learner vote yet"]
    world.refuses = False
    await scene.looked()
    assert scene.seating.problems() == []
    assert world.standing.roster.members[1].seated


async def test_who_leaves_is_out_of_etcd_then_of_the_roster() -> None:
    world = World(leave(Roster(members=seated("a", "b", "c")), "c"), "abc")
    await Scene(world).looked()
    assert [member.name for member in world.standing.roster.members] == ["a", "b"]
    assert world.calls == ["remove c"]


async def test_a_leader_that_leaves_hands_over() -> None:
    world = World(leave(Roster(members=seated("a", "b")), "a"), "ab")
    scene = Scene(world)
    await scene.looked()
    assert scene.handed_over == 1
    assert len(world.standing.roster.members) == 2


async def test_who_does_not_lead_does_nothing_until_it_does() -> None:
    world = World(Roster(members=(*seated("a"), RosterMember("b", "b:7400"))), "a")
    scene = Scene(world)
    scene.leads = False
    running = asyncio.create_task(scene.seating.run())
    try:
        for _ in range(20):
            await asyncio.sleep(0)
        assert world.calls == []
        scene.leads = True
        scene.seating.wake()
        async with asyncio.timeout(10):
            while not world.standing.roster.members[1].seated:  # noqa: ASYNC110 - the world has no event
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
