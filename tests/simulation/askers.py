"""Those who write through the API of some node: what was acknowledged to them is in the log, just so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onefold.core.model import Kind
from onefold.core.paths import RelPath, show
from onefold.core.request import ALWAYS, Condition, Delete, Done, MakeDirectory, Rename, Request, Write, lookup
from onefold.core.wire import content_digest
from onefold.errors import InTheWay, NotFound, OperatorError, PreconditionFailed
from simulation.users import DIRECTORIES, NAMES

if TYPE_CHECKING:
    from onefold.node.loop import Node
    from simulation.cluster import Cluster

ASK_SECONDS_MAX = 8.0


class Askers:
    """They ask on the nodes of `cluster`, as long as these run."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._rng = cluster.loop.rng
        self._asked = 0
        self.acknowledged = 0

    def ask(self) -> None:
        """Somebody asks something of some node."""
        process = self._cluster.processes.get(self._rng.choice(self._cluster.members))
        if process is not None and process.life.alive and process.node is not None:
            request, data = self._request(process.node)
            process.life.tasks.append(
                self._cluster.loop.spawn(process.life, self._do(process.node, request, data, self._rng.random()))
            )

    def _request(self, node: Node) -> tuple[Request, bytes | None]:
        rng = self._rng
        path = self._path()
        deed = rng.choices(("write", "directory", "delete", "rename"), (8, 1, 3, 2))[0]
        if deed == "directory":
            return MakeDirectory(path), None
        if deed == "delete":
            return Delete(path, rng.random() < 0.7, self._condition(node, path)), None
        if deed == "rename":
            return Rename(path, self._path(), self._condition(node, path)), None
        self._asked += 1
        data = b"asked %d " % self._asked + b"x" * rng.choice((0, 10, 100, 400))
        self._cluster.witness.wrote(data)
        mode = rng.choice((None, 0o640))
        mtime_ns = self._cluster.kernel.now_ns()
        condition = self._condition(node, path)
        return Write(path, Kind.FILE, content_digest(data), len(data), mtime_ns, mode, condition), data

    def _path(self) -> RelPath:
        rng = self._rng
        names = [rng.choice(DIRECTORIES) for _ in range(rng.choice((0, 0, 1, 2)))]
        return RelPath(b"/".join([*names, rng.choice((*NAMES, *DIRECTORIES))]))

    def _condition(self, node: Node, path: RelPath) -> Condition:
        rng = self._rng
        row = lookup(node._ports.catalogue, path)
        if row is None or rng.random() < 0.5:
            return rng.choice((ALWAYS, ALWAYS, Condition(False), Condition(True)))
        return Condition(True, (row.content,))

    async def _do(self, node: Node, request: Request, data: bytes | None, patience: float) -> None:
        name = node.who.name
        told = f"{type(request).__name__.lower()} {show(request.path)}"
        self._cluster.tell(name, f"asked: {told}")
        try:
            done = await node.writer.do(request, data, ASK_SECONDS_MAX * patience)
        except (NotFound, InTheWay, PreconditionFailed, OperatorError) as error:
            self._cluster.tell(name, f"refused: {told}: {error.what}")
            return
        self.acknowledged += 1
        self._cluster.tell(name, f"acknowledged: {told} at {done.index}")
        self._check(name, request, done)

    def _check(self, name: str, request: Request, done: Done) -> None:
        witness = self._cluster.witness
        told = f"{show(request.path)} was acknowledged by {name}"
        if done.index > witness.cluster.head:
            witness.broken("API", f"{told} at {done.index}, which is not committed")
        if not isinstance(request, Write):
            return
        before, after = witness.versions.get(done.version, (None, None))
        if after is None or after.content != request.content:
            witness.broken("API", f"{told} as version {done.version:x}, which is not that")
        condition = request.condition
        if condition.exists is not None and condition.exists is done.created:
            witness.broken("API", f"{told}, though its condition did not hold")
        if before is not None and condition.contents and before.content not in condition.contents:
            witness.broken("API", f"{told}, and replaced what its author had not seen")
