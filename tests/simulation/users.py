"""People and programs that work in the folders: what they do, and how programs write files."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator

from onefold import linux
from onefold.core.paths import show
from simulation.disk import Machine
from simulation.kernel import Inode
from simulation.virtual import VirtualLoop

NAMES = (b"a", b"b", b"c", b"d.txt", b"e")
DIRECTORIES = (b"x", b"y", b"z")
MODES = (0o644, 0o600, 0o755, 0o444)
PAUSE_SECONDS_MAX = 0.2


class Users:
    """They edit on `machines`. What they write is theirs alone: no two contents are equal, unless copied."""

    def __init__(
        self, loop: VirtualLoop, machines: list[Machine], tell: Callable[[str, str], None], weights: list[float]
    ) -> None:
        """`weights`: how much is done on each machine."""
        self._loop = loop
        self._machines = machines
        self._tell = tell
        self._weights = weights
        self._written = 0
        self.edits = 0
        self._deeds: tuple[tuple[int, Callable[[Machine, random.Random], Iterator[float]]], ...] = (
            (6, self._create),
            (6, self._write),
            (4, self._save),
            (2, self._append),
            (3, self._delete),
            (5, self._rename),
            (2, self._swap),
            (1, self._exchange),
            (3, self._mkdir),
            (2, self._remove_tree),
            (1, self._symlink),
            (1, self._chmod),
            (1, self._touch),
            (1, self._copy),
        )

    def edit(self) -> None:
        """Somebody begins to do something somewhere."""
        rng = self._loop.rng
        self.edit_on(rng.choices(self._machines, self._weights)[0], False)

    def edit_on(self, machine: Machine, at_once: bool) -> None:
        """Do something on `machine`; `at_once`: all of it now."""
        rng = self._loop.rng
        self.edits += 1
        deed = rng.choices([deed for _, deed in self._deeds], [weight for weight, _ in self._deeds])[0]
        self._go_on(machine, machine.boot, deed(machine, rng), at_once)

    def _go_on(self, machine: Machine, boot: int, deed: Iterator[float], at_once: bool) -> None:
        """The next step of `deed`, and those after it; a machine that lost power has nobody who goes on."""
        kernel = machine.kernel
        before, kernel.current = kernel.current, None
        try:
            while machine.boot == boot:
                try:
                    pause = next(deed)
                except OSError:
                    deed.close()
                    return
                except StopIteration:
                    return
                if not at_once and pause:
                    self._loop.world_later(pause, self._go_on, machine, boot, deed, False)
                    return
        finally:
            kernel.current = before

    # -------------------------------------------------------------------------------------------- what they do

    def _create(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        yield from self._put(machine, self._new_place(machine, rng), rng, os.O_CREAT | os.O_TRUNC)

    def _write(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: inode.is_file)
        if path is not None:
            yield from self._put(machine, path, rng, os.O_TRUNC if rng.random() < 0.7 else 0)

    def _save(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        """As editors do: another file, renamed over the old one; some keep a backup."""
        path = self._some(machine, rng, lambda inode: inode.is_file)
        if path is not None:
            new = path + b".new"
            yield from self._put(machine, new, rng, os.O_CREAT | os.O_TRUNC)
            if rng.random() < 0.3:
                self._say(machine, f"backup {show(path)}")
                machine.kernel.rename(path, path + b"~")
                yield rng.choice((0.0, 0.01))
            self._say(machine, f"rename {show(new)} to {show(path)}")
            machine.kernel.rename(new, path)

    def _append(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: inode.is_file)
        if path is not None:
            fd = machine.kernel.open(path, os.O_WRONLY)
            try:
                for _ in range(rng.randint(1, 3)):
                    machine.kernel.lseek(fd, len(machine.kernel._inode(fd).data), os.SEEK_SET)
                    self._say(machine, f"append to {show(path)}")
                    machine.kernel.write(fd, self._content(machine, rng))
                    yield rng.random() * PAUSE_SECONDS_MAX
            finally:
                self._close(machine, fd)

    def _delete(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: not inode.is_dir)
        if path is not None:
            self._say(machine, f"delete {show(path)}")
            machine.kernel.unlink(path)
        yield 0.0

    def _rename(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: True)
        if path is not None:
            to = self._new_place(machine, rng) if rng.random() < 0.8 else self._some(machine, rng, lambda i: i.is_file)
            if to is not None:
                self._say(machine, f"rename {show(path)} to {show(to)}")
                machine.kernel.rename(path, to)
        yield 0.0

    def _swap(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        one, two = self._some(machine, rng, lambda i: True), self._some(machine, rng, lambda i: True)
        if one is not None and two is not None and one != two:
            third = machine.path + b"/folder/.swap"
            pause = rng.choice((0.0, 0.0, 0.005, 0.1))
            for source, target in ((one, third), (two, one), (third, two)):
                self._say(machine, f"swap: rename {show(source)} to {show(target)}")
                machine.kernel.rename(source, target)
                yield pause

    def _exchange(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        one, two = self._some(machine, rng, lambda i: True), self._some(machine, rng, lambda i: True)
        if one is not None and two is not None and one != two:
            kernel = machine.kernel
            fd = kernel.open(machine.path + b"/folder", os.O_RDONLY)
            try:
                self._say(machine, f"exchange {show(one)} and {show(two)}")
                kernel.renameat2(fd, one, fd, two, linux.RENAME_EXCHANGE)
            finally:
                kernel.close(fd)
        yield 0.0

    def _mkdir(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._new_place(machine, rng, DIRECTORIES)
        self._say(machine, f"mkdir {show(path)}")
        machine.kernel.mkdir(path, rng.choice((0o755, 0o700)))
        for _ in range(rng.choice((0, 0, 1, 3))):
            yield rng.choice((0.0, 0.0, 0.01))
            yield from self._put(machine, path + b"/" + rng.choice(NAMES), rng, os.O_CREAT | os.O_TRUNC)

    def _remove_tree(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: inode.is_dir)
        if path is not None:
            self._say(machine, f"remove all of {show(path)}")
            for place, inode in reversed(list(machine.kernel.at(path).below(b"."))):
                (machine.kernel.rmdir if inode.is_dir else machine.kernel.unlink)(path + place[1:])
                yield rng.choice((0.0, 0.0, 0.001))
            machine.kernel.rmdir(path)

    def _symlink(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._new_place(machine, rng)
        self._say(machine, f"symlink {show(path)}")
        machine.kernel.symlink(rng.choice((b"a", b"../b", b"/etc/passwd", b"x")), path)
        yield 0.0

    def _chmod(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: not stat.S_ISLNK(inode.mode))
        if path is not None:
            directory = machine.kernel.at(path).is_dir
            mode = rng.choice((0o755, 0o700, 0o750)) if directory else rng.choice(MODES)
            self._say(machine, f"chmod {mode:o} {show(path)}")
            machine.kernel.chmod(path, mode)
        yield 0.0

    def _touch(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: inode.is_file)
        if path is not None:
            self._say(machine, f"touch {show(path)}")
            mtime = machine.kernel.now_ns() - rng.choice((0, 10**9, 10**15))
            machine.kernel.utime(path, ns=(mtime, mtime))
        yield 0.0

    def _copy(self, machine: Machine, rng: random.Random) -> Iterator[float]:
        path = self._some(machine, rng, lambda inode: inode.is_file)
        if path is not None:
            data, to = machine.kernel.at(path).data, self._new_place(machine, rng)
            self._say(machine, f"copy {show(path)} to {show(to)}")
            fd = machine.kernel.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                machine.kernel.write(fd, data)
                yield 0.0
            finally:
                self._close(machine, fd)

    # -------------------------------------------------------------------------------------------- how they do it

    def _put(self, machine: Machine, path: bytes, rng: random.Random, flags: int) -> Iterator[float]:
        """Write `path`, in one go or in pieces."""
        kernel = machine.kernel
        fd = kernel.open(path, os.O_WRONLY | flags, rng.choice((0o644, 0o644, 0o640)))
        try:
            if rng.random() < 0.1:
                yield rng.random() * PAUSE_SECONDS_MAX
            for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
                data = self._content(machine, rng)
                self._say(machine, f"write {len(data)} bytes to {show(path)}: {data[:12].decode()}")
                kernel.write(fd, data)
                yield rng.choice((0.0, rng.random() * PAUSE_SECONDS_MAX))
        finally:
            self._close(machine, fd)

    def _close(self, machine: Machine, fd: int) -> None:
        if fd in machine.kernel._files:
            machine.kernel.close(fd)

    def _content(self, machine: Machine, rng: random.Random) -> bytes:
        self._written += 1
        data = b"%s-%d;" % (machine.name.encode(), self._written)
        return data + b"." * rng.choice((0, 0, 10, 80, 160, 300, 900))

    def _new_place(self, machine: Machine, rng: random.Random, names: tuple[bytes, ...] = NAMES) -> bytes:
        folder = machine.path + b"/folder"
        directories = [folder]
        directories += [folder + b"/" + path for path, inode in machine.folder.below() if inode.is_dir]
        shallow = [path for path in directories if path.count(b"/") < 6]
        return rng.choice(shallow) + b"/" + rng.choice(names)

    def _some(self, machine: Machine, rng: random.Random, wanted: Callable[[Inode], bool]) -> bytes | None:
        paths = [path for path, inode in machine.folder.below() if wanted(inode)]
        return machine.path + b"/folder/" + rng.choice(paths) if paths else None

    def _say(self, machine: Machine, text: str) -> None:
        self._tell(machine.name, text)
