"""What a batch's fate means for the base: the author's side of the catalogue's verdict.

The author's folder already holds what it proposed. So nothing is done to the folder here; the base learns what stands
there, and the next plan does the rest:
  * accepted: the base holds the new version.
  * an edit that lost: what stands at the path *is* the conflict copy, at the wrong name; the plan moves it to its own
    name and brings the winner. No content is copied, and none is lost in between.
  * a move or removal that lost: the base holds the folder as it is; the plan brings it back.
  * a creation that met what others moved to the same place: what the author made there now is that, and what it still
    has at the old place is nobody's, to be looked at anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from onefold.core.diff import Claim, Diff
from onefold.core.model import (
    NEVER,
    NEW,
    Action,
    BaseRow,
    Command,
    Discard,
    Id,
    Kind,
    Move,
    Outcome,
    Present,
    Put,
    Remove,
    Shift,
    Version,
    position_of,
    version,
)
from onefold.core.paths import RelPath
from onefold.core.views import BaseView, RowView


class Settled(msgspec.Struct, frozen=True):
    """New rows of the base by id (None: it has none any more), and paths that must be looked at again."""

    rows: dict[Id, BaseRow | None]
    look: tuple[RelPath, ...]


class Reverted(msgspec.Struct, frozen=True):
    """As `Settled`, and what must be done in the folder for edits that may not be proposed from here."""

    rows: dict[Id, BaseRow | None]
    actions: tuple[Action, ...]


def settle(
    commands: Sequence[Command],
    claims: Sequence[Claim],
    outcomes: Sequence[Outcome],
    index: int,
    offset: int,
    catalogue: RowView,
    base: BaseView,
) -> Settled:
    """The base after the batch was applied in entry `index`, where its first command had position `offset`.

    `catalogue` is the catalogue right after that entry, `base` the base as it was when the batch was made.
    """
    rows: dict[Id, BaseRow | None] = {}
    look: list[RelPath] = []
    adopted: set[Id] = set()  # new directories that turned out to be ones that the folder has elsewhere

    def resolve(reference: Id) -> Id:
        return outcomes[position_of(reference)].id if reference < NEW else reference

    def now(id: Id) -> BaseRow | None:
        return rows[id] if id in rows else base.get(id)

    def below(id: Id, other: Id) -> bool:
        """Whether `id` is `other` or below it."""
        while id != other and (row := now(id)) is not None:
            id = row.parent
        return id == other

    for position, (command, claim, outcome) in enumerate(zip(commands, claims, outcomes, strict=True)):
        made = version(index, offset + position)
        if isinstance(command, Put) and claim.seen is not None:
            if command.id == NEW:
                row = _created(command, claim, outcome, made, resolve(command.parent), catalogue)
                old = now(row.id) if row is not None and row.id != Id(made) else None
                if row is None or (old is not None and (old.parent, old.name) == (row.parent, row.name)):
                    look.append(claim.path)
                else:
                    if old is not None:
                        look.append(_path(old, base))
                        rows.update(dict.fromkeys(_below(old.id, rows, base)))
                        adopted.add(old.id)
                    rows[row.id] = row
            elif (old := now(command.id)) is not None:
                _changed(command, claim.seen, outcome, made, old, rows)
            else:
                look.append(claim.path)
        elif isinstance(command, Remove):
            rows[command.id] = None
        elif isinstance(command, Move):
            row = now(command.id)
            parent = resolve(command.parent)
            if command.id in adopted:
                look.append(claim.path)
            elif row is not None and parent != NEW and not below(parent, command.id):
                placed = made if outcome.accepted else NEVER
                rows[command.id] = msgspec.structs.replace(row, parent=parent, name=command.name, placed=placed)
            else:
                rows[command.id] = None
                look.append(claim.path)
    return Settled(rows, tuple(look))


def _created(put: Put, claim: Claim, outcome: Outcome, made: Version, parent: Id, catalogue: RowView) -> BaseRow | None:
    """The base's row for what stands where the author created it; None when the catalogue has no row for it."""
    row = catalogue.get(outcome.id)
    if row is None or parent == NEW or claim.seen is None:
        return None
    equal = (row.mode, row.mtime_ns, row.content) == (put.mode, put.mtime_ns, put.content)
    at_home = (row.parent, row.name) == (parent, put.name)
    return BaseRow(
        row.id,
        parent,
        put.name,
        put.kind,
        made if row.id == Id(made) else row.version if equal else NEVER,
        row.placed if at_home else NEVER,
        put.mode,
        put.mtime_ns,
        put.size,
        put.content or b"",
        claim.seen.stat,
    )


def _changed(
    put: Put, seen: Present, outcome: Outcome, made: Version, old: BaseRow, rows: dict[Id, BaseRow | None]
) -> None:
    """Store what became of an edit of `put.id`, of which the base had `old`."""
    new = msgspec.structs.replace(
        old,
        version=made if outcome.accepted else NEVER,
        mode=put.mode,
        mtime_ns=put.mtime_ns,
        size=put.size,
        content=old.content if put.content is None else put.content,
        stat=seen.stat,
    )
    if outcome.accepted or outcome.id == NEW:
        rows[put.id] = new
    else:
        rows[put.id] = None
        rows[outcome.id] = msgspec.structs.replace(new, id=outcome.id, version=made, placed=NEVER)


def _below(id: Id, rows: dict[Id, BaseRow | None], base: BaseView) -> Iterator[Id]:
    """Everything that the base, as changed by `rows`, has below `id`."""
    for child in base.children(id):
        row = rows.get(child.id, child)
        if row is not None and row.parent == id:
            yield child.id
            yield from _below(child.id, rows, base)


def revert(diff: Diff, base: BaseView) -> Reverted:
    """What to do about edits on a node that may not propose: what it wrote becomes strays, what it lost comes back.

    An edited file keeps its old stat in the base and forgets its content there, so that the plan replaces it and the
    materialiser finds an edit in what comes out: a stray. Something moved is moved back.

    What is new goes first, while its path holds; then what moved, the deepest first; then the new directories that
    something had been moved into, wherever they stand by then.
    """
    rows: dict[Id, BaseRow | None] = {}
    back: dict[Id, Shift] = {}
    discards: list[Discard] = []
    for command, claim in zip(diff.commands, diff.claims, strict=True):
        old = claim.base
        if isinstance(command, Remove):
            rows[command.id] = None
        elif isinstance(command, Move) and old is not None:
            back[command.id] = Shift(old, claim.path, _path(old, base), old.parent, old.placed)
        elif isinstance(command, Put) and claim.seen is not None:
            if old is None:
                discards.append(Discard(claim.path, command.kind))
            elif command.content is not None:
                rows[command.id] = msgspec.structs.replace(old, version=NEVER, content=b"")
            else:
                rows[command.id] = msgspec.structs.replace(
                    old, version=NEVER, mode=command.mode, mtime_ns=command.mtime_ns, stat=claim.seen.stat
                )
    for id in back:
        rows.pop(id, None)
    shifts = list(reversed(back.values()))
    discards.reverse()
    emptied = [Discard(_after(shifts, d.path), d.kind) for d in discards if shifts and d.kind is Kind.DIRECTORY]
    return Reverted(rows, (*discards, *shifts, *emptied))


def _after(shifts: Sequence[Shift], path: RelPath) -> RelPath:
    """Where `path` is once `shifts`, the deepest first, have happened."""
    for shift in shifts:
        if shift.source is not None and path.below(shift.source):
            path = path.moved(shift.source, shift.path)
    return path


def _path(row: BaseRow, base: BaseView) -> RelPath:
    names = [row.name]
    above = base.get(row.parent)
    while above is not None:
        names.append(above.name)
        above = base.get(above.parent)
    return RelPath(b"/".join(reversed(names)))
