"""What a node needs of its machine: kernel, etcd, ports, inotify, file systems, room, descriptors."""

from __future__ import annotations

import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from onefold import linux
from onefold.claim import META, check_port
from onefold.config import PORTS, Address, Config, Hook
from onefold.disk import ROOM_BYTES
from onefold.doctor.check import Check, attempt, failure, ok, warning
from onefold.edge import etcd_process
from onefold.errors import OperatorError
from onefold.process import Running
from onefold.supervisor import ETCD_PID, NODE_PID

KERNEL_LEAST, KERNEL_GOOD = (5, 3), (5, 8)
"""pidfd_open; statx that tells mounts apart (and openat2, in 5.6)."""
COUNT_SECONDS = 20.0
WATCHES_SHARE = 0.8
"""Of the machine's limit, what one tree may take: other programs of the same user have watches, too."""
NETWORK = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "vboxsf", "virtiofs"))
MEMORY = frozenset(("tmpfs", "ramfs"))
ROOM_BYTES_GOOD = 1 << 30
INODES_GOOD = 10_000
DESCRIPTORS_OWN, DESCRIPTORS_PER_MEMBER = 512, 16
_AT_FDCWD = -100
_LISTENS = "0A"


def look(config: Config) -> Iterator[Check]:
    """Everything, in the order in which a person would mend it."""
    yield from attempt("kernel", lambda: [kernel(os.uname().release)])
    if config.runs_etcd:
        yield from attempt("etcd", lambda: [etcd(config)])
    yield from attempt("ports", lambda: ports(config))
    yield from attempt("inotify", lambda: [inotify(config.folder)])
    for what, place in (("folder", config.folder), ("state directory", config.state)):
        yield from attempt(f"file system of the {what}", partial(file_system, what, place))
        yield from attempt(f"room for the {what}", partial(room, what, place))
    if config.folder.is_dir():
        yield from attempt("renames", lambda: [renames(config.folder)])
    yield from attempt("open files", lambda: [descriptors(config)])
    yield from (hook(each) for each in config.hooks)


def kernel(release: str) -> Check:
    number = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if number < KERNEL_LEAST:
        return failure("kernel", f"Linux {release} is older than 5.3", "update it")
    if number < KERNEL_GOOD:
        return warning("kernel", f"Linux {release} cannot tell mounts apart by their id", "5.8 or newer can")
    return ok("kernel", f"Linux {release}")


def etcd(config: Config) -> Check:
    found = etcd_process.check(config.etcd.binary)
    return ok("etcd", f"{found.path}, version {'.'.join(map(str, found.version))}")


# ------------------------------------------------------------------------------------------------ ports


def running(config: Config) -> dict[str, int]:
    """The processes of this node that run: "node", "etcd", with their pids."""
    found = {}
    for name, file, mark in (("node", NODE_PID, "onefold"), ("etcd", ETCD_PID, "etcd")):
        process = Running.find(config.state / file, mark)
        if process is not None:
            found[name] = process.pid
            process.close()
    return found


def wanted(config: Config) -> list[tuple[Address, str, str]]:
    """The ports that the node listens on, what each is for, and the setting that says where."""
    found = [
        (config.listen.plus(offset), what, "listen")
        for offset, what in enumerate(PORTS if config.runs_etcd else PORTS[:2])
    ]
    return [*found, (config.api.listen, "the API", "api.listen")] if config.api.enabled else found


def ports(config: Config) -> list[Check]:
    ours = running(config)
    heard = {port for pid in ours.values() for port in listening(pid)}
    found = []
    for address, what, setting in wanted(config):
        fix = f"change `{setting}` in {config.path}"
        if address.port in heard:
            continue
        try:
            check_port(address, f"for {what}", fix)
        except OperatorError as error:
            found.append(failure("ports", error.what, error.fix))
            continue
        if "node" in ours:
            found.append(
                warning("ports", f"this node runs, but nobody listens on {address} ({what})", "see its log; restart it")
            )
    if found:
        return found
    numbers = ", ".join(str(address.port) for address, _, _ in wanted(config))
    return [ok("ports", f"{numbers} {'are used by this node' if 'node' in ours else 'are free'}")]


def listening(pid: int) -> set[int]:
    """The TCP ports that the process listens on. Raises `OSError` when we may not know."""
    try:
        descriptors = [os.readlink(f"/proc/{pid}/fd/{each}") for each in os.listdir(f"/proc/{pid}/fd")]
    except FileNotFoundError:  # it ended, or closed one, meanwhile
        return set()
    sockets = {link.removeprefix("socket:[").removesuffix("]") for link in descriptors if link.startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        file = Path(f"/proc/{pid}/net/{table}")
        for line in file.read_text().splitlines()[1:] if file.exists() else ():
            fields = line.split()
            if fields[3] == _LISTENS and fields[9] in sockets:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


# ------------------------------------------------------------------------------------------------ the folder's place


def inotify(folder: Path) -> Check:
    """One watch per directory is needed; what has none is polled."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
    counted, whole = directories(folder, limit)
    told = f"{counted} directories{'' if whole else ' or more'}, {limit} watches allowed"
    if counted <= limit * WATCHES_SHARE:
        return ok("inotify", told)
    better = 1 << max(20, (2 * counted).bit_length())
    return warning("inotify", f"{told}: some would be polled", f"sysctl fs.inotify.max_user_watches={better}")


def directories(folder: Path, most: int, seconds: float = COUNT_SECONDS) -> tuple[int, bool]:
    """How many directories the tree has, itself included; and whether that is all, or time or `most` was reached."""
    until = time.monotonic() + seconds
    found, left = 0, [os.fsencode(folder)]
    while left:
        if found > most or time.monotonic() > until:
            return found, False
        found += 1
        try:
            with os.scandir(left.pop()) as entries:
                left += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # what cannot be read is not watched either, and the node names it
    return found, True


class Mount(NamedTuple):
    """Where a file system is mounted, and of which type it is."""

    point: str
    type: str


def mount_of(place: Path) -> Mount:
    """The mount that `place`, which exists, is on."""
    wanted = linux.look(_AT_FDCWD, os.fsencode(place), 0)[2] >> 64
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if int(fields[0]) == wanted:
            return Mount(fields[4].encode().decode("unicode_escape"), after.split()[0])
    return Mount("", "unknown")


def file_system(what: str, place: Path) -> list[Check]:
    about = f"file system of the {what}"
    place = _existing(place)
    mount = mount_of(place)
    on = f"{mount.type} ({mount.point})"
    if mount.type in NETWORK:
        found = f"{on} is on the network: edits made elsewhere go unseen", f"put the {what} on a local disk"
    elif mount.type.startswith("fuse"):
        found = f"{on} may lack renames, inode numbers or events that a node relies on", "use ext4, xfs or btrfs"
    elif mount.type == "overlay":
        found = f"{on} changes inode numbers when it copies a file up", f"mount a disk or a volume for the {what}"
    elif mount.type in MEMORY:
        found = f"{on} is lost when the machine restarts", f"put the {what} on a disk"
    elif what == "folder" and not linux.look(_AT_FDCWD, os.fsencode(place), 0)[1].btime_ns:
        found = f"{on} keeps no birth times: some renames count as new files", "use ext4, xfs or btrfs"
    else:
        return [ok(about, on)]
    return [warning(about, *found)]


def renames(folder: Path) -> Check:
    """Whether files can be exchanged, and made without replacing one: tried out, in `.onefold`."""
    meta = folder / META
    standing = meta.exists()
    try:
        meta.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=meta) as directory:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for name in ("a", "b"):
                    Path(directory, name).touch()
                linux.renameat2(descriptor, b"a", descriptor, b"b", linux.RENAME_EXCHANGE)
                linux.renameat2(descriptor, b"a", descriptor, b"c", linux.RENAME_NOREPLACE)
            finally:
                os.close(descriptor)
    except OSError as error:
        return failure(
            "renames",
            f"files cannot be exchanged in the folder ({error.strerror})",
            "free space and allow writing there, or use ext4, xfs or btrfs",
        )
    finally:
        if not standing:
            with suppress(OSError):  # it could not be made, or a node that started meanwhile has put its id there
                meta.rmdir()
    return ok("renames", "files can be exchanged")


def room(what: str, place: Path) -> list[Check]:
    about = f"room for the {what}"
    place = _existing(place)
    disk = f"the file system of {place}"
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    told = f"{free / (1 << 30):.1f} GiB free"
    if free < ROOM_BYTES:
        return [failure(about, f"{free >> 20} MiB free", f"free space on {disk}")]
    if found.f_files and not found.f_favail:
        return [failure(about, "no inode is left", f"remove files from {disk}, however small")]
    if free < ROOM_BYTES_GOOD:
        return [warning(about, told, f"free space on {disk}")]
    if found.f_files and found.f_favail < INODES_GOOD:
        return [warning(about, f"{told}, but only {found.f_favail} inodes", f"remove files from {disk}, however small")]
    return [ok(about, told)]


def descriptors(config: Config) -> Check:
    """Of the node that runs, else what it would inherit from here."""
    least = DESCRIPTORS_OWN + DESCRIPTORS_PER_MEMBER * len(config.members)
    least += config.api.connections_max if config.api.enabled else 0
    pid = running(config).get("node")
    limit = (
        resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if pid is None
        else resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    )
    whose = "here" if pid is None else "for this node"
    if limit == resource.RLIM_INFINITY or limit >= least:
        return ok("open files", f"{'any number' if limit == resource.RLIM_INFINITY else limit} allowed {whose}")
    return warning(
        "open files", f"{limit} allowed {whose}, {least} may be needed", "ulimit -n, or LimitNOFILE= of the service"
    )


def hook(of: Hook) -> Check:
    """Whether its program is there. The node looks for it on its own PATH, which may be another than ours."""
    about = f"hook {of.name}"
    found = shutil.which(of.run[0])
    if found is None:
        return warning(about, f"there is no program {of.run[0]} here", "install it, or give its whole path")
    return ok(about, found)


def _existing(place: Path) -> Path:
    """`place`, or what it would be made in."""
    return next((each for each in (place, *place.parents) if each.exists()), Path("/"))
