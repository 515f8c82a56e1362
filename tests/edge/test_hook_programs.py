"""Real programs, run as hooks: what they are told, how they end, and what is said of that."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest
import uvloop

from onefold.core.hooks import Placed
from onefold.core.messages import HookRun
from onefold.core.paths import RelPath
from onefold.edge import hooks as edge
from onefold.edge.hooks import Hook, HookPrograms
from onefold.errors import BadSetting

SHELL = "/bin/sh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


class Given:
    """One hook, and what came in place for it."""

    def __init__(self, folder: Path, script: str, timeout: float = 30.0, match: tuple[str, ...] = ("*",)) -> None:
        self.folder = folder
        self.hook = Hook("h", match, (SHELL, "-c", script), 0.5, timeout)
        self.programs = self.opened()

    def opened(self) -> HookPrograms:
        return HookPrograms([self.hook], self.folder.parent / "hooks", self.folder, "web1")

    def change(self, *paths: bytes) -> None:
        self.programs.note([Placed(RelPath(path), False) for path in paths])
        self.programs.sort()

    def run(self, *paths: bytes) -> HookRun:
        """In an event loop as that of a node."""
        self.change(*(paths or (b"a",)))
        uvloop.run(self.programs.run("h", 12))
        return self.last()

    def last(self) -> HookRun:
        (state,) = self.programs.states()
        assert state.last is not None
        return state.last


def alive(pid_file: Path) -> bool:
    pid = int(pid_file.read_text())
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_program_is_told_what_changed_and_stands_in_the_folder(folder: Path) -> None:
    given = Given(folder, 'env -0 > ../told; cp "$ONEFOLD_PATHS_FILE" ../paths; pwd > ../stood; echo done')
    ran = given.run(b"a.conf", b"d/b\n\xff.conf")
    told = dict(item.split(b"=", 1) for item in (folder.parent / "told").read_bytes().split(b"\0") if item)
    assert told[b"ONEFOLD_PATHS"] == b"a.conf\nd/b\n\xff.conf"
    assert told[b"ONEFOLD_PATHS_COUNT"] == b"2"
    assert (told[b"ONEFOLD_HOOK"], told[b"ONEFOLD_NODE"], told[b"ONEFOLD_INDEX"]) == (b"h", b"web1", b"12")
    assert told[b"ONEFOLD_FOLDER"] == bytes(folder)
    assert (folder.parent / "paths").read_bytes() == b"a.conf\0d/b\n\xff.conf\0"
    assert (folder.parent / "stood").read_text().strip() == str(folder)
    assert (ran.code, ran.failure, ran.line, ran.paths) == (0, "", "done", 2)


def test_only_paths_that_match_are_told(folder: Path) -> None:
    given = Given(folder, "printenv ONEFOLD_PATHS", match=("*.conf", "!local.conf"))
    assert given.run(b"x", b"d/a.conf", b"local.conf").line == "d/a.conf"


def test_of_very_many_paths_the_environment_has_the_first_and_the_file_all(folder: Path) -> None:
    given = Given(folder, 'echo "$ONEFOLD_PATHS" | wc -l; tr -dc "\\000" < "$ONEFOLD_PATHS_FILE" | wc -c > ../all')
    ran = given.run(*(b"%0100d" % number for number in range(3000)))
    assert 500 < int(ran.line) < 3000
    assert int((folder.parent / "all").read_text()) == ran.paths == 3000


@pytest.mark.parametrize(
    ("script", "code", "failure", "line"),
    [
        ("echo first; echo 'no such host' >&2; exit 3", 3, "exit code 3", "no such host"),
        ("kill -9 $$", -9, "it was killed by SIGKILL", ""),
        ("printf '\\033[31mred\\n\\n  \\n'", 0, "", "\\x1b[31mred"),
    ],
)
def test_how_it_ended_is_said(folder: Path, script: str, code: int, failure: str, line: str) -> None:
    ran = Given(folder, script).run()
    assert (ran.code, ran.failure, ran.line) == (code, failure, line)


def test_a_program_that_is_not_there_is_a_failure_with_the_reason(folder: Path) -> None:
    given = Given(folder, "")
    given.hook = given.hook._replace(run=("/no/such/program",))
    given.programs = given.opened()
    ran = given.run()
    assert (ran.code, ran.failure) == (None, "/no/such/program cannot be run: No such file or directory")


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(folder: Path) -> None:
    given = Given(folder, "sleep 60 & echo $! > ../child; echo working; wait", timeout=0.5)
    ran = given.run()
    assert ran.failure == "it took more than 0.5 s and was ended"
    assert (ran.code, ran.line) == (None, "working")
    assert not alive(folder.parent / "child")
    assert not given.programs.waiting()


def test_one_that_does_not_want_to_end_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "END_SECONDS", 0.2)
    given = Given(folder, "trap '' TERM; echo $$ > ../pid; while :; do sleep 0.1; done", timeout=0.5)
    ran = given.run()
    assert ran.failure
    assert not alive(folder.parent / "pid")


def test_much_output_blocks_nothing(folder: Path) -> None:
    ran = Given(folder, "head -c 10000000 /dev/zero | tr '\\000' x; echo; echo end").run()
    assert (ran.failure, ran.line) == ("", "end")


def test_what_a_program_leaves_running_is_not_waited_for(folder: Path) -> None:
    given = Given(folder, "sleep 30 & echo $! > ../child; echo started", timeout=20.0)
    ran = given.run()
    child = psutil.Process(int((folder.parent / "child").read_text()))
    assert child.is_running()
    child.kill()
    assert (ran.failure, ran.line) == ("", "started")


def test_when_the_node_ends_the_program_does_and_its_changes_wait(folder: Path) -> None:
    given = Given(folder, "echo $$ > ../pid; echo > ../begun; exec sleep 60")
    os.mkfifo(folder.parent / "begun")
    given.change(b"a")

    async def run_and_end() -> None:
        running = asyncio.ensure_future(given.programs.run("h", 1))
        await asyncio.to_thread((folder.parent / "begun").read_bytes)
        (state,) = given.programs.states()
        assert state.running
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    uvloop.run(run_and_end())
    assert not alive(folder.parent / "pid")
    assert list(given.programs.waiting()) == ["h"]
    assert list(given.opened().waiting()) == ["h"]


def test_how_it_ran_last_is_known_after_a_restart(folder: Path) -> None:
    given = Given(folder, "echo bad; exit 1")
    ran = given.run()
    again = given.opened()
    (state,) = again.states()
    assert state.last == ran
    again.close()


def test_without_changes_nothing_is_run(folder: Path) -> None:
    given = Given(folder, "touch ../ran")
    uvloop.run(given.programs.run("h", 1))
    assert not (folder.parent / "ran").exists()
    given.programs.doubt()
    uvloop.run(given.programs.run("h", 1))
    assert (folder.parent / "ran").exists()
    assert given.last().paths == 0


def test_what_is_no_pattern_is_refused_in_one_sentence(folder: Path) -> None:
    with pytest.raises(BadSetting, match=r"`hooks.match` of h holds '!', which is no pattern"):
        Given(folder, "", match=("*.conf", "!"))
