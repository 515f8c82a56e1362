"""The values: versions, references, and when a stat shows a change."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold.core.model import (
    COMMANDS_MAX,
    NEW,
    ROOT,
    ROOT_ROW,
    Kind,
    Stat,
    index_of,
    made_by,
    position_of,
    version,
)

positions = st.integers(0, COMMANDS_MAX - 1)
indices = st.integers(1, (1 << 43) - 1)
STAT = Stat(ino=7, btime_ns=1, mtime_ns=2, ctime_ns=3, size=4, mode=0o644)


@given(indices, positions, indices, positions)
def test_versions_sort_by_age_and_fit_a_column(i: int, p: int, j: int, q: int) -> None:
    assert (version(i, p) < version(j, q)) == ((i, p) < (j, q))
    assert 0 < version(i, p) < 1 << 63
    assert index_of(version(i, p)) == i


@given(positions)
def test_a_reference_is_no_id_and_names_its_position(position: int) -> None:
    assert made_by(position) < NEW < ROOT
    assert position_of(made_by(position)) == position


def test_the_root_is_a_directory_in_itself() -> None:
    assert (ROOT_ROW.id, ROOT_ROW.parent, ROOT_ROW.kind) == (ROOT, ROOT, Kind.DIRECTORY)


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ROOT_ROW.name = b"x"  # type: ignore[misc]


def test_the_same_file_is_inode_and_birth_together() -> None:
    assert STAT.same_file(msgspec.structs.replace(STAT, size=99, mtime_ns=99))
    assert not STAT.same_file(msgspec.structs.replace(STAT, ino=8))
    assert not STAT.same_file(msgspec.structs.replace(STAT, btime_ns=8))


@pytest.mark.parametrize("field", ["ino", "btime_ns", "mtime_ns", "size", "mode"])
def test_any_difference_but_ctime_shows_a_change(field: str) -> None:
    assert not STAT.unchanged(msgspec.structs.replace(STAT, **{field: 99}))


def test_our_own_rename_changes_ctime_only_and_is_no_change() -> None:
    assert STAT.unchanged(msgspec.structs.replace(STAT, ctime_ns=99))
