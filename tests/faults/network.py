"""A network of its own for a test: one namespace per machine, one cable between any two, each of which can be cut."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:00:01"
"""No interface has it: frames to it are lost without a word."""
_WIRES = "wires"
"""The namespace where bad lines end; no machine's."""


class Network:
    """The namespaces of `names`; the addresses are the same in every network, since nothing leads out of it.

    A cut is silent, as that of a cable in between: nobody is told, packets just do not arrive. With `bad_lines` every
    frame goes through a process of ours (`relay`), which can lose and delay it.
    """

    def __init__(self, names: Iterable[str], bad_lines: bool = False) -> None:
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self._made: list[str] = []
        self.has_bad_lines = bad_lines
        self._relay: subprocess.Popen[bytes] | None = None
        try:
            for name, address in self.addresses.items():
                self._make(name)
                self._in(name, "address", "add", f"{address}/32", "dev", "lo")
            if bad_lines:
                self._make(_WIRES)
            for one, other in itertools.combinations(self.addresses, 2):
                if bad_lines:
                    self._connect(one, _cable(other), _WIRES, f"{one}-{other}")
                    self._connect(other, _cable(one), _WIRES, f"{other}-{one}")
                else:
                    self._connect(one, _cable(other), other, _cable(one))
                for here, there in ((one, other), (other, one)):
                    to, source = self.addresses[there], self.addresses[here]
                    self._in(here, "route", "add", to, "dev", _cable(there), "src", source)
            if bad_lines:
                self._relay = self._start_relay()
        except BaseException:
            self.close()
            raise

    def inside(self, name: str) -> list[str]:
        """What to put before a command so that it runs on the machine `name`."""
        return ["ip", "netns", "exec", self._namespace(name)]

    def within(self, name: str, call: Callable[[], T]) -> T:
        """What `call` answers when it is made from the machine `name`: a thread of ours goes there for it."""
        answers: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with open(f"/run/netns/{self._namespace(name)}", "rb") as namespace:
                    assert _libc.setns(namespace.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
                answers.append(call())
            except BaseException as error:  # raised where it was asked for
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]

    def cut(self, one: str, *others: str) -> None:
        """No packet goes between `one` and `others` any more."""
        for other in others:
            self.cut_one_way(one, other)
            self.cut_one_way(other, one)

    def cut_one_way(self, here: str, there: str) -> None:
        """What `here` sends to `there` does not arrive any more; what comes from there does."""
        at = ("dev", _cable(there), "nud", "permanent")
        self._in(here, "neighbour", "replace", self.addresses[there], "lladdr", _NOBODY, *at)

    def mend(self) -> None:
        """Undo every cut, and let all lines be good."""
        for one, other in itertools.permutations(self.addresses, 2):
            self._in(one, "neighbour", "flush", "nud", "permanent", "dev", _cable(other))
        if self._relay is not None:
            self.spoil(0, 0)

    def spoil(self, lost: float, late_seconds: float) -> None:
        """From now on each frame is lost with probability `lost`, or so much late."""
        assert self._relay is not None and self._relay.stdin is not None
        self._relay.stdin.write(f"{lost} {late_seconds}\n".encode())
        self._relay.stdin.flush()

    def close(self) -> None:
        if self._relay is not None:
            self._relay.communicate(timeout=10)
            self._relay = None
        while self._made:
            _ip("netns", "delete", self._namespace(self._made.pop()))

    def _make(self, name: str) -> None:
        _ip("netns", "add", self._namespace(name))
        self._made.append(name)
        self._in(name, "link", "set", "lo", "up")

    def _connect(self, one: str, cable: str, other: str, its_cable: str) -> None:
        ends = (cable, "netns", self._namespace(one)), (its_cable, "netns", self._namespace(other))
        _ip("link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
        self._in(one, "link", "set", cable, "up")
        self._in(other, "link", "set", its_cable, "up")

    def _start_relay(self) -> subprocess.Popen[bytes]:
        pairs = [f"{one}-{other}={other}-{one}" for one, other in itertools.combinations(self.addresses, 2)]
        command = [*self.inside(_WIRES), sys.executable, str(Path(__file__).with_name("relay.py")), *pairs]
        relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert relay.stdout is not None
        assert relay.stdout.readline() == b"ready\n"
        return relay

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


def make(names: Iterable[str], bad_lines: bool = False) -> Network:
    """A network, or the test is skipped where it may not be made."""
    if reason := permitted():
        pytest.skip(reason)
    return Network(names, bad_lines)
