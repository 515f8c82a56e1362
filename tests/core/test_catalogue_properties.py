"""What holds of the catalogue after any history: authors that see old states, and commands that make no sense."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from onefold.core.catalogue import Catalogue, MemoryRows, conflict_name
from onefold.core.model import (
    NEVER,
    NEW,
    ROOT,
    Applied,
    Batch,
    Command,
    Id,
    Kind,
    Move,
    Origin,
    Outcome,
    Pack,
    Put,
    Remove,
    Row,
    Seed,
    Version,
    made_by,
    version,
)
from onefold.core.paths import Name
from onefold.core.wire import content_digest, decode_pack, encode_pack

NAMES = (b"a", b"b.txt", b"c", b".onefold", b"x" * 255, b"a.conflict-n0-2-0")
NODES = ("n0", "n1", "n2")


# ------------------------------------------------------------------------------------------------ histories
# A recipe is a few small numbers, read against the rows that its author saw: it shrinks well, and most of what it makes
# is plausible.

recipes = st.tuples(*(st.integers(0, 11) for _ in range(6)))
Recipe = tuple[int, int, int, int, int, int]


def cook(recipe: Recipe, seen: list[Row], position: int) -> Command:
    """The command that an author who saw `seen` sends at `position` of its batch."""
    verb, which, where, called, what, how = recipe
    directories = [ROOT, *(row.id for row in seen if row.kind == Kind.DIRECTORY), *map(made_by, range(position + 1))]
    parent = directories[where % len(directories)]
    name = NAMES[called % len(NAMES)]
    kind = (Kind.FILE, Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK)[how % 4]
    content = {Kind.FILE: content_digest(b"%d" % what), Kind.DIRECTORY: None, Kind.SYMLINK: b"to-%d" % what}[kind]
    if verb == 11:
        return Seed()
    if verb < 4 or not seen:
        return Put(NEW, NEVER, parent, name, kind, 0o600 + how, what, what, content)
    row = seen[which % len(seen)]
    if verb < 7:
        content = content if how < 8 else None
        kind = kind if how == 7 else row.kind
        if content is not None and row.kind != Kind.FILE and kind == row.kind:
            content = None if row.kind == Kind.DIRECTORY else b"to-%d" % what
        elif content is not None and kind == Kind.FILE:
            content = content_digest(b"%d" % what)
        return Put(row.id, row.version, row.parent, row.name, kind, 0o600 + how, what, what, content)
    if verb < 9:
        expect = Version(made_by(how)) if how < position else row.placed
        return Move(row.id, expect, parent, name)
    return Remove(row.id, row.version)


batches = st.tuples(st.integers(0, 2), st.integers(0, 3), st.lists(recipes, max_size=6))
histories = st.lists(st.lists(batches, max_size=3), max_size=10)
History = list[list[tuple[int, int, list[Recipe]]]]

junk_ids = st.one_of(
    st.integers(-5, 5),
    st.builds(version, st.integers(0, 5), st.integers(0, 5)),
    st.integers(-(1 << 63), (1 << 64) - 1),
)
junk_names = st.one_of(st.sampled_from(NAMES), st.binary(max_size=300))
junk_numbers = st.one_of(st.integers(0, 0o777), st.integers(-(1 << 63), (1 << 64) - 1))
junk_contents = st.one_of(st.none(), st.binary(max_size=40), st.binary(min_size=32, max_size=32))
junk_commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        Put,
        junk_ids,
        junk_ids,
        junk_ids,
        junk_names,
        st.sampled_from(Kind),
        junk_numbers,
        junk_numbers,
        junk_numbers,
        junk_contents,
    ),
    st.builds(Remove, junk_ids, junk_ids),
    st.builds(Move, junk_ids, junk_ids, junk_ids, junk_names),
    st.builds(Seed),
)
junk_origins = st.builds(Origin, st.text(max_size=90), junk_numbers, junk_numbers)
junk_packs = st.lists(
    st.builds(
        Pack,
        st.lists(st.builds(Batch, junk_origins, st.lists(junk_commands, max_size=8).map(tuple)), max_size=3).map(tuple),
        st.just({}),
    ),
    max_size=8,
)


class Watched:
    """A catalogue, and `alive`: the rows as the reported changes alone tell them."""

    def __init__(self) -> None:
        self.rows = MemoryRows()
        self.catalogue = Catalogue(self.rows)
        self.alive: dict[Id, Row] = {}
        self.packs: list[Pack] = []

    def apply(self, pack: Pack) -> Applied:
        """Apply `pack` as it comes from the log, and check all that must hold afterwards."""
        pack = decode_pack(encode_pack(pack))
        self.packs.append(pack)
        applied = self.catalogue.apply(self.catalogue.index + 1, pack)
        for id, change in applied.changes.items():
            assert change.before != change.after
            assert self.alive.get(id) == change.before
            if change.after is None:
                del self.alive[id]
            else:
                self.alive[id] = change.after
        assert set(applied.outcomes) == {batch.origin for batch in pack.batches}
        self.check()
        return applied

    def check(self) -> None:
        reached: dict[Id, Row] = {}
        directories = [ROOT]
        while directories:
            parent = directories.pop()
            children = self.rows.children(parent)
            names = [row.name for row in children]
            assert names == sorted(set(names))
            assert self.rows.has_children(parent) == bool(children)
            for row in children:
                # Reached twice would be two parents or a cycle; not reached at all would be a cycle of its own.
                assert row.id not in reached and row.id > ROOT
                assert row.parent == parent and Name(row.name) and not (parent == ROOT and row.name == b".onefold")
                assert self.rows.get(row.id) == row and self.rows.child(parent, row.name) == row
                reached[row.id] = row
                if row.kind == Kind.DIRECTORY:
                    directories.append(row.id)
                else:
                    assert not self.rows.has_children(row.id)
        assert reached == self.alive
        assert self.catalogue.digest == self.catalogue.recount()
        assert self.catalogue.files == sum(row.kind != Kind.DIRECTORY for row in reached.values())


def play(history: History) -> tuple[Watched, list[Applied]]:
    """Apply `history`: in each batch the author is some node, whose view is up to three entries old."""
    watched = Watched()
    views: list[list[Row]] = [[]]
    sequences = dict.fromkeys(NODES, 0)
    results = []
    for entry in history:
        sent = []
        for node, lag, steps in entry:
            seen = views[max(0, len(views) - 1 - lag)]
            sequences[NODES[node]] += 1
            origin = Origin(NODES[node], 1, sequences[NODES[node]])
            sent.append(Batch(origin, tuple(cook(step, seen, position) for position, step in enumerate(steps))))
        results.append(watched.apply(Pack(tuple(sent), {})))
        views.append(sorted(watched.alive.values(), key=lambda row: row.id))
    return watched, results


def pairs(pack: Pack, applied: Applied) -> list[tuple[Command, Outcome]]:
    return [pair for batch in pack.batches for pair in zip(batch.commands, applied.outcomes[batch.origin], strict=True)]


# ------------------------------------------------------------------------------------------------ properties


@given(histories)
@settings(max_examples=200, deadline=None)
def test_after_any_history_the_catalogue_is_a_tree_that_its_changes_and_its_digest_describe(history: History) -> None:
    play(history)


@given(histories)
@settings(max_examples=50, deadline=None)
def test_two_nodes_that_apply_the_same_packs_agree(history: History) -> None:
    """G1. The second node stops and starts again at every entry."""
    watched, results = play(history)
    rows = MemoryRows()
    index, digest, files, seeded = 0, 0, 0, False
    for pack, result in zip(watched.packs, results, strict=True):
        catalogue = Catalogue(rows, index, digest, files, seeded)
        assert catalogue.apply(index + 1, pack) == result
        index, digest, files, seeded = catalogue.index, catalogue.digest, catalogue.files, catalogue.seeded
    one = watched.catalogue
    assert (index, digest, files, seeded) == (one.index, one.digest, one.files, one.seeded)


@given(histories)
@settings(max_examples=100, deadline=None)
def test_rejected_content_lives_on_as_the_copy_that_its_outcome_names(history: History) -> None:
    """G3. A copy may be named by nobody else yet, so nothing in its own pack can have removed it."""
    watched = Watched()
    played, results = play(history)
    for pack, result in zip(played.packs, results, strict=True):
        watched.apply(pack)
        for command, outcome in pairs(pack, result):
            if isinstance(command, Put) and not outcome.accepted:
                if outcome.id != NEW:
                    copy = watched.alive[outcome.id]
                    assert copy.kind == command.kind and copy.content == (command.content or b"")
                else:
                    assert not command.content or outcome.reason == "it changed, to the same content"


@given(st.lists(st.tuples(st.integers(0, 3), recipes), max_size=25))
@settings(max_examples=200, deadline=None)
def test_no_content_is_lost_by_a_command_that_does_not_remove_or_replace_it(steps: list[tuple[int, Recipe]]) -> None:
    """G3. One command per entry, so that before and after can be compared exactly."""
    watched = Watched()
    views: list[list[Row]] = [[]]
    for sequence, (lag, step) in enumerate(steps):
        command = cook(step, views[max(0, len(views) - 1 - lag)], 0)
        before = {row.content for row in watched.alive.values() if row.content}
        batch = Batch(Origin("n0", 1, sequence), (command,))
        (outcome,) = watched.apply(Pack((batch,), {})).outcomes[batch.origin]
        after = {row.content for row in watched.alive.values() if row.content}
        if isinstance(command, Put) and command.content:
            assert command.content in after
        if not outcome.accepted or isinstance(command, Move | Seed):
            assert before <= after
        views.append(sorted(watched.alive.values(), key=lambda row: row.id))


@given(histories)
@settings(max_examples=100, deadline=None)
def test_a_replayed_batch_changes_nothing_and_never_answers_anything_new(history: History) -> None:
    watched, results = play(history)
    digest = watched.catalogue.digest
    first = {origin: outcomes for result in results for origin, outcomes in result.outcomes.items()}
    newest = {origin.node: origin for origin in first}
    for pack in list(watched.packs):
        again = watched.apply(pack)
        assert again.changes == {}
        for origin, outcomes in again.outcomes.items():
            assert outcomes == (first[origin] if origin == newest[origin.node] else ())
    assert watched.catalogue.digest == digest


@given(junk_packs)
@settings(max_examples=100, deadline=None)
def test_no_command_whatever_raises_or_spoils_the_tree(packs: list[Pack]) -> None:
    watched = Watched()
    for pack in packs:
        watched.apply(pack)


@given(histories, junk_packs)
@settings(max_examples=40, deadline=None)
def test_junk_between_sensible_commands_does_no_harm_either(history: History, packs: list[Pack]) -> None:
    watched, _ = play(history)
    for pack in packs:
        watched.apply(pack)


@given(
    st.binary(min_size=1, max_size=255).filter(lambda raw: not {0, 47} & set(raw) and raw not in (b".", b"..")),
    st.text(max_size=100),
    st.integers(1, (1 << 43) - 1),
    st.integers(0, (1 << 20) - 1),
    st.integers(0, 10_000),
)
def test_a_conflict_name_is_a_name_and_tells_commands_apart(
    name: bytes, node: str, index: int, position: int, again: int
) -> None:
    made = conflict_name(name, node, version(index, position), again)
    assert Name(made) == made and made != name
    assert made != conflict_name(name, node, version(index, position), again + 1)
    assert made != conflict_name(name, node, version(index + 1, position), again)


@given(junk_packs)
@settings(max_examples=25, deadline=None)
def test_a_pack_of_any_commands_travels_unchanged(packs: list[Pack]) -> None:
    for pack in packs:
        assert decode_pack(encode_pack(pack)) == pack
        assert msgspec.msgpack.encode(decode_pack(encode_pack(pack))) == encode_pack(pack)
