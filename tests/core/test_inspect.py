"""What a difference is, and what may be done about it: rot is no edit, and an edit is never mended away (G3)."""

import msgspec
import pytest

from onefold.core.inspect import ROTTEN, Remedy, inspect
from onefold.core.model import NEVER, ROOT, Absent, BaseRow, Id, Kind, Observed, Present, Row, Stat, Unknown, Version

STAT = Stat(5, 6, 7, 8, 9, 0o644)
BASE = BaseRow(Id(1), ROOT, b"n", Kind.FILE, Version(2), Version(1), 0o644, 7, 9, b"c", STAT)
ROW = Row(Id(1), ROOT, b"n", Kind.FILE, Version(2), Version(1), 0o644, 7, 9, b"c")
SEEN = Present(Kind.FILE, STAT, b"c")


def seen(content: bytes = b"c", kind: Kind = Kind.FILE, **fields: object) -> Present:
    return Present(kind, msgspec.structs.replace(STAT, **fields), content)


def remedy(row: BaseRow | None, committed: Row | None, o: Observed, at_rest: bool = True) -> Remedy | None:
    found = inspect(row, committed, o, at_rest)
    return None if found is None else found.remedy


def test_what_is_as_it_should_be_is_no_difference() -> None:
    assert remedy(BASE, ROW, SEEN) is None
    assert remedy(BASE, ROW, seen(ctime_ns=99)) is None  # a new name somewhere, or an owner
    assert remedy(None, None, Absent()) is None
    assert remedy(None, None, Unknown("a socket")) is None


def test_g3_content_that_changed_without_being_written_is_rot() -> None:
    found = inspect(BASE, ROW, seen(b"x"), True)
    assert found is not None
    assert (found.what, found.remedy) == (ROTTEN, Remedy.REPLACE)


@pytest.mark.parametrize(
    "field", ["ino", "btime_ns", "mtime_ns", "ctime_ns", "size", "mode"], ids=lambda name: str(name)
)
def test_g3_content_that_changed_together_with_anything_of_the_stat_is_an_edit(field: str) -> None:
    assert remedy(BASE, ROW, seen(b"x", **{field: 1})) is Remedy.NONE


def test_g3_content_that_may_have_been_written_without_a_trace_is_taken_for_an_edit() -> None:
    assert remedy(BASE, ROW, seen(b"x"), at_rest=False) is Remedy.NONE


def test_g3_edits_and_what_cannot_be_read_are_not_mended() -> None:
    assert remedy(BASE, ROW, Absent()) is Remedy.NONE
    assert remedy(BASE, ROW, Unknown("permission denied")) is Remedy.NONE
    assert remedy(BASE, ROW, seen(kind=Kind.SYMLINK)) is Remedy.NONE
    assert remedy(BASE, ROW, seen(mode=0o600)) is Remedy.NONE
    assert remedy(BASE, ROW, seen(mtime_ns=1)) is Remedy.NONE
    assert remedy(None, None, SEEN) is Remedy.NONE


def test_a_symlink_has_no_mode_and_no_time_and_does_not_rot() -> None:
    base = msgspec.structs.replace(BASE, kind=Kind.SYMLINK, mode=0, mtime_ns=0)
    row = msgspec.structs.replace(ROW, kind=Kind.SYMLINK, mode=0, mtime_ns=0)
    assert remedy(base, row, seen(kind=Kind.SYMLINK)) is None
    assert remedy(base, row, seen(b"x", kind=Kind.SYMLINK)) is Remedy.NONE


def test_a_directory_has_a_mode_and_no_time() -> None:
    base = msgspec.structs.replace(BASE, kind=Kind.DIRECTORY, mtime_ns=0)
    row = msgspec.structs.replace(ROW, kind=Kind.DIRECTORY, mtime_ns=0)
    assert remedy(base, row, seen(kind=Kind.DIRECTORY)) is None
    assert remedy(base, row, seen(kind=Kind.DIRECTORY, mode=0o700)) is Remedy.NONE


def test_what_was_not_placed_is_placed_again() -> None:
    assert remedy(None, ROW, Absent()) is Remedy.PLACE
    assert remedy(BASE, None, SEEN) is Remedy.PLACE
    assert remedy(BASE, msgspec.structs.replace(ROW, version=Version(3)), SEEN) is Remedy.PLACE
    assert remedy(BASE, msgspec.structs.replace(ROW, name=b"other"), SEEN) is Remedy.PLACE
    assert remedy(msgspec.structs.replace(BASE, version=NEVER), ROW, SEEN) is Remedy.PLACE


@pytest.mark.parametrize("fields", [{"mode": 0o600}, {"mtime_ns": 1}, {"size": 1}, {"content": b"x"}])
def test_a_base_that_is_wrong_about_a_version_is_given_up(fields: dict[str, object]) -> None:
    assert remedy(BASE, msgspec.structs.replace(ROW, **fields), SEEN) is Remedy.RELEARN
