"""A network of its own for a test: one namespace per machine, one cable between any two, each of which can be cut."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable

import pytest

_NOBODY = "02:00:00:00:00:01"
"""No interface has it: frames to it are lost without a word."""


class Network:
    """The namespaces of `names`; the addresses are the same in every network, since nothing leads out of it.

    A cut is silent, as that of a cable in between: nobody is told, packets just do not arrive.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self._made: list[str] = []
        try:
            for name, address in self.addresses.items():
                _ip("netns", "add", self._namespace(name))
                self._made.append(name)
                self._in(name, "link", "set", "lo", "up")
                self._in(name, "address", "add", f"{address}/32", "dev", "lo")
            for one, other in itertools.combinations(self.addresses, 2):
                ends = (_cable(other), "netns", self._namespace(one)), (_cable(one), "netns", self._namespace(other))
                _ip("link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
                for here, there in ((one, other), (other, one)):
                    self._in(here, "link", "set", _cable(there), "up")
                    to, source = self.addresses[there], self.addresses[here]
                    self._in(here, "route", "add", to, "dev", _cable(there), "src", source)
        except BaseException:
            self.close()
            raise

    def inside(self, name: str) -> list[str]:
        """What to put before a command so that it runs on the machine `name`."""
        return ["ip", "netns", "exec", self._namespace(name)]

    def cut(self, one: str, *others: str) -> None:
        """No packet goes between `one` and `others` any more."""
        for other in others:
            for here, there in ((one, other), (other, one)):
                at = ("dev", _cable(there), "nud", "permanent")
                self._in(here, "neighbour", "replace", self.addresses[there], "lladdr", _NOBODY, *at)

    def mend(self) -> None:
        """Undo every cut."""
        for one, other in itertools.permutations(self.addresses, 2):
            self._in(one, "neighbour", "flush", "nud", "permanent", "dev", _cable(other))

    def close(self) -> None:
        while self._made:
            _ip("netns", "delete", self._namespace(self._made.pop()))

    def _namespace(self, name: str) -> str:
        return f"onefold-{os.getpid()}-{name}"

    def _in(self, name: str, *words: str) -> None:
        _ip("-n", self._namespace(name), *words)


def _cable(to: str) -> str:
    return f"to-{to}"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def permitted() -> str:
    """Why there can be no network namespaces here; empty when there can be."""
    name = f"onefold-{os.getpid()}-may"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no `ip` (apt-get install iproute2)"
    if made.returncode != 0:
        return f"no network namespaces: {made.stderr.strip()}"
    _ip("netns", "delete", name)
    return ""


def make(names: Iterable[str]) -> Network:
    """A network, or the test is skipped where it may not be made."""
    if reason := permitted():
        pytest.skip(reason)
    return Network(names)
