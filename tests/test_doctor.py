"""`onefold doctor`: what it finds on machines that will do, and on those that will not."""

from __future__ import annotations

import datetime
import email.utils
import http.server
import json
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from one_node import OneNode, eventually, onefold

from onefold.certify import certify_node, open_authority
from onefold.config import Address, Hook
from onefold.doctor import files, machine, members
from onefold.doctor.check import Check, Verdict, attempt, failure, ok, warning
from onefold.doctor.members import Etcd, clock, quorum
from onefold.doctor.show import summary
from onefold.edge.tls import client_context
from onefold.errors import OperatorError

OK, WARNING, FAILURE = Verdict


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    node = OneNode(tmp_path)
    yield node
    node.close()


def doctor(node: OneNode, code: int, **environment: str) -> dict[str, list[Check]]:
    """What it says, by what it is about."""
    done = onefold("doctor", "--json", "--config", str(node.path), **environment)
    assert done.returncode == code, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["node"] == "a"
    found: dict[str, list[Check]] = {}
    for check in told["checks"]:
        assert check["verdict"] == "ok" or check["fix"] or check["about"] == "this node", check
        found.setdefault(check["about"], []).append(Check(**check))
    return found


def verdicts(found: dict[str, list[Check]], verdict: Verdict) -> set[str]:
    return {about for about, checks in found.items() for check in checks if check.verdict == verdict}


# ------------------------------------------------------------------------------------------------ a real node


def test_before_the_first_start_nothing_fails_and_nothing_is_left_behind(node: OneNode) -> None:
    found = doctor(node, 0)
    assert verdicts(found, WARNING) <= {
        "member a",
        "etcd's members",
        *(a for a in found if a.startswith("file system")),
    }
    assert found["member a"][0].what == "this node does not run"
    assert "are free" in found["ports"][0].what
    assert "is in no cluster yet" in found["folder"][0].what
    assert not list((node.place / "folder").iterdir())


def test_a_node_that_runs_is_fine_by_itself_and_no_worse_for_having_been_looked_at(node: OneNode) -> None:
    node.start()
    node.ready()
    for _ in range(2):
        found = doctor(node, 0)
        assert verdicts(found, OK) >= {"ports", "member a", "etcd's members", "this node", "folder", "renames", "etcd"}
        assert "are used by this node" in found["ports"][0].what
        assert found["this node"][0].what == "runs as leader and names no problem"
    (node.place / "folder" / "socket").mkdir()
    with socket.socket(socket.AF_UNIX) as special:
        special.bind(str(node.place / "folder" / "socket" / "s"))
        eventually(lambda: doctor(node, 0)["this node"][0].verdict == WARNING)
    plain = onefold("doctor", "--config", str(node.path)).stdout
    assert "warning  this node  " in plain
    assert plain.splitlines()[-1].startswith("1 warning in ")
    etcd = members.health(Address("127.0.0.1", node.port + 2), client_context(*node.config.tls))
    assert etcd.wrong == ""
    assert etcd.skew is not None and etcd.skew[0] <= 0 <= etcd.skew[1]


def test_a_port_that_another_program_has_is_a_failure_with_its_setting(node: OneNode) -> None:
    with socket.create_server(("127.0.0.1", node.port + 4)):
        (found,) = doctor(node, 1)["ports"]
    assert (found.verdict, f"port {node.port + 4} " in found.what, "`api.listen`" in found.fix) == (FAILURE, True, True)


def test_each_thing_that_is_wrong_is_a_failure_of_its_own(node: OneNode) -> None:
    (node.place / "folder").rmdir()
    (node.place / "state" / "tls" / "node.key").chmod(0o644)
    open_authority(node.place / "other")
    (node.place / "state" / "tls" / "ca.crt").write_bytes((node.place / "other" / "ca.crt").read_bytes())
    found = doctor(node, 1, ONEFOLD_ETCD_BINARY="no-such-etcd")
    assert verdicts(found, FAILURE) == {"etcd", "folder", "certificates"}
    assert found["etcd"][0].what == "there is no no-such-etcd on the PATH"
    assert "there is no folder" in found["folder"][0].what
    assert "does not hold by the authority" in found["certificates"][0].what


def test_a_node_of_another_authority_is_a_failure_though_it_answers(node: OneNode, tmp_path: Path) -> None:
    node.start()
    node.ready()
    strange = node.config.tls._replace(ca=tmp_path / "x" / "ca.crt", cert=tmp_path / "x" / "node.crt")
    strange = strange._replace(key=tmp_path / "x" / "node.key")
    certify_node(open_authority(tmp_path / "y"), "a", "127.0.0.1", "www", strange)
    tls = {f"ONEFOLD_TLS_{name.upper()}": str(file) for name, file in strange._asdict().items()}
    found = doctor(node, 1, **tls)
    assert "no TLS with a" in found["member a"][0].what


def test_a_member_out_of_reach_is_told_from_one_that_does_not_run(node: OneNode) -> None:
    text = node.path.read_text()
    node.path.write_text(f'{text}[[members]]\nname = "b"\naddress = "127.0.0.1:9"\n')
    assert doctor(node, 0)["member b"] == [
        ("member b", "warning", "nobody listens at 127.0.0.1:9", "start b"),
    ]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        node.path.write_text(f'{text}[[members]]\nname = "b"\naddress = "127.0.0.1:{port}"\n')
        (found,) = doctor(node, 1)["member b"]
    assert (found.verdict, f"open ports {port} to {port + 3}" in found.fix) == (FAILURE, True)


# ------------------------------------------------------------------------------------------------ the machine


@pytest.mark.parametrize(
    ("release", "verdict"),
    [("5.2.9", FAILURE), ("5.4.0-26-generic", WARNING), ("5.10.0-8-amd64", OK), ("6.18", OK), ("4.19", FAILURE)],
)
def test_kernels_are_told_apart(release: str, verdict: Verdict) -> None:
    assert machine.kernel(release).verdict == verdict


def test_directories_are_counted_without_symlinks_up_to_a_bound(tmp_path: Path) -> None:
    for name in ("a/b", "a/c", "d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert machine.directories(tmp_path, 100) == (5, True)
    assert machine.directories(tmp_path, 2) == (3, False)
    assert machine.directories(tmp_path, 100, seconds=-1) == (0, False)


def test_too_few_watches_are_a_warning_with_the_number_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.inotify(tmp_path).verdict == OK
    monkeypatch.setattr(machine, "directories", lambda folder, most: (900_000, False))
    found = machine.inotify(tmp_path)
    assert (found.verdict, found.fix) == (WARNING, "sysctl fs.inotify.max_user_watches=2097152")


def test_the_type_of_a_file_system_is_that_of_the_mount_itself() -> None:
    assert machine.mount_of(Path("/proc/self")) == ("/proc", "proc")
    with open("/proc/mounts") as mounts:
        root = [line.split()[2] for line in mounts if line.split()[1] == "/"]
    assert machine.mount_of(Path("/")) == ("/", root[-1])


@pytest.mark.parametrize(
    ("type", "says"),
    [("nfs4", "is on the network"), ("fuse.sshfs", "may lack"), ("overlay", "inode numbers"), ("tmpfs", "is lost")],
)
def test_file_systems_that_will_not_do_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type: str, says: str
) -> None:
    monkeypatch.setattr(machine, "mount_of", lambda place: machine.Mount("/mnt", type))
    (found,) = machine.file_system("folder", tmp_path / "not" / "yet")
    assert found.verdict == WARNING
    assert f"{type} (/mnt)" in found.what and says in found.what


def test_renames_are_tried_where_the_folder_is_and_leave_nothing(tmp_path: Path) -> None:
    assert machine.renames(tmp_path).verdict == OK
    assert not list(tmp_path.iterdir())
    (tmp_path / ".onefold").mkdir()
    (tmp_path / ".onefold" / "id").touch()
    assert machine.renames(tmp_path).verdict == OK
    assert [path.name for path in tmp_path.rglob("*")] == [".onefold", "id"]
    assert machine.renames(Path("/sys")).verdict == FAILURE


def test_a_hook_needs_its_program() -> None:
    hook = Hook("reload", ("*",), ("sh", "-c", "true"), 500, 60)
    assert machine.hook(hook) == ok("hook reload", str(shutil.which("sh")))
    assert machine.hook(hook._replace(run=("no-such-program",))).verdict == WARNING


@pytest.mark.parametrize(
    ("free", "inodes", "verdict"),
    [
        (1 << 20, 10**6, FAILURE),
        (1 << 40, 0, FAILURE),
        (1 << 29, 10**6, WARNING),
        (1 << 40, 99, WARNING),
        (1 << 40, 10**6, OK),
    ],
)
def test_room_is_bytes_and_inodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, verdict: Verdict
) -> None:
    real = os.statvfs(tmp_path)
    fields = dict(zip(("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail"), real, strict=False))
    fields |= {"f_frsize": 1, "f_bavail": free, "f_files": 10**7, "f_favail": inodes}
    monkeypatch.setattr(os, "statvfs", lambda place: type("Room", (), fields))
    (found,) = machine.room("folder", tmp_path)
    assert found.verdict == verdict


# ------------------------------------------------------------------------------------------------ files and clocks


def test_certificates_are_warned_of_before_they_expire(tmp_path: Path) -> None:
    open_authority(tmp_path)
    now = datetime.datetime.now(datetime.UTC)

    def at(days: float) -> tuple[Verdict, str]:
        (found,) = files.lifetime("authority", tmp_path / "ca.crt", now + datetime.timedelta(days=days))
        return found.verdict, found.what

    assert at(0)[0] == OK
    assert at(7290) == (WARNING, f"{tmp_path / 'ca.crt'} expires in 9 days")
    assert at(7301)[0] == FAILURE and "expired on" in at(7301)[1]
    assert at(-3)[0] == FAILURE and "is not valid before" in at(-3)[1]
    (tmp_path / "ca.crt").write_text("nothing of the sort")
    assert at(0)[0] == FAILURE


def test_a_key_that_others_may_read_is_a_warning(node: OneNode) -> None:
    node.config.tls.admin.key.chmod(0o640)
    (found,) = doctor(node, 0)["certificates"]
    assert (found.verdict, found.fix) == (WARNING, f"chmod 600 {node.config.tls.admin.key}")


@pytest.mark.parametrize(
    ("skew", "verdict", "says"),
    [
        ((-0.4, 0.7), OK, "agrees with ours, within 0.7 s"),
        ((1.1, 2.2), OK, "is 1.1 s ahead of ours"),
        ((-9.0, -8.0), WARNING, "is 8.0 s behind ours"),
        ((90_000.0, 90_001.0), FAILURE, "is 90000.0 s ahead of ours"),
    ],
)
def test_clocks_are_judged_by_what_is_certain(skew: tuple[float, float], verdict: Verdict, says: str) -> None:
    found = clock("b", skew)
    assert found.verdict == verdict
    assert says in found.what


@contextmanager
def an_etcd(place: Path, body: bytes, ahead: float) -> Iterator[tuple[Address, ssl.SSLContext]]:
    """Something that answers as an etcd does, by a clock of its own."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/health"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return email.utils.formatdate(int(time.time() + ahead), usegmt=True)

        def log_message(self, format: str, *args: object) -> None: ...

    tls = [place / "tls" / name for name in ("ca.crt", "node.crt", "node.key")]
    open_authority(place / "authority").issue("b", ["127.0.0.1"], place / "tls", "www")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls[1], tls[2])
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_port), client_context(*tls)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "ahead", "wrong"),
    [
        (b'{"health":"true"}', 3600.0, ""),
        (b'{"health":"true","reason":""}', -3600.0, ""),
        (b'{"health":"false","reason":"RAFT NO LEADER"}', 0.0, "RAFT NO LEADER"),
        (b'{"health":"false"}', 0.0, "it has no leader, or an alarm"),
        (b"<html>", 0.0, "its answer is not that of an etcd"),
        (b"3", 0.0, "its answer is not that of an etcd"),
    ],
)
def test_health_and_clock_are_what_the_member_says(tmp_path: Path, body: bytes, ahead: float, wrong: str) -> None:
    with an_etcd(tmp_path, body, ahead) as (address, context):
        found = members.health(address, context)
    assert found.wrong == wrong
    assert found.skew is not None
    assert found.skew[0] <= ahead <= found.skew[1]
    assert found.skew[1] - found.skew[0] < 2


def test_without_a_majority_etcd_fails_but_not_before_anybody_runs() -> None:
    well, ill = Etcd("", None), Etcd("it does not answer", None)
    names = ["a", "b", "c"]
    assert quorum(names, [well, well, well], 3, True).verdict == OK
    found = quorum(names, [well, ill, well], 3, True)
    assert (found.verdict, found.what) == (WARNING, "2 of 3 members are well (b: it does not answer)")
    assert quorum(names, [well, ill, ill], 3, True).verdict == FAILURE
    assert quorum(names, [ill, ill, ill], 3, False).verdict == WARNING


# ------------------------------------------------------------------------------------------------ how it is told


def test_a_check_that_cannot_be_made_is_a_failure_and_no_end() -> None:
    def refused() -> list[Check]:
        raise OperatorError("there is no x", "install it")

    def closed() -> list[Check]:
        raise PermissionError(13, "Permission denied", "/proc/1/fd")

    assert attempt("x", refused) == [failure("x", "there is no x", "install it")]
    (found,) = attempt("ports", closed)
    assert (found.verdict, found.what) == (FAILURE, "cannot look at /proc/1/fd (Permission denied)")


def test_the_summary_counts_what_is_not_fine() -> None:
    fine, so_so, bad = ok("a", "b"), warning("a", "b", "c"), failure("a", "b", "c")
    assert summary([fine, fine]) == "all 2 checks are fine"
    assert summary([fine, so_so, so_so]) == "2 warnings in 3 checks"
    assert summary([bad, so_so]) == "1 failure and 1 warning in 2 checks"
