"""G1 to G5 on real processes: somebody works in the folders without a pause, whatever fails, and nothing is lost.

`ONEFOLD_CHURN_SECONDS` says for how long (each test), `ONEFOLD_SEED` from which seed; see scripts/fault_tests.sh.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from churn import Churner, Ledger, Worker, records
from cluster import eventually
from faults import Faults, mended
from history import Reader, contradictions
from machines import Machines, machines

SECONDS = float(os.environ.get("ONEFOLD_CHURN_SECONDS", "60"))
SEED = os.environ.get("ONEFOLD_SEED", "") or str(secrets.randbelow(1_000_000))
PAUSE_SECONDS = 0.01
LEADER_EVERY_SECONDS = 1.0
ACKNOWLEDGE_SECONDS = 20.0


class Leading(threading.Thread):
    """Who leads, as far as is known, asked all the time."""

    def __init__(self, running: Machines) -> None:
        super().__init__(daemon=True)
        self.node = running.leads(*running.nodes)
        self.rests = threading.Lock()
        """Held: it does nothing."""
        self._running = running
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.wait(LEADER_EVERY_SECONDS):
            with self.rests:
                for node in sorted(self._running.live):
                    if self._running.status(node)["leader"] == node:
                        self.node = node

    def finish(self) -> None:
        self._ending.set()
        self.join()


class Churn:
    """Workers in the leader's folder (`writers` = leader), or in all of them; and a reader in each."""

    def __init__(self, running: Machines, writers: str, seed: str) -> None:
        self.running = running
        self.ledger = Ledger()
        self.random = random.Random(seed)
        self._writers = writers
        self._churners = {
            node: Churner(
                self.ledger, node, running.folder(node), running.folder(node).with_name("trash"), self._random(node)
            )
            for node in running.nodes
        }
        self._readers = [Reader(node, running.folder(node)) for node in running.nodes]
        self._leading = Leading(running)
        self._workers = (
            [Worker(self._churners, lambda: self._leading.node, PAUSE_SECONDS)]
            if writers == "leader"
            else [Worker(self._churners, lambda node=node: node, 3 * PAUSE_SECONDS) for node in running.nodes]
        )
        self.acknowledged: set[str] = set()
        """Tokens that were in the folder when `onefold wait` had returned."""
        self.perishable: set[str] = set()
        """Tokens that a loss of power may have taken: written on that machine, and not acknowledged by then."""

    def _random(self, node: str) -> random.Random:
        return random.Random(f"{self.random.random()} {node}")

    @contextmanager
    def quiet(self, node: str) -> Iterator[None]:
        """Nobody uses the disk of `node`, whose power is lost meanwhile."""
        with ExitStack() as stack:
            for thread in (*self._workers, *self._readers, self._leading):
                stack.enter_context(thread.rests)
            mine = {token for token, author in self.ledger.written.items() if author == node}
            self.perishable |= mine - self.acknowledged
            yield
            for reader in self._readers:
                if reader.node == node:
                    reader.lose_power()

    def acknowledge(self) -> None:
        """What was written until now is everywhere: from now on it must outlive anything."""
        written = set(self.ledger.written)
        mended(self.running)
        self.acknowledged |= written & tokens(self.running.folder("a"))

    @contextmanager
    def reading(self) -> Iterator[None]:
        for reader in self._readers:
            reader.start()
        try:
            yield
        finally:
            for reader in self._readers:
                reader.finish()

    @contextmanager
    def working(self) -> Iterator[None]:
        threads = [*self._workers, self._leading]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.finish()
            for churner in self._churners.values():
                churner.finish()

    def check(self) -> str:
        """All is mended: see that nothing is lost and nothing differs. Answers what happened."""
        mended(self.running)
        self.running.settled()
        told = self.running.status()["nodes"].values()
        assert len({(node["applied"], node["digest"]) for node in told}) == 1, told
        for reader in self._readers:
            looks = reader.looks
            eventually(lambda reader=reader, looks=looks: reader.looks > looks + 1, "a last look")
        folder = tokens(self.running.folder("a"))
        strays = {token for node in self.running.nodes for token in tokens(self.running.nodes[node].state / "strays")}
        seen = {token for reader in self._readers for token in reader.seen if self.ledger.written[token] != reader.node}
        lost = self.ledger.written.keys() - folder - strays - self.ledger.gone - self.perishable
        assert not lost, f"lost: {sorted(lost)}"
        unplaced = (seen | self.acknowledged) - folder - self.ledger.gone
        assert not unplaced, (
            f"was committed, and is not in the folder any more: {sorted(unplaced)}; of these, among the strays:"
            f" {sorted(unplaced & strays)}, acknowledged: {sorted(unplaced & self.acknowledged)}"
        )
        found = contradictions(self._readers, self.ledger)
        assert not found, "\n".join(found)
        versions = sum(len(history) for reader in self._readers for era in reader.eras for history in era.values())
        return (
            f"{len(self.ledger.written)} contents written, {len(folder)} in the folder, {len(strays)} strays,"
            f" {versions} versions read, differences 0, lost 0"
        )


def tokens(directory: Path) -> set[str]:
    """All that is in the files of a directory."""
    return {
        version.token
        for above, _, files in os.walk(directory)
        for path in (Path(above, name) for name in files)
        if path.is_file() and not path.is_symlink()
        for version in records(path.read_bytes())
    }


def churn(running: Machines, writers: str, seed: str, seconds: float, lasts_seconds: tuple[float, float]) -> str:
    """Work and faults for so long; then the checks. Answers what happened."""
    print(f"seed {seed}")
    work = Churn(running, writers, seed)
    faults = Faults(running, work.random, work.quiet, lasts_seconds)
    with work.reading():
        with work.working():
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                faults.run(min(left, ACKNOWLEDGE_SECONDS))
                running.network.mend()
                work.acknowledge()
        done = (
            f"{work.ledger.operations.total()} operations ({told(work.ledger.operations)});"
            f" {faults.kinds.total()} faults ({told(faults.kinds)})"
        )
        print(done)
        return f"{done}; {work.check()}"


def told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


@pytest.fixture
def running(tmp_path: Path, writers: str, fails: str) -> Iterator[Machines]:
    """What is special of these machines: that their lines get bad, that they lose power, or nothing."""
    with machines(tmp_path, writers, bad_lines=fails == "lines", disks=fails == "power") as started:
        yield started


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("writers", "fails"), [("leader", "nothing special")])
def test_a_sample_of_churn_under_faults(running: Machines, writers: str) -> None:
    churn(running, writers, "0", 6, (0.2, 1.0))


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("fails", ["lines", "power"])
@pytest.mark.parametrize("writers", ["leader", "any"])
def test_churn_under_faults(running: Machines, writers: str, fails: str, capsys: pytest.CaptureFixture[str]) -> None:
    what = churn(running, writers, f"{SEED} {writers} {fails}", SECONDS, (0.5, 6.0))
    with capsys.disabled():
        print(f"\nseed {SEED}, writers = {writers}, {fails} fail: {what}")
