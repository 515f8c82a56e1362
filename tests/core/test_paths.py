"""Names and paths: what is refused, and what a person sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold.core.paths import ROOT_PATH, Name, RelPath, show
from onefold.errors import BadPath

names = st.binary(min_size=1, max_size=255).filter(lambda raw: not {0, 47} & set(raw) and raw not in (b".", b".."))


@pytest.mark.parametrize("raw", [b"a", b"...", b".hidden", b"\xff\xfe", b" ", b"\n", b"x" * 255, "ü".encode()])
def test_every_name_that_linux_allows_is_a_name(raw: bytes) -> None:
    assert Name(raw) == raw


@pytest.mark.parametrize("raw", [b".", b"..", b"a/b", b"/", b"a\0"])
def test_a_name_cannot_climb_or_separate(raw: bytes) -> None:
    with pytest.raises(BadPath, match="is not a file name: use a name without"):
        Name(raw)


@pytest.mark.parametrize("raw", [b"", b"x" * 256])
def test_a_name_has_1_to_255_bytes(raw: bytes) -> None:
    with pytest.raises(BadPath, match=f"has {len(raw)} bytes: use a name of 1 to 255 bytes"):
        Name(raw)


@pytest.mark.parametrize("raw", [b"/", b"a/", b"/a", b"a//b", b"a/../b", b"./a", b"a\0/b"])
def test_a_path_is_made_of_names(raw: bytes) -> None:
    with pytest.raises(BadPath):
        RelPath.parse(raw)


def test_the_root_has_no_name_and_is_its_own_parent() -> None:
    assert RelPath.parse(b"") == ROOT_PATH and ROOT_PATH.parts == []
    assert ROOT_PATH.parent == ROOT_PATH
    with pytest.raises(BadPath):
        _ = ROOT_PATH.name


@given(st.lists(names, min_size=1, max_size=6))
def test_a_path_is_its_parent_and_its_name(parts: list[bytes]) -> None:
    path = RelPath.parse(b"/".join(parts))
    assert path.parts == parts
    assert path.name == parts[-1]
    assert path.parent.child(path.name) == path
    assert path.below(path.parent) and path.below(ROOT_PATH) and not path.below(path)


def test_a_path_moves_with_the_directory_that_it_is_in() -> None:
    assert RelPath(b"a/b/c").moved(RelPath(b"a"), RelPath(b"x/y")) == b"x/y/b/c"


def test_below_means_whole_components() -> None:
    assert RelPath(b"a/b").below(RelPath(b"a"))
    assert not RelPath(b"ab").below(RelPath(b"a"))
    assert not RelPath(b"ab/c").below(RelPath(b"a"))
    assert not RelPath(b"a").below(RelPath(b"a/b"))
    assert not ROOT_PATH.below(ROOT_PATH)


def test_a_person_sees_text_where_it_is_text_and_escapes_where_it_is_not() -> None:
    assert show("Größe.txt".encode()) == "Größe.txt"
    assert show(b"a\xffb") == "a\\xffb"
    assert show(b"a\nb\x1b[31mc") == "a\\nb\\x1b[31mc"


@given(st.binary(max_size=64))
def test_what_a_person_sees_is_always_printable(raw: bytes) -> None:
    assert show(raw).isprintable()
