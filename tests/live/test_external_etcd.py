"""Nodes on an etcd that somebody else runs: `etcd.endpoints`, each node started with `onefold run`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Services, eventually, free_base_port
from etcds import EtcdCluster

from onefold.config import ADMIN
from onefold.demo_dir import PORTS_APART
from onefold.edge.tls import Authority

FOLDER_ID = "external"


def settings(directory: Path, number: int, base: int, etcd: EtcdCluster, authority: Authority) -> Path:
    """Make node `number` of three: its folder, its certificates and its settings."""
    name = f"node{number}"
    state = directory / "state" / name
    (directory / name).mkdir()
    authority.issue(name, ["127.0.0.1"], state / "tls", FOLDER_ID)
    admin = authority.sign(ADMIN, [], FOLDER_ID)
    (state / "tls" / "admin.key").write_bytes(admin.key)
    (state / "tls" / "admin.crt").write_bytes(admin.certificate)
    member = etcd.members[0]
    lines = [
        f'name = "{name}"',
        f'folder = "{directory / name}"',
        f'folder_id = "{FOLDER_ID}"',
        f'state = "{state}"',
        f"preferred = {'true' if number == 1 else 'false'}",
        "[etcd]",
        f'endpoints = ["{member.client_url.removeprefix("https://")}"]',
        f'ca = "{member.tls.ca}"',
        f'cert = "{member.tls.certificate}"',
        f'key = "{member.tls.key}"',
    ]
    for other in (1, 2, 3):
        address = f"127.0.0.1:{base + PORTS_APART * (other - 1)}"
        lines += ["[[members]]", f'name = "node{other}"', f'address = "{address}"']
    path = directory / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    etcd = EtcdCluster.start(tmp_path / "etcd", 1)
    try:
        authority = Authority.create(tmp_path / "authority")
        base = free_base_port()
        running = Services(settings(tmp_path, number, base, etcd, authority) for number in (1, 2, 3))
        try:
            yield running
        finally:
            running.close()
    finally:
        etcd.stop()


def test_nodes_on_an_etcd_of_somebody_else_replicate_and_start_none(services: Services) -> None:
    eventually(lambda: services.leader() == "node1", "the leadership of node1")
    eventually(services.connected, "a connection between any two nodes")
    (services.folder("node1") / "directory").mkdir()
    (services.folder("node1") / "directory" / "file").write_text("x")
    eventually(lambda: len(services.settled("node1")) == 2)
    (services.folder("node1") / "large").write_bytes(b"x" * 1_000_000)
    assert len(services.settled("node1")) == 3
    started = {child.name() for child in services.family()}
    assert started
    assert "etcd" not in started
    assert not any((config.state / "etcd").exists() for config in services.nodes.values())
