"""One node as a service manager would run it: its settings, its certificates, and the real `onefold run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ports import first_free

from onefold.certify import certify_node, open_authority
from onefold.config import Config, load

ONEFOLD = [sys.executable, "-P", "-m", "onefold"]
SECONDS = 40.0


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def free_base_port() -> int:
    """The first of five ports that nobody uses just now."""
    return first_free(range(21_000 + os.getpid() % 60 * 5, 21_500, 5), 5)


def onefold(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ONEFOLD, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=cwd,
        env=os.environ | environment,
    )


class OneNode:
    """A cluster of one, in `place`: `folder`, `state`, `node.toml`, `log`."""

    def __init__(self, place: Path, more: str = "") -> None:
        """`more`: settings to stand before the members."""
        self.place = place
        self.port = free_base_port()
        self.path = place / "node.toml"
        self.process: subprocess.Popen[bytes] | None = None
        (place / "folder").mkdir()
        self.path.write_text(
            f'name = "a"\nfolder = "folder"\nfolder_id = "www"\nstate = "state"\n{more}\n'
            f'[[members]]\nname = "a"\naddress = "127.0.0.1:{self.port}"\n'
        )
        config = self.config
        certify_node(open_authority(place / "authority"), "a", "127.0.0.1", "www", config.tls)

    @property
    def config(self) -> Config:
        return load(self.path)

    @property
    def log(self) -> str:
        return (self.place / "log").read_text()

    def pid(self, what: str) -> int:
        """Of "supervisor", "node" or "etcd", once it runs."""
        file = self.place / "state" / f"{what}.pid"
        eventually(lambda: file.exists() and file.read_text().endswith("\n"))
        return int(file.read_text())

    def start(
        self, *options: str, before: Callable[[], None] | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """`before` runs in the child before it becomes `onefold run`."""
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*ONEFOLD, "run", "--config", str(self.path), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                preexec_fn=before,
            )
        return self.process

    def ready(self) -> None:
        """Returns once it replicates what is written."""
        eventually(lambda: onefold("wait", "--config", str(self.path)).returncode == 0)

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(SECONDS)
            finally:
                self.process.kill()
                self.process.wait()
            assert "Traceback" not in self.log
