"""The demo as a person uses it: real processes, real etcd, real files."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster import SECONDS, Demo, eventually, free_base_port


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "data", "--base-port", str(free_base_port()))
    try:
        running.until("READY")
        yield running
    finally:
        running.close()


def test_an_edit_is_everywhere_and_wait_says_when(demo: Demo) -> None:
    (demo.data / "node1" / "hello.txt").write_text("hi\n")
    demo.does("wait")
    assert [(demo.data / f"node{n}" / "hello.txt").read_text() for n in (1, 2, 3)] == ["hi\n"] * 3
    status = json.loads(demo.does("status", "--json"))
    assert status["leader"] == "node1"
    assert len({node["digest"] for node in status["nodes"]}) == 1
    assert all(node["in_place"] == node["applied"] for node in status["nodes"])


def test_a_stopped_node_is_down_and_catches_up_when_it_is_started(demo: Demo) -> None:
    assert "node2 is stopped" in demo.does("demo", "stop", "node2")
    assert demo.roles()["node2"] == "down"
    assert "is stopped already" in demo.command("demo", "stop", "node2").stderr
    (demo.data / "node1" / "meanwhile").write_text("x")
    assert "node2 is up" in demo.does("demo", "start", "node2")
    assert "is running already" in demo.command("demo", "start", "node2").stderr
    eventually((demo.data / "node2" / "meanwhile").exists)


def test_edits_flow_on_when_the_leaders_machine_dies(demo: Demo) -> None:
    demo.does("demo", "kill", "node1")
    eventually(lambda: demo.command("leader", "show").stdout.strip() in ("node2", "node3"))
    leader = demo.does("leader", "show").strip()
    other = {"node2": "node3", "node3": "node2"}[leader]
    (demo.data / leader / "after").write_text("x")
    eventually((demo.data / other / "after").exists)
    demo.does("demo", "start", "node1")
    eventually((demo.data / "node1" / "after").exists)


def test_a_killed_node_process_is_started_again_beside_its_etcd(demo: Demo) -> None:
    state = demo.data / ".onefold" / "node3"
    etcd, node = (state / "etcd.pid").read_text(), (state / "node.pid").read_text()
    demo.does("demo", "kill", "node3", "--node-only")
    eventually(lambda: (state / "node.pid").exists() and (state / "node.pid").read_text() not in ("", node))
    eventually(lambda: demo.roles()["node3"] == "voter")
    assert (state / "etcd.pid").read_text() == etcd


def test_leadership_moves_by_command(demo: Demo) -> None:
    assert "node2 leads" in demo.does("leader", "move", "node2")
    assert "did you mean node2?" in demo.command("leader", "move", "nod2").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_demo(demo: Demo, number: signal.Signals) -> None:
    family = demo.family()
    assert len(family) == 9
    demo.process.send_signal(number)
    demo.process.wait(SECONDS)
    _, alive = psutil.wait_procs(family, timeout=0 if number != signal.SIGKILL else SECONDS)
    assert not alive
    if number != signal.SIGKILL:
        assert demo.process.returncode == 0
        assert not list(demo.data.rglob("*.pid"))


def test_a_second_run_resumes_and_two_at_once_are_refused(demo: Demo) -> None:
    (demo.data / "node1" / "kept").write_text("x")
    demo.does("wait")
    second = Demo(demo.data)
    output, _ = second.process.communicate(timeout=SECONDS)
    assert second.process.returncode == 2
    assert "another demo is running in" in output.decode()
    demo.close()
    again = Demo(demo.data)
    try:
        again.until("READY")
        assert (demo.data / "node3" / "kept").read_text() == "x"
        (demo.data / "node1" / "new").write_text("y")
        again.does("wait")
        assert (demo.data / "node3" / "new").read_text() == "y"
    finally:
        again.close()


def test_a_port_in_use_is_named_with_the_option(tmp_path: Path) -> None:
    base = free_base_port()
    with socket.create_server(("127.0.0.1", base + 12)):
        running = Demo(tmp_path, "--base-port", str(base))
        output, _ = running.process.communicate(timeout=SECONDS)
    assert running.process.returncode == 3
    assert f"port {base + 12} " in output.decode()
    assert "--base-port" in output.decode()
