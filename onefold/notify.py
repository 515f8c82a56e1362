"""What the supervisor tells the service manager that started it, by systemd's protocol (sd_notify(3)): when it is up,
how it is, that it ends, and that it is not hung.

The last is the node's word, not the supervisor's: a supervisor that says so by itself would say it of a node whose
event loop hangs, too. The node writes a line into a pipe now and then (`onefold.pulse`), and each is passed on. While
it has nothing to say by right (it starts, begins anew, or was just started again after a death) the supervisor speaks
for it, but not for ever.

The supervisor, which stays resident, imports this: the standard library only.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

PULSE_SECONDS = 10.0
"""How often the node says how it is when no watchdog wants it more often."""
PULSES_PER_WATCHDOG = 4
BUSY_SECONDS_MAX = 900.0
"""For so long a node may begin: read its databases, put its folder in order after a crash. Longer is a hang."""
ALIVE, BUSY = b"+", b"-"
"""The first byte of what the node says; after `ALIVE` comes a sentence on how it is."""


class Manager:
    """The service manager's socket. What it does not take is lost: it must not keep us from our work."""

    def __init__(self, address: str, watchdog_seconds: float) -> None:
        """`watchdog_seconds`: it ends us when we are silent for so long; 0: it does not."""
        self.watchdog_seconds = watchdog_seconds
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Manager | None:
        """Whoever `environment` names; None if nobody wants to know. It is taken out of there, as it is not for our
        children: etcd speaks that protocol, too."""
        address = environment.pop("NOTIFY_SOCKET", "")
        usec, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        ours = usec.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if ours else 0.0)

    def tell(self, **facts: str) -> None:
        """Each fact by its name in the protocol: `READY="1"`."""
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in facts.items())
        with suppress(OSError):
            self._socket.sendto(text.encode(errors="replace"), self._address)

    def close(self) -> None:
        self._socket.close()


class Watch:
    """What the manager is told of a node. `reader` is readable when the node has said something."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._every = manager.watchdog_seconds / PULSES_PER_WATCHDOG or PULSE_SECONDS
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ready = False
        self._rest = b""
        self._busy_since = 0.0
        self._due: float | None = None
        self.begin("starting")

    @property
    def argument(self) -> str:
        """For the node: where to say how it is, and how often (`onefold.pulse`)."""
        return f"{self.writer}:{self._every:g}"

    @property
    def due(self) -> float | None:
        """When `speak` is to be called, by the monotonic clock; None: the node speaks for itself."""
        return self._due if self._manager.watchdog_seconds else None

    def begin(self, how: str) -> None:
        """The node is about to begin: it may be silent."""
        self._busy_since = time.monotonic()
        self._manager.tell(STATUS=how)
        self.speak()

    def speak(self) -> None:
        """Speak for a node that may be silent, as long as it may."""
        now = time.monotonic()
        if now - self._busy_since < BUSY_SECONDS_MAX:
            self._manager.tell(WATCHDOG="1")
            self._due = now + self._every
        else:
            self._due = None

    def read(self) -> None:
        """Pass on what the node said."""
        try:
            *lines, self._rest = (self._rest + os.read(self.reader, 65_536)).split(b"\n")
        except BlockingIOError:
            return
        for line in lines:
            if line.startswith(BUSY):
                self.begin("begins anew")
            elif line.startswith(ALIVE):
                self._due = None
                facts = {"STATUS": line.removeprefix(ALIVE).decode(errors="replace"), "WATCHDOG": "1"}
                self._manager.tell(**({} if self._ready else {"READY": "1"}), **facts)
                self._ready = True

    def end(self) -> None:
        """The node and all else are about to be ended."""
        self._manager.tell(STOPPING="1", STATUS="ending")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)
        self._manager.close()
