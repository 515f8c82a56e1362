"""Child processes that never outlive their parent, and the processes that pid files name.

A child sits in a session of its own, so that Ctrl-C in a terminal reaches only the parent, which then ends its children
in order. If the parent dies, however it dies, the kernel kills the child (PR_SET_PDEATHSIG, which watches the *thread*
that forked: start children from the main thread).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class Process:
    """A command to run as a child; it can be started again once it has ended. `keep` are descriptors it inherits."""

    def __init__(self, command: Sequence[str], log: Path | None = None, keep: Sequence[int] = ()) -> None:
        self._command = command
        self._log = log
        self._keep = keep
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start it; output goes to `log` (appended), else where ours goes. Raises `OSError` if it cannot be run."""
        output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if self._log else None
        try:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self._keep,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        finally:
            if output is not None:
                os.close(output)

    def poll(self) -> int | None:
        """The exit status (negative: the signal that ended it); None while it runs, or before `start`."""
        return self._child.poll() if self._child else None

    def stop(self, seconds: float) -> None:
        """Ask it to end, and wait; after `seconds` kill it."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()


class Running:
    """A process that is no child of ours, held by a descriptor, so that its pid cannot come to mean another one."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    @classmethod
    def find(cls, pid_file: Path, mark: str) -> Running | None:
        """The process that `pid_file` names, if it lives and `mark` stands in its command line; else None.

        The mark is looked at after the descriptor is taken: a pid that was reused meanwhile shows another one.
        """
        try:
            pid = int(pid_file.read_text())
            descriptor = os.pidfd_open(pid)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            command = b""
        if os.fsencode(mark) not in command:
            os.close(descriptor)
            return None
        return cls(pid, descriptor)

    def send(self, number: signal.Signals) -> None:
        """Signal it; no effect when it has ended."""
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return

    def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds`."""
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def fileno(self) -> int:
        """Readable once it has ended."""
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


def die_with(parent: int) -> Callable[[], None]:
    """What a child calls before it becomes another program, so that it is killed when `parent`, its maker, dies."""
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the child must not take the loader's locks

    def arrange() -> None:
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return arrange
