"""The leader's end of the log: batches in, entries out, one append in flight (group commit)."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable

import msgspec
import structlog

from onefold.core import wire
from onefold.core.messages import Problem
from onefold.core.model import COMMANDS_MAX, Batch, Command, Entry, Move, Origin, Pack, Put
from onefold.errors import LogUnavailable, OperatorError, PeerGone
from onefold.node.hold import Holder
from onefold.node.measure import Timings
from onefold.ports import Log, Objects

PACK_BYTES_MAX = 4 << 20
"""Contents in one pack, more or less: large enough to spread one fsync over many files, small enough to overlap with
the next pack's reading."""
BATCH_BYTES_MAX = 6 << 20
"""Of one batch with its contents. Peers take frames of 8 MiB: what is larger could never be forwarded or held."""
COMMAND_BYTES = 160
"""Of one command in a pack, with the key of its content, beside what varies: never less than it really is."""
RETRY_SECONDS = 0.05

log = structlog.get_logger()


class Proposal(msgspec.Struct, frozen=True):
    """A batch on its way into the log, with the small contents that it names. Sending it again is safe."""

    batch: Batch
    contents: dict[bytes, bytes]


def weight(command: Command) -> int:
    """The bytes of `command` in a batch, at most, without the small content that goes with it."""
    size = COMMAND_BYTES
    if isinstance(command, Put | Move):
        size += len(command.name)
    if isinstance(command, Put) and command.content is not None:
        size += len(command.content)
    return size


class Appender:
    """Appends what is submitted, while its node leads.

    A batch submitted here may still fail to get into the log (deposed, crashed). Its author sends it again until it
    sees the batch in the log; the catalogue answers a resent batch with its first outcome.
    """

    def __init__(
        self,
        replicated: Log,
        holder: Holder,
        objects: Objects,
        expect: Callable[[bytes, Pack], None],
        committed: Callable[[int, Entry, Pack], None],
    ) -> None:
        """`expect(digest, pack)` is called before an append that names a pack by its digest; `committed(index, entry,
        pack)`, in order, for each entry that is known to be in the log."""
        self._log = replicated
        self._holder = holder
        self._objects = objects
        self._expect = expect
        self._committed = committed
        self._queue: deque[Proposal] = deque()
        self._waiting: set[Origin] = set()
        self._wake = asyncio.Event()
        self._permitted = asyncio.Event()
        self._permitted.set()
        self._problem: Problem | None = None
        self.timings = Timings()
        """From when a pack was taken up until it was committed."""

    @property
    def waiting(self) -> int:
        """How many batches are to be appended next."""
        return len(self._queue)

    def permit(self, permitted: bool) -> None:
        """Whether anything may be appended just now; what is submitted meanwhile waits."""
        if permitted:
            self._permitted.set()
        else:
            self._permitted.clear()

    def submit(self, proposal: Proposal) -> None:
        """Queue a batch; the same batch queued already is not queued again."""
        if proposal.batch.origin not in self._waiting:
            self._waiting.add(proposal.batch.origin)
            self._queue.append(proposal)
            self._wake.set()

    def problems(self) -> list[Problem]:
        """What keeps the next entry out of the log."""
        return [self._problem] if self._problem is not None else []

    async def lead(self, term: int, head: int) -> None:
        """Append as leader of `term`, whose log ends at `head`; returns when another term has begun."""
        clock = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                while self._queue:
                    await self._permitted.wait()
                    pack = self._next_pack()
                    since = clock.time()
                    if not await self._append(term, head + 1, pack):
                        return
                    self.timings.add(clock.time() - since)
                    head += 1
                    self._waiting.difference_update(batch.origin for batch in pack.batches)
                self._wake.clear()
        finally:
            self._problem = None
            self._queue.clear()
            self._waiting.clear()
            self._wake.clear()

    def _next_pack(self) -> Pack:
        batches: list[Batch] = []
        contents: dict[bytes, bytes] = {}
        commands = size = 0
        while self._queue:
            proposal = self._queue[0]
            more = sum(map(len, proposal.contents.values())) + sum(map(weight, proposal.batch.commands))
            commands += len(proposal.batch.commands)
            if batches and (size + more > PACK_BYTES_MAX or commands > COMMANDS_MAX):
                break
            size += more
            batches.append(proposal.batch)
            contents.update(proposal.contents)
            self._queue.popleft()
        return Pack(tuple(batches), contents)

    async def _append(self, term: int, index: int, pack: Pack) -> bool:
        """Whether `pack` is now entry `index`; False when `term` no longer leads."""
        data = wire.encode_pack(pack)
        entry = wire.entry_for(data, term, secrets.token_bytes(8))
        encoded = wire.encode_entry(entry)
        if entry.pack is None:
            self._expect(entry.digest, pack)
        while entry.pack is None:
            try:
                await self._holder.hold(entry.digest, entry.size, data, self._keep(entry.digest, data))
                break
            except (PeerGone, OperatorError) as error:  # no majority, or our own disk is full
                log.warning("waiting for a majority to hold a pack", error=str(error))
                self._problem = Problem(error.what, "", error.fix)
                await asyncio.sleep(RETRY_SECONDS)
        self._problem = None
        while True:
            try:
                answer = await self._log.append(term, index, encoded)
            except LogUnavailable as error:
                log.warning("append unanswered, trying again", index=index, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if answer.committed:
                self._committed(index, entry, pack)
                return True
            log.info("append refused", index=index, term=term, leads=answer.term, head=answer.head)
            return False

    def _keep(self, digest: bytes, data: bytes) -> Callable[[], asyncio.Future[None]]:
        return lambda: asyncio.ensure_future(asyncio.to_thread(self._objects.put, digest, data))
