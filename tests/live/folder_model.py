"""What a replicated folder may show: the model that every observation of a real one must agree with.

After *Mysteries of Dropbox* (Hughes, Pierce, Arts, Norell 2016): users on all nodes write values, each only once, and
know what they overwrite; what travels between the nodes when, nobody says. Time is cut into epochs: an epoch begins
when all nodes have shown the same. Within it paths that are joined by moves form a group, and

  * a group that one user has changed shows on every other node what it was after one of the user's operations, and
    never an earlier one again; at the end of the epoch, the last one, on all nodes, and no conflict copy;
  * a group that several have changed may show any value that was there, or is written there, in the epoch;
  * every value ever written is in the folder, among the strays, or was overwritten or removed by a user, who saw it.

With writers = leader, only what is done on the leader counts, and what is done elsewhere may show there for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Value = bytes
State = dict[str, Value | None]


class Operation(NamedTuple):
    """What a user did on `node`: what stands at each path afterwards; None is nothing."""

    node: str
    changes: Mapping[str, Value | None]


class Model:
    """The folder of `paths`, empty at first."""

    def __init__(self, paths: Iterable[str], leader: str = "") -> None:
        """`leader`: the only one whose operations count; "" if all do."""
        self._stable: State = dict.fromkeys(paths)
        self._copies: set[str] = set()
        self._leader = leader
        self._epoch: list[Operation] = []
        self._shown: dict[tuple[str, str], int] = {}
        self._doubts: list[str] = []
        self.written: set[Value] = set()
        self.gone: set[Value] = set()

    # what users do and see

    def does(self, node: str, changes: Mapping[str, Value | None], destroyed: Value | None = None) -> None:
        """A user on `node` did this, and with it took `destroyed` out of the folder."""
        self._epoch.append(Operation(node, dict(changes)))
        self.written.update(value for value in changes.values() if value is not None)
        if destroyed is not None:
            self.gone.add(destroyed)

    def sees(self, node: str, path: str, value: Value | None) -> None:
        """A user on `node` found `value` at `path`. Raises `AssertionError` for a value that nobody ever wrote."""
        assert value is None or value in self.written, f"{node} shows {value!r} at {path}, which nobody wrote"
        if why := self._doubt(node, path, value):
            self._doubts.append(f"{node} shows {value!r} at {path}: {why}")

    def _doubt(self, node: str, path: str, value: Value | None) -> str:
        """Why that cannot be; "" if it can."""
        group = self._group(path)
        touching = [each for each in self._epoch if group & each.changes.keys()]
        counting = [each for each in touching if self._counts(each)]
        authors = {each.node for each in counting}
        if len(authors) > 1 or any(each.node == node and not self._counts(each) for each in touching):
            known = self._known(touching, path)
            return "" if value in known else f"it can only be one of {known}"
        states = self._states(counting)
        if not authors or authors == {node}:
            now = states[-1].get(path)
            return "" if value == now else f"nobody else changed it, it is {now!r}"
        if value is None and any(len(each.changes) > 1 or None in each.changes.values() for each in counting):
            return ""  # on its way
        since = self._shown.get((node, path), 0)
        for index in range(since, len(states)):
            if states[index].get(path) == value:
                self._shown[node, path] = index
                return ""
        return f"its versions are {[state.get(path) for state in states]}, and number {since} was shown"

    # the end of an epoch

    def ends(self, found: Mapping[str, Value], strays: set[Value], steady: bool) -> None:
        """All nodes show the same: `found`, by path. `steady`: the same node has led all the time.

        Raises `AssertionError` for what cannot be.
        """
        invented = set(found.values()) - self.written
        assert not invented, f"nobody wrote {invented}"
        lost = self.written - set(found.values()) - strays - self.gone
        assert not lost, f"lost: {lost}; done: {self._epoch}"
        if steady or not self._leader:
            assert not self._doubts, f"{self._doubts}; done: {self._epoch}"
            copies = found.keys() - self._stable.keys() - self._copies
            for path in self._stable:
                group = self._group(path)
                counting = [each for each in self._epoch if self._counts(each) and group & each.changes.keys()]
                if len({each.node for each in counting}) > 1:
                    copies -= {copy for copy in copies if copy.startswith(path)}
                    known = self._known(counting, path)
                    assert found.get(path) in known, f"{path} holds {found.get(path)!r}, not one of {known}"
                else:
                    last = self._states(counting)[-1].get(path)
                    assert found.get(path) == last, (
                        f"{path} holds {found.get(path)!r}, not {last!r}; before: {self._stable}; done: {self._epoch}"
                    )
            assert not copies, f"copies of what only one user changed: {copies}; done: {self._epoch}"

    def begins(self, found: Mapping[str, Value], leader: str = "") -> None:
        """The next epoch, of a folder that holds `found`."""
        self._stable = {path: found.get(path) for path in self._stable}
        self._copies = found.keys() - self._stable.keys()
        self._leader = leader
        self._epoch.clear()
        self._shown.clear()
        self._doubts.clear()

    # groups

    def _counts(self, operation: Operation) -> bool:
        return not self._leader or operation.node == self._leader

    def _group(self, path: str) -> set[str]:
        """All paths that moves of this epoch join with `path`."""
        group = {path}
        while more := {
            other for each in self._epoch if group & each.changes.keys() for other in each.changes if other not in group
        }:
            group |= more
        return group

    def _states(self, operations: Iterable[Operation]) -> list[State]:
        """What was there before, and after each of `operations`."""
        states = [dict(self._stable)]
        for each in operations:
            states.append(states[-1] | dict(each.changes))
        return states

    def _known(self, operations: Iterable[Operation], path: str) -> set[Value | None]:
        """All that may be at `path` after `operations` of several."""
        group = self._group(path)
        written = {value for each in operations for value in each.changes.values()}
        return {None} | {self._stable[each] for each in group} | written
