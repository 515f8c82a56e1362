"""Contents of recent packs: kept, read back, forgotten, and never believed without their digest."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from onefold.edge import recent as module
from onefold.edge.recent import RecentContents
from onefold.errors import OperatorError


def contents(*data: bytes) -> dict[bytes, bytes]:
    return {blake3(each).digest(): each for each in data}


@contextmanager
def opened(directory: Path) -> Iterator[RecentContents]:
    recent = RecentContents(directory)
    try:
        yield recent
    finally:
        recent.close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_contents_are_kept_until_no_later_entry_brought_them(tmp_path: Path) -> None:
    a, b = contents(b"a", b"b")
    with opened(tmp_path) as recent:
        recent.remember(1, contents(b"a", b"b"))
        recent.remember(2, contents(b"b"))
        recent.remember(3, {})
        assert [recent.get(d) for d in (a, b, bytes(32))] == [b"a", b"b", None]
        recent.forget(1)
        assert [recent.get(d) for d in (a, b)] == [None, b"b"]
        recent.forget(2)
        assert recent.get(b) is None
        assert names(tmp_path) == []
        recent.remember(4, contents(b"a"))
        assert recent.get(a) == b"a"


def test_what_was_kept_is_there_at_the_next_start_and_added_to(tmp_path: Path) -> None:
    a, b, c = contents(b"a", b"b", b"c")
    with opened(tmp_path) as recent:
        recent.remember(1, contents(b"a"))
        recent.remember(2, contents(b"b"))
    with opened(tmp_path) as recent:
        recent.remember(2, contents(b"b"))  # a crash came before the transaction of entry 2
        recent.remember(3, contents(b"c"))
        assert [recent.get(d) for d in (a, b, c)] == [b"a", b"b", b"c"]
        recent.forget(2)
        assert [recent.get(d) for d in (a, b, c)] == [None, None, b"c"]
        assert len(names(tmp_path)) == 1


def test_a_full_segment_is_followed_by_another_and_goes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 150)
    with opened(tmp_path) as recent:
        for index in range(1, 7):
            recent.remember(index, contents(b"%d" % index * 60))
        assert len(names(tmp_path)) == 3
        recent.forget(3)
        assert len(names(tmp_path)) == 2
        assert [recent.get(blake3(b"%d" % i * 60).digest()) is None for i in (3, 4)] == [True, False]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:60],
        lambda whole: whole[:3],
        lambda whole: b"",
        lambda whole: b"\xff\xff\xff\xff" + whole[4:],
        lambda whole: whole[:4] + b"\xc1" + whole[5:],
    ],
    ids=["data cut off", "head cut off", "length cut off", "empty", "absurd length", "no head"],
)
def test_a_record_that_is_not_whole_is_not_here(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with opened(tmp_path) as recent:
        recent.remember(1, contents(b"a" * 50))
    (segment,) = tmp_path.iterdir()
    segment.write_bytes(damage(segment.read_bytes()))
    with opened(tmp_path) as recent:
        assert recent.get(blake3(b"a" * 50).digest()) is None
        assert names(tmp_path) == []


def test_the_records_before_one_that_was_cut_off_are_here(tmp_path: Path) -> None:
    a, b = contents(b"a", b"b")
    with opened(tmp_path) as recent:
        recent.remember(1, contents(b"a"))
        recent.remember(2, contents(b"b"))
    (segment,) = tmp_path.iterdir()
    segment.write_bytes(segment.read_bytes()[:-1])
    with opened(tmp_path) as recent:
        assert [recent.get(d) for d in (a, b)] == [b"a", None]


def test_damaged_content_is_not_believed(tmp_path: Path) -> None:
    with opened(tmp_path) as recent:
        recent.remember(1, contents(b"a" * 50))
        (segment,) = tmp_path.iterdir()
        segment.write_bytes(segment.read_bytes()[:-1] + b"!")
        assert recent.get(blake3(b"a" * 50).digest()) is None


def test_a_full_disk_is_told_and_what_came_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = contents(b"a", b"b")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(tmp_path) as recent:
        recent.remember(1, contents(b"a"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(OperatorError, match="the disk is full"):
                recent.remember(2, contents(b"b"))
        recent.remember(2, contents(b"b"))
        assert [recent.get(d) for d in (a, b)] == [b"a", b"b"]
