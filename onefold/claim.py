"""What must hold before a node starts: its folder, its state directory, its ports. And holding on to both directories.

The claim is two locks (`flock`), on a file in the state directory and on the folder itself. The first is the
supervisor's, and inherited by the node, so it is free again only when the last process that could write there is gone,
however it ended. The second is the node's, as long as it has the folder open: a node that stands by has not, so that
the folder's disk can be unmounted and mended.

`.onefold/id` in the folder and `folder-id` in the state directory both hold the cluster's id. The first is written
before the second: a state directory that knows its folder but finds no id in it stands before another disk than the
one it knew (an unmounted one, say), and must not take that for a folder whose files were all removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onefold.atomic import replace_file
from onefold.config import PORTS, Address, Config
from onefold.disk import trouble
from onefold.errors import DiskTrouble, OperatorError

META = ".onefold"
ID = "id"
ASIDE = "left"
STATE_ID = "folder-id"
LOCK = "lock"
REJOINS = "rejoins"
"""In the state directory: it was made for a folder that had been in the cluster before, so that another one is lost."""
ENTRIES_MAX = 50_000
"""How many entries of the folder are looked at for another node's folder, those nearest to its root first."""


def claim(config: Config) -> int:
    """Check everything, make the state directory and the folder's id, and take the state directory's lock.

    Returns the descriptor that holds it, inheritable. Raises `OperatorError`.
    """
    check_folder(config)
    check_places(config)
    check_certificates(config)
    lock = -1
    try:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(config.state / LOCK, os.O_RDWR | os.O_CREAT, "the state directory", config.state)
        with locked_folder(config):
            _identify(config)
        check_ports(config)
    except BaseException as error:
        if lock >= 0:
            os.close(lock)
        if isinstance(error, OSError):
            raise OperatorError(
                f"cannot write {error.filename or config.state} ({error.strerror})",
                "make the folder and the state directory writable for this user, or free space on its disk",
            ) from error
        raise
    os.set_inheritable(lock, True)
    return lock


@contextmanager
def locked_folder(config: Config) -> Iterator[None]:
    """Hold the folder's lock. Raises `OperatorError` when another node does, `DiskTrouble` when it is not there."""
    try:
        lock = _lock(config.folder, os.O_RDONLY | os.O_DIRECTORY, "the folder", config.folder)
    except OSError as error:
        raise trouble(f"the folder {config.folder} cannot be opened", config.folder, error) from error
    try:
        yield
    finally:
        os.close(lock)


def check_folder(config: Config) -> None:
    """Raises `OperatorError` unless the folder is a directory that we may list and write."""
    folder = config.folder
    fix = f"create it, or mend `folder` in {config.path}"
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except FileNotFoundError:
        raise OperatorError(f"there is no folder {folder}", fix) from None
    except NotADirectoryError:
        raise OperatorError(f"{folder} is not a directory", fix) from None
    except OSError as error:
        raise OperatorError(
            f"cannot read the folder {folder} ({error.strerror})", "give this user read, write and search permission"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OperatorError(
            f"cannot write the folder {folder}", "give this user read, write and search permission on it"
        )


def check_places(config: Config) -> None:
    """Raises `OperatorError` when folder and state lie in each other, or in what belongs to another node."""
    folder, state = config.folder.resolve(), config.state.resolve()
    if state == folder or folder in state.parents:
        raise OperatorError(
            f"the state directory {state} lies inside the folder {folder}", f"move `state` in {config.path} out of it"
        )
    if state in folder.parents:
        raise OperatorError(
            f"the folder {folder} lies inside the state directory {state}", f"move `folder` in {config.path} out of it"
        )
    for place, what in ((folder, "the folder"), (state, "the state directory")):
        for above in place.parents:
            if (above / META / ID).is_file():
                raise OperatorError(
                    f"{what} {place} lies inside {above}, which is a node's folder", "keep them beside each other"
                )
            if (above / STATE_ID).is_file():
                raise OperatorError(
                    f"{what} {place} lies inside {above}, a node's state directory", "keep them beside each other"
                )

    inner = _node_folder_in(folder)
    if inner is not None:
        raise OperatorError(
            f"the folder {folder} holds {inner}, which is a node's folder", "keep them beside each other"
        )


def _node_folder_in(folder: Path) -> Path | None:
    """A node's folder inside `folder`, found among the first `ENTRIES_MAX` entries: such nesting is a slip near the
    root, and whoever starts a node deeper down is refused by the look above."""
    directories = deque([folder])
    left = ENTRIES_MAX
    while directories and left > 0:
        directory = directories.popleft()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    left -= 1
                    if entry.name == META:
                        if directory != folder and os.path.isfile(f"{entry.path}/{ID}"):
                            return directory
                    elif entry.is_dir(follow_symlinks=False):
                        directories.append(Path(entry.path))
        except OSError:
            continue  # a directory that cannot be read is the scan's to report
    return None


def check_certificates(config: Config) -> None:
    """Raises `OperatorError` unless every certificate and key can be read. What they say is checked by the node."""
    files = {f"tls.{name}": file for name, file in config.tls._asdict().items()}
    files |= {f"etcd.{name}": file for name, file in config.etcd.tls._asdict().items()}
    if config.api.enabled:
        files |= {"api.cert": config.api.cert, "api.key": config.api.key}
    for setting, file in files.items():
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise OperatorError(
                f"cannot read {file} ({error.strerror})",
                f"have the cluster's authority issue it, or mend `{setting}` in {config.path}",
            ) from error


def check_ports(config: Config) -> None:
    """Raises `OperatorError` unless every port that this node will listen on can be had."""
    for offset, what in enumerate(PORTS if config.runs_etcd else PORTS[:2]):
        check_port(config.listen.plus(offset), f"for {what}", f"change `listen` in {config.path}")
    if config.api.enabled:
        check_port(config.api.listen, "for the API", f"change `api.listen` in {config.path}")


def check_port(address: Address, what: str, fix: str) -> None:
    """Raises `OperatorError`, which names `what` the port is for, unless `address` can be listened on."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except socket.gaierror as error:
        raise OperatorError(f"cannot resolve the host {address.host} ({error.strerror})", fix) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OperatorError(
                f"port {address.port} on {address.host} ({what}) is in use", f"stop what uses it, or {fix}"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise OperatorError(f"{address.host} is no address of this machine ({what})", fix) from error
        raise OperatorError(f"cannot listen on {address} {what} ({error.strerror})", fix) from error


def is_locked(file: Path) -> bool:
    """Whether somebody holds the lock on `file`."""
    try:
        lock = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _lock(path: Path, flags: int, what: str, place: Path) -> int:
    lock = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OperatorError(
            f"a node is running on {what} {place} already", "stop it, or give this node a folder and a state of its own"
        ) from None
    return lock


def put_aside(state: Path, folder: Path) -> Path:
    """Where the state of a node that is out is kept from now on. Its folder belongs to nobody. Raises `OSError`."""
    aside = state.with_name(f"{state.name}.{ASIDE}-{time.time_ns() // 1_000_000}")
    os.rename(state, aside)
    forget_id(folder)
    return aside


def forget_id(folder: Path) -> None:
    """The folder belongs to no cluster any more: it can join, or begin, another one. Raises `OSError`."""
    (folder / META / ID).unlink(missing_ok=True)


def _identify(config: Config) -> None:
    """Make the folder and the state directory this cluster's, or find that they are."""
    in_folder, in_state = config.folder / META / ID, config.state / STATE_ID
    known = _read(in_state)
    if known is not None and known != config.folder_id:
        raise OperatorError(
            f"the state directory {config.state} belongs to the cluster {known}, not to {config.folder_id}",
            f"set another `state` in {config.path}, or move that one away",
        )
    standing = _read(in_folder)
    if standing is not None or known is not None:
        _check_id(config, standing)
    else:
        in_folder.parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(in_folder, f"{config.folder_id}\n".encode())
    if known is None:
        if standing is not None:
            replace_file(config.state / REJOINS, b"")
        replace_file(in_state, f"{config.folder_id}\n".encode())


def check_standing(config: Config) -> tuple[int, int]:
    """The device and inode of the folder, which has this cluster's id. Raises `DiskTrouble` unless it is there."""
    folder = config.folder
    try:
        found = os.stat(folder)
        standing = _read(folder / META / ID)
    except OSError as error:
        raise trouble(f"the folder {folder} cannot be read", folder, error) from error
    _check_id(config, standing)
    return found.st_dev, found.st_ino


def _check_id(config: Config, standing: str | None) -> None:
    """Raises `DiskTrouble` unless the id `standing` in the folder is this cluster's."""
    if standing is None:
        raise DiskTrouble(
            f"the folder {config.folder} has lost its {META}/{ID}, as if its disk were not mounted",
            f"mount it; if only that file is lost, write {config.folder_id} into it; to begin anew with what stands"
            f" there, stop the node and move {config.state} away",
        )
    if standing != config.folder_id:
        raise DiskTrouble(
            f"the folder {config.folder} belongs to the cluster {standing}, not to {config.folder_id}",
            f"mount the right disk, or set another `folder` in {config.path}; to take this one over, remove its {META}"
            " directory",
        )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
