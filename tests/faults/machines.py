"""Real nodes on machines of their own: each in a network namespace, started with `onefold run`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import disk
import psutil
import pytest
from cluster import ONEFOLD, SECONDS, Cluster, by_name, end, eventually, tail
from network import Network, make

from onefold import status
from onefold.certify import certify_node, within
from onefold.config import load
from onefold.edge.tls import Authority
from onefold.errors import OnefoldError

FOLDER_ID = "faults"
PORT = 7400
BOOTED = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
"""A shell's command, in a mount namespace of its own: what follows runs in the boot that the file `$0` says."""


class Machines(Cluster):
    """Nodes that reach each other over `network`; asked for anything from their own machines.

    With `disks`, folder and state of each node are on a disk of its own, which can lose its power.
    """

    def __init__(self, directory: Path, network: Network, writers: str, disks: bool = False) -> None:
        self.network = network
        self.disks: dict[str, disk.Disk] = {}
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        super().__init__()
        try:
            authority = Authority.create(directory / "authority")
            for name, address in network.addresses.items():
                home = directory / name
                if disks:
                    self.disks[name] = disk.Disk(home)
                state, folder = home / "state", home / "folder"
                state.mkdir(parents=True)
                folder.mkdir()
                certify_node(authority, name, address, FOLDER_ID, within(state / "tls"))
                settings = directory / f"{name}.toml"
                settings.write_text(self._settings(name, folder, state, writers))
                self.nodes[name] = load(settings)
                self._boot(name)
            for name in self.nodes:
                self.start(name)
        except BaseException:
            self.close()
            raise

    def _settings(self, name: str, folder: Path, state: Path, writers: str) -> str:
        lines = [f'name = "{name}"', f'folder = "{folder}"', f'folder_id = "{FOLDER_ID}"', f'state = "{state}"']
        lines += [f'writers = "{writers}"', f"preferred = {'true' if name == min(self.network.addresses) else 'false'}"]
        for other, address in self.network.addresses.items():
            lines += ["[[members]]", f'name = "{other}"', f'address = "{address}:{PORT}"']
        return "\n".join(lines) + "\n"

    # what is done to them

    def start(self, name: str) -> None:
        booted = ["sh", "-c", BOOTED, str(self._boot_file(name))]
        command = [*self.network.inside(name), *booted, *ONEFOLD, "run", "--config", str(self.nodes[name].path)]
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        with self._lock:
            self._processes[name] = process
            self.live.add(name)

    def stop(self, name: str) -> None:
        """In order, as `systemctl stop`."""
        end([self._ending(name)])

    def kill(self, name: str) -> None:
        """As the death of the machine: supervisor, etcd and node at once."""
        family = self._family(name)
        self.signal(name, signal.SIGKILL)
        self._ending(name).wait(SECONDS)
        _, alive = psutil.wait_procs(family, timeout=SECONDS)
        assert not alive

    def kill_part(self, name: str, part: str) -> None:
        """`part`: node or etcd. The supervisor starts another; nothing is done if there is none just now."""
        for process in self._family(name)[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself
                program, *words = process.cmdline() or [""]
                if part in (os.path.basename(program), *words):
                    process.kill()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To the supervisor, the node and etcd."""
        for process in self._family(name):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended with another
                process.send_signal(number)

    def lose_power(self, *names: str) -> None:
        """At once: what is not on their disks is lost. They do not run; `start` is that of their next boot."""
        for name in names:
            self.disks[name].lose_power()
        for name in names:
            self.kill(name)
            self.disks[name].unmount()
            self.disks[name].mount()
            self._boot(name)

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # each of them, whatever becomes of the others
            for each in self.disks.values():
                stack.callback(each.close)
            stack.callback(end, list(self._processes.values()))
            for name in self._processes:
                self.signal(name, signal.SIGCONT)

    def _ending(self, name: str) -> subprocess.Popen[bytes]:
        with self._lock:
            self.live.discard(name)
            return self._processes.pop(name)

    def _family(self, name: str) -> list[psutil.Process]:
        supervisor = psutil.Process(self._processes[name].pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def _boot(self, name: str) -> None:
        self._boot_file(name).write_text(f"{uuid.uuid4()}\n")

    def _boot_file(self, name: str) -> Path:
        return self._directory / f"{name}.boot"

    # what they say

    def status(self, of: str = "") -> dict[str, Any]:
        """As the machine `of`, or any that runs, sees the cluster."""
        node = of or min(self.live)
        return by_name(status.as_json(self.network.within(node, lambda: status.cluster(self.nodes[node]))))

    def wait(self) -> None:
        node = min(self.live)
        self.network.within(node, lambda: status.wait(self.nodes[node], SECONDS))

    def move_leader(self, to: str) -> bool:
        """Whether that is possible just now."""
        try:
            self.network.within(to, lambda: status.move(self.nodes[to], to))
        except OnefoldError:
            return False
        return True

    def leads(self, *nodes: str) -> str:
        """Who of `nodes` leads, by its own word, once one of them does."""
        found: list[str] = []

        def one_leads() -> bool:
            found[:] = [node for node in nodes if self.status(node)["leader"] == node]
            return bool(found)

        eventually(one_leads, f"leadership of {' or '.join(nodes)}")
        return found[0]

    def whole(self) -> None:
        """All are there and have all that the others have, and the preferred node leads, by every node's word."""
        eventually(lambda: all(self._sees_all(node) for node in self.nodes), "one cluster")
        self.wait()

    def _sees_all(self, node: str) -> bool:
        told = self.status(node)
        roles = [each["role"] for each in told["nodes"].values()]
        indices = {each[index] for each in told["nodes"].values() for index in ("applied", "in_place")}
        return told["leader"] == min(self.nodes) and "down" not in roles and len(indices) == 1

    def logs(self) -> Iterator[tuple[str, str]]:
        for name in self.nodes:
            yield name, tail(self._log(name))

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"  # on no disk that loses its power


@contextlib.contextmanager
def machines(
    directory: Path, writers: str = "leader", bad_lines: bool = False, disks: bool = False
) -> Iterator[Machines]:
    """Three nodes, `a` preferred, ready; skipped where there can be no network, or no disks, of their own."""
    if disks and (reason := disk.permitted(directory)):
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        if disks:
            stack.enter_context(disk.shared(directory))
        network = make(("a", "b", "c"), bad_lines)
        stack.callback(network.close)
        running = Machines(directory, network, writers, disks)
        stack.callback(running.close)
        running.whole()
        for each in running.disks.values():
            each.sync()
        yield running
