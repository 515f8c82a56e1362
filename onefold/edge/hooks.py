"""The programs of hooks: each in a process group of its own, with a time limit, in the folder, told what changed.

A program that has ended successfully may leave others running, as one that starts a server does; one that takes too
long, or is under way when the node ends, is ended with all that it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pathspec
import structlog
from pathspec.patterns.gitignore import GitIgnorePatternError

from onefold.atomic import replace_file
from onefold.core.hooks import Placed
from onefold.core.messages import HookRun, HookState
from onefold.core.paths import show
from onefold.edge.hook_changes import HookChanges
from onefold.errors import BadSetting
from onefold.process import die_with

PATHS_BYTES_MAX = 64 << 10
"""Of paths in the environment: the kernel takes 128 KiB as one of its strings."""
NOT_PASSED_ON = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})
"""What systemd tells the service, and nobody else."""
TAIL_BYTES = 4096
LINE_CHARACTERS_MAX = 200
END_SECONDS = 2.0
"""From asking a program to end to killing it."""

log = structlog.get_logger()


class Hook(NamedTuple):
    """Run the program `run` when a path changed that one of the patterns `match` (as in .gitignore) matches, and no
    later pattern that begins with "!"."""

    name: str
    match: tuple[str, ...]
    run: tuple[str, ...]
    debounce_seconds: float
    timeout_seconds: float


class HookPrograms:
    """`ports.Hooks` with real programs."""

    def __init__(self, hooks: Sequence[Hook], directory: Path, folder: Path, node: str) -> None:
        """`directory` holds what must not be forgotten. Raises `BadSetting` for what is no pattern, `OSError`."""
        self._hooks = {hook.name: hook for hook in hooks}
        self._wants = {hook.name: _spec(hook).match_file for hook in hooks}
        self.debounces: Mapping[str, float] = {hook.name: hook.debounce_seconds for hook in hooks}
        self._changes = HookChanges(directory, os.fsencode(folder), list(self._hooks))
        self._folder = folder
        self._node = node
        self._waiting = {name for name in self._hooks if self._changes.waits(name)}
        self._running: set[str] = set()
        self._last = {name: _read(self._result(name)) for name in self._hooks}

    def close(self) -> None:
        self._changes.close()

    def doubt(self) -> None:
        """The machine failed: what had changed just before may not be known any more. So every hook is to be run."""
        for name in self._hooks:
            self._changes.doubt(name)
            self._waiting.add(name)

    def note(self, changes: Sequence[Placed]) -> None:
        self._changes.note(changes)

    def sort(self) -> Sequence[str]:
        found = self._changes.sort(self._wants)
        self._waiting.update(found)
        return found

    def waiting(self) -> Sequence[str]:
        return sorted(self._waiting)

    def states(self) -> Sequence[HookState]:
        return [HookState(name, name in self._running, name in self._waiting, self._last[name]) for name in self._hooks]

    async def run(self, name: str, index: int) -> None:
        hook = self._hooks[name]
        self._waiting.discard(name)
        work = await asyncio.to_thread(self._changes.begin, name)
        if work is None:
            return  # the run before took it along
        file, paths, count = work
        told = {
            "ONEFOLD_HOOK": name,
            "ONEFOLD_NODE": self._node,
            "ONEFOLD_FOLDER": str(self._folder),
            "ONEFOLD_INDEX": str(index),
            "ONEFOLD_PATHS": os.fsdecode(b"\n".join(_fitting(paths))),
            "ONEFOLD_PATHS_COUNT": str(count),
            "ONEFOLD_PATHS_FILE": str(file),
        }
        began, start = time.time(), time.monotonic()
        self._running.add(name)
        try:
            code, failure, line = await _run(hook, self._folder, told)
        except asyncio.CancelledError:
            self._changes.wait_again(name)
            self._waiting.add(name)
            raise
        finally:
            self._running.discard(name)
        ran = HookRun(round(began, 3), round(time.monotonic() - start, 3), count, code, line, failure)
        self._last[name] = ran
        replace_file(self._result(name), msgspec.json.encode(ran), 0o600)
        self._changes.end(name)
        tell = log.warning if failure else log.info
        tell("a hook was run", hook=name, paths=count, seconds=ran.seconds, failure=failure or None, line=line)

    def _result(self, name: str) -> Path:
        return self._changes.home(name) / "last.json"


async def _run(hook: Hook, folder: Path, told: dict[str, str]) -> tuple[int | None, str, str]:
    """Run the program to its end: its exit code, why that is a failure ("" if not), and the last line that it wrote."""
    with _Tail() as tail:
        try:
            child = await asyncio.create_subprocess_exec(
                *hook.run,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=tail.entrance,
                stderr=tail.entrance,
                cwd=folder,
                env={name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON} | told,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        except OSError as error:
            return None, f"{hook.run[0]} cannot be run: {error.strerror}", ""
        tail.handed_over()
        ended = asyncio.ensure_future(child.wait())
        try:
            in_time, _ = await asyncio.wait((ended,), timeout=hook.timeout_seconds)
        except asyncio.CancelledError:
            await _end(child.pid, ended)
            raise
        if not in_time:
            await _end(child.pid, ended)
            return None, f"it took more than {hook.timeout_seconds:g} s and was ended", tail.line()
        code = ended.result()
        return code, _failure(code), tail.line()


async def _end(group: int, ended: asyncio.Future[int]) -> None:
    """End the processes of `group`; whoever does not go is killed."""
    with contextlib.suppress(ProcessLookupError):  # none of them is left
        os.killpg(group, signal.SIGTERM)
    await asyncio.wait((ended,), timeout=END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    await ended


def _failure(code: int) -> str:
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""


class _Tail:
    """The end of what a program writes. It may write as much as it likes, and go on when nobody reads any more."""

    def __init__(self) -> None:
        self._exit, self.entrance = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._exit, False)
        self._end = b""
        self._open = {self._exit, self.entrance}

    def __enter__(self) -> _Tail:
        asyncio.get_running_loop().add_reader(self._exit, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._exit)
        for descriptor in self._open:
            os.close(descriptor)

    def handed_over(self) -> None:
        """The program has the entrance now: when nobody has it any more, that is the end."""
        self._open.remove(self.entrance)
        os.close(self.entrance)

    def line(self) -> str:
        """The last line that is not blank, for a person to read."""
        self._read()
        lines = [line for line in self._end.splitlines() if line.strip()]
        text = show(lines[-1].strip()) if lines else ""
        return text if len(text) <= LINE_CHARACTERS_MAX else text[: LINE_CHARACTERS_MAX - 1] + "…"

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._exit, TAIL_BYTES)
            except BlockingIOError:
                return
            if not part:
                asyncio.get_running_loop().remove_reader(self._exit)
                return
            self._end = (self._end + part)[-TAIL_BYTES:]


def _fitting(paths: Sequence[bytes]) -> Iterator[bytes]:
    """As many of `paths` as fit into the environment."""
    left = PATHS_BYTES_MAX
    for path in paths:
        left -= len(path) + 1
        if left < 0:
            return
        yield path


def _spec(hook: Hook) -> pathspec.GitIgnoreSpec:
    for pattern in hook.match:
        try:
            pathspec.GitIgnoreSpec.from_lines([pattern])
        except GitIgnorePatternError:
            raise BadSetting(
                f"`hooks.match` of {hook.name} holds {pattern!r}, which is no pattern", "write it as in .gitignore"
            ) from None
    return pathspec.GitIgnoreSpec.from_lines(hook.match)


def _read(result: Path) -> HookRun | None:
    """How a hook ran last, in an earlier life; None when that is not known (any more)."""
    try:
        return msgspec.json.decode(result.read_bytes(), type=HookRun)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
