"""One node process: the settings, the edges and the node put together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, cast

import msgspec
import structlog
import uvloop

from onefold import linux
from onefold.api.listener import listen, serve
from onefold.claim import check_standing, locked_folder
from onefold.config import ADMIN, Config
from onefold.core import wire
from onefold.core.catalogue import Catalogue
from onefold.core.messages import Problem
from onefold.core.model import Id, Kind, index_of
from onefold.disk import FULL
from onefold.edge.database import Database
from onefold.edge.etcd_process import QUOTA_BYTES
from onefold.edge.hooks import Hook, HookPrograms
from onefold.edge.journal import CATALOGUE, Base, CatalogueStore
from onefold.edge.log_etcd import EtcdLog
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.objects import ObjectStore
from onefold.edge.recent import RecentContents
from onefold.edge.scan import FolderScanner
from onefold.edge.strays import Strays
from onefold.edge.tls import check_own, peer_name
from onefold.edge.transfer import PeerNetwork
from onefold.edge.watch import InotifyWatcher
from onefold.errors import Bug, DiskTrouble, OnefoldError, OperatorError
from onefold.membership import Membership
from onefold.node.given import Identity, Ports
from onefold.node.loop import CatalogueGivenUp, Node, Renewed
from onefold.ports import PeerHandler
from onefold.pulse import Pulse, sentence
from onefold.roster import load, with_roster
from onefold.roster_copy import endpoints, store
from onefold.standby import Contexts, stand_by
from onefold.welcome import revive

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

FOLDER_CHECK_SECONDS = 1.0
STANDBY_SECONDS_MIN = 1.0
STANDBY_SECONDS_MAX = 16.0
"""How long a node stands by at least, doubled each time that it has not lived for a while in between."""
LIVED_SECONDS = 30.0

NO_PULSE = Pulse()

LEVELS = logging.getLevelNamesMapping()

log = structlog.get_logger()


class MonotonicClock:
    """`ports.Clock` by the machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def main(config: Config, pulse: Pulse = NO_PULSE) -> int:
    """Run the node until SIGTERM or SIGINT; the exit status of the process. `pulse`: for whoever wants to know that it
    is not hung.

    What only the machine's operator can mend is waited for (`standby`), and then all begins anew in this process.
    Raises `OnefoldError` when the node cannot start, or breaks.
    """
    _log_to_stderr(config.log_level)
    sys.setswitchinterval(0.001)
    sys.setrecursionlimit(20_000)  # a path may hold 2,047 directories, and trees are walked by recursion
    gc.set_threshold(50_000, 20, 50)  # nearly all that we make are values without cycles
    try:
        _check_certificates(config)
        contexts = Contexts.of(config)
        patience = STANDBY_SECONDS_MIN
        suspicious = False
        while True:
            begun = time.monotonic()
            config = with_roster(config, load(config.state))
            anew, trouble = _live(config, contexts, suspicious, pulse)
            suspicious = trouble is not None and (suspicious or not trouble.full)
            if anew:
                continue
            if trouble is None:
                return 0
            gc.collect()  # what broke may hold files of the disk that is to be mended
            lived = time.monotonic() - begun >= LIVED_SECONDS
            patience = STANDBY_SECONDS_MIN if lived else min(2 * patience, STANDBY_SECONDS_MAX)
            problem = Problem(trouble.what, "", trouble.fix)
            if not uvloop.run(_stand_by(config, contexts, problem, patience, pulse)):
                return 0
    except Exception as error:
        raise _named(error) from None


def _check_certificates(config: Config) -> None:
    """Raises `OperatorError` unless the others will take them. After too long a time off they are renewed."""
    try:
        check_own(*config.tls, config.name)
    except OperatorError:
        if config.fixed or not asyncio.run(revive(config)):
            raise
        log.info("the certificates of this node were over, and are renewed")
        check_own(*config.tls, config.name)


async def _stand_by(config: Config, contexts: Contexts, problem: Problem, seconds: float, pulse: Pulse) -> bool:
    with pulse.beating(lambda: f"stands by: {problem.what}"):
        return await stand_by(config, contexts, problem, seconds)


def _live(config: Config, contexts: Contexts, suspicious: bool, pulse: Pulse) -> tuple[bool, DiskTrouble | None]:
    """Run the node once: whether it must start anew at once, or what must be mended first. Raises what broke it.

    `suspicious`: a disk may have lost what was written to it before.
    """
    try:
        return uvloop.run(_run(config, contexts, suspicious, pulse)), None
    except Exception as error:
        named = _named(error)
        if not isinstance(named, DiskTrouble):
            raise named from None
        return False, DiskTrouble(named.what, named.fix, named.full)  # without what it holds by its traceback


async def _run(config: Config, contexts: Contexts, suspicious: bool, pulse: Pulse) -> bool:
    """One life of the node, until it is told to end; whether it must start anew instead. Raises what broke."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    given_up = False
    process = _Process(config, contexts, suspicious)
    try:
        await process.start()
        node = asyncio.create_task(process.node.run(process.unplaced()))
        stop = asyncio.create_task(ending.wait())
        watch = asyncio.create_task(process.watch_folder())
        roster = asyncio.create_task(process.membership.run())
        api = asyncio.create_task(process.serve_api())
        with pulse.beating(lambda: sentence(process.node.reporter.own())):
            await asyncio.wait((node, stop, watch, roster, api), return_when=asyncio.FIRST_COMPLETED)
        if stop.done() and not node.done() and not watch.done():
            await process.node.stop()
        for task in (node, stop, watch, roster, api):
            task.cancel()
        try:
            for end in await asyncio.gather(watch, node, roster, api, return_exceptions=True):
                _raise(end)
            await process.ended_in_order()
        except Renewed as end:
            given_up = isinstance(end, CatalogueGivenUp)
            return not ending.is_set()
        except Exception as error:
            if not (ending.is_set() and isinstance(_named(error), DiskTrouble)):
                raise
            log.warning("ended, but not in order", error=str(error))
        return False
    finally:
        await process.close()
        if given_up:
            Database.discard(config.state, CATALOGUE)


def _raise(end: object) -> None:
    """Raise what broke a task, unless it was only cancelled."""
    while isinstance(end, BaseExceptionGroup):
        end = end.exceptions[0]
    if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
        raise end


def _named(error: Exception) -> OnefoldError:
    """`error`, which broke the node, as a sentence. The traceback of what nobody foresaw goes to the log."""
    if isinstance(error, OnefoldError) and not isinstance(error, Bug):
        return error
    if isinstance(error, OSError) and error.errno in MACHINE:
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        what = f"the node cannot go on: {error.strerror}{where}"
        return DiskTrouble(what, "free space, or mend the machine", error.errno in FULL)
    if isinstance(error, sqlite3.Error):
        return DiskTrouble(f"the node cannot go on: {error}", "free space for the state directory, or mend its disk")
    log.error("the node broke", exc_info=error)
    if isinstance(error, Bug):
        return error
    return OnefoldError(f"the node broke ({type(error).__name__}: {error})", "report this bug, with the log")


class _Process:
    """The edges of one node, opened in order and closed in reverse."""

    def __init__(self, config: Config, contexts: Contexts, suspicious: bool) -> None:
        self._config = config
        self._suspicious = suspicious
        self._opened = contextlib.ExitStack()
        try:
            self._open(config, contexts)
        except BaseException:
            self._opened.close()
            raise

    def _open(self, config: Config, contexts: Contexts) -> None:
        keep = self._opened.enter_context
        root = os.fsencode(config.folder)
        state = config.state
        keep(locked_folder(config))
        self._standing = check_standing(config)
        self._catalogue = keep(contextlib.closing(CatalogueStore(state, config.folder_id, config.name)))
        self._base = keep(contextlib.closing(Base(state, config.folder_id)))
        self._objects = ObjectStore(state / "objects")
        self._contents = keep(contextlib.closing(RecentContents(state / "recent")))
        self._strays = Strays(state / "strays")
        self._scanner = keep(contextlib.closing(FolderScanner(root, config.small_bytes_max)))
        self._materialiser = keep(contextlib.closing(FolderMaterialiser(root, self._strays, state)))
        self._watcher = keep(contextlib.closing(InotifyWatcher(root)))
        copies = state / "copies"
        copies.mkdir(mode=0o700, exist_ok=True)
        for leftover in copies.iterdir():
            leftover.unlink()
        stored = self._catalogue.load_state()
        if not stored.index and not self._base.behind:
            self._base.behind = self._base.newest()  # somebody removed the catalogue
        in_order = notice_boot(self._base, stored.durable, linux.boot_id(), self._suspicious)
        incarnation = self._base.next_incarnation()  # with it, that this run has begun is on disk, too
        hooks = self._open_hooks(in_order) if config.hooks else None
        self._log = self._open_log()
        self._peers = PeerNetwork(
            config.name,
            config.folder_id,
            incarnation,
            wire.RULES,
            config.listen.host,
            config.listen.port,
            {member.name: (member.address.host, member.address.port) for member in config.members},
            contexts.server,
            contexts.client,
            peer_name,
            self._objects,
            cast(PeerHandler, None),  # the node, which needs the peers first; heard by nobody before `start`
        )
        who = Identity(
            name=config.name,
            incarnation=incarnation,
            preferred=config.preferred,
            writers=config.writers,
            root=root,
            copies=copies,
            quiet_seconds=config.quiet_ms / 1000,
            entries_kept=config.etcd.entries_kept,
            voters=tuple(member.name for member in config.seated),
            members=tuple(member.name for member in config.members),
            scrub_days=config.scrub_days,
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
            hooks=hooks,
        )
        catalogue = Catalogue(self._catalogue, stored.index, stored.digest, stored.files, stored.seeded)
        self.node = Node(who, ports, catalogue, self._base.joined, stored.durable, self._base.count())
        self._peers.handler = self.node.answerer
        self._rosters = store(config)
        self.membership = Membership(config, self._peers, self._log, self._rosters, self.node)
        self.node.problem_sources.append(self.membership.problems)
        self.node.answerer.certify = self.membership.certify

    def _open_hooks(self, in_order: bool) -> HookPrograms:
        config = self._config
        hooks = [
            Hook(hook.name, hook.match, hook.run, hook.debounce_ms / 1000, hook.timeout_seconds)
            for hook in config.hooks
        ]
        opened = HookPrograms(hooks, config.state / "hooks", config.folder, config.name)
        self._opened.enter_context(contextlib.closing(opened))
        if not in_order:
            opened.doubt()
        return opened

    def _open_log(self) -> EtcdLog:
        config = self._config
        urls, files = endpoints(config)
        ours = config.runs_etcd and config.me.seated
        return EtcdLog(urls, config.folder_id, config.name, files, ours=ours, quota_bytes=QUOTA_BYTES)

    async def start(self) -> None:
        """Put the folder in order after whatever ended the last run, and open the doors."""
        done = self._materialiser.recover(self._base.intents(), self._base, self._catalogue)
        self.node.placer.recovered(done)
        await self._peers.start()
        self._listener = listen(self._config.api)
        if self._listener is not None:
            self._opened.enter_context(self._listener)

    async def serve_api(self) -> None:
        """Serve the API until cancelled."""
        ask = functools.partial(self.node.answerer.answer, ADMIN)
        await serve(self._listener, self._config, ask, lambda: self.membership.copy.roster, self.node)

    def unplaced(self) -> Iterator[Id]:
        return self._base.differences(self._catalogue)

    async def ended_in_order(self) -> None:
        """Nothing is suspect at the next start, whatever becomes of the machine: all is on disk before that is said."""
        if self.node.applier.index > self.node.keeper.durable or self.node.placer.epoch:
            await asyncio.to_thread(self._materialiser.sync)
        self._base.clean = True

    async def watch_folder(self) -> None:
        """Raises `DiskTrouble` once the folder that was opened is not what stands at its path any more."""
        while True:
            await asyncio.sleep(FOLDER_CHECK_SECONDS)
            if check_standing(self._config) != self._standing or self._watcher.lost:
                raise DiskTrouble(
                    f"another directory stands at {self._config.folder}, or the folder was moved meanwhile",
                    "it is opened anew by itself",
                )

    async def close(self) -> None:
        await self._peers.close()
        await self._log.close()
        await self.membership.close()
        await self._rosters.close()
        # A thread of ours may still be at work by descriptors that are closed next.
        await asyncio.get_running_loop().shutdown_default_executor()
        self._opened.close()


def notice_boot(base: Base, durable: int, boot: str, suspicious: bool = False) -> bool:
    """Call it before the node is told whether it has joined. Answers whether all that the last life wrote is as it was
    written. `durable`: the index that the catalogue has so; `suspicious`: the last life ended because a disk failed.

    If the machine crashed, or a disk did, nothing that was written after the last sync needs to be as it was written,
    neither in the folder nor in the base. So no difference between the two is an edit: the node joins anew. Until its
    folder is what the catalogue says it proposes nothing, and what differs is kept aside. What the base has from after
    the sync is read again, whatever its stat says.
    """
    crashed = base.boot_id not in ("", boot)
    in_order = base.clean or not (crashed or suspicious)
    if not in_order:
        doubtful = [id for id, version, _, _ in base.places() if index_of(version) > durable]
        if crashed or doubtful:  # else, whatever the disk had to lose, it had been synced
            log.warning("the machine or a disk failed: what differs is kept aside", doubtful=len(doubtful))
            _doubt(base, doubtful)
    base.boot_id = boot
    base.clean = False
    return in_order


def _doubt(base: Base, doubtful: Iterable[Id]) -> None:
    with base.transaction():
        base.joined = False
        for id in doubtful:
            row = base.get(id)
            if row is not None and row.kind is not Kind.DIRECTORY:
                never_holds = msgspec.structs.replace(row.stat, mtime_ns=-1, ctime_ns=-1)
                base.put(msgspec.structs.replace(row, stat=never_holds))


def _log_to_stderr(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
    )


class _Stderr:
    """Where the log goes. A line that cannot be written is lost: a full disk must not end the node for that."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Nothing is held back."""
