"""Strays, for whoever may see to them: those of this node, and through it those of all others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
from blake3 import blake3

from onefold.core.messages import (
    AskStrays,
    Denied,
    DropStray,
    Message,
    ReadStray,
    RestoreStray,
    StrayPart,
    StrayRestored,
    StraysTold,
    StrayTold,
    Taken,
)
from onefold.core.model import Kind
from onefold.core.paths import RelPath, show
from onefold.core.request import MakeDirectory, Request, Write
from onefold.errors import BadPath, InTheWay, NotFound, PeerError, PeerRefused, Unavailable, UserError
from onefold.node.given import Identity, Ports
from onefold.node.write import Writer
from onefold.ports import Stray

TOLD_MAX = 5_000
"""A message must hold them: the newest are told."""
PART_BYTES_MAX = 1 << 20
ASK_SECONDS = 5.0
RESTORE_SECONDS = 60.0
AT_ONCE = 64
"""Files of a directory that are restored together."""

_DENIED: dict[str, type[UserError | Unavailable]] = {
    each.__name__: each for each in (NotFound, InTheWay, BadPath, Unavailable)
}

log = structlog.get_logger()


class Kept:
    """What was kept aside: seen, brought back, or dropped for ever."""

    def __init__(self, who: Identity, ports: Ports, writer: Writer, changed: Callable[[], None]) -> None:
        """`changed()`: there are fewer now."""
        self._me = who.name
        self._members = who.members
        self._strays = ports.strays
        self._peers = ports.peers
        self._writer = writer
        self._changed = changed

    # -------------------------------------------------------------------------------------------- of the cluster

    async def everywhere(self) -> tuple[list[StraysTold], list[str]]:
        """What every node tells that answers; and those that do not."""
        others = [node for node in self._members if node != self._me]
        answers = await asyncio.gather(self.told(), *(self._told_by(node) for node in others))
        told = [answer for answer in answers if answer is not None]
        return told, sorted({self._me, *others} - {each.node for each in told})

    async def _told_by(self, node: str) -> StraysTold | None:
        try:
            answer = await self._peers.ask(node, AskStrays(), ASK_SECONDS)
        except PeerError as error:
            log.info("the strays of a node are not known", node=node, error=str(error))
            return None
        return answer if isinstance(answer, StraysTold) else None

    async def part(self, node: str, id: str, offset: int, length: int) -> StrayPart:
        """At most `length` bytes of a stray of `node`. Raises `NotFound`, `InTheWay` (a directory), `PeerError`."""
        if node == self._me:
            return await self.read(id, offset, length)
        answer = await self._ask(node, ReadStray(id, offset, length), ASK_SECONDS)
        if not isinstance(answer, StrayPart):
            raise PeerRefused(f"{node} did not give its stray {id}")
        return answer

    async def bring_back(self, node: str, id: str, to: RelPath | None) -> StrayRestored:
        """Write a stray of `node` to where it stood, or `to`. It is no stray then."""
        if node == self._me:
            return await self.restore(id, to)
        answer = await self._ask(node, RestoreStray(id, None if to is None else bytes(to)), RESTORE_SECONDS)
        if not isinstance(answer, StrayRestored):
            raise PeerRefused(f"{node} did not restore its stray {id}")
        return answer

    async def forget(self, node: str, id: str) -> None:
        """Drop a stray of `node` for ever."""
        if node == self._me:
            await self.drop(id)
        else:
            await self._ask(node, DropStray(id), ASK_SECONDS)

    async def _ask(self, node: str, message: Message, seconds: float) -> Message:
        if node not in self._members:
            raise NotFound(f"there is no node {node}", "see `onefold status`")
        answer = await self._peers.ask(node, message, seconds)
        if isinstance(answer, Denied):
            raise _DENIED.get(answer.error, InTheWay)(answer.what, answer.fix)
        return answer

    # -------------------------------------------------------------------------------------------- of this node

    async def told(self) -> StraysTold:
        strays = await asyncio.to_thread(self._strays.list)
        newest = strays[-TOLD_MAX:]
        told = tuple(StrayTold(s.id, bytes(s.path), s.kind, s.size, s.when, s.reason) for s in newest)
        return StraysTold(self._me, told, len(strays) - len(newest))

    async def read(self, id: str, offset: int, length: int) -> StrayPart:
        stray = await self._stray(id)
        if stray.kind is Kind.DIRECTORY:
            raise InTheWay(f"the stray {id} is a directory", "restore it, to another path if need be")
        if stray.kind is Kind.SYMLINK:
            data = os.fsencode(os.readlink(stray.file))
            return StrayPart(data[offset : offset + length], len(data))
        return await asyncio.to_thread(_part, stray.file, offset, min(length, PART_BYTES_MAX))

    async def restore(self, id: str, to: RelPath | None) -> StrayRestored:
        stray = await self._stray(id)
        path = stray.path if to is None else to
        index = version = 0
        for requests in await asyncio.to_thread(lambda: list(_levels(stray, path))):
            for first in range(0, len(requests), AT_ONCE):
                done = await asyncio.gather(
                    *(self._writer.do(request, file) for request, file in requests[first : first + AT_ONCE])
                )
                version = version or done[0].version
                index = max(index, *(each.index for each in done))
        await self.drop(id)
        log.info("a stray is restored", id=id, path=show(path))
        return StrayRestored(bytes(path), version, index, stray.size)

    async def drop(self, id: str) -> None:
        await asyncio.to_thread(self._strays.remove, id)
        self._changed()

    async def _stray(self, id: str) -> Stray:
        return await asyncio.to_thread(self._strays.find, id)

    async def answer(self, message: AskStrays | ReadStray | RestoreStray | DropStray) -> Message:
        """What a peer asks about the strays of this node."""
        try:
            return await self._answer(message)
        except (UserError, Unavailable) as error:
            return Denied(type(error).__name__, error.what, error.fix)

    async def _answer(self, message: AskStrays | ReadStray | RestoreStray | DropStray) -> Message:
        if isinstance(message, AskStrays):
            return await self.told()
        if isinstance(message, ReadStray):
            return await self.read(message.id, message.offset, message.length)
        if isinstance(message, RestoreStray):
            to = None if message.to is None else RelPath.parse(message.to)
            return await self.restore(message.id, to)
        await self.drop(message.id)
        return Taken()


def _part(file: Path, offset: int, length: int) -> StrayPart:
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return StrayPart(os.pread(fd, length, offset), os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _levels(stray: Stray, path: RelPath) -> Iterator[list[tuple[Request, Path | None]]]:
    """What must be written so that `stray` stands at `path`: first directories, one below the other, then the rest."""
    rest: list[tuple[Request, Path | None]] = []
    level = [(stray.file, path)]
    while level:
        directories: list[tuple[Request, Path | None]] = []
        below: list[tuple[Path, RelPath]] = []
        for file, where in level:
            if file.is_dir() and not file.is_symlink():
                directories.append((MakeDirectory(where, file.stat().st_mode & 0o777), None))
                below += [(child, where.child(os.fsencode(child.name))) for child in sorted(file.iterdir())]
            elif file.is_symlink():
                target = os.fsencode(os.readlink(file))
                rest.append((Write(where, Kind.SYMLINK, target, len(target), 0), None))
            else:
                seen = file.stat()
                digest = blake3(max_threads=1).update_mmap(file).digest()
                mode = seen.st_mode & 0o777
                rest.append((Write(where, Kind.FILE, digest, seen.st_size, seen.st_mtime_ns, mode), file))
        if directories:
            yield directories
        level = below
    yield rest
