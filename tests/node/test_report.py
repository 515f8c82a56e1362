"""What a node tells of a change: where it was."""

from onefold.core.catalogue import Catalogue, MemoryRows
from onefold.core.messages import Problem
from onefold.core.model import NEVER, NEW, ROOT, Batch, Command, Id, Kind, Move, Origin, Pack, Put, Remove, Seed
from onefold.node.report import PROBLEMS_TOLD, brief, first_path


def pack(*commands: Command, sequence: int = 1) -> Pack:
    return Pack((Batch(Origin("a", 1, sequence), commands),), {})


def make(parent: Id, name: bytes, kind: Kind = Kind.DIRECTORY) -> Put:
    return Put(NEW, NEVER, parent, name, kind, 0o755, 0, 0, b"")


def test_the_path_of_a_change_is_the_whole_one() -> None:
    rows = MemoryRows()
    catalogue = Catalogue(rows)
    catalogue.apply(1, pack(make(ROOT, b"one")))
    one = rows.child(ROOT, b"one")
    assert one is not None
    catalogue.apply(2, pack(make(one.id, b"two"), sequence=2))
    two = rows.child(one.id, b"two")
    assert two is not None
    assert first_path(pack(make(two.id, b"new")), rows) == b"one/two/new"
    assert first_path(pack(Move(two.id, two.placed, ROOT, b"moved")), rows) == b"moved"
    assert first_path(pack(Remove(two.id, two.version)), rows) == b"one/two"


def test_what_the_catalogue_does_not_know_has_no_path() -> None:
    rows = MemoryRows()
    assert first_path(pack(Remove(Id(1 << 40), NEVER)), rows) == b""
    assert first_path(pack(Seed()), rows) == b""


def test_a_report_tells_so_many_problems_and_how_many_there_are_besides() -> None:
    problems = [Problem("the disk is full", f"file{number}") for number in range(PROBLEMS_TOLD)]
    assert brief(problems) == problems
    more = [*problems, *problems]
    assert brief(more)[:-1] == problems
    assert brief(more)[-1].what == f"{PROBLEMS_TOLD} problems more"
