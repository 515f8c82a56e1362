"""Large content before it is proposed: held by a majority; and files that never rest, taken from copies."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable

import structlog

from onefold.core.messages import Problem
from onefold.core.model import Command, Kind, Observed, Present, Put
from onefold.core.paths import RelPath, show
from onefold.errors import ContentMismatch, OnefoldError, OperatorError, PeerError
from onefold.node.due import RESTLESS_SECONDS
from onefold.node.fetch import chunks
from onefold.node.given import Identity, Ports
from onefold.node.hold import Holder
from onefold.node.look import remembered
from onefold.ports import CHANGING, LARGE, Spawn

RETRY_SECONDS = 1.0

log = structlog.get_logger()


class LargeContents:
    """Contents that are too large for a pack: one hold or copy at a time for each path, which is looked at again then.

    Invariant: only content that a majority holds, or that the base has already, need not be held (G2).
    """

    def __init__(
        self, who: Identity, ports: Ports, holder: Holder, look_at: Callable[[RelPath], None], spawn: Spawn
    ) -> None:
        """`look_at(path)`: what stands there can be proposed now, or must be looked at again."""
        self._root = who.root
        self._copies = who.copies
        self._quiet_seconds = who.quiet_seconds
        self._base = ports.base
        self._scanner = ports.scanner
        self._objects = ports.objects
        self._clock = ports.clock
        self._holder = holder
        self._look_at = look_at
        self._spawn = spawn
        self._held: set[bytes] = set()  # in this term; another one has another set
        self._holding: dict[RelPath, asyncio.Task[None]] = {}
        self._copied: dict[RelPath, Present] = {}
        self._unheld: dict[RelPath, Problem] = {}  # what could not be held, and is tried again
        self._restless: dict[RelPath, float] = {}  # files that changed while they were held: since when
        self.lately: dict[RelPath, Present] = {}
        """What was seen where content is held by now, and not in the log yet: it need not be read again."""
        self.serving: dict[bytes, RelPath] = {}
        """Content of files here that voters may ask for before its entry is in the log."""

    @property
    def busy(self) -> bool:
        """Whether anything is being held or copied."""
        return bool(self._holding)

    def problems(self) -> list[Problem]:
        """What cannot be held, as long as that is being tried."""
        return [problem for path, problem in self._unheld.items() if path in self._holding]

    def term_changed(self) -> None:
        """Another term has begun, with which voters may let go of what they held: it is held again when proposed."""
        self._held = set()

    def below(self, directory: RelPath) -> list[RelPath]:
        """The paths in `directory` that will be looked at once their content is held or copied."""
        return [path for path in self._holding if path.below(directory)]

    def must_be_held(self, path: RelPath, o: Present) -> bool:
        """Whether `o` is new content that no majority holds yet; has it held, and looked at again then."""
        if o.content in self._held:
            return False
        row = self._base.lookup(path) or self._base.by_inode(o.stat.ino, o.stat.btime_ns)
        if row is not None and row.content == o.content:
            return False
        if path not in self._holding:
            now = self._clock.now()
            restless = now - self._restless.get(path, now) >= RESTLESS_SECONDS
            self._holding[path] = self._spawn(self._copy(path) if restless else self._hold(path, o))
        return True

    def copy(self, path: RelPath) -> bool:
        """Take a version of a file that never rests from a copy of it; whether that was begun."""
        if path in self._holding:
            return False
        self._holding[path] = self._spawn(self._copy(path))
        return True

    def or_copy(self, path: RelPath, o: Observed) -> Observed:
        """`o`, or instead of it, once, the version that was taken from a copy of that file."""
        copy = self._copied.pop(path, None)
        return copy if copy is not None and _is_later_state_of(o, copy) else o

    def landed(self, path: RelPath, command: Command) -> None:
        """What was observed at `path` is in the log by `command`, or rejected."""
        self.lately.pop(path, None)
        if isinstance(command, Put) and command.content is not None:
            self._held.discard(command.content)
            self.serving.pop(command.content, None)

    async def _hold(self, path: RelPath, o: Present) -> None:
        async def own() -> None:
            await asyncio.to_thread(
                self._objects.receive, o.content, o.stat.size, chunks(os.path.join(self._root, path))
            )

        since = self._clock.now()
        self.serving[o.content] = path
        held = self._held
        try:
            await self._holder.hold(o.content, o.stat.size, None, own)
            held.add(o.content)
            self.lately[path] = o
            self._restless.pop(path, None)
            self._unheld.pop(path, None)
        except (PeerError, ContentMismatch, OSError, OperatorError) as error:
            self.serving.pop(o.content, None)
            self._unheld.pop(path, None)
            now = self._scanner.observe(path, remembered(path, o), False)
            if now is LARGE:  # it was written to meanwhile
                log.info("a file changed before it was held", path=show(path))
                self._restless.setdefault(path, since)
                await self._clock.sleep(self._quiet_seconds)
            else:
                self._restless.pop(path, None)
                if isinstance(now, Present) and now.stat == o.stat:
                    log.warning("content is not held yet", path=show(path), error=str(error))
                    self._unheld[path] = _problem(error, path)
                    await self._clock.sleep(RETRY_SECONDS)
        finally:
            del self._holding[path]
        self._look_at(path)

    async def _copy(self, path: RelPath) -> None:
        """Make a copy of the file, and of that an object of ours."""
        copy = self._copies / secrets.token_hex(8)
        self._restless.pop(path, None)
        held = self._held
        try:
            o = await asyncio.to_thread(self._scanner.observe_snapshot, path, copy)
            if isinstance(o, Present) and o.kind is Kind.FILE:
                if o.data is None:
                    await asyncio.to_thread(self._objects.receive, o.content, o.stat.size, chunks(copy))
                    await self._holder.hold(o.content, o.stat.size, None, _nothing)
                    held.add(o.content)
                self._copied[path] = o
        except (PeerError, ContentMismatch, OSError, OperatorError) as error:
            log.warning("a copy of a restless file could not be taken", path=show(path), error=str(error))
        finally:
            copy.unlink(missing_ok=True)
            del self._holding[path]
        self._look_at(path)


def _problem(error: OnefoldError | OSError, path: RelPath) -> Problem:
    if isinstance(error, OnefoldError):
        return Problem(error.what, show(path), error.fix)
    return Problem(f"it cannot be read ({error.strerror})", show(path), "it is tried again by itself")


def _is_later_state_of(o: Observed, copy: Present) -> bool:
    """Whether `o` is the file that `copy` is a copy of, and is to be proposed as that: it does not rest yet."""
    return o is CHANGING or (isinstance(o, Present) and o.data is None and o.stat.same_file(copy.stat))


async def _nothing() -> None:
    """The object is made already."""
