"""Real nodes on machines of their own: each in a network namespace, started with `onefold run`."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from cluster import ONEFOLD, SECONDS, Cluster, by_name, end, eventually
from network import Network, make

from onefold.certify import certify_node, within
from onefold.config import load
from onefold.edge.tls import Authority

FOLDER_ID = "faults"
PORT = 7400


class Machines(Cluster):
    """Nodes that reach each other over `network`; asked for anything from their own machines."""

    def __init__(self, directory: Path, network: Network, writers: str) -> None:
        self.network = network
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        authority = Authority.create(directory / "authority")
        settings = []
        for name, address in network.addresses.items():
            state = directory / "state" / name
            (directory / name).mkdir()
            state.mkdir(parents=True)
            certify_node(authority, name, address, FOLDER_ID, within(state / "tls"))
            settings.append(directory / f"{name}.toml")
            settings[-1].write_text(self._settings(name, directory / name, state, writers))
        super().__init__(load(path) for path in settings)
        for name in self.nodes:
            self.start(name)

    def _settings(self, name: str, folder: Path, state: Path, writers: str) -> str:
        lines = [f'name = "{name}"', f'folder = "{folder}"', f'folder_id = "{FOLDER_ID}"', f'state = "{state}"']
        lines += [f'writers = "{writers}"', f"preferred = {'true' if name == min(self.network.addresses) else 'false'}"]
        for other, address in self.network.addresses.items():
            lines += ["[[members]]", f'name = "{other}"', f'address = "{address}:{PORT}"']
        return "\n".join(lines) + "\n"

    # what is done to them

    def start(self, name: str) -> None:
        config = self.nodes[name]
        with (config.state / "onefold.log").open("ab") as log:
            command = [*self.network.inside(name), *ONEFOLD, "run", "--config", str(config.path)]
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log)
        self.live.add(name)

    def kill(self, name: str) -> None:
        """As the death of the machine: supervisor, etcd and node at once."""
        self.signal(name, signal.SIGKILL)
        self._processes.pop(name).wait(SECONDS)
        self.live.discard(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """To the supervisor, the node and etcd."""
        supervisor = psutil.Process(self._processes[name].pid)
        for process in (supervisor, *supervisor.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended with another
                process.send_signal(number)

    def close(self) -> None:
        for name in self._processes:
            self.signal(name, signal.SIGCONT)
        end(self._processes.values())

    # what they say

    def ask(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on that machine."""
        command = [*self.network.inside(name), *ONEFOLD, *words, "--config", str(self.nodes[name].path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS)

    def status(self, of: str = "") -> dict[str, Any]:
        done = self.ask(of or min(self.live), "status", "--json")
        if done.returncode:
            return {"leader": "", "term": 0, "nodes": {}}
        return by_name(done.stdout)

    def wait(self) -> None:
        done = self.ask(min(self.live), "wait", "--timeout", str(SECONDS))
        assert done.returncode == 0, done.stderr

    def leads(self, *nodes: str) -> str:
        """Who of `nodes` leads, by its own word, once one of them does."""
        found: list[str] = []

        def one_leads() -> bool:
            found[:] = [node for node in nodes if self.status(node)["leader"] == node]
            return bool(found)

        eventually(one_leads, f"leadership of {' or '.join(nodes)}")
        return found[0]

    def whole(self) -> None:
        """All see each other, and the preferred node leads, by every node's word."""
        eventually(lambda: all(self._sees_all(node) for node in self.nodes), "one cluster")
        self.wait()

    def _sees_all(self, node: str) -> bool:
        told = self.status(node)
        roles = [each["role"] for each in told["nodes"].values()]
        return told["leader"] == min(self.nodes) and len(roles) == len(self.nodes) and "down" not in roles


@contextlib.contextmanager
def machines(directory: Path, writers: str = "leader") -> Iterator[Machines]:
    """Three nodes, `a` preferred, ready; skipped where there can be no network of their own."""
    network = make(("a", "b", "c"))
    try:
        running = Machines(directory, network, writers)
        try:
            running.whole()
            yield running
        finally:
            running.close()
    finally:
        network.close()
