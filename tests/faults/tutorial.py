"""The shell blocks of a document, run where it says: machines with a network, a host name and directories of their own.

A block's title says on which of them: a name or "every machine"; and "in a terminal of its own" for what goes on while
the next ones are run. `ssh` and `scp` between the machines are played by entering the other one's namespaces.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cluster import SECONDS, end, eventually, tail
from network import Network, make

EVERY = "every machine"
APART = ", in a terminal of its own"
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OWN = ("srv", "var/lib")
"""The directories that are a machine's own, besides its home; of `/etc` it has its own changes."""
PLAYED = {
    "ssh": 'host=$1; shift; exec {enter} sh -c "cd {directory}/$host/home && $*"',
    "scp": 'shift; host=${{2%%:*}}; cp -rpT "$1" "$0.$$"; exec {enter} cp -rpT "$0.$$" "${{2#*:}}"',
}
ENTER = 'nsenter -m -u -n -t "$(cat {directory}/$host.pid)"'


class Block(NamedTuple):
    """Shell commands, and where they are to be run."""

    title: str
    script: str

    @property
    def apart(self) -> bool:
        return self.title.endswith(APART)

    def machines(self, names: list[str]) -> list[str]:
        where = self.title.removesuffix(APART)
        return names if where == EVERY else [where]


def blocks(document: Path) -> list[Block]:
    """The shell blocks of `document`, in order; each must say where it is to be run."""
    found = [Block(title, script) for kind, title, script in BLOCK.findall(document.read_text()) if kind == "sh"]
    assert found and all(block.title for block in found), "every shell block needs a title"
    return found


class Lab:
    """Machines to run blocks on."""

    def __init__(self, directory: Path, network: Network) -> None:
        self._directory = directory
        self._network = network
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._terminals: dict[str, subprocess.Popen[bytes]] = {}
        shims = directory / "bin"
        shims.mkdir()
        for name, script in PLAYED.items():
            enter = ENTER.format(directory=directory)
            (shims / name).write_text(f"#!/bin/sh\n{script.format(enter=enter, directory=directory)}\n")
            (shims / name).chmod(0o755)
        path = os.pathsep.join([str(shims), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = os.environ | {"PATH": path}
        for name in network.addresses:
            self._start(name)

    @property
    def names(self) -> list[str]:
        return list(self._network.addresses)

    def run(self, block: Block) -> None:
        """Run `block` where it belongs; it must succeed. One in a terminal of its own is up when this returns."""
        for name in block.machines(self.names):
            if block.apart:
                if name in self._terminals:
                    self._terminals[name].wait(SECONDS)  # what ran there before has ended
                with self._log(name).open("ab") as log:
                    command = [*self._inside(name), "sh", "-euc", f"exec {block.script}"]
                    self._terminals[name] = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
            else:
                done = self._do(name, block.script)
                assert done.returncode == 0, f"{block.title}:\n{block.script}{done.stdout}{done.stderr}"
        if block.apart:
            for name in block.machines(self.names):
                eventually(lambda name=name: self._is_up(name), f"the start of {name}")

    def _is_up(self, name: str) -> bool:
        return self._terminals[name].poll() is None and self._do(name, "onefold leader show").returncode == 0

    def logs(self) -> Iterator[tuple[str, str]]:
        for name in self._terminals:
            yield name, tail(self._log(name))

    def close(self) -> None:
        end(self._terminals.values())
        for holder in self._holders.values():
            holder.kill()
            holder.wait()

    def _start(self, name: str) -> None:
        home = self._directory / name
        for own in (*OWN, "etc", "home", "work"):
            (home / own).mkdir(parents=True)
        hosts = "".join(f"{address} {other}\n" for other, address in self._network.addresses.items())
        (home / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        overlay = f"lowerdir=/etc,upperdir={home}/etc,workdir={home}/work"
        mounts = [f"mount -t overlay -o {overlay} overlay /etc", *(f"mount --bind {home}/{own} /{own}" for own in OWN)]
        script = " && ".join([*mounts, f"hostname {name}", "echo made", "exec sleep infinity"])
        command = [*self._network.inside(name), "unshare", "--mount", "--uts", "sh", "-c", script]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._holders[name] = holder
        (self._directory / f"{name}.pid").write_text(str(holder.pid))
        assert holder.stdout is not None
        with holder.stdout as said:
            assert said.readline() == b"made\n"

    def _do(self, name: str, script: str) -> subprocess.CompletedProcess[str]:
        command = [*self._inside(name), "sh", "-euc", f"cd {self._directory / name / 'home'}\n{script}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS, env=self._environment)

    def _inside(self, name: str) -> list[str]:
        return ["nsenter", "-m", "-u", "-n", "-t", str(self._holders[name].pid)]

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"


@contextlib.contextmanager
def lab(directory: Path, *names: str) -> Iterator[Lab]:
    """Machines of these names; skipped where there can be none."""
    with contextlib.ExitStack() as stack:
        network = make(names)
        stack.callback(network.close)
        running = Lab(directory, network)
        stack.callback(running.close)
        yield running
