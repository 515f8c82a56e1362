"""A node's process on a simulated machine: the real node and the real edges of the folder, started as `onefold.run`
does it, and ended in every way that a process can end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from onefold.core.catalogue import Catalogue
from onefold.edge.materialise import FolderMaterialiser
from onefold.edge.scan import FolderScanner
from onefold.edge.watch import InotifyWatcher
from onefold.errors import DiskTrouble, OperatorError
from onefold.node.given import Identity, Ports
from onefold.node.loop import Node, Renewed
from onefold.run import notice_boot
from simulation.disk import (
    Machine,
    SimulatedBase,
    SimulatedCatalogue,
    SimulatedObjects,
    SimulatedRecent,
    SimulatedStrays,
)
from simulation.faces import SimulatedPath
from simulation.hooked import SimulatedHooks
from simulation.network import Network, SimulatedPeers
from simulation.replicated import RemoteLog, Requests
from simulation.virtual import Killed, Life, VirtualLoop

SMALL_BYTES_MAX = 200
RESTART_SECONDS = 0.3


class Clock:
    def __init__(self, loop: VirtualLoop) -> None:
        self.now = loop.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Process:
    """One run of the node on `machine`."""

    def __init__(
        self,
        machine: Machine,
        network: Network,
        requests: Requests,
        cluster: Any,
        who: Callable[[int], Identity],
        ended: Callable[[Process, BaseException | None], None],
        hooked: bool = False,
    ) -> None:
        self.machine = machine
        self.network = network
        self.life = Life(machine.name)
        self.node: Node | None = None
        self.peers: SimulatedPeers | None = None
        self.log = RemoteLog(machine.name, self.life, cluster, requests)
        self.ending = False
        self._who = who
        self._ended = ended
        self._hooked = hooked
        self._loop = network.loop
        self._running = self._loop.spawn(self.life, self._run())
        self._running.add_done_callback(self._done)

    async def _run(self) -> None:
        machine = self.machine
        root = machine.path + b"/folder"
        catalogue, base = SimulatedCatalogue(machine), SimulatedBase(machine)
        objects, strays = SimulatedObjects(machine), SimulatedStrays(machine)
        scanner = FolderScanner(root, SMALL_BYTES_MAX)
        materialiser = FolderMaterialiser(root, strays, SimulatedPath(os.fsdecode(machine.path)))
        watcher = InotifyWatcher(root)
        for leftover in list(machine.root.entries[b"copies"].entries):
            machine.kernel.unlink(machine.path + b"/copies/" + leftover)
        self.peers = SimulatedPeers(machine.name, self.life, self.network, objects)
        index, digest, files, seeded = catalogue.state
        in_order = notice_boot(base, catalogue.durable, str(machine.boot))
        ports = Ports(
            clock=Clock(self._loop),
            log=self.log,
            objects=objects,
            contents=SimulatedRecent(machine),
            peers=self.peers,
            watcher=watcher,
            scanner=scanner,
            materialiser=materialiser,
            catalogue=catalogue,
            base=base,
            strays=strays,
            hooks=SimulatedHooks(machine, base, self._loop, in_order) if self._hooked else None,
        )
        self.node = Node(
            self._who(base.next_incarnation()),
            ports,
            Catalogue(catalogue, index, digest, files, seeded),
            base.joined,
            catalogue.durable,
            len(base.rows),
        )
        self.peers.handler = self.node.answerer
        self.node.placer.recovered(materialiser.recover(base.intents(), base, catalogue))
        self.network.start(self.peers)
        await self.node.run(base.differences(catalogue))

    def stop(self) -> None:
        """As SIGTERM does: propose what is written, hand over, end."""
        if self.node is not None and not self.ending:
            self.ending = True
            self._loop.spawn(self.life, self._stop(self.node))

    async def _stop(self, node: Node) -> None:
        await node.stop()
        self._loop.within(None, self._ended, self, None)

    def kill(self, silently: bool = False) -> None:
        """As SIGKILL does; `silently`: the machine is gone, and tells nobody that the connections are closed."""
        if self.life.alive:
            self._loop.end(self.life)
            self.machine.kernel.forget(self.life)
            self.log.forget()
            if self.peers is not None:
                self.network.gone(self.peers, silently)

    def _done(self, task: asyncio.Task[None]) -> None:
        error = task.exception() if not task.cancelled() else None
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, Killed):
            self._ended(self, error)


def is_expected(error: BaseException | None) -> bool:
    """Whether a node may end so: for what an operator must mend, or to start anew on another catalogue."""
    return isinstance(error, OSError | Renewed | DiskTrouble) or type(error) is OperatorError
