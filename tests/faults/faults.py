"""What can happen to a cluster, seeded: each fault begins, lasts for a while, and is mended."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from cluster import SECONDS
from machines import Machines

from onefold.errors import PeerError

LEASE_SECONDS = 2.0
SECOND_FAULT = 0.3
"""How likely another fault begins while one lasts."""

Quiet = Callable[[str], AbstractContextManager[None]]
"""Nobody works or reads in the folder of that node meanwhile."""


class Faults:
    """Faults for `running`; `kinds` counts those that were injected."""

    def __init__(
        self,
        running: Machines,
        random: random.Random,
        quiet: Quiet,
        lasts_seconds: tuple[float, float],
    ) -> None:
        self.kinds: Counter[str] = Counter()
        self._running = running
        self._network = running.network
        self._random = random
        self._quiet = quiet
        self._lasts_seconds = lasts_seconds
        self._of_lines = [self._node_cut_off, self._cable_cut, self._cable_cut_one_way]
        self._of_lines += [self._bad_lines] * self._network.has_bad_lines
        self._of_nodes = [
            self._node_killed,
            self._etcd_killed,
            self._machine_killed,
            self._stands_still,
            self._stopped,
            self._leader_moved,
            *[self._power_lost] * (2 * bool(running.disks)),
        ]

    def run(self, seconds: float) -> None:
        """Faults, one after another and some at once, for so long; at the end all is mended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            kinds = [self._random.choice(each) for each in (self._of_lines, self._of_nodes)]
            self._random.shuffle(kinds)
            victims = self._random.sample(sorted(self._running.nodes), 2)
            lasts = min(self._random.uniform(*self._lasts_seconds), max(0.5, until - time.monotonic()))
            second = self._random.random() < SECOND_FAULT
            with ExitStack() as mending:
                for kind, victim in list(zip(kinds, victims, strict=True))[: 1 + second]:
                    self.kinds[kind.__name__.strip("_").replace("_", " ")] += 1
                    mending.enter_context(kind(victim))
                    time.sleep(lasts / (1 + second))
            time.sleep(self._random.uniform(*self._lasts_seconds) / 2)

    def _others(self, victim: str) -> list[str]:
        return sorted(self._running.nodes.keys() - {victim})

    # lines

    @contextmanager
    def _node_cut_off(self, victim: str) -> Iterator[None]:
        self._network.cut(victim, *self._others(victim))
        yield
        self._network.mend()

    @contextmanager
    def _cable_cut(self, victim: str) -> Iterator[None]:
        self._network.cut(victim, self._random.choice(self._others(victim)))
        yield
        self._network.mend()

    @contextmanager
    def _cable_cut_one_way(self, victim: str) -> Iterator[None]:
        for other in self._random.sample(self._others(victim), self._random.choice((1, 2))):
            self._network.cut_one_way(victim, other)
        yield
        self._network.mend()

    @contextmanager
    def _bad_lines(self, victim: str) -> Iterator[None]:
        self._network.spoil(self._random.choice((0.0, 0.02, 0.1)), self._random.choice((0.0, 0.005, 0.05)))
        yield
        self._network.mend()

    # nodes

    @contextmanager
    def _node_killed(self, victim: str) -> Iterator[None]:
        self._running.kill_part(victim, "node")
        yield

    @contextmanager
    def _etcd_killed(self, victim: str) -> Iterator[None]:
        self._running.kill_part(victim, "etcd")
        yield

    @contextmanager
    def _machine_killed(self, victim: str) -> Iterator[None]:
        self._running.kill(victim)
        yield
        self._running.start(victim)

    @contextmanager
    def _stands_still(self, victim: str) -> Iterator[None]:
        self._running.signal(victim, signal.SIGSTOP)
        time.sleep(self._random.choice((0.0, 1.5 * LEASE_SECONDS)))
        yield
        self._running.signal(victim, signal.SIGCONT)

    @contextmanager
    def _stopped(self, victim: str) -> Iterator[None]:
        self._running.stop(victim)
        yield
        self._running.start(victim)

    @contextmanager
    def _leader_moved(self, victim: str) -> Iterator[None]:
        """If the cluster can just now."""
        self._running.move_leader(victim)
        yield

    @contextmanager
    def _power_lost(self, victim: str) -> Iterator[None]:
        with self._quiet(victim):
            self._running.lose_power(victim)
        yield
        self._running.start(victim)


def mended(running: Machines) -> None:
    """Wait until all nodes are up and see each other, and all that was written is everywhere.

    Nodes may have much to catch up on, and leadership may go where it was before, which a waiting node is told.
    """
    deadline = time.monotonic() + 3 * SECONDS
    refused = "nobody"
    while True:
        try:
            if all(_sees_all(running, node) for node in running.nodes):
                running.wait()
                return
        except PeerError as error:
            refused = str(error)
        assert time.monotonic() < deadline, f"no whole cluster: {running.status()}; who waited was refused by {refused}"
        time.sleep(0.2)


def _sees_all(running: Machines, node: str) -> bool:
    told = running.status(node)
    roles = [each["role"] for each in told["nodes"].values()]
    return bool(told["leader"]) and len(roles) == len(running.nodes) and "down" not in roles
