"""A node's copy of the roster: what the cluster says holds here, whatever becomes of the copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from onefold import roster_copy as copies
from onefold.core.roster import Roster, RosterMember, Standing
from onefold.roster import load, save
from onefold.roster_copy import RosterCopy

ONE = Roster(members=(RosterMember("web1", "10.0.0.1:7400", seated=True),))
REVOKED = Roster(members=ONE.members, revoked=("b1",))


class Cluster:
    """`ports.RosterStore` that says `told`, and again whenever it is asked."""

    def __init__(self, told: Roster) -> None:
        self.told = told

    async def read(self) -> Standing:
        return Standing(self.told, 1)

    async def replace(self, roster: Roster, revision: int) -> bool:
        return False

    async def follow(self) -> AsyncIterator[Standing]:
        yield Standing(self.told, 1)
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is open."""


async def test_g8_a_roster_that_cannot_be_kept_holds_all_the_same_and_is_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, ONE)
    heard: list[Roster] = []
    copy = RosterCopy(tmp_path, Cluster(REVOKED), heard.append)
    (tmp_path / ".roster.json.new").mkdir()  # in the way of the next copy
    monkeypatch.setattr(copies, "RETRY_SECONDS", 0.01)
    following = asyncio.create_task(copy.run())
    async with asyncio.timeout(10):
        while copy.problem is None:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.001)
    assert heard == [REVOKED]
    assert copy.roster == REVOKED
    assert "cannot keep its copy of the cluster's roster" in copy.problem.what
    assert load(tmp_path) == ONE
    (tmp_path / ".roster.json.new").rmdir()
    async with asyncio.timeout(10):
        while copy.problem is not None:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.001)
    assert load(tmp_path) == REVOKED
    assert heard == [REVOKED]
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def test_g2_a_refreshed_roster_is_not_replaced_by_what_was_told_before(tmp_path: Path) -> None:
    save(tmp_path, Roster())
    heard: list[Roster] = []
    told = asyncio.Event()

    class Late(Cluster):
        async def read(self) -> Standing:
            return Standing(REVOKED, 2)

        async def follow(self) -> AsyncIterator[Standing]:
            yield Standing(ONE, 1)
            told.set()
            await asyncio.Event().wait()

    copy = RosterCopy(tmp_path, Late(REVOKED), heard.append)
    await copy.refresh()
    following = asyncio.create_task(copy.run())
    await told.wait()
    assert heard == [REVOKED]
    assert copy.roster == load(tmp_path) == REVOKED
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
