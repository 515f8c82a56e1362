"""What a node does that cannot go on before a person has mended something: it stands by.

It keeps its process, and its port: the command line is told what is wrong, peers are told to go on without it. It looks
every second whether the cause is gone. Nothing of the folder or the state directory is open meanwhile, so a disk can
be unmounted, checked, and mounted again.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import ssl
from pathlib import Path
from typing import NamedTuple, cast

import structlog

from onefold.api.listener import listen, serve
from onefold.claim import check_standing
from onefold.config import ADMIN, Config
from onefold.core.messages import STANDBY, Ask, Cluster, Message, Problem, Report
from onefold.core.wire import RULES
from onefold.disk import check_room
from onefold.edge.tls import client_context, peer_name, server_context
from onefold.edge.transfer import PeerNetwork
from onefold.errors import DiskTrouble, PeerAway
from onefold.node.waiting import happened
from onefold.ports import Objects
from onefold.roster import load

CHECK_SECONDS = 1.0

log = structlog.get_logger()


class Contexts(NamedTuple):
    """TLS for both directions: made once, since the certificates may lie on the disk that fails."""

    server: ssl.SSLContext
    client: ssl.SSLContext

    @classmethod
    def of(cls, config: Config) -> Contexts:
        """Raises `OperatorError` when the certificates cannot be used."""
        return cls(server_context(*config.tls), client_context(*config.tls))


async def stand_by(config: Config, contexts: Contexts, problem: Problem, seconds: float) -> bool:
    """Returns once the cause of `problem` is gone, after `seconds` at least (True), or when told to end (False).

    Raises `OperatorError` when the ports cannot be had.
    """
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    log.error("standing by", problem=problem.what, fix=problem.fix)
    bystander = Bystander(config, problem)
    peers = PeerNetwork(
        config.name,
        config.folder_id,
        0,
        RULES,
        config.listen.host,
        config.listen.port,
        {member.name: (member.address.host, member.address.port) for member in config.members},
        contexts.server,
        contexts.client,
        peer_name,
        cast(Objects, None),  # only what is fetched is stored, and nothing is
        bystander,
        problem,
    )
    ask = functools.partial(bystander.answer, ADMIN)
    api: asyncio.Task[None] | None = None
    try:
        await peers.start()
        api = asyncio.create_task(serve(listen(config.api), config, ask, functools.partial(load, config.state), None))
        until = loop.time() + seconds
        while not await happened(ending, CHECK_SECONDS):
            wrong = await asyncio.to_thread(whats_wrong, config)
            if wrong is not None:
                bystander.problem = wrong
            elif loop.time() >= until:
                log.warning("going on", after=problem.what)
                return True
        return False
    finally:
        if api is not None:
            api.cancel()
            (end,) = await asyncio.gather(api, return_exceptions=True)
            if not isinstance(end, asyncio.CancelledError):
                log.warning("the API was not served", error=str(end))
        await peers.close()


def whats_wrong(config: Config) -> Problem | None:
    """What keeps a node from working with its folder and its state directory, as far as can be told from outside."""
    try:
        check_standing(config)
        check_room(config.state)
    except DiskTrouble as error:
        return Problem(error.what, "", error.fix)
    return None


class Bystander:
    """Implements `ports.PeerHandler` for a node that stands by."""

    def __init__(self, config: Config, problem: Problem) -> None:
        self._config = config
        self.problem = problem

    async def answer(self, peer: str, message: Message) -> Message:
        if isinstance(message, Ask):
            return Cluster("", 0, (self._report(),), tuple(member.name for member in self._config.members))
        raise PeerAway(f"{self._config.name} stands by ({self.problem.what})", self.problem.fix)

    def heard(self, peer: str, message: Message) -> None:
        """No peer is let in."""

    def joined(self, peer: str) -> None:
        """No peer is let in."""

    def left(self, peer: str) -> None:
        """No peer is let in."""

    async def locate(self, digest: bytes) -> Path | bytes | None:
        return None

    def _report(self) -> Report:
        return Report(
            node=self._config.name,
            incarnation=0,
            role=STANDBY,
            leader="",
            term=0,
            applied=0,
            in_place=0,
            durable=0,
            digests=(),
            files=0,
            strays=0,
            problems=(self.problem,),
            reaches=(),
            preferred=self._config.preferred,
            ready=False,
        )
