"""One node process: the settings, the edges and the node put together."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import cast

import msgspec
import structlog
import uvloop

from onefold import linux
from onefold.config import Config
from onefold.core import wire
from onefold.core.catalogue import Catalogue
from onefold.core.model import Id, Kind, index_of
from onefold.edge.etcd_process import QUOTA_BYTES
from onefold.edge.journal import Base, CatalogueStore
from onefold.edge.log_etcd import EtcdLog
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.objects import ObjectStore
from onefold.edge.recent import RecentContents
from onefold.edge.scan import FolderScanner
from onefold.edge.strays import Strays
from onefold.edge.tls import TlsFiles, check_own, client_context, peer_name, server_context
from onefold.edge.transfer import PeerNetwork
from onefold.edge.watch import InotifyWatcher
from onefold.errors import Bug, OnefoldError, OperatorError
from onefold.node.given import Identity, Ports
from onefold.node.loop import Node, Renewed
from onefold.ports import PeerHandler

ETCD_CLIENT = 2
"""Of a node's four ports, that of its etcd member's clients."""

MACHINE = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
    )
)
"""What the operator of the machine mends, not a programmer."""

LEVELS = logging.getLevelNamesMapping()

log = structlog.get_logger()


class MonotonicClock:
    """`ports.Clock` by the machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def main(config: Config) -> int:
    """Run the node until SIGTERM or SIGINT; the exit status of the process.

    Raises `OnefoldError` when it cannot start, or cannot go on.
    """
    _log_to_stderr(config.log_level)
    sys.setswitchinterval(0.001)
    sys.setrecursionlimit(20_000)  # a path may hold 2,047 directories, and trees are walked by recursion
    gc.set_threshold(50_000, 20, 50)  # nearly all that we make are values without cycles
    try:
        return uvloop.run(_run(config))
    except Exception as error:
        raise _named(error) from None


async def _run(config: Config) -> int:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    while await _live(config, ending):
        log.info("starting anew")
    return 0


async def _live(config: Config, ending: asyncio.Event) -> bool:
    """One life of the node, until it is told to end; whether it must start anew instead. Raises what broke."""
    process = _Process(config)
    try:
        await process.start()
        node = asyncio.create_task(process.node.run(process.unplaced()))
        stop = asyncio.create_task(ending.wait())
        await asyncio.wait((node, stop), return_when=asyncio.FIRST_COMPLETED)
        if not node.done():
            await process.node.stop()
            node.cancel()
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)
        if _is_renewed((await asyncio.gather(node, return_exceptions=True))[0]):
            return True
        await process.ended_in_order()
        return False
    finally:
        await process.close()


def _is_renewed(error: BaseException | None) -> bool:
    """Whether the node ended in order to start anew; not if it was cancelled. Raises what broke it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Renewed):
        return True
    if error is None or isinstance(error, asyncio.CancelledError):
        return False
    raise error


def _named(error: Exception) -> OnefoldError:
    """`error`, which broke the node, as a sentence. The traceback of what nobody foresaw goes to the log."""
    if isinstance(error, OnefoldError) and not isinstance(error, Bug):
        return error
    if isinstance(error, OSError) and error.errno in MACHINE:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        return OperatorError(f"the node cannot go on: {error.strerror}{where}", "free space, or mend the machine")
    if isinstance(error, sqlite3.Error):
        return OperatorError(f"the node cannot go on: {error}", "free space for the state directory, or mend its disk")
    log.error("the node broke", exc_info=error)
    if isinstance(error, Bug):
        return error
    return OnefoldError(f"the node broke ({type(error).__name__}: {error})", "report this bug, with the log")


class _Process:
    """The edges of one node, opened in order and closed in reverse."""

    def __init__(self, config: Config) -> None:
        check_own(*config.tls, config.name)
        self._config = config
        root = os.fsencode(config.folder)
        state = config.state
        self._catalogue = CatalogueStore(state, config.folder_id, config.name)
        self._base = Base(state, config.folder_id)
        self._objects = ObjectStore(state / "objects")
        self._contents = RecentContents(state / "recent")
        self._strays = Strays(state / "strays")
        self._scanner = FolderScanner(root, config.small_bytes_max)
        self._materialiser = FolderMaterialiser(root, self._strays, state)
        self._watcher = InotifyWatcher(root)
        copies = state / "copies"
        copies.mkdir(mode=0o700, exist_ok=True)
        for leftover in copies.iterdir():
            leftover.unlink()
        self._log = self._open_log()
        incarnation = self._base.next_incarnation()
        self._peers = PeerNetwork(
            config.name,
            config.folder_id,
            incarnation,
            wire.RULES,
            config.listen.host,
            config.listen.port,
            {member.name: (member.address.host, member.address.port) for member in config.members},
            server_context(*config.tls),
            client_context(*config.tls),
            peer_name,
            self._objects,
            cast(PeerHandler, None),  # the node, which needs the peers first; heard by nobody before `start`
        )
        # Before the node is told whether it has joined.
        newest = notice_boot(self._base, self._catalogue.durable, linux.boot_id())
        stored = self._catalogue.load_state()
        who = Identity(
            name=config.name,
            incarnation=incarnation,
            preferred=config.preferred,
            writers=config.writers,
            root=root,
            copies=copies,
            quiet_seconds=config.quiet_ms / 1000,
            entries_kept=config.etcd.entries_kept,
            voters=tuple(member.name for member in config.voters),
            members=tuple(member.name for member in config.members),
        )
        ports = Ports(
            clock=MonotonicClock(),
            log=self._log,
            objects=self._objects,
            contents=self._contents,
            peers=self._peers,
            watcher=self._watcher,
            scanner=self._scanner,
            materialiser=self._materialiser,
            catalogue=self._catalogue,
            base=self._base,
            strays=self._strays,
        )
        catalogue = Catalogue(self._catalogue, stored.index, stored.digest, stored.files, stored.seeded)
        self.node = Node(who, ports, catalogue, self._base.joined, stored.durable)
        self.node.placer.not_before(newest)
        self._peers.handler = self.node.answerer

    def _open_log(self) -> EtcdLog:
        config = self._config
        if config.etcd.endpoints:
            addresses, tls = list(config.etcd.endpoints), config.etcd.tls
        else:
            own_first = sorted(config.voters, key=lambda member: member.name != config.name)
            addresses, tls = [member.address.plus(ETCD_CLIENT) for member in own_first], config.tls
        endpoints = [f"https://{address}" for address in addresses]
        files = TlsFiles(tls.ca, tls.cert, tls.key)
        ours = config.runs_etcd
        return EtcdLog(endpoints, config.folder_id, config.name, files, ours=ours, quota_bytes=QUOTA_BYTES)

    async def start(self) -> None:
        """Put the folder in order after whatever ended the last run, and open the doors."""
        done = self._materialiser.recover(self._base.intents(), self._base, self._catalogue)
        self.node.placer.recovered(done)
        await self._peers.start()

    def unplaced(self) -> Iterator[Id]:
        return self._base.differences(self._catalogue)

    async def ended_in_order(self) -> None:
        """Nothing is suspect at the next start, whatever becomes of the machine: all is on disk before that is said."""
        if self.node.applier.index > self.node.keeper.durable:
            await asyncio.to_thread(self._materialiser.sync)
        self._base.clean = True

    async def close(self) -> None:
        await self._peers.close()
        await self._log.close()
        self._watcher.close()
        self._materialiser.close()
        self._scanner.close()
        self._contents.close()
        self._base.close()
        self._catalogue.close()


def notice_boot(base: Base, durable: int, boot: str) -> int:
    """Note in `base` that the node runs in this `boot` of the machine. If it ran in another and did not end in order,
    the machine crashed: nothing that was written after the last sync (up to index `durable`) needs to be as it was
    written, neither in the folder nor in the base. So no difference between the two is an edit.

    The node joins anew: until its folder is what the catalogue says it proposes nothing, and what differs is kept
    aside. What the base has from after the sync is read again, whatever its stat says.

    Answers the index that the catalogue must have reached before the folder is touched: it may have lost more than the
    base, and the folder must not go back.
    """
    newest = 0
    if base.boot_id not in ("", boot) and not base.clean:
        doubtful = [id for id, version, _, _ in base.places() if index_of(version) > durable]
        log.warning("the machine crashed: what differs from the folder's version is kept aside", doubtful=len(doubtful))
        with base.transaction():
            base.joined = False
            for id in doubtful:
                row = base.get(id)
                if row is not None and row.kind is not Kind.DIRECTORY:
                    never_holds = msgspec.structs.replace(row.stat, mtime_ns=-1, ctime_ns=-1)
                    base.put(msgspec.structs.replace(row, stat=never_holds))
        newest = base.newest()
    base.boot_id = boot
    base.clean = False
    return newest


def _log_to_stderr(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
