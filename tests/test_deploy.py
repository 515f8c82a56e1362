"""The image and the compose file. No container runs here: what they say is checked against the code, and their settings
are tried on three machines in namespaces that know each other by name, as containers do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from network import Network, make
from one_node import ONEFOLD, SECONDS, eventually

from onefold.config import API_PORT, PORTS, load

PROJECT = Path(__file__).parent.parent
DEPLOY = PROJECT / "deploy"
NODES = ("node1", "node2", "node3")
NAMED = 'mount --bind "$0" /etc/hosts && exec "$@"'
"""A shell's command, in a mount namespace of its own: what follows knows the hosts in the file `$0`."""


def test_the_image_is_made_of_what_is_there_and_shows_the_ports_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    kept = {line.removeprefix("!") for line in (PROJECT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    assert set(copied) == kept
    assert all((PROJECT / path).exists() for path in copied)
    for name in NODES:
        monkeypatch.setenv("ONEFOLD_NAME", name)
        config = load(DEPLOY / "node.toml")
        ports = [config.listen.port + offset for offset in range(len(PORTS) + 1)]
        assert ports[API_PORT] == config.api.listen.port
        assert re.search(r"^EXPOSE (.*)$", text, re.MULTILINE)[1] == " ".join(map(str, ports))  # type: ignore[index]
        assert f'VOLUME ["{config.folder}", "{config.state}"]' in text


def test_the_compose_file_gives_each_node_its_own_volumes_and_name() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services.keys() == {"certificates", *NODES}
    for number, name in enumerate(NODES, 1):
        node = services[name]
        assert node["environment"]["ONEFOLD_NAME"] == node["hostname"] == name
        assert node["volumes"][1:] == [f"folder{number}:/srv/folder", f"state{number}:/var/lib/onefold"]
        assert f"state{number}:/state/{name}" in services["certificates"]["volumes"]
        assert not any("authority" in volume for volume in node["volumes"])


class Containers:
    """The nodes of the compose file, each on a machine of its own."""

    def __init__(self, place: Path, network: Network) -> None:
        self.place = place
        self.network = network
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        hosts = [f"{address} {name}" for name, address in network.addresses.items()]
        (place / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts]) + "\n")
        settings = ["--config", str(DEPLOY / "node.toml")]
        subprocess.run(
            [*ONEFOLD, "certify", *settings, "--out", str(place / "authority")], env=self._told("node1"), check=True
        )
        for name in NODES:
            self.folder(name).mkdir(parents=True)
            (place / name / "state").mkdir(mode=0o700)
            (place / "authority" / name).rename(place / name / "state" / "tls")
            with (place / f"{name}.log").open("wb") as log:
                self.running[name] = subprocess.Popen(
                    self._command(name, "run", *settings), env=self._told(name), stdout=log, stderr=log
                )

    def folder(self, name: str) -> Path:
        return self.place / name / "folder"

    def ask(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = self._command(name, *words, "--config", str(DEPLOY / "node.toml"))
        return subprocess.run(command, env=self._told(name), capture_output=True, text=True, timeout=SECONDS)

    def healthy(self, name: str) -> bool:
        """What the image's health check says."""
        (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
        _, *arguments = json.loads(check)
        return (
            subprocess.run([*self.network.inside(name), sys.executable, *arguments], capture_output=True).returncode
            == 0
        )

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running.pop(name).wait()

    def close(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(SECONDS)

    def _command(self, name: str, *words: str) -> list[str]:
        named = ["unshare", "--mount", "sh", "-c", NAMED, str(self.place / "hosts")]
        return [*self.network.inside(name), *named, *ONEFOLD, *words]

    def _told(self, name: str) -> dict[str, str]:
        home = self.place / name
        told = {"ONEFOLD_NAME": name, "ONEFOLD_FOLDER": str(home / "folder"), "ONEFOLD_STATE": str(home / "state")}
        return os.environ | told | ({"ONEFOLD_PREFERRED": "true"} if name == NODES[0] else {})


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    network = make(NODES)
    try:
        made = Containers(tmp_path, network)
        try:
            yield made
        finally:
            made.close()
    finally:
        network.close()


def test_nodes_that_know_each_other_by_name_replicate_and_survive_one(containers: Containers) -> None:
    eventually(lambda: containers.ask("node1", "wait").returncode == 0)
    eventually(lambda: containers.ask("node1", "leader", "show").stdout == "node1\n")
    (containers.folder("node1") / "hello").write_text("hi")
    for name in NODES:
        eventually(lambda name=name: (containers.folder(name) / "hello").exists())  # type: ignore[misc]
        assert containers.healthy(name)
    done = containers.ask("node2", "doctor", "--json")
    assert done.returncode == 0, done.stdout
    containers.kill("node1")
    assert not containers.healthy("node1")
    eventually(lambda: containers.ask("node2", "leader", "show").stdout in ("node2\n", "node3\n"))
    leader = containers.ask("node2", "leader", "show").stdout.strip()
    (containers.folder(leader) / "again").write_text("hi")
    (other,) = {"node2", "node3"} - {leader}
    eventually((containers.folder(other) / "again").exists)
