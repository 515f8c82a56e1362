"""An etcd member as our child: found, checked, claimed, tied to us, ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from etcds import EtcdCluster, append, first_few, lead

from onefold.edge.etcd_process import EtcdProcess, check
from onefold.errors import OperatorError


def fake(directory: Path, script: str, mode: int = 0o755) -> str:
    path = directory / "fake-etcd"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return str(path)


def member(directory: Path, folder: str = "f1", binary: str = "etcd") -> EtcdProcess:
    members = {"a": "http://127.0.0.1:1", "b": "http://127.0.0.1:2"}
    return EtcdProcess("a", folder, directory, "http://127.0.0.1:3", members, binary=binary)


def has_ended(pid: int, seconds: float) -> bool:
    """Await the end of any process, ours or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    try:
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def test_the_installed_etcd_is_found_and_new_enough() -> None:
    assert check().version >= (3, 4, 0)


def test_no_etcd_on_the_path_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match=r"no etcd on the PATH.*apt-get install etcd-server"):
        check()


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'etcd Version: 3.3.25'", r"etcd 3\.3, and 3\.4 or newer is needed"),
        ("echo 'hello, world'", r"not etcd.*hello, world"),
        ("echo 'no such library' >&2; exit 127", r"no such library"),
        ("exit 1", "not etcd"),
    ],
)
def test_what_is_not_a_usable_etcd_is_refused(tmp_path: Path, script: str, complaint: str) -> None:
    with pytest.raises(OperatorError, match=complaint):
        check(fake(tmp_path, script))


def test_an_etcd_of_another_machine_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "etcd"
    binary.write_bytes(b"\x7fELF of something else")
    binary.chmod(0o755)
    with pytest.raises(OperatorError, match="does not run"):
        check(str(binary))


def test_a_later_etcd_is_accepted(tmp_path: Path) -> None:
    assert check(fake(tmp_path, "echo 'etcd Version: 10.0.1'")).version == (10, 0, 1)


def test_the_data_of_another_folder_is_refused(tmp_path: Path) -> None:
    binary = fake(tmp_path, "echo 'etcd Version: 3.5.0'")
    first = member(tmp_path / "etcd", "f1", binary)
    first.start()
    first.stop()
    with pytest.raises(OperatorError, match="another folder \\(f1, not f2\\)"):
        member(tmp_path / "etcd", "f2", binary).start()


def test_the_data_of_an_etcd_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etcd" / "data").mkdir(parents=True)
    with pytest.raises(OperatorError, match="not ours"):
        member(tmp_path / "etcd").start()


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etcd").write_text("a file in the way")
    with pytest.raises(OperatorError, match="cannot write the state directory"):
        member(tmp_path / "etcd").start()


def test_settings_for_some_other_etcd_are_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "other")
    said = tmp_path / "said"
    process = member(tmp_path / "etcd", "f1", fake(tmp_path, f"echo 'etcd Version: 3.5.0'; env > {said}"))
    process.start()
    assert process.wait(10) == 0
    assert "ETCD_NAME" not in said.read_text()


def test_another_address_can_be_listened_on_than_others_dial(tmp_path: Path) -> None:
    process = member(tmp_path)
    process.listen = "0.0.0.0"
    arguments = process.arguments()
    assert "--listen-peer-urls=http://0.0.0.0:1" in arguments
    assert "--initial-advertise-peer-urls=http://127.0.0.1:1" in arguments
    assert "--listen-client-urls=http://0.0.0.0:3" in arguments


async def test_what_a_member_held_is_there_after_kill_and_after_stop(tmp_path: Path) -> None:
    cluster = EtcdCluster.start(tmp_path, 1)
    (process,) = cluster.members
    log = cluster.log()
    try:
        term = await lead(log)
        expected = await append(log, term, 1, 3)
        for end in (process.kill, process.stop):
            end()
            assert process.pid is None
            process.start()
            assert await first_few(log.entries(1), 3) == expected
    finally:
        await log.close()
        cluster.stop()


def test_the_last_words_of_a_member_that_failed_are_kept(tmp_path: Path) -> None:
    process = member(tmp_path / "etcd")
    process.members = {"a": "http://not-an-address:1"}
    assert process.last_words() == ""
    process.start()
    assert process.wait(10) not in (0, None)
    assert "not-an-address" in process.last_words()


def test_a_member_never_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import signal, sys; from pathlib import Path; from onefold.edge.etcd_process import EtcdProcess\n"
        f"p = EtcdProcess('a', 'f', Path({str(tmp_path)!r}), 'http://127.0.0.1:0', {{'a': 'http://127.0.0.1:0'}})\n"
        "p.start(); print(p.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert os.getsid(pid) == pid  # Ctrl-C in the parent's terminal does not reach it
        parent.send_signal(signal.SIGKILL)
        assert has_ended(pid, 10)
