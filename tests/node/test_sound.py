"""Whether an object is what its digest names: by a real store, with what a disk may do to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from onefold.core.wire import content_digest
from onefold.edge.objects import ObjectStore
from onefold.node.sound import damage

DATA = b"as it was written" * 1000
DIGEST = content_digest(DATA)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    store = ObjectStore(tmp_path)
    store.put(DIGEST, DATA)
    return store


def file_of(directory: Path) -> Path:
    (file,) = (path for path in directory.rglob("*") if path.is_file() and path.stat().st_size == len(DATA))
    return file


async def test_a_sound_object_is_read_to_its_end_and_stays(store: ObjectStore) -> None:
    read: list[int] = []

    async def pace(count: int) -> None:
        read.append(count)

    assert await damage(store, DIGEST, pace) is None
    assert sum(read) == len(DATA)
    assert store.has(DIGEST)


async def test_one_with_other_bytes_does_not_count_as_here_any_more(store: ObjectStore, tmp_path: Path) -> None:
    with file_of(tmp_path).open("r+b") as file:
        file.write(b"A")
    assert await damage(store, DIGEST) == len(DATA)
    assert not store.has(DIGEST)


async def test_one_that_cannot_be_read_is_as_good_as_damaged(store: ObjectStore, tmp_path: Path) -> None:
    file = file_of(tmp_path)
    file.unlink()
    file.mkdir()
    assert await damage(store, DIGEST) is not None
    assert not store.has(DIGEST)


async def test_one_that_was_let_go_is_not_damaged(store: ObjectStore) -> None:
    assert await damage(store, bytes(32)) is None
