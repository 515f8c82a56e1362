"""One run: a cluster from a seed, its users and its faults, until everything is quiet again."""

from __future__ import annotations

import logging
import os
import random
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from blake3 import blake3

from onefold.errors import LogUnavailable, PeerError, UserError
from onefold.node.given import Identity
from onefold.node.loop import Node
from simulation.askers import Askers
from simulation.disk import Machine
from simulation.faces import SimulatedPath, installed, knobs
from simulation.faults import Faults
from simulation.hooked import untold
from simulation.kernel import Kernel
from simulation.network import Network
from simulation.process import RESTART_SECONDS, Process, is_expected
from simulation.replicated import LEASE_SECONDS, Requests
from simulation.users import Users
from simulation.virtual import Life, Stuck, VirtualLoop
from simulation.witness import Broken, Witness

WARM_SECONDS = 8.0
"""A cluster of which nobody is preferred has a leader after five."""
QUIET_SECONDS_MAX = 150.0
STEPS_MAX = 100_000
RACES_MAX = 30
"""Edits between two syscalls of a node: each makes the node work, and so makes room for more."""


class Outcome(msgspec.Struct):
    """What became of a run. `digest` is that of all that happened in it."""

    seed: int
    failure: str
    digest: str
    steps: int
    seconds: float
    calls: int
    entries: int
    commands: int
    edits: int
    faults: dict[str, int]
    trace: list[str]


class Cluster:
    """Nodes, their machines, and all around them."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.seed = seed
        self.trace: list[tuple[float, str, str]] = []
        self.kernel = Kernel(rng.choice((4_000_000, 1)))
        self.loop = self.kernel.loop = VirtualLoop(rng, self._entered)
        self.loop.limit = STEPS_MAX
        self.witness = self.kernel.witness = Witness(self.tell)
        self.network = Network(self.loop, self.kernel)
        self.requests = Requests(self.loop, self.log_reaches)
        self.unavailable: set[str] = set()
        self.hooked = False
        self.processes: dict[str, Process] = {}
        self.down: set[str] = set()
        """Machines without power, and the etcd members on them."""
        self.knobs = knobs(rng)
        count = rng.choices((1, 2, 3, 4, 5), (1, 1, 12, 2, 2))[0]
        names = [f"n{n}" for n in range(1, count + 1)]
        self.voters = tuple(names[: count if count % 2 else count - 1])
        self.members = tuple(names)
        self.witness.voters = self.voters
        self.machines = self.witness.machines
        for name in names:
            self.machines[name] = Machine(name, self.kernel, self.witness, self.tell)
        self.entries_kept = rng.choice((3, 8, 10_000))
        self.writers = rng.choice(("leader", "any"))
        self.preferred = rng.choice((names[0], names[0], ""))
        weights = [rng.choice((0.0, 1.0, 1.0, 4.0)) for _ in names] if self.writers == "any" else [0.2] * count
        weights[0] += 1.0
        self.users = Users(self.loop, list(self.machines.values()), self.tell, weights)
        self.askers = Askers(self)
        self._asking = rng.choice((0, 0, 10, 40))
        self._kept: tuple[str, float] = ("", 0.0)
        self._interrupt_with = ""
        self._races = rng.choice((0, 0, 40, 300))
        self._races_left = RACES_MAX
        self.kernel.interrupt = self._interrupt
        self._arm()

    # -------------------------------------------------------------------------------------------- telling

    def tell(self, who: str, text: str) -> None:
        self.trace.append((self.loop.now if hasattr(self, "loop") else 0.0, who, text))

    def _log(self, logger: Any, method: str, event: dict[str, Any]) -> Any:
        what = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
        self.tell(self.kernel.current.node if self.kernel.current else "", f"  {event['event']} {what}".rstrip())
        raise structlog.DropEvent

    def _entered(self, life: Life | None) -> None:
        self.kernel.current = life

    # -------------------------------------------------------------------------------------------- the log's members

    def log_reaches(self, node: str) -> bool:
        """Whether `node` is connected to a member of etcd that is one of a connected majority."""
        if node in self.unavailable or node in self.down:
            return False
        up = [voter for voter in self.voters if voter not in self.down]
        for member in up:
            if member == node or self.network.reaches(node, member):
                together = sum(member == other or self.network.reaches(member, other) for other in up)
                if together > len(self.voters) // 2:
                    return True
        return False

    def _keep_lease(self) -> None:
        """The leader's lease lives as long as its process runs and reaches the log."""
        leader, now = self.witness.cluster.leader, self.loop.now
        if leader is not None:
            process = self.processes.get(leader.node)
            kept = self._kept[1] if self._kept[0] == f"{leader.node} {leader.term}" else now
            if process is not None and process.life.alive and process.life.until <= now:
                kept = now if self.log_reaches(leader.node) else kept
            self._kept = (f"{leader.node} {leader.term}", kept)
            if now - kept > LEASE_SECONDS:
                self.tell("", f"the lease of {leader.node} has run out")
                self.witness.cluster.expire()
        self.loop.world_later(0.1 + 0.1 * self.loop.rng.random(), self._keep_lease)

    # -------------------------------------------------------------------------------------------- processes

    def start(self, name: str) -> None:
        process = self.processes.get(name)
        if (process is None or not process.life.alive) and name not in self.down:
            self.tell(name, "starts")
            self.processes[name] = Process(
                self.machines[name],
                self.network,
                self.requests,
                self.witness.cluster,
                lambda incarnation: self._identity(name, incarnation),
                self._ended,
                self.hooked,
            )

    def _identity(self, name: str, incarnation: int) -> Identity:
        root = self.machines[name].path + b"/folder"
        return Identity(
            name=name,
            incarnation=incarnation,
            preferred=name == self.preferred,
            writers=self.writers,
            root=root,
            copies=SimulatedPath(f"/{name}/copies"),  # type: ignore[arg-type]
            quiet_seconds=0.05,
            voters=self.voters,
            members=self.members,
            entries_kept=self.entries_kept,
        )

    def _ended(self, process: Process, error: BaseException | None) -> None:
        if not process.life.alive:
            return
        name = process.machine.name
        if isinstance(error, Broken):
            return
        self.tell(name, f"ends: {error!r}" if error is not None else "has stopped")
        if error is not None and not is_expected(error):
            told = "".join(traceback.format_exception(error)).strip().splitlines()
            for line in told[-30:]:
                self.tell(name, f"  {line}")
            self.witness.failures.append(f"broke: the node {name} broke: {error!r}")
            return
        process.kill()
        self._restart(name)

    def _restart(self, name: str, most: float = 3.0) -> None:
        rng = self.loop.rng
        self.loop.world_later(RESTART_SECONDS + most * rng.random() ** 3, self.start, name)

    def kill(self, name: str) -> None:
        process = self.processes.get(name)
        if process is not None and process.life.alive:
            process.kill()
            self._restart(name)

    def lose_power(self, name: str) -> None:
        if name in self.down:
            return
        self.down.add(name)
        process = self.processes.get(name)
        if process is not None:
            process.kill(silently=True)
        machine = self.machines[name]
        self.kernel.lose_power(machine.root)
        self.witness.lost_power(name)
        machine.lose_power(self.loop.rng)
        self.loop.world_later(0.5 + 3 * self.loop.rng.random(), self._boot, name)

    def _boot(self, name: str) -> None:
        self.down.discard(name)
        self.start(name)

    async def move_leader(self, node: Node, name: str) -> None:
        try:
            await node.elector.move(name, "command")
        except (UserError, PeerError, LogUnavailable) as error:
            self.tell(node.who.name, f"  could not move leadership: {error}")

    # -------------------------------------------------------------------------------------------- within a syscall

    def interrupt_with(self, what: str, calls: int) -> None:
        """`what` happens before the syscall that many from now."""
        self._interrupt_with = what
        self.kernel.countdown = calls

    def _arm(self) -> None:
        self._interrupt_with = ""
        self.kernel.countdown = self.loop.rng.randint(1, 2 * self._races) if self._races else 1 << 60

    def _interrupt(self, life: Life) -> None:
        what, before = self._interrupt_with, self.kernel.current
        self._arm()
        self.kernel.current = None
        if what == "kill":
            self.tell(life.node, "killed within a call")
            self.kill(life.node)
        elif what == "power":
            self.tell(life.node, "power lost within a call")
            self.lose_power(life.node)
        elif self.editing and self._races_left and not self.kernel.leased:  # else they wait to open a file
            self._races_left -= 1
            self.users.edit_on(self.machines[life.node], True)
        self.kernel.current = before

    # -------------------------------------------------------------------------------------------- a run

    editing = False

    def run(self) -> None:
        loop, rng = self.loop, self.loop.rng
        failed = self._failed
        if rng.random() < 0.5:  # a folder that is not empty
            self.editing = True
            for _ in range(rng.randint(1, 12)):
                self.users.edit_on(self.machines[rng.choice(self.members)], True)
            self.editing = False
        for name in self.members:
            loop.world_later(rng.random() * rng.choice((0.1, 2.0)), self.start, name)
        self._keep_lease()
        self._write_back()
        warm = rng.random() < 0.9
        loop.run_until(WARM_SECONDS if warm else 1.0, lambda: failed() or (warm and self.witness.catalogue.seeded))
        busy = rng.choice((1.0, 3.0, 8.0))
        until = loop.now + busy
        self.editing = True
        for _ in range(rng.randint(10, 50)):
            loop.world_later(busy * rng.random(), self._edit)
        for _ in range(self._asking):
            loop.world_later(busy * rng.random(), self._ask)
        faults = Faults(self, busy, rng.choice((0, 2, 5, 10)))
        loop.run_until(until, failed)
        self.editing = False
        faults.mend()
        self.faults = faults.counts
        self._races = 0
        self._arm()
        self.tell("", "nothing is edited any more, and all faults are mended")
        self._settle(failed)

    def _edit(self) -> None:
        if self.editing:
            self.users.edit()

    def _ask(self) -> None:
        if self.editing:
            self.askers.ask()

    def _write_back(self) -> None:
        machine = self.loop.rng.choice(list(self.machines.values()))
        if machine.name not in self.down:
            machine.written_back()
        self.loop.world_later(3 * self.loop.rng.random(), self._write_back)

    def _settle(self, failed: Callable[[], bool]) -> None:
        loop = self.loop
        until = loop.now + QUIET_SECONDS_MAX
        quiet = 0
        while loop.now < until and quiet < 3 and not failed():
            loop.run_until(loop.now + 0.5, failed)
            quiet = quiet + 1 if self._at_rest() else 0
        if self.hooked and not failed():
            until = loop.now + QUIET_SECONDS_MAX
            while loop.now < until and not failed() and self._untold():
                loop.run_until(loop.now + 0.5, failed)
            for found in self._untold()[:1]:
                self.witness.broken("hooks", found)
        if not failed():
            self.witness.check_end()
            for name, process in self.processes.items():
                if not process.life.alive or process.node is None:
                    self.witness.broken("G5", f"{name} does not run")
                elif quiet < 3:
                    self.witness.broken("G5", f"{self._unrest(process)}")

    def _untold(self) -> list[str]:
        """What keeps hooks from having seen everything (at least once)."""
        expected = {path: (row.id, row.version) for path, row in self.witness.tree()}
        return [
            f"{name}: {what}" for name in sorted(self.machines) for what in untold(self.machines[name].told, expected)
        ]

    def _at_rest(self) -> bool:
        if self.down or self.witness.cluster.leader is None:
            return False
        return not any(self._unrest(process) for process in self.processes.values()) and not self.witness.differences()

    def _unrest(self, process: Process) -> str:
        node, head = process.node, self.witness.cluster.head
        if node is None or not process.life.alive:
            return f"{process.machine.name} does not run"
        if node.placer.in_place != head or not node.proposer.idle or len(node.writer) or not node._joined:
            return f"{node.who.name} does not come to rest"
        return ""

    def _failed(self) -> bool:
        if self.loop.broken and not self.witness.failures:
            self.witness.failures.append("broke: " + self.loop.broken[0])
        return bool(self.witness.failures)


def simulate(seed: int, trace: bool = False, hooked: bool = False) -> Outcome:
    """One run from `seed`; the nodes have hooks if they are to be `hooked`."""
    cluster = Cluster(seed)
    cluster.hooked = hooked
    least = logging.INFO if trace else logging.CRITICAL
    structlog.configure(processors=[cluster._log], wrapper_class=structlog.make_filtering_bound_logger(least))

    def synced(fd: int) -> None:
        if cluster.kernel.current is not None:
            cluster.machines[cluster.kernel.current.node].synced()

    cluster.faults = Counter()
    rng = random.Random(seed ^ 0x5EC2E75)
    try:
        with installed(cluster.kernel, rng, synced, cluster.knobs):
            cluster.run()
    except Broken:
        pass
    except Stuck as stuck:
        at = traceback.extract_tb(stuck.__traceback__)[-1]
        cluster.witness.failures.insert(0, f"stuck: {stuck}, in {at.name} of {os.path.basename(at.filename)}")
    finally:
        for process in cluster.processes.values():
            cluster.loop.end(process.life)
        cluster.kernel.current = Life("")
        cluster.kernel.current.alive = False
    loop, witness = cluster.loop, cluster.witness
    told = [entry for entry in cluster.trace if not entry[2].startswith("  ")]
    told_last = (loop.rng.getstate(), loop.steps, cluster.kernel.calls, witness.catalogue.digest, loop.now)
    return Outcome(
        seed,
        witness.failures[0] if witness.failures else "",
        blake3(repr((told, told_last)).encode()).hexdigest(8),
        loop.steps,
        loop.now,
        cluster.kernel.calls,
        witness.cluster.head,
        witness.commands,
        cluster.users.edits,
        dict(cluster.faults),
        [f"{at:10.6f} {who:3} {text}" for at, who, text in cluster.trace] if trace else [],
    )
