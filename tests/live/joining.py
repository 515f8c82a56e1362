"""Machines that join a cluster one by one, each with a folder and a supervisor of its own, on this one."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import ONEFOLD, SECONDS, Cluster, end, eventually, free_base_port

from onefold import roster
from onefold.admin import Client
from onefold.config import load
from onefold.core.messages import Ask
from onefold.core.messages import Cluster as MessageCluster


class Machines(Cluster):
    """Nodes begun with `init` and `join`; a machine that was wiped may come back under its name, with other ports."""

    def __init__(self, place: Path, count: int) -> None:
        super().__init__()
        self.place = place
        self._ports = itertools.count(free_base_port(count), 10)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def does(self, *words: str) -> str:
        """The output of a command that must succeed."""
        done = self.command(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*ONEFOLD, *words], capture_output=True, text=True, timeout=2 * SECONDS, cwd=self.place)

    def on(self, node: str, *words: str) -> str:
        """As `does`, on the machine of `node`."""
        return self.does(*words, "--config", str(self.nodes[node].path))

    def address(self) -> str:
        return f"127.0.0.1:{next(self._ports)}"

    def home(self, node: str) -> Path:
        """The machine's disk."""
        home = self.place / node
        home.mkdir(exist_ok=True)
        return home

    def settings(self, node: str) -> Path:
        return self.home(node) / ".onefold" / node / "node.toml"

    def init(self, node: str, *options: str) -> None:
        self.does("init", str(self.home(node) / "www"), "--name", node, "--listen", self.address(), *options)
        self.start(node)

    def invite(self, by: str, *options: str) -> str:
        return self.on(by, "invite", *options).split()[0]

    def join(self, node: str, by: str, *options: str) -> None:
        """By an invitation of the node `by`."""
        invitation = self.invite(by, *options)
        self.does("join", invitation, str(self.home(node) / "www"), "--name", node, "--listen", self.address())
        self.start(node)

    def start(self, node: str) -> None:
        config = load(self.settings(node))
        with (config.state / "onefold.log").open("ab") as log:
            command = [*ONEFOLD, "run", "--config", str(config.path)]
            self._processes[node] = subprocess.Popen(command, stdout=log, stderr=log)
        self.nodes[node] = config
        self.live.add(node)

    def kill(self, node: str) -> None:
        """As the death of its machine: its children die with the supervisor."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()
        self.live.discard(node)

    def ended(self, node: str) -> int:
        """The exit status of the supervisor, which ends by itself."""
        self.live.discard(node)
        return self._processes.pop(node).wait(SECONDS)

    def members(self, by: str) -> dict[str, dict[str, Any]]:
        """As the machine of `by` knows them."""
        return {each["name"]: each for each in json.loads(self.on(by, "members", "--json"))["members"]}

    def voting(self, by: str) -> set[str]:
        """Who votes, as the node `by` last heard."""
        return {member.name for member in roster.load(self.nodes[by].state).members if member.seated}

    def until_voting(self, by: str, *names: str) -> None:
        eventually(lambda: self.voting(by) == set(names), f"that {', '.join(names)} vote")

    def leads(self, by: str) -> str:
        """Who leads, once somebody does."""
        found: list[str] = []

        def told() -> bool:
            done = self.command("leader", "show", "--config", str(self.nodes[by].path))
            found[:] = done.stdout.split()
            return done.returncode == 0

        eventually(told, "a leader")
        return found[0]

    def close(self) -> None:
        end(self._processes.values())


class Edits:
    """Edits in the folder of `node`, who leads, all the time; and how long it takes until the log has moved on."""

    def __init__(self, running: Machines, node: str) -> None:
        self._config = running.nodes[node]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._observe)]
        self.count = 0
        self.pause = 0.0
        """The longest time in which nothing was committed, in seconds."""

    def __enter__(self) -> Edits:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        while not self._stop.wait(0.1):
            self.count += 1
            (self._config.folder / f"edit-{self.count % 20}").write_text(f"{self.count}\n")

    def _observe(self) -> None:
        asyncio.run(self._watch_log())

    async def _watch_log(self) -> None:
        client = await Client.connect(self._config, self._config.me, SECONDS)
        seen, since = 0, time.monotonic()
        while not self._stop.is_set():
            answer = await client.ask(Ask(), SECONDS)
            assert isinstance(answer, MessageCluster)
            applied, now = answer.reports[0].applied, time.monotonic()
            self.pause = max(self.pause, now - since)
            if applied != seen:
                seen, since = applied, now
            await asyncio.sleep(0.05)
        client.close()


@contextmanager
def machines(place: Path, count: int = 5) -> Iterator[Machines]:
    running = Machines(place, count)
    try:
        yield running
    finally:
        running.close()


def interrupt(command: list[str], after: float, place: Path) -> None:
    """Run `command`, and kill it so many seconds after it has begun."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
