"""`onefold run`: a small process with two children, an etcd member and the node.

Each child that dies is started again, so the death of the node costs no election. The supervisor's own end is the end
of both: on SIGTERM and Ctrl-C in order (the node first, which hands leadership over while its etcd still votes), on
any other death at once, by the kernel.

One thread, one `poll`: descriptors of the children that become readable when they end, and a pipe that signals write
to; where a service manager wants to know, also one that the node says into how it is. It wakes up for nothing else.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from onefold.config import NONE, Config
from onefold.errors import Bug, Dismissed, OperatorError, UserError
from onefold.notify import Manager, Watch
from onefold.overrides import as_environment

NODE_STOP_SECONDS = 8.0
ETCD_STOP_SECONDS = 1.0
QUICK_SECONDS = 5.0
"""A child that lived less than this died quickly: the next start waits longer."""
BACKOFF_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STARTS_MAX = 6
"""So often etcd may die quickly before it ever lived: its ports may still be held for a moment, or its first members
not be there yet. Later it is started again for ever, as the node can go on with the others' members."""
HOPELESS = frozenset({UserError.exit_code, OperatorError.exit_code, Bug.exit_code})
"""How a node ends that would end the same way again. It has said why; so after a quick death we end, too. A full or
failing disk is no reason for a node to end: it stands by (`onefold.standby`)."""

SUPERVISOR_PID, NODE_PID, ETCD_PID = "supervisor.pid", "node.pid", "etcd.pid"
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Startable(Protocol):
    """`onefold.process.Process`, or an etcd member."""

    @property
    def pid(self) -> int | None: ...

    def start(self) -> None: ...

    def poll(self) -> int | None: ...

    def stop(self, seconds: float) -> None: ...


class Child:
    """One process that is to run always."""

    def __init__(
        self,
        name: str,
        process: Startable,
        pid_file: Path,
        stop_seconds: float,
        last_words: Callable[[], str] = lambda: "",
    ) -> None:
        """`last_words`: why it ended, as far as it said so."""
        self.name = name
        self.process = process
        self.descriptor: int | None = None
        self.due: float | None = 0.0
        self._pid_file = pid_file
        self._stop_seconds = stop_seconds
        self._started = 0.0
        self._lived = False
        self._last_words = last_words
        self._quick_deaths = 0

    def start(self) -> None:
        """Raises `OperatorError` when it cannot be run, unless it ran before: then it is due again."""
        again, self._started = self._started > 0, time.monotonic()
        try:
            self.process.start()
            assert self.process.pid is not None
            self.descriptor = os.pidfd_open(self.process.pid)
            self.due = None
        except (OSError, OperatorError) as error:
            if not again and isinstance(error, OperatorError):
                raise
            if not again:
                raise OperatorError(
                    f"cannot start the {self.name} ({error})", "free space on the disk, and memory"
                ) from error
            _say(f"cannot start the {self.name} ({error}): it is tried again")
            self._died(quickly=True)
            return
        try:
            self._pid_file.write_text(f"{self.process.pid}\n")
        except OSError as error:  # a full disk: it runs, but `onefold demo kill` does not find it
            _say(f"cannot write {self._pid_file} ({error.strerror})")

    def ended(self) -> tuple[int, bool]:
        """Note that it ended, and when it is due again: its exit status, and whether it died quickly."""
        status = self.process.poll()
        assert status is not None
        self._forget()
        quick = time.monotonic() - self._started < QUICK_SECONDS
        self._lived = self._lived or not quick
        self._died(quick)
        return status, quick

    def _died(self, quickly: bool) -> None:
        self._quick_deaths = self._quick_deaths + 1 if quickly else 0
        wait = BACKOFF_SECONDS[min(max(self._quick_deaths - 1, 0), len(BACKOFF_SECONDS) - 1)]
        self.due = time.monotonic() + wait

    def check_start(self) -> bool:
        """Whether it lived a while since its first start. Raises `OperatorError` when it never does."""
        if not self._lived and self._quick_deaths == STARTS_MAX:
            raise OperatorError(
                f"the {self.name} ends whenever it is started ({self._last_words() or 'it said nothing'})",
                f"mend that; its log is in {self._pid_file.parent}",
            )
        return self._lived

    def stop(self) -> None:
        """End it, in bounded time."""
        if self.descriptor is not None:
            self.process.stop(self._stop_seconds)
            self._forget()

    def _forget(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        with suppress(OSError):  # a disk that failed: whoever reads it finds that no such process runs
            self._pid_file.unlink(missing_ok=True)


def run(config: Config, options: Mapping[str, str] = NONE) -> int:
    """Run etcd (if this node has a member) and the node until told to end. Returns the exit code.

    `options`: those that `config` was loaded with, for the children, which load it anew.

    Raises `OperatorError` when the folder, the state directory, a port or etcd is not as it must be.
    """
    from onefold.claim import claim
    from onefold.process import Process
    from onefold.voter import etcd_of

    manager = Manager.of(os.environ)
    lock = claim(config)
    os.environ.update(as_environment(options))
    watch = Watch(manager) if manager is not None else None
    children = []
    if config.runs_etcd:
        etcd = etcd_of(config)
        children.append(Child("etcd", etcd, config.state / ETCD_PID, ETCD_STOP_SECONDS, etcd.last_words))
    command = [sys.executable, "-P", "-m", "onefold", "node", "--config", str(config.path)]
    if watch is None:
        node = Process(command, keep=[lock])
    else:
        node = Process([*command, "--pulse", watch.argument], keep=[lock, watch.writer])
    children.append(Child("node", node, config.state / NODE_PID, NODE_STOP_SECONDS))
    own = config.state / SUPERVISOR_PID
    try:
        own.write_text(f"{os.getpid()}\n")
        return supervise(children, watch)
    except OSError as error:
        raise OperatorError(f"cannot go on ({error})", "free space on the disk") from error
    finally:
        with suppress(OSError):
            own.unlink(missing_ok=True)


def supervise(children: Sequence[Child], watch: Watch | None = None) -> int:
    """Keep `children` running until a signal asks for the end (0), the node is dismissed (0), or its end is hopeless
    (its exit code).

    They are started in the order given, and ended in the opposite one, also when starting one fails. `watch` is told
    what becomes of the node, and closed.
    """
    with _signals() as asked:
        try:
            while True:
                for child in children:
                    if child.due is not None and child.due <= time.monotonic():
                        child.start()
                ready = _wait(children, asked, watch)
                if asked in ready:
                    return 0
                if watch is not None:
                    _listen(watch, ready)
                for child in children:
                    if child.descriptor in ready:
                        status, quick = child.ended()
                        if child.name == "node" and status == Dismissed.exit_code:
                            _say("this node has left the cluster")
                            return 0
                        if child.name == "node" and quick and status in HOPELESS:
                            return status
                        if child.name == "etcd" and not child.check_start():
                            continue
                        how = f"the {child.name} {_how(status)} and is started again"
                        _say(how)
                        if child.name == "node" and watch is not None:
                            watch.begin(how)
        finally:
            if watch is not None:
                watch.end()
            for child in reversed(children):
                child.stop()
            if watch is not None:
                watch.close()


def _listen(watch: Watch, ready: frozenset[int]) -> None:
    if watch.reader in ready:
        watch.read()
    if watch.due is not None and watch.due <= time.monotonic():
        watch.speak()


def _wait(children: Sequence[Child], asked: int, watch: Watch | None) -> frozenset[int]:
    """The descriptors that are readable: a child's end, `asked`, what the node says to `watch`. Empty when a child or
    `watch` is due."""
    waiting = select.poll()
    waiting.register(asked, select.POLLIN)
    for child in children:
        if child.descriptor is not None:
            waiting.register(child.descriptor, select.POLLIN)
    due = [child.due for child in children if child.due is not None]
    if watch is not None:
        waiting.register(watch.reader, select.POLLIN)
        due += [watch.due] if watch.due is not None else []
    # Rounded up: waking a moment early would spin until the moment has come.
    timeout = max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None
    return frozenset(descriptor for descriptor, _ in waiting.poll(timeout))


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that becomes readable when a signal asks us to end."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {number: signal.signal(number, _nothing) for number in ENDING}
    wakeup = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _nothing(number: int, frame: object) -> None:
    """A handler only so that the signal is not fatal: what counts is the byte that it writes to the pipe."""


def _how(status: int) -> str:
    return f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended (exit code {status})"


def _say(sentence: str) -> None:
    with suppress(OSError):  # the log's disk may be full, which must not end us
        print(f"onefold: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
