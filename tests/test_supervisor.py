"""The supervisor: what it starts again, when it ends, and that nothing outlives it."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefold.errors import Dismissed, OperatorError
from onefold.process import Running
from onefold.supervisor import Child

PROGRAM = """
import sys
from pathlib import Path
from onefold.process import Process
from onefold.supervisor import Child, supervise
place = Path(sys.argv[1])
children = [
    Child(name, Process([sys.executable, "-c", code, str(place)]), place / f"{name}.pid", 2.0)
    for name, code in zip(("etcd", "node"), sys.argv[2:])
]
sys.exit(supervise(children))
"""
NOTE = """
import os, signal, sys
def note(word):
    pipe = os.open(sys.argv[1] + "/events", os.O_WRONLY)
    os.write(pipe, (word + " " + str(os.getpid()) + chr(10)).encode())
    os.close(pipe)
"""
LIVES = (
    NOTE
    + """
def end(*_):
    note("NAME-ends")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("NAME-starts")
while True:
    signal.pause()
"""
)
ETCD, NODE = LIVES.replace("NAME", "etcd"), LIVES.replace("NAME", "node")
DEAF = NODE.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")


class Scene:
    """A supervisor of two small programs, which say on a pipe what happens to them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        os.mkfifo(place / "events")
        self._descriptor = os.open(place / "events", os.O_RDWR | os.O_NONBLOCK)
        self._lines: list[str] = []
        self.supervisor: subprocess.Popen[bytes] | None = None

    def start(self, etcd: str, node: str) -> subprocess.Popen[bytes]:
        self.supervisor = subprocess.Popen([sys.executable, "-c", PROGRAM, str(self.place), etcd, node])
        return self.supervisor

    def event(self) -> tuple[str, int]:
        """The next event, and the process it is about."""
        while not self._lines:
            assert select.select([self._descriptor], [], [], 20)[0], "nothing happened"
            self._lines += os.read(self._descriptor, 4096).decode().splitlines()
        word, pid = self._lines.pop(0).split()
        return word, int(pid)

    def started(self) -> dict[str, int]:
        """Both children, once both have started."""
        return dict([self.event(), self.event()])

    def close(self) -> None:
        if self.supervisor is not None:
            self.supervisor.kill()
            self.supervisor.wait()
        os.close(self._descriptor)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.close()


def ends(pid: int) -> bool:
    """Whether the process is gone within 10 s."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_node_first_and_then_etcd(scene: Scene, number: signal.Signals) -> None:
    supervisor = scene.start(ETCD, NODE)
    scene.started()
    supervisor.send_signal(number)
    assert [scene.event()[0], scene.event()[0]] == ["node-ends", "etcd-ends"]
    assert supervisor.wait(10) == 0
    assert not list(scene.place.glob("*.pid"))


def test_a_node_that_is_no_member_any_more_ends_it_in_order(scene: Scene) -> None:
    supervisor = scene.start(ETCD, NOTE + f"note('node-starts'); sys.exit({Dismissed.exit_code})")
    scene.started()
    assert scene.event()[0] == "etcd-ends"
    assert supervisor.wait(10) == 0


def test_a_child_that_dies_is_started_again_and_the_other_lives_on(scene: Scene) -> None:
    scene.start(ETCD, NODE)
    first = scene.started()
    for name in ("node", "etcd"):
        os.kill(first[f"{name}-starts"], signal.SIGKILL)
        word, pid = scene.event()
        assert word == f"{name}-starts"
        assert pid not in first.values()


def test_a_killed_supervisor_takes_both_children_along(scene: Scene) -> None:
    supervisor = scene.start(ETCD, DEAF)
    children = scene.started()
    supervisor.kill()
    supervisor.wait()
    assert all(ends(pid) for pid in children.values())


def test_a_node_that_does_not_end_is_killed(scene: Scene) -> None:
    supervisor = scene.start(ETCD, DEAF)
    children = scene.started()
    supervisor.terminate()
    assert supervisor.wait(10) == 0
    assert ends(children["node-starts"])


@pytest.mark.parametrize("code", [2, 3, 70])
def test_a_node_that_cannot_start_ends_the_supervisor_with_its_code(scene: Scene, code: int) -> None:
    supervisor = scene.start(ETCD, f"import sys; sys.exit({code})")
    assert supervisor.wait(10) == code


def test_a_node_that_fails_otherwise_is_started_again_each_time(scene: Scene) -> None:
    scene.start(ETCD, NOTE + 'note("node-fails"); sys.exit(1)')
    events = [scene.event()[0] for _ in range(5)]
    assert events.count("node-fails") == 4


def test_a_pid_file_of_another_program_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    assert Running.find(tmp_path / "pid", "no such mark in our command line") is None
    assert Running.find(tmp_path / "none", "") is None
    (tmp_path / "pid").write_text("garbage")
    assert Running.find(tmp_path / "pid", "") is None


class Stubborn:
    """A program that can be started as long as `error` is None."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.pid = os.getpid()

    def start(self) -> None:
        if self.error is not None:
            raise self.error

    def poll(self) -> int | None:
        return 1

    def stop(self, seconds: float) -> None: ...


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OperatorError("its log cannot be written")])
def test_a_child_that_ran_and_cannot_be_started_again_is_due_again(tmp_path: Path, error: Exception) -> None:
    program = Stubborn()
    child = Child("etcd", program, tmp_path / "etcd.pid", 1.0)
    program.error = error
    with pytest.raises(OperatorError):
        child.start()
    program.error = None
    child = Child("etcd", program, tmp_path / "etcd.pid", 1.0)
    child.start()
    child.ended()
    program.error = error
    for _ in range(3):
        child.start()
        assert child.due is not None and child.descriptor is None
    program.error = None
    child.start()
    assert child.due is None and child.descriptor is not None
    child.stop()


def test_a_child_whose_pid_file_cannot_be_written_runs_all_the_same(tmp_path: Path) -> None:
    child = Child("node", Stubborn(), tmp_path / "missing" / "node.pid", 1.0)
    child.start()
    assert child.descriptor is not None
    child.stop()
