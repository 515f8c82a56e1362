"""`onefold demo`: a whole cluster on this machine, for a person to watch.

Each node is a supervisor of its own, started just as a service would start it; they are our children, so that none
outlives us. What the demo shows, it asks the nodes for, over the same listeners and the same TLS as `onefold status`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from onefold.admin import Client
from onefold.claim import check_ports
from onefold.config import Config
from onefold.core.messages import Ask, Cluster, Report
from onefold.demo_control import STOP_SECONDS, UP
from onefold.demo_dir import Wanted, control, meta, prepare
from onefold.demo_view import Seen, View, new_view
from onefold.errors import OnefoldError, OperatorError, PeerError, UserError
from onefold.process import Process
from onefold.roster import SECRET

ASK_SECONDS = 1.0
STARTING_POLL_SECONDS = 0.1
"""Between two looks at the nodes until they are ready; then the view's `poll_seconds`."""
LOG = "onefold.log"


def run(data: Path, wanted: Wanted) -> int:
    """Run the demo in `data` until a signal ends it. Returns the exit code. Raises `OnefoldError`."""
    data = data.absolute()
    with _alone(data):
        configs = prepare(data, wanted)
        for config in configs:
            _check_ports(config)
        return asyncio.run(Demo(data, configs, new_view(data)).run())


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold `data`. Raises `UserError` when another demo does, `OperatorError` when it cannot be made."""
    try:
        meta(data).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(meta(data), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(
            f"cannot make the directory {meta(data)} ({error.strerror})", "choose another with --data"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(
            f"another demo is running in {data}", "watch it with `onefold status`, or choose another --data"
        ) from None
    finally:
        os.close(descriptor)


def _check_ports(config: Config) -> None:
    try:
        check_ports(config)
    except OperatorError as error:
        raise OperatorError(
            error.what, "stop what uses it, or make another demo with --base-port and --data"
        ) from error


class Node:
    """One node of the demo: its supervisor, our connection to it, and what it last said."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.name
        self.cluster: Cluster | None = None
        self.down: str | None = None
        """Why its supervisor is not running; None while it is."""
        self.was_up = False
        """Whether it answered since its start."""
        self.answers: list[Path] = []
        """The pipes of those who wait for it to be up."""
        self._client: Client | None = None
        self._process = Process(
            [sys.executable, "-P", "-m", "onefold", "run", "--config", str(config.path)], log=config.state / LOG
        )
        self._descriptor: int | None = None

    @property
    def report(self) -> Report | None:
        """What the node said about itself at the last look; None if it did not answer."""
        return self.cluster.reports[0] if self.cluster else None

    @property
    def running(self) -> bool:
        return self._descriptor is not None

    def start(self, ended: asyncio.Event) -> None:
        """Start its supervisor; `ended` is set when that ends."""
        self._process.start()
        assert self._process.pid is not None
        self.down = None
        self.was_up = False
        self._descriptor = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._ended, ended)

    def reap(self) -> int | None:
        """The exit status of a supervisor that has ended since the last call; None otherwise."""
        status = self._process.poll() if self._descriptor is not None else None
        if status is not None:
            self._forget()
            self.disconnect()
            self.down = _how(status, self.last_words())
        return status

    def terminate(self) -> None:
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)

    def stop(self) -> None:
        """Wait for the end of a supervisor that was told to end; kill one that does not."""
        if self._descriptor is not None:
            self._process.stop(STOP_SECONDS)
            self._forget()

    async def look(self) -> None:
        """Ask the node how it is."""
        self.cluster = None
        if self._descriptor is None:
            return
        try:
            if self._client is None:
                self._client = await Client.connect(self.config, self.config.me, ASK_SECONDS)
            answer = await self._client.ask(Ask(), ASK_SECONDS)
        except PeerError:
            self.disconnect()
            return
        if isinstance(answer, Cluster):
            self.cluster = answer
            self.was_up = True

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self.cluster = None

    def last_words(self) -> str:
        """The last line of its log: if it could not start, the sentence that says why."""
        try:
            lines = (self.config.state / LOG).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return next((line for line in reversed(lines) if line.strip()), "").removeprefix("onefold: ")

    def tell(self, said: str) -> None:
        """Answer those who wait for this node."""
        for answer in self.answers:
            with suppress(OSError):  # they gave up
                pipe = os.open(answer, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.write(pipe, said.encode()[:4000])
                finally:
                    os.close(pipe)
        self.answers.clear()

    def _ended(self, ended: asyncio.Event) -> None:
        """Once: the descriptor stays readable, and must not spin the loop until the next look."""
        assert self._descriptor is not None
        asyncio.get_running_loop().remove_reader(self._descriptor)
        ended.set()

    def _forget(self) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None


class Demo:
    """The nodes, the look at them, and the commands from other terminals."""

    def __init__(self, data: Path, configs: Sequence[Config], view: View) -> None:
        self._data = data
        self._nodes = {config.name: Node(config) for config in configs}
        self._view = view
        self._ready = False
        self._wake = asyncio.Event()
        self._ending = False

    async def run(self) -> int:
        """Until a signal, or until a node cannot start (its exit code, then)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._end)
        with self._view, self._commands():
            try:
                self._view.say(f"starting {len(self._nodes)} nodes in {self._data}")
                for node in self._nodes.values():
                    node.start(self._wake)
                return await self._watch()
            finally:
                self._view.say("stopping")
                for node in self._nodes.values():
                    node.disconnect()
                    node.terminate()
                for node in self._nodes.values():
                    node.stop()

    def _page(self) -> str:
        first = next(iter(self._nodes.values())).config
        return f"the page of {first.name} is https://{first.api.listen}/, and its token in {meta(self._data) / SECRET}"

    async def _watch(self) -> int:
        while not self._ending:
            self._wake.clear()
            for node in self._nodes.values():
                status = node.reap()
                if status is None:
                    continue
                node.tell(node.down or "")
                if not self._ready and status > 0:
                    raise NodeFailed(node.name, node.last_words(), status)
            await asyncio.gather(*(node.look() for node in self._nodes.values()))
            self._show()
            await self._sleep(self._view.poll_seconds if self._ready else STARTING_POLL_SECONDS)
        return 0

    def _show(self) -> None:
        nodes = self._nodes.values()
        for node in nodes:
            if node.report is not None:
                node.tell(UP)
        self._view.show(
            [Seen(node.name, node.running, node.down, node.report, node.was_up) for node in nodes],
            next(
                (node.cluster.recent for node in nodes if node.cluster and node.cluster.reports[0].role == "leader"), ()
            ),
        )
        if not self._ready and all_ready([node.report for node in nodes], next(iter(self._nodes))):
            self._ready = True
            self._view.ready(self._page())

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    def _end(self) -> None:
        self._ending = True
        self._wake.set()

    @contextmanager
    def _commands(self) -> Iterator[None]:
        """Take commands on the named pipe. It is read only while we live: that is how others know that we do."""
        pipe = control(self._data)
        pipe.parent.mkdir(mode=0o700, exist_ok=True)
        for left in pipe.parent.iterdir():
            left.unlink()
        (pipe.parent / "demo.pid").write_text(f"{os.getpid()}\n")
        os.mkfifo(pipe, 0o600)
        # Also open for writing, so that it is not at its end whenever the last writer closes.
        descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, self._command, descriptor)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            pipe.unlink(missing_ok=True)
            (pipe.parent / "demo.pid").unlink()

    def _command(self, descriptor: int) -> None:
        """Commands are lines shorter than what a pipe writes at once, so they arrive whole."""
        for line in os.read(descriptor, 65_536).decode(errors="replace").splitlines():
            match line.split():
                case ["start", name, answer] if name in self._nodes and "/" not in answer:
                    node = self._nodes[name]
                    node.answers.append(control(self._data).with_name(answer))
                    node.reap()
                    if not node.running:
                        node.start(self._wake)
                    self._wake.set()
                case _:
                    self._view.say(f"an unknown command came: {line!r}")


class NodeFailed(OnefoldError):
    """A node of the demo could not start; it has said why."""

    def __init__(self, name: str, words: str, status: int) -> None:
        super().__init__(f"{name} could not start ({words})", "")
        self.exit_code = status


def all_ready(reports: Sequence[Report | None], first: str) -> bool:
    """Whether every node is up and ready, follows the first one, and has the same catalogue in place."""
    if any(report is None for report in reports):
        return False
    known = [report for report in reports if report is not None]
    applied = known[0].applied
    return (
        all(report.ready and report.leader == first for report in known)
        and all(report.applied == report.in_place == applied for report in known)
        and len({digest_of(report) for report in known}) == 1
    )


def digest_of(report: Report) -> bytes:
    """The digest of the node's catalogue as it is now; empty when it does not say."""
    return dict(report.digests).get(report.applied, b"")


def _how(status: int, words: str) -> str:
    if status < 0:
        return f"killed ({signal.Signals(-status).name})"
    return f"failed: {words}" if status else "stopped"
