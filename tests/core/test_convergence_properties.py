"""G1, G3, G5: after any edits, on any nodes, at any moment, folders become one, and nothing a user wrote is lost."""

from __future__ import annotations

import os

import pytest
from folders import Cluster, Folder, Inode, Node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onefold.core.model import Kind
from onefold.core.paths import RelPath
from onefold.core.plan import plan

EXAMPLES = int(os.environ.get("ONEFOLD_EXAMPLES", "150"))
NAMES = (b"a", b"b", b"c", b"d")
COMMON = (b"same", b"", b"other")
TEMPORARY = b"~"

Numbers = tuple[int, int, int, int]


class User:
    """Somebody at one node's folder. `written`: all that was ever written; `given_up`: what a user replaced or removed
    with it before their eyes."""

    def __init__(self, node: Node, written: set[bytes], given_up: set[bytes]) -> None:
        self.node = node
        self.folder: Folder = node.folder
        self.written = written
        self.given_up = given_up
        self.linked = False

    def act(self, numbers: Numbers) -> None:
        verb, which, where, called = numbers
        verbs = (
            self.create, self.create, self.write, self.write, self.replace, self.chmod, self.touch, self.mkdir,
            self.symlink, self.move, self.move, self.move, self.remove, self.remove, self.swap, self.link, self.become,
            self.rotate,
        )  # fmt: skip
        verbs[verb % len(verbs)](which, where, NAMES[called % len(NAMES)])

    # each takes which of the paths that are there, which of the directories, and a name

    def create(self, which: int, where: int, name: bytes) -> None:
        place = self._directory(where).child(name)
        if self.folder.at(place) is None:
            self._put(place, self._new(which))

    def write(self, which: int, where: int, name: bytes) -> None:
        path, inode = self._pick(which, Kind.FILE)
        if inode is not None:
            self.given_up.add(inode.data)
            self.folder.write(path, self._data(where))
            self._hint(path)

    def replace(self, which: int, where: int, name: bytes) -> None:
        path, inode = self._pick(which, Kind.FILE)
        if inode is not None:
            self._put(path, self._new(where))

    def chmod(self, which: int, where: int, name: bytes) -> None:
        path, inode = self._pick(which, None)
        if inode is not None and inode.kind is not Kind.SYMLINK:
            inode.mode = 0o600 + where % 8
            self._hint(path)

    def touch(self, which: int, where: int, name: bytes) -> None:
        path, inode = self._pick(which, Kind.FILE)
        if inode is not None:
            inode.mtime_ns = self.folder.tick()
            self._hint(path)

    def mkdir(self, which: int, where: int, name: bytes) -> None:
        place = self._directory(where).child(name)
        if self.folder.at(place) is None:
            self._put(place, self.folder.inode(Kind.DIRECTORY, mode=0o755))
            if which % 2:
                self._put(place.child(NAMES[which % len(NAMES)]), self._new(which))

    def symlink(self, which: int, where: int, name: bytes) -> None:
        place = self._directory(where).child(name)
        there = self.folder.at(place)
        if there is None or there.kind is Kind.SYMLINK:
            self._put(place, self.folder.inode(Kind.SYMLINK, b"to-%d" % (which % 3), 0o777))

    def move(self, which: int, where: int, name: bytes) -> None:
        path, inode = self._pick(which, None)
        place = self._directory(where).child(name)
        if inode is None or place == path or place.below(path):
            return
        there = self.folder.at(place)
        directory = inode.kind is Kind.DIRECTORY
        if there is None or (not there.entries and directory == (there.kind is Kind.DIRECTORY)):
            self._move(path, place)

    def remove(self, which: int, where: int, name: bytes) -> None:
        path, inode = self._pick(which, None)
        if inode is not None:
            self._give_up(inode)
            self.folder.take(path)
            self._hint(path)

    def swap(self, which: int, where: int, name: bytes) -> None:
        one, other = self._pick(which, None)[0], self._pick(where, None)[0]
        if one and one != other and not one.below(other) and not other.below(one):
            self._move(one, RelPath(TEMPORARY))
            self._move(other, one)
            self._move(RelPath(TEMPORARY), other)

    def rotate(self, which: int, where: int, name: bytes) -> None:
        """What stands in the way moves into what takes its place: a parent goes under its former child."""
        path, inode = self._pick(which, Kind.DIRECTORY)
        if inode is None or not path.parent:
            return
        above = path.parent
        self._move(path, RelPath(TEMPORARY))
        self._move(above, RelPath(TEMPORARY).child(b"d" if b"d" not in inode.entries else b"e"))
        self._move(RelPath(TEMPORARY), above)

    def link(self, which: int, where: int, name: bytes) -> None:
        inode = self._pick(which, Kind.FILE)[1]
        place = self._directory(where).child(name)
        if inode is not None and self.folder.at(place) is None:
            self._put(place, inode)
            self.linked = True

    def become(self, which: int, where: int, name: bytes) -> None:
        """A file becomes a directory with a file in it; a directory, a file."""
        path, inode = self._pick(which, None)
        if inode is None:
            return
        self._give_up(inode)
        self.folder.take(path)
        if inode.kind is Kind.DIRECTORY:
            self._put(path, self._new(where))
        else:
            self._put(path, self.folder.inode(Kind.DIRECTORY, mode=0o755))
            self._put(path.child(name), self._new(where))

    # steps

    def _pick(self, which: int, kind: Kind | None) -> tuple[RelPath, Inode | None]:
        found = [(path, inode) for path, inode in self.folder.root.below() if kind in (None, inode.kind)]
        return found[which % len(found)] if found else (RelPath(b""), None)

    def _directory(self, where: int) -> RelPath:
        found = [path for path, inode in self.folder.root.below() if inode.kind is Kind.DIRECTORY]
        return [RelPath(b""), *found][where % (len(found) + 1)]

    def _data(self, number: int) -> bytes:
        data = COMMON[number % 3] if number % 4 == 3 else b"%d" % len(self.written)
        self.written.add(data)
        return data

    def _new(self, number: int) -> Inode:
        return self.folder.inode(Kind.FILE, self._data(number))

    def _put(self, path: RelPath, inode: Inode) -> None:
        there = self.folder.at(path)
        if there is not None:
            self._give_up(there)
        self.folder.put(path, inode)
        self._hint(path)

    def _move(self, path: RelPath, place: RelPath) -> None:
        inode = self.folder.take(path)
        self._put(place, inode)
        self.node.follow(path, place)

    def _give_up(self, inode: Inode) -> None:
        self.given_up.update(each.data for each in (inode, *(i for _, i in inode.below())))

    def _hint(self, path: RelPath) -> None:
        self.node.hint(path)


# ------------------------------------------------------------------------------------------------ histories
# A step is a verb of the cluster, a node, and what else the verb needs, all as small numbers: they shrink well.

numbers = st.tuples(st.integers(0, 17), st.integers(0, 11), st.integers(0, 7), st.integers(0, 3))
Step = tuple[str, int, Numbers, int]
steps = st.tuples(
    st.sampled_from(("edit", "edit", "edit", "propose", "propose", "commit", "apply", "place", "edit+place", "sync")),
    st.integers(0, 2),
    numbers,
    st.integers(0, 15),
)


class Story:
    def __init__(self, leader: int | None) -> None:
        self.cluster = Cluster(3, leader)
        self.written: set[bytes] = set()
        self.given_up: set[bytes] = set()
        self.users = [User(node, self.written, self.given_up) for node in self.cluster.nodes]

    def step(self, step: Step) -> None:
        verb, n, how, some = step
        cluster, node = self.cluster, self.cluster.nodes[n]
        if verb == "edit":
            self.users[n].act(how)
        elif verb == "propose":
            hints = sorted(node.hints)
            if some < 8:
                chosen = {path: node.hints[path] for number, path in enumerate(hints) if (some + number) % 3}
                node.propose(chosen, cut=1 + some if some < 3 else None)
            else:
                node.propose(node.everywhere())
        elif verb == "commit":
            cluster.commit([(n + k) % 3 for k in range(1 + some % 3)])
        elif verb == "apply":
            cluster.apply(node, 1 + some)
        elif verb == "place":
            node.place()
        elif verb == "edit+place":
            node.place(lambda number: self.users[n].act(how) if number == some % 4 else None)
        elif verb == "sync":
            cluster.settle(bool(some % 2))

    def end(self) -> None:
        self.cluster.settle(whole=False)
        # As the sweep does: what is written through another hard link raises no event at all its names, and a
        # reverted directory can be where no hint tells.
        self.cluster.settle(whole=True)
        self.cluster.check()
        assert not self.cluster.lost(self.written, self.given_up)


stories = st.lists(steps, min_size=20, max_size=60)


@pytest.mark.parametrize("leader", [None, 0], ids=["any", "leader"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories)
def test_folders_become_one_and_nothing_written_is_lost(leader: int | None, story: list[Step]) -> None:
    told = Story(leader)
    for step in story:
        told.step(step)
    told.end()


edits = st.lists(numbers, max_size=12)


@settings(max_examples=EXAMPLES, deadline=None)
@given(rounds=st.lists(st.tuples(edits, st.booleans()), max_size=4))
def test_alone_one_batch_says_everything_and_one_plan_does_it(
    rounds: list[tuple[list[Numbers], bool]],
) -> None:
    cluster = Cluster(2)
    author, reader = cluster.nodes
    user = User(author, set(), set())
    for edited, hints_only in rounds:
        for how in edited:
            user.act(how)
        author.propose(author.hints if hints_only else author.everywhere())
        cluster.commit([0])
        cluster.apply(author)
        cluster.apply(reader)
        assert plan(author.dirty, author.catalogue.rows, author.base) == []
        author.dirty.clear()
        if not user.linked:
            assert not author.hints
            assert author.compare(author.everywhere()).commands == ()
        reader.place()
        if not user.linked:
            cluster.check()
        assert (reader.dirty, reader.strays) == (set(), [])
