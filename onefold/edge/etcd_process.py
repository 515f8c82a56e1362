"""One etcd member as a child process: the operating system's etcd, with our settings, data and certificates.

The child never outlives the process that started it (the kernel kills it then), and sits in a session of its own, so
that Ctrl-C in a terminal reaches its parent first. A restarted member finds its data and rejoins by itself: etcd
ignores the settings of the first start once it has data. While there is none, the child may be another program first,
which finds out how to begin, and then becomes etcd: the same process, of the same parent.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from onefold.edge.tls import TlsFiles as TlsFiles
from onefold.errors import OperatorError
from onefold.process import die_with

OLDEST = (3, 4)
"""The oldest etcd we work with."""

QUOTA_BYTES = 2 << 30
SNAPSHOT_COUNT = 5000
"""Raft entries between etcd's own snapshots. It keeps that many, and 5,000 more, in memory: at most 16 KiB each."""

OWNER_FILE = "onefold-folder"
"""Beside the data: which folder's log the member holds."""

INSTALL = "install it (`apt-get install etcd-server`), or name a cluster of yours in `etcd.endpoints`"

_VERSION = re.compile(r"^etcd Version: (\d+)\.(\d+)\.(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Binary:
    """An etcd that can be started, and its version."""

    path: Path
    version: tuple[int, int, int]


def check(name: str = "etcd") -> Binary:
    """Find `name` on the PATH and ask its version.

    Raises `OperatorError`, with the fix, if there is none, it does not run, is older than 3.4 or is no etcd at all.
    """
    found = shutil.which(name)
    if found is None:
        raise OperatorError(f"there is no {name} on the PATH", INSTALL)
    try:
        # An ETCD_… variable that etcd does not like must not fail the question.
        answer = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, env=_environment())
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise OperatorError(f"{found} does not run ({error})", INSTALL) from error
    match = _VERSION.search(answer.stdout)
    if match is None:
        said = (answer.stderr or answer.stdout).strip().partition("\n")[0]
        raise OperatorError(f"{found} is not etcd, or does not run (it says {said!r})", INSTALL)
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version[:2] < OLDEST:
        raise OperatorError(f"{found} is etcd {match[1]}.{match[2]}, and 3.4 or newer is needed", INSTALL)
    return Binary(Path(found), version)


@dataclass
class EtcdProcess:
    """A member of the cluster of folder `folder_id`.

    `members` are all members, this one included: name → peer URL. URLs name an address, as etcd listens on it; with
    `listen` another address is listened on (0.0.0.0, say) while the URLs are what others dial. `directory` holds the
    data and `etcd.log`. `quota_bytes` is the size of its database at which it takes nothing more. `beginner` is the
    command that is run instead of etcd while there is no data, and calls `become`; without one, it begins as new.
    `revoked` lists certificates that are not honoured, if it is there; it is read at each handshake.
    """

    name: str
    folder_id: str
    directory: Path
    client_url: str
    members: Mapping[str, str]
    tls: TlsFiles | None = None
    listen: str | None = None
    binary: str = "etcd"
    heartbeat_ms: int = 100
    election_ms: int = 500
    quota_bytes: int = QUOTA_BYTES
    beginner: Sequence[str] = ()
    revoked: Path | None = None
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def has_data(self) -> bool:
        """Whether a member lives here: without its write-ahead log, what else there may be is nobody. Raises `OSError`
        when that cannot be seen."""
        try:
            return any(name.endswith(".wal") for name in os.listdir(self.data / "member" / "wal"))
        except FileNotFoundError:
            return False

    @property
    def log(self) -> Path:
        return self.directory / "etcd.log"

    @property
    def pid(self) -> int | None:
        """The child's process id; None before `start` and after `stop`."""
        return self._child.pid if self._child else None

    def arguments(self, standing: Mapping[str, str] | None = None) -> list[str]:
        """The command line after the program's name; `standing`: the members of a cluster that exists, to begin in."""
        peer_url = self.members[self.name]
        members = standing or self.members
        flags = {
            "name": self.name,
            "data-dir": str(self.data),
            "listen-client-urls": self._listening(self.client_url),
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self._listening(peer_url),
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": ",".join(f"{name}={url}" for name, url in sorted(members.items())),
            "initial-cluster-token": f"onefold-{self.folder_id}",
            "initial-cluster-state": "existing" if standing or self.has_data else "new",
            "heartbeat-interval": str(self.heartbeat_ms),
            "election-timeout": str(self.election_ms),
            # A member that comes back from a cut must not depose a leader that works.
            "pre-vote": "true",
            "quota-backend-bytes": str(self.quota_bytes),
            "snapshot-count": str(SNAPSHOT_COUNT),
            # The log is trimmed by us, by what every voter has made durable; never by age.
            "auto-compaction-retention": "0",
            "enable-grpc-gateway": "false",
            "logger": "zap",
            "log-level": "warn",
            "log-outputs": "stderr",
        }
        if self.tls:
            for prefix in ("", "peer-"):
                flags |= {
                    f"{prefix}cert-file": str(self.tls.certificate),
                    f"{prefix}key-file": str(self.tls.key),
                    f"{prefix}trusted-ca-file": str(self.tls.ca),
                    f"{prefix}client-cert-auth": "true",
                }
        if self.revoked and self.revoked.exists():
            flags |= {"client-crl-file": str(self.revoked), "peer-crl-file": str(self.revoked)}
        return [f"--{flag}={value}" for flag, value in flags.items()]

    def start(self) -> None:
        """Start the member; returns once the program runs, not once it serves. No effect while it runs.

        Call it from a thread that lives as long as the member should: the kernel ties the two together. Raises
        `OperatorError` (see `check`), and when the data belongs to another folder or cannot be written.
        """
        if self.poll() is None and self._child is not None:
            return
        binary = check(self.binary)
        self._claim()
        begins = bool(self.beginner) and not self.has_data
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.beginner if begins else [binary.path, *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if begins else log,  # what it has to say is for whoever runs us
                env=_environment() | {"GOMAXPROCS": "2"},
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )

    def become(self, standing: Mapping[str, str] | None) -> NoReturn:
        """Turn this process, which the `beginner` is, into etcd. `standing` as for `arguments`.

        Raises `OperatorError`, as `start` does.
        """
        binary = check(self.binary)
        try:
            if self.data.exists() and not self.has_data:
                shutil.rmtree(self.data)  # left by a first start that did not get far
            with self.log.open("ab") as log:
                os.dup2(log.fileno(), 2)
            for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and etcd would inherit that
                signal.signal(ignored, signal.SIG_DFL)
            os.execv(binary.path, [str(binary.path), *self.arguments(standing)])  # noqa: S606
        except OSError as error:
            raise self._unwritable(error) from error

    def poll(self) -> int | None:
        """The exit status (negative: the signal that ended it); None while it runs, or before `start`."""
        return self._child.poll() if self._child else None

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end of the member and return its exit status; None if it still runs after `seconds`."""
        if self._child is None:
            return None
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, seconds: float = 5.0) -> None:
        """Ask the member to end, and wait; after `seconds` kill it (which loses nothing: its log is synced)."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._child = None

    def kill(self) -> None:
        """End the member as a crash would, and wait for its end."""
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        self._child = None

    def last_words(self) -> str:
        """What the newest line of its log says, for an error message."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - 8192))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        import json  # the supervisor, which is resident, otherwise does without

        said = next((line for line in reversed(lines) if line.startswith("{")), lines[-1] if lines else "")
        try:
            fields = json.loads(said)
            return ": ".join(str(fields[key]) for key in ("msg", "error") if key in fields)
        except ValueError:
            return said.strip()

    def _claim(self) -> None:
        """Make the directory ours. Done before etcd first writes there: no data of ours is ever without its owner."""
        owner = self.directory / OWNER_FILE
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if owner.exists():
                standing = owner.read_text().strip()
                if standing != self.folder_id:
                    raise OperatorError(
                        f"{self.directory} holds the log of another folder ({standing}, not {self.folder_id})",
                        "give this node another state directory, or move that one away",
                    )
            elif self.data.exists():
                raise OperatorError(
                    f"{self.data} holds the data of an etcd that is not ours",
                    "give this node another state directory, or move that one away",
                )
            else:
                temporary = owner.with_suffix(".new")
                with temporary.open("w") as file:
                    file.write(f"{self.folder_id}\n")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(owner)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OperatorError:
        return OperatorError(
            f"cannot write the state directory {self.directory} ({error.strerror})", "check its owner and its disk"
        )

    def _listening(self, url: str) -> str:
        if self.listen is None:
            return url
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{self.listen}:{rest.rpartition(':')[2]}"


def _environment() -> dict[str, str]:
    """Ours, without settings meant for some other etcd (which ours would obey, or refuse to start for)."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
