"""Bad input, on the real program: one clear sentence with the fix and a non-zero exit, or a named problem in `status`
where the node can go on; never a traceback, never a half-written file."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from one_node import ONEFOLD, SECONDS, eventually
from ports import first_free

from onefold.config import ADMIN
from onefold.edge.tls import Authority

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


def free_base_port(nodes: int = 1) -> int:
    """The first of ten ports a node that nobody uses just now."""
    return first_free(range(30_000 + os.getpid() % 200 * 10, 32_600, 10 * nodes), 10 * nodes)


def without_rights() -> None:
    """In a child: what root may do beyond the permissions of files, gone for whatever it executes."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if os.geteuid() == 0 and libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            os._exit(99)


class Cluster:
    """Nodes on this machine, each with a folder, a state directory, certificates and a `node.toml`."""

    def __init__(self, place: Path, names: tuple[str, ...] = ("a",), voters: int = 9) -> None:
        self.place = place
        self.names = names
        self.voters = voters
        self.port = free_base_port(len(names))
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        place.mkdir(parents=True, exist_ok=True)
        authority = Authority.create(place / "authority")
        for name in names:
            self.folder(name).mkdir(parents=True)
            self.certify(authority, name)
            self.configure(name)

    def folder(self, name: str) -> Path:
        """On a disk of its own, the folder is a directory there: another one can then be in its way."""
        return self.place / name / "folder" if (self.place / name).is_mount() else self.place / name

    def state(self, name: str) -> Path:
        return self.place / ".onefold" / name

    def log(self, name: str) -> Path:
        return self.place / f"{name}.log"

    def certify(self, authority: Authority, name: str) -> None:
        tls = self.state(name) / "tls"
        authority.issue(name, ["127.0.0.1"], tls, "f1")
        admin = authority.sign(ADMIN, [], "f1")
        (tls / "admin.crt").write_bytes(admin.certificate)
        (tls / "admin.key").write_bytes(admin.key)

    def configure(self, name: str, more: str = "", **other: object) -> Path:
        """Write the node's settings: the plain ones, changed by `other`, and after them the text `more`."""
        facts: dict[str, object] = {"name": name, "folder": str(self.folder(name)), "folder_id": "f1"}
        facts |= {"state": str(self.state(name))} | other
        lines = [
            f"{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}" for key, value in facts.items()
        ]
        lines += [f"preferred = {'true' if name == self.names[0] else 'false'}", more]
        for number, member in enumerate(self.names):
            lines += ["[[members]]", f'name = "{member}"', f'address = "127.0.0.1:{self.port + 10 * number}"']
            lines += [f"voter = {'true' if number < self.voters else 'false'}"]
        path = self.place / f"{name}.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, name: str) -> None:
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*ONEFOLD, "run", "--config", str(self.place / f"{name}.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def status(self, of: str = "") -> dict[str, dict[str, object]]:
        """What every node says of itself, by its name; {} when none answers."""
        done = command("status", "--json", "--config", str(self.place / f"{of or self.names[0]}.toml"))
        return {node["name"]: node for node in json.loads(done.stdout)["nodes"]} if done.stdout else {}

    def problems(self, name: str) -> list[dict[str, str]]:
        return self.status().get(name, {}).get("problems", [])  # type: ignore[return-value]

    def ready(self) -> None:
        """Returns once every node is up, and what is written now is replicated."""

        def up() -> bool:
            nodes = self.status()
            return bool(nodes) and all(n["role"] != "down" for n in nodes.values()) and self.waits()

        eventually(up)

    def waits(self) -> bool:
        toml = str(self.place / f"{self.names[0]}.toml")
        return command("wait", "--config", toml).returncode == 0

    def close(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(SECONDS)
            finally:
                process.kill()
                process.wait()


def command(
    *words: str, environment: dict[str, str] | None = None, humble: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ONEFOLD, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | (environment or {}),
        preexec_fn=without_rights if humble else None,
    )


def refused(code: int, *says: str, run: Path | None = None, **how: object) -> None:
    """`onefold run` on the settings `run` ends with `code` and one sentence that says all of `says`."""
    done = command("run", "--config", str(run), **how)  # type: ignore[arg-type]
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for part in says:
        assert part in done.stderr


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One node, not started."""
    made = Cluster(tmp_path)
    yield made
    made.close()
    for log in [*tmp_path.glob("*.log"), *tmp_path.glob(".onefold/*/*.log")]:
        assert "Traceback" not in log.read_text(errors="replace")


@contextmanager
def running(place: Path, names: tuple[str, ...], voters: int) -> Iterator[Cluster]:
    """A cluster, started and ready."""
    made = Cluster(place, names, voters)
    try:
        for name in made.names:
            made.start(name)
        made.ready()
        yield made
    finally:
        made.close()
    for log in place.glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace")


# ------------------------------------------------------------------------------------------------ the settings


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = \n", ("is not valid TOML", "line 1", "mend that line")),
        ('colour = "red"', ("`colour` is no setting", "see docs/settings.md")),
        ('writer = "any"', ("`writer` is no setting", "did you mean `writers`?")),
        ("quiet_ms = 0", ("`quiet_ms` is 0", "from 1 to 2000")),
        ("[etcd]\nheartbeat = 5", ("`etcd.heartbeat` is no setting", "did you mean `etcd.heartbeat_ms`?")),
    ],
)
def test_bad_settings_are_named_with_the_fix(cluster: Cluster, text: str, says: tuple[str, ...]) -> None:
    path = cluster.configure("a", text)
    if says[0] == "is not valid TOML":
        path.write_text(text)
    refused(2, str(path), *says, run=path)


def test_a_settings_file_that_cannot_be_had_is_named(cluster: Cluster) -> None:
    refused(2, "there is no", "--config", run=cluster.place / "none.toml")
    refused(2, "Is a directory", run=cluster.place)
    path = cluster.configure("a")
    path.chmod(0)
    refused(2, "cannot read", str(path), "make it readable", run=path, humble=True)
    path.chmod(0o600)
    path.write_bytes(b'name = "\xff"')
    refused(2, "is not UTF-8", run=path)


# ------------------------------------------------------------------------------------------------ folder and state


def test_a_folder_that_is_not_there_or_may_not_be_used_is_named(cluster: Cluster) -> None:
    folder = cluster.folder("a")
    refused(3, "there is no folder", "create it", run=cluster.configure("a", folder=cluster.place / "none"))
    refused(3, "is not a directory", run=cluster.configure("a", folder=cluster.place / "a.toml"))
    for mode in (0o000, 0o300, 0o500):
        folder.chmod(mode)
        refused(3, str(folder), "permission", run=cluster.configure("a"), humble=True)
    folder.chmod(0o700)
    assert not list(folder.iterdir())


def test_a_state_directory_that_may_not_be_written_is_named(cluster: Cluster) -> None:
    cluster.state("a").chmod(0o500)
    refused(3, str(cluster.state("a")), "Permission denied", "writable", run=cluster.configure("a"), humble=True)
    cluster.state("a").chmod(0o700)
    refused(3, "a.toml", "Not a directory", run=cluster.configure("a", state=cluster.place / "a.toml" / "x"))
    refused(3, "a.toml", run=cluster.configure("a", state=cluster.place / "a.toml"))


def test_a_state_directory_of_another_cluster_is_refused(cluster: Cluster) -> None:
    (cluster.state("a") / "folder-id").write_text("other\n")
    refused(3, "belongs to the cluster other", "set another `state`", run=cluster.configure("a"))


def test_a_folder_of_another_cluster_is_refused(cluster: Cluster) -> None:
    (cluster.folder("a") / ".onefold").mkdir()
    (cluster.folder("a") / ".onefold" / "id").write_text("other\n")
    refused(3, "belongs to the cluster other", "set another `folder`", run=cluster.configure("a"))


def test_a_folder_whose_disk_is_not_mounted_is_not_taken_for_an_empty_one(cluster: Cluster) -> None:
    (cluster.state("a") / "folder-id").write_text("f1\n")
    refused(3, "as if its disk were not mounted", "mount it", run=cluster.configure("a"))
    assert not list(cluster.folder("a").iterdir())


@pytest.mark.parametrize("state", ["a/inside", "a", "."])
def test_folder_and_state_in_each_other_are_refused(cluster: Cluster, state: str) -> None:
    refused(3, "lies inside", "out of it", run=cluster.configure("a", state=cluster.place / state))


def test_a_second_node_on_the_same_folder_or_state_is_refused(cluster: Cluster) -> None:
    cluster.start("a")
    cluster.ready()
    shutil.copytree(cluster.state("a") / "tls", cluster.place / "state2" / "tls")
    path = cluster.configure("a", state=cluster.place / "state2")
    path.rename(cluster.place / "second.toml")
    refused(3, "a node is running on the folder", "stop it", run=cluster.place / "second.toml")
    cluster.configure("a", folder=cluster.place / "folder2").rename(cluster.place / "third.toml")
    (cluster.place / "folder2").mkdir()
    refused(3, "a node is running on the state directory", "stop it", run=cluster.place / "third.toml")


def test_a_folder_inside_or_around_another_nodes_folder_is_refused(cluster: Cluster) -> None:
    cluster.start("a")
    cluster.ready()
    cluster.close()
    inner = cluster.folder("a") / "inner"
    inner.mkdir()
    other = cluster.place / "other.toml"
    cluster.configure("a", folder=inner, state=cluster.place / "s2").rename(other)
    refused(3, "lies inside", "which is a node's folder", run=other)
    cluster.configure("a", folder=cluster.place, state=cluster.place.parent / "s3").rename(other)
    refused(3, "holds", "keep them beside each other", run=other)


# ------------------------------------------------------------------------------------------------ ports and etcd


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_a_port_in_use_is_named(cluster: Cluster, offset: int) -> None:
    with socket.create_server(("127.0.0.1", cluster.port + offset)):
        refused(3, f"port {cluster.port + offset} ", "is in use", "`listen`", run=cluster.configure("a"))


def test_an_address_that_is_not_of_this_machine_is_named(cluster: Cluster) -> None:
    path = cluster.configure("a")
    path.write_text(path.read_text().replace("127.0.0.1", "192.0.2.1"))
    refused(3, "192.0.2.1 is no address of this machine", run=path)
    path.write_text(path.read_text().replace("192.0.2.1", "no-such-host.invalid"))
    refused(3, "cannot resolve the host no-such-host.invalid", run=path)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "there is no etcd on the PATH"),
        ("echo moo", "is not etcd, or does not run (it says 'moo')"),
        ("echo 'etcd Version: 3.3.27'", "is etcd 3.3, and 3.4 or newer is needed"),
        ("exit 1", "is not etcd, or does not run"),
        ("printf '\\377\\376'", "does not run"),
    ],
)
def test_an_etcd_that_is_missing_wrong_or_old_is_named(cluster: Cluster, script: str | None, says: str) -> None:
    binaries = cluster.place / "bin"
    binaries.mkdir()
    if script is not None:
        (binaries / "etcd").write_text(f"#!/bin/sh\n{script}\n")
        (binaries / "etcd").chmod(0o755)
    refused(3, says, "install it", run=cluster.configure("a"), environment={"PATH": str(binaries)})


def test_an_etcd_that_ends_at_once_is_named(cluster: Cluster) -> None:
    program = cluster.place / "etcd"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "etcd Version: 3.4.30" || { echo no quorum >&2; exit 7; }\n'
    )
    program.chmod(0o755)
    refused(3, "etcd", "no quorum", run=cluster.configure("a", f'[etcd]\nbinary = "{program}"'))


def test_the_data_of_another_etcd_is_refused(cluster: Cluster) -> None:
    (cluster.state("a") / "etcd" / "data").mkdir(parents=True)
    refused(3, "an etcd that is not ours", "another state directory", run=cluster.configure("a"))


# ------------------------------------------------------------------------------------------------ certificates


@pytest.mark.parametrize("file", ["ca.crt", "node.crt", "node.key"])
def test_certificates_that_are_missing_or_damaged_are_named(cluster: Cluster, file: str) -> None:
    path = cluster.state("a") / "tls" / file
    path.write_text("nonsense")
    refused(3, str(path.parent), run=cluster.configure("a"))
    path.unlink()
    refused(3, str(path), run=cluster.configure("a"))


def test_a_certificate_in_another_name_is_named(cluster: Cluster) -> None:
    Authority.load(cluster.place / "authority").issue("b", ["127.0.0.1"], cluster.state("a") / "tls", "f1")
    refused(3, "the certificate", "is that of b, not of a", run=cluster.configure("a"))


def test_a_certificate_of_another_authority_is_named(cluster: Cluster) -> None:
    tls = cluster.state("a") / "tls"
    ca = (tls / "ca.crt").read_bytes()
    Authority.create(cluster.place / "authority2").issue("a", ["127.0.0.1"], tls, "f1")
    (tls / "ca.crt").write_bytes(ca)
    refused(3, "does not hold by the authority", str(tls / "ca.crt"), run=cluster.configure("a"))


# ------------------------------------------------------------------------------------------------ other members


@contextmanager
def started(place: Path, names: tuple[str, ...], *start: str) -> Iterator[Cluster]:
    """A cluster of which only the nodes `start` are started; they may have nobody to agree with."""
    made = Cluster(place, names)
    try:
        for name in start:
            made.start(name)
        yield made
    finally:
        made.close()
    for log in place.glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace")


def test_no_majority_is_a_named_problem_until_there_is_one(tmp_path: Path) -> None:
    with started(tmp_path, ("a", "b", "c"), "a") as cluster:
        (cluster.folder("a") / "x").write_text("x")
        eventually(lambda: any("no majority of etcd answered" in p["what"] for p in cluster.problems("a")))
        nodes = cluster.status()
        assert [nodes[name]["role"] for name in cluster.names] == ["voter", "down", "down"]
        moved = command("leader", "move", "b", "--config", str(tmp_path / "a.toml"))
        assert (moved.returncode, moved.stderr.count("\n")) == (4, 1)
        waited = command("wait", "--timeout", "0.1", "--config", str(tmp_path / "a.toml"))
        assert (waited.returncode, waited.stderr.count("\n")) == (4, 1)
        cluster.start("b")
        eventually(lambda: (cluster.folder("b") / "x").exists())
        eventually(lambda: not cluster.problems("a"))


def test_a_peer_with_a_certificate_of_another_authority_is_a_named_problem(tmp_path: Path) -> None:
    with started(tmp_path, ("a", "b", "c"), "a", "b") as cluster:
        cluster.certify(Authority.create(tmp_path / "authority2"), "c")
        cluster.start("c")
        eventually(lambda: any("c" in p["what"].split() and "certificate" in p["fix"] for p in cluster.problems("a")))
        assert cluster.waits()


def test_a_peer_of_another_cluster_is_a_named_problem(tmp_path: Path) -> None:
    with started(tmp_path, ("a", "b", "c"), "a", "b") as cluster:
        cluster.configure("c", folder_id="f2")
        cluster.start("c")
        eventually(lambda: any("and c folder f2" in p["what"] for p in cluster.problems("a")))
        assert cluster.waits()


def test_an_etcd_of_ours_that_does_not_answer_is_a_named_problem(cluster: Cluster) -> None:
    cluster.configure("a", f'[etcd]\nendpoints = ["127.0.0.1:{cluster.port + 2}"]')
    cluster.start("a")
    eventually(lambda: any("Connection refused" in p["what"] for p in cluster.problems("a")))


@pytest.mark.parametrize("words", [("status",), ("wait",), ("leader", "show"), ("leader", "move", "a")])
def test_questions_to_a_cluster_that_is_down_are_answered_by_a_sentence(
    cluster: Cluster, words: tuple[str, ...]
) -> None:
    done = command(*words, "--config", str(cluster.place / "a.toml"))
    assert done.returncode in (3, 4)
    assert done.stderr == "onefold: no node answers (a): start one: onefold demo, or onefold run\n"


# ------------------------------------------------------------------------------------------------ full disks


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A file system of its own at `at`, with room for `size`."""
    at.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on `disk`; answers the file that takes it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def tree(folder: Path) -> dict[str, bytes]:
    """What a reader finds in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".onefold" not in path.parts[len(folder.parts) :]
    }


def test_a_full_folder_is_a_named_problem_until_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "b", "8m") as disk, running(tmp_path, ("a", "b", "c"), 3) as cluster:
        folder = {name: cluster.folder(name) for name in cluster.names}
        (folder["a"] / "old").write_text("old")
        assert cluster.waits()
        pid = (cluster.state("b") / "node.pid").read_text()
        filler = fill(disk)
        (folder["a"] / "big").write_bytes(os.urandom(3 << 20))
        (folder["a"] / "small").write_bytes(os.urandom(10_000))
        (folder["a"] / "old").write_bytes(os.urandom(20_000))
        (folder["a"] / "tree").mkdir()
        (folder["a"] / "tree" / "leaf").write_bytes(os.urandom(5_000))
        eventually(lambda: tree(folder["c"]) == tree(folder["a"]))
        for name in ("big", "small", "old", "tree/leaf"):
            eventually(lambda name=name: [p for p in cluster.problems("b") if p["where"] == name])  # type: ignore[misc]
        assert {(p["what"], p["fix"]) for p in cluster.problems("b")} == {("the disk is full", "free space")}
        assert tree(folder["b"]) == {"old": b"old"}
        filler.unlink()
        eventually(lambda: tree(folder["b"]) == tree(folder["a"]))
        eventually(lambda: not cluster.problems("b"))
        assert (cluster.state("b") / "node.pid").read_text() == pid
