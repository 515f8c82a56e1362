"""A node that stands by: what it says to whom, what it waits for, and how it comes to that."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peers import free_port

from onefold import disk, run
from onefold.admin import Client
from onefold.certify import certify_node, open_authority
from onefold.claim import check_standing, claim, locked_folder
from onefold.config import Config, load
from onefold.core.messages import STANDBY, Ask, Cluster, Problem, Wait
from onefold.core.wire import RULES
from onefold.edge.tls import client_context, peer_name, server_context
from onefold.edge.transfer import PeerNetwork
from onefold.errors import Bug, DiskTrouble, OperatorError, PeerAway
from onefold.pulse import Pulse
from onefold.standby import Contexts, stand_by, whats_wrong

FULL = Problem("the disk is full", "", "free space")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Config, Config]:
    """The settings of two members, with their certificates; each has its folder."""
    found = [free_port() for _ in range(6)]  # of each, it and the next one; a member has five
    ports = {"a": found[0], "b": found[3]}
    authority = open_authority(tmp_path / "authority")
    configs = []
    for name in "ab":
        lines = [f'name = "{name}"', f'folder = "{tmp_path / name}"', 'folder_id = "www"']
        lines += [f'state = "{tmp_path / "state" / name}"']
        for other, port in ports.items():
            lines += ["[[members]]", f'name = "{other}"', f'address = "127.0.0.1:{port}"']
        file = tmp_path / f"{name}.toml"
        file.write_text("\n".join(lines) + "\n")
        (tmp_path / name).mkdir()
        (tmp_path / "state" / name).mkdir(parents=True)
        config = load(file)
        certify_node(authority, name, "127.0.0.1", "www", config.tls)
        configs.append(config)
    return configs[0], configs[1]


@pytest.fixture
def config(two: tuple[Config, Config]) -> Config:
    """A node that is set up."""
    os.close(claim(two[0]))
    return two[0]


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ------------------------------------------------------------------------------------------------ what is wrong


def test_nothing_is_wrong_with_a_node_that_can_work(config: Config) -> None:
    assert whats_wrong(config) is None
    assert sorted(os.listdir(config.state)) == ["folder-id", "lock", "tls"]  # the probe leaves nothing behind


def test_a_state_directory_without_room_is_told(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    found = whats_wrong(config)
    assert found is not None and "the disk is full" in found.what and "free space" in found.fix
    assert sorted(os.listdir(config.state)) == ["folder-id", "lock", "tls"]


def test_a_disk_without_inodes_is_told_from_one_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    lacking = os.statvfs_result((*real[:6], 0, 0, *real[8:10]))
    monkeypatch.setattr(os, "statvfs", lambda _: lacking)
    assert disk.lacks(tmp_path) == ("the disk has no inode left", "remove files from it, however small")
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:4], 0, *real[5:10])))
    assert disk.lacks(tmp_path) == ("the disk is full", "free space")


def test_a_folder_without_its_id_with_another_or_gone_is_told(config: Config) -> None:
    standing = check_standing(config)
    place = config.folder / ".onefold" / "id"
    place.write_text("other\n")
    with pytest.raises(DiskTrouble, match="belongs to the cluster other"):
        check_standing(config)
    place.unlink()
    with pytest.raises(DiskTrouble, match="as if its disk were not mounted"):
        check_standing(config)
    config.folder.rename(config.folder.with_name("away"))
    with pytest.raises(DiskTrouble, match="cannot be read"):
        check_standing(config)
    config.folder.mkdir()
    (config.folder / ".onefold").mkdir()
    place.write_text("www\n")
    assert check_standing(config) != standing  # another directory, though with the same id


# ------------------------------------------------------------------------------------------------ what it says


async def test_the_command_line_is_told_and_other_questions_are_for_other_nodes(config: Config) -> None:
    contexts = Contexts.of(config)
    waiting = asyncio.create_task(stand_by(config, contexts, FULL, 60.0))
    client = await connected(config)
    try:
        answer = await client.ask(Ask(), 5)
        assert isinstance(answer, Cluster)
        (report,) = answer.reports
        assert (report.node, report.role, report.problems) == ("a", STANDBY, (FULL,))
        with pytest.raises(PeerAway, match=r"a stands by \(the disk is full\)"):
            await client.ask(Wait(1), 5)
    finally:
        client.close()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await waiting is False


async def test_it_goes_on_once_nothing_is_wrong_and_tells_the_newest_problem(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = config.folder / ".onefold" / "id"
    place.unlink()
    waiting = asyncio.create_task(stand_by(config, Contexts.of(config), FULL, 0.0))
    client = await connected(config)
    try:
        while True:
            answer = await client.ask(Ask(), 5)
            assert isinstance(answer, Cluster)
            if "not mounted" in answer.reports[0].problems[0].what:
                break
    finally:
        client.close()
    assert not waiting.done()
    place.write_text("www\n")
    assert await waiting is True


async def test_peers_are_told_to_go_on_without_it(two: tuple[Config, Config]) -> None:
    a, b = two
    os.close(claim(a))
    os.close(claim(b))
    standing = asyncio.create_task(stand_by(b, Contexts.of(b), FULL, 60.0))
    peers = PeerNetwork(
        "a", "www", 1, RULES, "127.0.0.1", a.listen.port,
        {member.name: (member.address.host, member.address.port) for member in a.members},
        server_context(*a.tls), client_context(*a.tls), peer_name, None, None,  # type: ignore[arg-type]
    )  # fmt: skip
    await peers.start()
    try:
        async with asyncio.timeout(20):
            while not peers.problems():  # noqa: ASYNC110 (nothing tells of a new one)
                await asyncio.sleep(0.02)
        assert peers.problems() == [Problem("b stands by (the disk is full)", "", "free space")]
        assert not peers.connected()
    finally:
        await peers.close()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await standing is False


async def connected(config: Config) -> Client:
    while True:
        try:
            return await Client.connect(config, config.me, 5)
        except OperatorError:
            raise
        except Exception:  # it has just been started
            await asyncio.sleep(0.02)


# ------------------------------------------------------------------------------------------------ how it comes to that


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskTrouble),
        (OSError(errno.EIO, "Input/output error", "file"), DiskTrouble),
        (sqlite3.OperationalError("disk I/O error"), DiskTrouble),
        (DiskTrouble("the disk is full", "free space"), DiskTrouble),
        (Bug("an invariant"), Bug),
    ],
)
def test_what_a_person_must_mend_is_told_from_what_nobody_foresaw(error: Exception, kind: type[Exception]) -> None:
    assert type(run._named(error)) is kind
    assert type(run._named(OperatorError("a port is taken"))) is OperatorError  # which ends the node


def test_a_line_that_the_logs_disk_does_not_take_is_lost_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    run._Stderr().write("a line\n")


@pytest.mark.parametrize(("applied", "runs", "synced"), [(5, 0, 0), (6, 0, 1), (5, 1, 1)])
async def test_a_run_ended_in_order_only_once_all_that_was_put_into_the_folder_is_on_disk(
    applied: int, runs: int, synced: int
) -> None:
    told: list[str] = []
    process: Any = run._Process.__new__(run._Process)
    process.node = SimpleNamespace(
        applier=SimpleNamespace(index=applied), keeper=SimpleNamespace(durable=5), placer=SimpleNamespace(epoch=runs)
    )
    process._materialiser = SimpleNamespace(sync=lambda: told.append("synced"))
    process._base = SimpleNamespace(clean=False)
    await process.ended_in_order()
    assert told == ["synced"] * synced
    assert process._base.clean


def test_a_start_that_fails_leaves_nothing_open(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = Contexts.of(config)
    monkeypatch.setattr(run, "InotifyWatcher", no_room)
    before = os.listdir("/proc/self/fd")
    for _ in range(2):  # the second finds neither the folder locked nor a database in use
        with pytest.raises(OSError, match="No space left"):
            run._Process(config, contexts, False)
    assert os.listdir("/proc/self/fd") == before


def test_a_node_that_was_in_trouble_stands_by_and_begins_anew_until_it_ends(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    full, failed = (
        DiskTrouble("the disk is full", "free space", full=True),
        DiskTrouble("the disk is full", "free space"),
    )
    lives = iter([(False, full), (True, None), (False, failed), (False, full), (False, None)])

    def live(_: Config, __: Contexts, suspicious: bool, pulse: Pulse) -> tuple[bool, DiskTrouble | None]:
        told.append(suspicious)
        return next(lives)

    async def stood_by(_: Config, __: Contexts, problem: Problem, seconds: float) -> bool:
        told.append((problem, seconds))
        return True

    monkeypatch.setattr(run, "_live", live)
    monkeypatch.setattr(run, "stand_by", stood_by)
    monkeypatch.setattr(run, "_log_to_stderr", lambda _: None)
    assert run.main(config) == 0
    # It stands by for longer when that did not help; and suspects a disk that failed, not one that was only full.
    assert told == [False, (FULL, 2.0), False, False, (FULL, 4.0), True, (FULL, 8.0), True]


def test_the_folders_lock_is_free_while_nothing_of_it_is_open(config: Config) -> None:
    with locked_folder(config), pytest.raises(OperatorError, match="running on the folder"), locked_folder(config):
        raise AssertionError
    with locked_folder(config):
        assert socket.gethostname()
