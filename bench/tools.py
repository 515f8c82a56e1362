"""What is measured: a tool keeps three folders identical, and edits start in the first of them."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

import psutil
from demo import Demo, family

from onefold.errors import OperatorError, UserError
from onefold.process import Process

START_SECONDS = 120.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.01


class Tool(ABC):
    """One tool, in the new directory `work`."""

    program = ""
    """What must be installed for it."""

    def __init__(self, name: str, work: Path) -> None:
        self.name = name
        self.work = work
        self.folders = [work / each for each in ("a", "b", "c")]

    def start(self) -> None:
        """Returns once edits in the first folder are replicated. Raises `OperatorError` if that never comes."""
        for folder in self.folders:
            folder.mkdir(parents=True)

    @abstractmethod
    def processes(self) -> list[psutil.Process]:
        """Those that run just now."""

    def kick(self) -> None:
        """The writer has finished: for tools that must be told."""
        return

    def rest(self) -> None:
        """Wait for what `kick` began."""
        return

    def cpu_seconds(self) -> float:
        """What all its processes have used until now, those that ended meanwhile included."""
        total = 0.0
        for process in self.processes():
            try:
                used = process.cpu_times()
            except psutil.NoSuchProcess:
                continue  # ended since it was listed: its parent accounts for it from the next call on
            total += used.user + used.system + used.children_user + used.children_system
        return total

    def resident_bytes(self) -> list[int]:
        """Of each of its processes."""
        found = []
        for process in self.processes():
            try:
                found.append(process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        return found

    def stop(self) -> None:
        """End all its processes."""
        return


class Onefold(Tool):
    """Three nodes with an etcd member each."""

    def __init__(self, name: str, work: Path, base_port: int) -> None:
        super().__init__(name, work)
        self._demo = Demo(work / "data", 3, base_port)
        self.folders = self._demo.folders

    def start(self) -> None:
        self._demo.start(START_SECONDS)

    def processes(self) -> list[psutil.Process]:
        return self._demo.processes()

    def stop(self) -> None:
        self._demo.stop()


class Rsync(Tool):
    """The floor of a batch copy: a run for each of the two others, at once, right after the writer has finished."""

    program = "rsync"

    def __init__(self, name: str, work: Path) -> None:
        super().__init__(name, work)
        self._runs: list[subprocess.Popen[bytes]] = []

    def kick(self) -> None:
        first, *others = self.folders
        self._runs = [
            subprocess.Popen(["rsync", "-a", "--delete", f"{first}/", f"{other}/"], stdin=subprocess.DEVNULL)
            for other in others
        ]

    def rest(self) -> None:
        failed = [status for status in [run.wait() for run in self._runs] if status]
        self._runs = []
        if failed:
            raise OperatorError(f"rsync ended with status {failed[0]}", "see what it said above")

    def processes(self) -> list[psutil.Process]:
        return []

    def cpu_seconds(self) -> float:
        """Counted once a run has ended. No other children of ours end while this tool has its turn."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def stop(self) -> None:
        for run in self._runs:
            run.kill()
            run.wait()


class Lsyncd(Tool):
    """It watches the first folder and starts rsync, without the delay that it has by default."""

    program = "lsyncd"

    def __init__(self, name: str, work: Path) -> None:
        super().__init__(name, work)
        self._process: Process | None = None

    def start(self) -> None:
        super().start()
        settings = self.work / "lsyncd.lua"
        first, *others = self.folders
        blocks = ["settings { nodaemon = true, maxDelays = 1 }"]
        blocks += [
            f'sync {{ default.rsync, source = "{first}/", target = "{other}/", delay = 1,'
            " rsync = { archive = true } }"
            for other in others
        ]
        settings.write_text("\n".join(blocks) + "\n")
        self._process = Process(["lsyncd", "-nodaemon", str(settings)], log=self.work / "lsyncd.log")
        self._process.start()
        probe = "ready"
        (first / probe).write_text(probe)
        deadline = time.monotonic() + START_SECONDS
        while not all((other / probe).exists() for other in others):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise OperatorError("lsyncd does not replicate", f"see {self.work / 'lsyncd.log'}")
            time.sleep(POLL_SECONDS)

    def processes(self) -> list[psutil.Process]:
        return family(self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(STOP_SECONDS)


TOOLS: dict[str, type[Tool]] = {"onefold": Onefold, "rsync": Rsync, "lsyncd": Lsyncd}


def installed(name: str) -> bool:
    return not TOOLS[name].program or shutil.which(TOOLS[name].program) is not None


def make(name: str, work: Path, base_port: int) -> Tool:
    """The tool `name`, to be started in the new directory `work`."""
    work.mkdir()
    return Onefold(name, work, base_port) if name == "onefold" else TOOLS[name](name, work)


def chosen(names: str) -> list[str]:
    """The tools in the comma-separated `names`; all that are installed for "". Raises `UserError`."""
    if not names:
        return [name for name in TOOLS if installed(name)]
    for name in names.split(","):
        if name not in TOOLS:
            raise UserError(f"there is no tool {name!r}", f"choose from {', '.join(TOOLS)}")
        if not installed(name):
            raise UserError(f"{TOOLS[name].program} is not installed", f"install it, or leave {name} out of --tools")
    return names.split(",")
