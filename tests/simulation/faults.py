"""What goes wrong in a run: each kind with its own moments, and mended after a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulation.cluster import Cluster


class Faults:
    """Brings faults upon `cluster` until `mend`."""

    def __init__(self, cluster: Cluster, seconds: float, number: int) -> None:
        """`number` of them, in the first `seconds`, of some kinds drawn for this run."""
        self._cluster = cluster
        self._loop = cluster.loop
        self._rng = rng = cluster.loop.rng
        self.counts: Counter[str] = Counter()
        self.over = False
        kinds = [
            self._cut, self._cut, self._cut_one_way, self._isolate, self._slow_link, self._lossy, self._log_unavailable,
            self._slow_log, self._slow_log,
            self._log_loses, self._lease, self._hand_over, self._kill, self._kill, self._kill_in_call,
            self._kill_in_call, self._power, self._power_in_call, self._slow_node, self._pause, self._long_pause,
            self._full_folder, self._full_objects, self._overflow, self._stop,
        ]  # fmt: skip
        chosen = [kind for kind in kinds if rng.random() < 0.5] or [self._kill]
        for _ in range(number):
            self._loop.world_later(rng.random() * seconds, self._one, rng.choice(chosen))

    def _one(self, kind: Callable[[], str]) -> None:
        if not self.over:
            name = kind.__name__.lstrip("_").replace("_", " ")
            told = kind()
            self.counts[name] += 1
            self._cluster.tell("", f"fault: {name} {told}")

    def _later(self, undo: Callable[[], None], most: float = 4.0) -> None:
        self._loop.world_later(0.05 + self._rng.random() ** 2 * most, undo)

    def mend(self) -> None:
        """No more faults, and all that still hold are mended."""
        self.over = True
        cluster = self._cluster
        for a, b in sorted(cluster.network.cuts):
            cluster.network.mend(a, b)
        cluster.network.slow.clear()
        cluster.network.loss = cluster.requests.lost = 0.0
        cluster.requests.slow.clear()
        cluster.unavailable.clear()
        cluster.kernel.full.clear()
        for process in cluster.processes.values():
            process.life.slow = 0.0

    # -------------------------------------------------------------------------------------------- the network

    def _two(self) -> tuple[str, str]:
        names = sorted(self._cluster.machines)
        one = self._rng.choice(names)
        return one, self._rng.choice([name for name in names if name != one] or names)

    def _cut(self) -> str:
        a, b = self._two()
        return self._cut_all([(a, b), (b, a)])

    def _cut_one_way(self) -> str:
        return self._cut_all([self._two()])

    def _isolate(self) -> str:
        one, _ = self._two()
        others = [name for name in sorted(self._cluster.machines) if name != one]
        return self._cut_all([pair for other in others for pair in ((one, other), (other, one))])

    def _cut_all(self, pairs: list[tuple[str, str]]) -> str:
        network = self._cluster.network
        pairs = [pair for pair in pairs if pair[0] != pair[1]]
        for a, b in pairs:
            network.cut(a, b)

        def undo() -> None:
            self._cluster.tell("", f"mended: {', '.join('-'.join(pair) for pair in pairs)}")
            for a, b in pairs:
                network.mend(a, b)

        self._later(undo)
        return ", ".join(f"{a} to {b}" for a, b in pairs)

    def _slow_link(self) -> str:
        pair = self._two()
        self._cluster.network.slow[pair] = self._rng.choice((0.02, 0.3))
        self._later(lambda: self._forget(self._cluster.network.slow, pair))
        return "-".join(pair)

    def _forget(self, slow: dict[object, float], key: object) -> None:
        slow.pop(key, None)

    def _lossy(self) -> str:
        self._cluster.network.loss = self._rng.choice((0.1, 0.5))
        self._later(lambda: setattr(self._cluster.network, "loss", 0.0))
        return ""

    # -------------------------------------------------------------------------------------------- the log

    def _log_unavailable(self) -> str:
        name, _ = self._two()
        self._cluster.unavailable.add(name)
        self._later(lambda: self._cluster.unavailable.discard(name))
        return name

    def _slow_log(self) -> str:
        """What it asks of the log arrives late, perhaps when another leads."""
        name, _ = self._two()
        self._cluster.requests.slow[name] = self._rng.choice((0.1, 0.6))
        self._later(lambda: self._forget(self._cluster.requests.slow, name))
        return name

    def _log_loses(self) -> str:
        self._cluster.requests.lost = self._rng.choice((0.1, 0.4))
        self._later(lambda: setattr(self._cluster.requests, "lost", 0.0))
        return ""

    def _lease(self) -> str:
        self._cluster.witness.cluster.expire()
        return ""

    def _hand_over(self) -> str:
        """A person moves leadership."""
        name = self._rng.choice(self._cluster.voters)
        for process in self._cluster.processes.values():
            node = process.node
            if node is not None and process.life.alive and node.elector.active:
                self._loop.spawn(process.life, self._cluster.move_leader(node, name))
        return name

    # -------------------------------------------------------------------------------------------- processes

    def _kill(self) -> str:
        name, _ = self._two()
        self._cluster.kill(name)
        return name

    def _kill_in_call(self) -> str:
        """Before one of the next syscalls of whichever process makes it."""
        self._cluster.interrupt_with("kill", self._rng.randint(1, 60))
        return ""

    def _power(self) -> str:
        name, _ = self._two()
        self._cluster.lose_power(name)
        return name

    def _power_in_call(self) -> str:
        self._cluster.interrupt_with("power", self._rng.randint(1, 60))
        return ""

    def _stop(self) -> str:
        name, _ = self._two()
        process = self._cluster.processes.get(name)
        if process is not None:
            process.stop()
        return name

    def _slow_node(self) -> str:
        name, _ = self._two()
        process = self._cluster.processes.get(name)
        if process is not None:
            life = process.life
            life.slow = self._rng.choice((0.005, 0.1))
            self._later(lambda: setattr(life, "slow", 0.0))
        return name

    def _pause(self) -> str:
        return self._stand_still(0.5 * self._rng.random())

    def _long_pause(self) -> str:
        return self._stand_still(2.0 + 3.0 * self._rng.random())

    def _stand_still(self, seconds: float) -> str:
        name, _ = self._two()
        process = self._cluster.processes.get(name)
        if process is not None:
            self._loop.stand_still(process.life, seconds)
        return f"{name} for {seconds:.2f} s"

    # -------------------------------------------------------------------------------------------- disks

    def _full_folder(self) -> str:
        return self._full(b"folder")

    def _full_objects(self) -> str:
        return self._full(b"objects")

    def _full(self, what: bytes) -> str:
        name, _ = self._two()
        path = b"/" + name.encode() + b"/" + what
        self._cluster.kernel.full.add(path)
        self._later(lambda: self._cluster.kernel.full.discard(path))
        return name

    def _overflow(self) -> str:
        name, _ = self._two()
        self._cluster.kernel.overflow(self._cluster.machines[name].folder)
        return name
