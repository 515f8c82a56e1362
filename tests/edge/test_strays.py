"""Strays on another file system than the folder: what is copied is whole before anything of it is removed (G3)."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onefold.core.paths import RelPath
from onefold.edge.strays import Strays


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The directory that `aside` is taken from, open; renames out of it fail as between two file systems."""

    def rename(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    aside = tmp_path / "folder" / "aside"
    for name in ("closed", "open"):
        (aside / name).mkdir(parents=True)
        (aside / name / "file").write_text(name)
    (aside / "link").symlink_to("nowhere")
    (aside / "closed").chmod(0o555)
    monkeypatch.setattr(os, "rename", rename)
    fd = os.open(aside.parent, os.O_RDONLY)
    yield fd
    os.close(fd)


def contents(directory: Path) -> dict[str, str]:
    return {name: (directory / name / "file").read_text() for name in ("closed", "open")}


def test_a_tree_with_a_closed_directory_is_taken_across_file_systems(tmp_path: Path, folder: int) -> None:
    strays = Strays(tmp_path / "strays")
    strays.add(folder, b"aside", RelPath(b"tree"), "a test")
    (kept,) = strays.list()
    assert contents(kept.file) == {"closed": "closed", "open": "open"}
    assert os.readlink(kept.file / "link") == "nowhere"
    assert os.listdir(folder) == []


def test_g3_a_copy_is_kept_when_its_source_could_be_removed_only_in_part(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def half(path: Path, *args: Any, **kwargs: Any) -> None:
        if Path(path).name == "aside":
            rmtree(Path(path) / "open")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rmtree(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", half)
    strays = Strays(tmp_path / "strays")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        strays.add(folder, b"aside", RelPath(b"tree"), "a test")
    (kept,) = strays.list()
    assert contents(kept.file) == {"closed": "closed", "open": "open"}


def test_g3_nothing_is_taken_when_the_copy_fails(tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copytree", full)
    strays = Strays(tmp_path / "strays")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        strays.add(folder, b"aside", RelPath(b"tree"), "a test")
    assert strays.list() == []
    assert contents(tmp_path / "folder" / "aside") == {"closed": "closed", "open": "open"}
