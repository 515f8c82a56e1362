"""What a service manager is told: when the node is up, how it is, that it does not hang, and that it ends."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from one_node import SECONDS, OneNode

from onefold.core.messages import Problem, Report
from onefold.notify import ALIVE, BUSY, BUSY_SECONDS_MAX, PULSES_PER_WATCHDOG, Manager, Watch
from onefold.pulse import Pulse, sentence

WATCHDOG_SECONDS = 1.2


class Told:
    """The service manager's side: a datagram socket, and what came."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)

    def next(self, seconds: float = SECONDS) -> dict[str, str] | None:
        """The next message; None when none comes within `seconds`."""
        self.socket.settimeout(seconds)
        try:
            text = self.socket.recv(8192).decode()
        except TimeoutError:
            return None
        return dict(line.split("=", 1) for line in text.split("\n"))

    def until(self, **facts: str) -> dict[str, str]:
        """The first message that says all of `facts`."""
        deadline = time.monotonic() + SECONDS
        while True:
            message = self.next(max(0.01, deadline - time.monotonic()))
            assert message is not None, f"nobody said {facts}"
            if facts.items() <= message.items():
                return message

    def drain(self) -> list[dict[str, str]]:
        """Whatever came and was not read yet."""
        return list(iter(lambda: self.next(0.001), None))


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(str(tmp_path / "notify"))
    yield told
    told.socket.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    node = OneNode(tmp_path)
    yield node
    node.close()


# ------------------------------------------------------------------------------------------------ a real node


def test_a_service_manager_is_told_when_the_node_is_up_that_it_lives_and_that_it_ends(
    node: OneNode, told: Told, tmp_path: Path
) -> None:
    usec = str(int(WATCHDOG_SECONDS * 1e6))
    process = node.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC=usec)
    assert told.until(STATUS="starting")
    told.until(READY="1")
    # Its doors are open by then: it need not lead, as the first of three machines has to be up without the others.
    socket.create_connection(("127.0.0.1", node.port), 5).close()
    told.until(STATUS="leads; 0 files, all in place")
    for child in ("node", "etcd"):
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{node.pid(child)}/environ").read_bytes()

    pid = node.pid("node")
    os.kill(pid, signal.SIGSTOP)
    try:
        told.drain()
        assert told.next(2 * WATCHDOG_SECONDS) is None, "a node that hangs is said to live"
    finally:
        os.kill(pid, signal.SIGCONT)
    told.until(WATCHDOG="1")

    os.kill(pid, signal.SIGKILL)
    died = told.until(STATUS="the node was killed (SIGKILL) and is started again")
    assert "READY" not in died
    begun = time.monotonic()
    while "STATUS" not in (message := told.until(WATCHDOG="1")):  # the supervisor speaks for it meanwhile
        assert time.monotonic() - begun < SECONDS
    assert "READY" not in message
    assert node.pid("node") != pid

    process.send_signal(signal.SIGTERM)
    told.until(STOPPING="1")
    assert process.wait(SECONDS) == 0


def test_a_node_that_stands_by_is_up_and_says_why(node: OneNode, told: Told, tmp_path: Path) -> None:
    node.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
    told.until(READY="1")
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    assert told.until(STATUS="begins anew")
    while not (message := told.next() or {}).get("STATUS", "").startswith("stands by: "):
        assert message
    assert str(tmp_path / "folder") in message["STATUS"]
    (tmp_path / "elsewhere").rename(tmp_path / "folder")
    while not (told.next() or {}).get("STATUS", "").endswith("all in place"):
        pass


def test_a_node_that_nobody_watches_has_no_pipe(node: OneNode) -> None:
    node.start()
    assert b"--pulse" not in Path(f"/proc/{node.pid('node')}/cmdline").read_bytes()


# ------------------------------------------------------------------------------------------------ the protocol


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_both_kinds_of_address_are_understood_and_kept_from_children(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@onefold-test-{os.getpid()}"
    told = Told(name if kind == "path" else f"\0{name[1:]}")
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    manager = Manager.of(environment)
    assert manager is not None
    assert environment == {"HOME": "/"}
    assert manager.watchdog_seconds == 2.0
    manager.tell(READY="1", STATUS="two\nlines")
    assert told.next() == {"READY": "1", "STATUS": "two lines"}
    told.socket.close()
    manager.tell(READY="1")  # to nobody
    manager.close()


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, None),
        ({"NOTIFY_SOCKET": "/none"}, 0.0),
        ({"NOTIFY_SOCKET": "/none", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"NOTIFY_SOCKET": "/none", "WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_no_manager_and_no_watchdog_are_told_apart(environment: dict[str, str], watchdog: float | None) -> None:
    manager = Manager.of(environment)
    assert (manager.watchdog_seconds if manager else None) == watchdog
    if manager:
        manager.close()


@pytest.fixture
def watch(told: Told, tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(Manager(str(tmp_path / "notify"), 4.0))
    assert told.drain() == [{"STATUS": "starting"}, {"WATCHDOG": "1"}]
    yield watch
    watch.close()


def test_a_node_is_spoken_for_only_until_it_speaks(watch: Watch, told: Told) -> None:
    now = time.monotonic()
    assert watch.due is not None
    assert 0 < watch.due - now <= 4.0 / PULSES_PER_WATCHDOG
    os.write(watch.writer, ALIVE + b"fi")
    watch.read()
    assert not told.drain()
    os.write(watch.writer, b"ne\n" + ALIVE + b"well\n")
    watch.read()
    assert told.drain() == [
        {"READY": "1", "STATUS": "fine", "WATCHDOG": "1"},
        {"STATUS": "well", "WATCHDOG": "1"},
    ]
    assert watch.due is None
    os.write(watch.writer, BUSY + b"\n")
    watch.read()
    assert told.drain() == [{"STATUS": "begins anew"}, {"WATCHDOG": "1"}]
    assert watch.due is not None
    watch.read()  # nothing more was said


def test_a_node_that_begins_for_too_long_hangs(watch: Watch, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    late = time.monotonic() + BUSY_SECONDS_MAX
    monkeypatch.setattr(time, "monotonic", lambda: late)
    watch.speak()
    assert not told.drain()
    assert watch.due is None


async def test_a_pulse_that_nobody_reads_does_not_stop_the_node() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        with suppress(BlockingIOError):
            while os.write(writer, bytes(65_536)):
                pass
        with Pulse.of(f"{writer}:10").beating(lambda: "fine"):
            pass
    finally:
        os.close(reader)
        os.close(writer)


def test_how_a_node_is_fits_into_a_sentence() -> None:
    report = Report("web2", 1, "voter", "web1", 7, 5, 3, 2, (), 4, 0, (), (), False, True)
    assert sentence(report) == "follows web1; 4 files, 3 of 5 in place"
    problems = (Problem("the disk is full", "", "free space"), Problem("cannot read", "a", "chmod"))
    alone = Report("web2", 1, "voter", "", 7, 5, 5, 2, (), 4, 0, problems, (), False, False)
    assert sentence(alone) == "waits for a leader; 4 files, all in place; problem: the disk is full and 1 more"
