"""Real networks of nodes on 127.0.0.1 for the tests of `transfer`: certificates, ports, and a handler that notes it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from onefold.core.messages import Held, Hold, Message, Reach, Reached
from onefold.edge.objects import ObjectStore
from onefold.edge.tls import Authority, client_context, peer_name, server_context
from onefold.edge.transfer import PeerNetwork
from onefold.errors import PeerRefused

FOLDER = "folder-1"
HOST = "127.0.0.1"

# Below the range that the kernel takes for outgoing connections: one of those could sit on a port, or dial itself.
_ports = itertools.count(random.Random(os.getpid()).randrange(11000, 31000, 2), 2)


def free_port() -> int:
    """A port which is free, as is the one above it."""
    for port in _ports:
        try:
            for one in (port, port + 1):
                socket.create_server((HOST, one)).close()
        except OSError:
            continue
        return port
    raise AssertionError


def digest_of(data: bytes) -> bytes:
    return blake3(data).digest()


class Recorder:
    """A handler that writes down what reaches it, answers `Reach` and `Hold`, and offers `contents`."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.messages: list[Message] = []
        self.contents: dict[bytes, Path | bytes] = {}
        self.located: list[bytes] = []
        self.asked = asyncio.Event()
        self.stuck = asyncio.Event()

    async def answer(self, peer: str, message: Message) -> Message:
        self.messages.append(message)
        self.asked.set()
        match message:
            case Reach(node="stuck"):
                await self.stuck.wait()
                return Reached(False)
            case Reach(node="refused"):
                raise PeerRefused("not now", "ask later")
            case Reach(node="broken"):
                raise RuntimeError("a bug in the handler")
            case Hold(digest, _, _, _):
                return Held(digest)
            case _:
                return Reached(True)

    def heard(self, peer: str, message: Message) -> None:
        self.messages.append(message)

    def joined(self, peer: str) -> None:
        self.log.append(("joined", peer))

    def left(self, peer: str) -> None:
        self.log.append(("left", peer))

    async def locate(self, digest: bytes) -> Path | bytes | None:
        self.located.append(digest)
        return self.contents.get(digest)

    @property
    def untouched(self) -> bool:
        return not (self.log or self.messages or self.located)


class Cluster:
    """Networks that come and go, and what they need to know each other."""

    def __init__(self, directory: Path, names: str) -> None:
        self.directory = directory
        self.members = {name: (HOST, free_port()) for name in names}
        self.authority = Authority.create(directory / "authority")
        self.networks: dict[str, PeerNetwork] = {}
        self.handlers: dict[str, Recorder] = {}
        self.stores: dict[str, ObjectStore] = {}
        self._incarnations = itertools.count(1)
        for name in names:
            self.issue(name)

    def issue(self, name: str, authority: Authority | None = None, to: str | None = None) -> Path:
        where = self.directory / "keys" / (to or name)
        (authority or self.authority).issue(name, [HOST], where, FOLDER)
        return where

    def keys(self, where: str) -> tuple[Path, Path, Path]:
        directory = self.directory / "keys" / where
        return directory / "ca.crt", directory / "node.crt", directory / "node.key"

    async def start(
        self,
        name: str,
        *,
        folder: str = FOLDER,
        rules: int = 1,
        keys: str | None = None,
        members: dict[str, tuple[str, int]] | None = None,
    ) -> PeerNetwork:
        store = ObjectStore(self.directory / "objects" / name)
        handler = Recorder()
        host, port = self.members[name]
        network = PeerNetwork(
            name,
            folder,
            next(self._incarnations),
            rules,
            host,
            port,
            self.members if members is None else members,
            server_context(*self.keys(keys or name)),
            client_context(*self.keys(keys or name)),
            peer_name,
            store,
            handler,
        )
        await network.start()
        self.networks[name], self.handlers[name], self.stores[name] = network, handler, store
        return network

    async def stop(self, name: str) -> None:
        handler = self.handlers[name]
        handler.stuck.set()
        await self.networks.pop(name).close()

    async def close(self) -> None:
        for name in list(self.networks):
            await self.stop(name)

    async def joined(self, *names: str) -> None:
        """All of `names` (default: all that run) are connected to each other."""
        wanted = names or tuple(self.networks)
        await eventually(
            lambda: all(set(wanted) - {name} <= self.networks[name].connected() & set(wanted) for name in wanted)
        )


async def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Waits for something that has no event of its own to wait for."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to await
            await asyncio.sleep(0.005)
