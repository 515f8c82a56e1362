"""Carrying a plan out in the folder: exchange, then verify.

Nothing is ever overwritten or unlinked at its place. A new file arrives by a rename that replaces nothing; a changed
one by an exchange; what goes away is renamed out of the folder first. Only then, where nobody can reach it by name any
more, is it compared with the base, and unlinked if it is what the base says and no program can still write to it.
Otherwise it is an edit: put back (`keep_edits`), or kept as a stray. So an edit made at any moment is seen.

A crash between any two steps leaves bytes only at a place of the folder, in the temporaries under a telling name
(`workspace`), or among the strays; `recover` goes on from there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from onefold import linux
from onefold.core.model import (
    NEW,
    Action,
    Aside,
    Attributes,
    Discard,
    Done,
    Drop,
    Edited,
    Failed,
    Id,
    Make,
    Replace,
    Result,
    Shift,
)
from onefold.core.paths import RelPath
from onefold.disk import trouble
from onefold.edge.make import Maker
from onefold.edge.move import Mover
from onefold.edge.reasons import Stop, reason_of
from onefold.edge.recover import KnownBase, KnownRow, Recovery, actions_of, intents_of
from onefold.edge.workspace import StrayKeeper, Workspace
from onefold.ports import Contents

_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class FolderMaterialiser:
    """`ports.Materialiser` for the folder at `root`. Strays go to `strays`, which lives in the directory `state`.

    Raises `DiskTrouble` when the folder cannot be opened or written.
    """

    def __init__(self, root: bytes, strays: StrayKeeper, state: Path) -> None:
        self._root = Path(os.fsdecode(root))
        self.space = Workspace(root, strays)
        self._state = state

    def run(self, actions: Sequence[Action], contents: Contents, keep_edits: bool) -> list[Result]:
        """As the port says. An `Aside` and the `Shift` or `Drop` that fetches it belong in one run.

        What nobody fetched goes back to its place at the end; if that is taken, it is removed like a dropped file, and
        the result of its `Aside` is `Done` without a base row: nothing of it, or below it, is in the folder any more.
        """
        return _Run(self.space, contents, keep_edits).carry_out(actions)

    def intents(self, actions: Sequence[Action]) -> bytes:
        """What `recover` must know of `actions`."""
        return intents_of(actions)

    def recover(self, intents: Iterable[bytes], base: KnownBase, catalogue: KnownRow) -> list[tuple[Action, Result]]:
        """Bring the temporaries in order after a crash; call it at every start, before the first `run`.

        Answers what the run that opened `intents` had carried out, as (action, `Done`), to be put into `base` before
        they are closed. All else stands as `base` says, or is an edit, or was made a stray. Reads `base`: call it on
        the thread that owns that. Raises `DiskTrouble` when the folder refuses.
        """
        actions = [action for blob in intents for action in actions_of(blob)]
        try:
            return Recovery(self.space, actions, base, catalogue).run()
        except OSError as error:
            raise trouble(
                f"cannot bring the folder in order after a crash ({error.filename!r})", self._root, error
            ) from error

    def sync(self) -> None:
        """Return when everything done before the call, in the folder and in the state directory, is on disk.

        Raises `DiskTrouble`: some of it may be lost, and the next sync would not tell.
        """
        place = self._state
        try:
            fd = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_dev != os.fstat(self.space.tmp).st_dev:
                    linux.syncfs(fd)
            finally:
                os.close(fd)
            place = self._root
            linux.syncfs(self.space.tmp)
        except OSError as error:
            raise trouble("what was written could not be synced", place, error) from error

    def close(self) -> None:
        self.space.close()


class _Run:
    def __init__(self, space: Workspace, contents: Contents, keep_edits: bool) -> None:
        self.space = space
        self.results: list[Result] = []
        self.blocked: set[RelPath] = set()
        self.occupied: set[RelPath] = set()
        self.maker = maker = Maker(space, contents, keep_edits, self.results)
        self.mover = mover = Mover(space, keep_edits, self.results)
        self.handlers: dict[type, Callable[[Any], Result]] = {
            Make: maker.make,
            Replace: maker.replace,
            Attributes: maker.attributes,
            Aside: mover.aside,
            Shift: mover.shift,
            Drop: mover.drop,
            Discard: mover.discard,
        }

    def carry_out(self, actions: Sequence[Action]) -> list[Result]:
        space, handlers, results = self.space, self.handlers, self.results
        for action in actions:
            try:
                if type(action) in (Make, Shift) and action.path in self.occupied:
                    # Who stood there could not be found: the base still has it there, and must not lose it for this.
                    raise Stop("what stood in its place has changed or moved; it is tried again")
                result = handlers[type(action)](action)
            except (OSError, Stop) as error:
                result = self._again(action, error)
            if type(result) is not Done and action.path is not None:
                self.blocked.add(action.path)
                if type(action) is Aside:
                    self.occupied.add(action.path)
            results.append(result)
            space.trim()
        self.mover.bring_back_asides()
        self.maker.set_modes()
        space.forget()
        return results

    def _again(self, action: Action, error: OSError | Stop) -> Result:
        """One more try, where the folder changed under our descriptors or a directory of ours is closed to us."""
        paths = _paths_of(action)
        try:
            if isinstance(error, Stop):
                raise error
            # Descriptors outlive what they name: a directory made anew has another.
            self.space.forget()
            closed = error.errno == errno.EACCES and os.geteuid() != 0
            # Every path is unlocked, also after the first that was closed.
            if (closed and sum(map(self.space.unlock, paths))) or error.errno in _GONE:
                return self.handlers[type(action)](action)
            raise error
        except Stop as stop:
            return Failed(_id_of(action), paths[0], str(stop))
        except OSError as last:
            if last.errno in _GONE:
                return self._without_parent(action, paths)
            return Failed(_id_of(action), paths[0], reason_of(last, self.space.root))
        finally:
            self.space.relock()

    def _without_parent(self, action: Action, paths: list[RelPath]) -> Result:
        """A directory on the way is not there: it could not be made, or someone took it away."""
        if isinstance(action, Discard):
            return Done(NEW, None)
        # Also of what is to be removed: it is where its directory went.
        for path in paths:
            missing = self.space.missing(path)
            if missing in self.blocked and missing != path:
                return Failed(_id_of(action), path, "its directory could not be made")
            if missing != path:
                return Edited(_id_of(action), missing)
        return Edited(_id_of(action), paths[0])


def _id_of(action: Action) -> Id:
    if isinstance(action, Make | Replace | Attributes):
        return action.row.id
    return NEW if isinstance(action, Discard) else action.base.id


def _paths_of(action: Action) -> list[RelPath]:
    """The paths that `action` touches, the one to tell of first."""
    if action.path is None:
        return [RelPath(action.base.name)]
    return [action.path, action.source] if isinstance(action, Shift) and action.source is not None else [action.path]
