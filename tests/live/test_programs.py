"""What programs do to a leader's folder: editors, git, tar, pip, SQLite; and many files, large ones, fast ones.

The extras marked `slow` are not part of the gate: `pytest tests/live -m slow` runs them alone.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cluster import SECONDS, Demo, inodes

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in {"NAME": "A", "EMAIL": "a@example.org"}.items()
    },
}


def run(*command: str | Path, where: Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, cwd=where, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program} here")


# ------------------------------------------------------------------------------------------------------- editors


@needs("vim")
@pytest.mark.parametrize("options", ["backupcopy=yes", "backupcopy=no", "backup backupcopy=no", "nowritebackup"])
def test_vim_saves(shared: Demo, here: Path, options: str) -> None:
    (here / "text").write_text("one\n")
    for word in ("two", "three"):
        vim = ("vim", "-Nu", "NONE", "-i", "NONE", "-es", "-c", f"set {options}", "-c", f"%s/.*/{word}/", "-c", "wq")
        run(*vim, "text", where=here)
        assert shared.settled("node1", here.name)[b"text"].content == f"{word}\n".encode()


@needs("vim")
def test_a_swap_file_of_an_open_editor_comes_and_goes(shared: Demo, here: Path) -> None:
    (here / "text").write_text("one\n")
    vim = subprocess.Popen(
        ["vim", "-Nu", "NONE", "-i", "NONE", "-es", "text"], cwd=here, env=ENVIRONMENT, stdin=subprocess.PIPE
    )
    assert vim.stdin is not None
    try:
        vim.stdin.write(b"%s/one/two/\nw\npreserve\n")
        vim.stdin.flush()
        shared.wait()
    finally:
        vim.stdin.write(b"q!\n")
        vim.stdin.close()
        vim.wait(SECONDS)
    assert set(shared.settled("node1", here.name)) == {b"text"}


def test_sed_saves_in_place(shared: Demo, here: Path) -> None:
    (here / "text").write_text("one\n")
    shared.settled("node1", here.name)
    run("sed", "-i", "s/one/two/", "text", where=here)
    run("sed", "-i.bak", "s/two/three/", "text", where=here)
    assert shared.settled("node1", here.name)[b"text"].content == b"three\n"


def test_a_backup_is_made_and_the_file_is_written_anew(shared: Demo, here: Path) -> None:
    text = here / "text"
    text.write_text("one")
    shared.settled("node1", here.name)
    for word in ("two", "three"):
        text.rename(here / "text~")
        text.write_text(word)
    found = shared.settled("node1", here.name)
    assert (found[b"text"].content, found[b"text~"].content) == (b"three", b"two")


def test_a_temporary_file_replaces_the_file_many_times(shared: Demo, here: Path) -> None:
    text = here / "text"
    for number in range(200):
        (here / ".text.tmp").write_text(f"{number}")
        (here / ".text.tmp").replace(text)
    assert shared.settled("node1", here.name)[b"text"].content == b"199"


# ------------------------------------------------------------------------------------------------------- programs


@needs("git")
def test_git_clones_commits_and_collects_garbage(shared: Demo, here: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    run("git", "init", "-q", "-b", "main", where=source)
    for number in range(20):
        (source / f"d{number % 4}").mkdir(exist_ok=True)
        (source / f"d{number % 4}" / f"f{number}").write_text(f"{number}\n" * number)
        run("git", "add", "-A", where=source)
        run("git", "commit", "-qm", f"{number}", where=source)
    run("git", "clone", "-q", "--no-hardlinks", source, "clone", where=here)
    shared.settled("node1", here.name)
    clone = here / "clone"
    run("git", "checkout", "-qb", "older", "HEAD~10", where=clone)
    (clone / "d1" / "new").write_text("x")
    run("git", "add", "-A", where=clone)
    run("git", "commit", "-qm", "a branch", where=clone)
    shared.settled("node1", here.name)
    run("git", "gc", "-q", "--prune=now", where=clone)
    run("git", "checkout", "-q", "main", where=clone)
    shared.settled("node1", here.name)
    copy = tmp_path / "copy"
    run("git", "clone", "-q", shared.folder("node3") / here.name / "clone", copy, where=tmp_path)
    run("git", "fsck", "--strict", where=copy)
    assert run("git", "rev-parse", "origin/older", where=copy) == run("git", "rev-parse", "older", where=clone)


@needs("tar")
def test_tar_unpacks(shared: Demo, here: Path, tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "closed" / "deeper").mkdir(parents=True)
    (content / "closed" / "deeper" / "read-only").write_text("x")
    (content / "closed" / "deeper" / "read-only").chmod(0o444)
    os.utime(content / "closed" / "deeper" / "read-only", ns=(0, 1_000_000_000_000_000_000))
    (content / "link").symlink_to("closed/deeper")
    (content / "original").write_text("linked twice")
    os.link(content / "original", content / "hard-link")
    for number in range(300):
        (content / f"f{number}").write_bytes(bytes([number % 256]) * number)
    (content / "closed" / "deeper").chmod(0o555)
    (content / "closed").chmod(0o555)
    with tarfile.open(tmp_path / "content.tar", "w") as archive:
        archive.add(content, "content")
    (content / "closed").chmod(0o755)
    (content / "closed" / "deeper").chmod(0o755)
    run("tar", "-xpf", tmp_path / "content.tar", where=here)
    found = shared.settled("node1", here.name)
    assert found[b"content/closed"].mode == 0o555
    assert found[b"content/closed/deeper/read-only"].mtime_ns == 1_000_000_000_000_000_000


def test_pip_installs_into_a_target(shared: Demo, here: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "greeting").mkdir(parents=True)
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "greeting"\nversion = "1"\n[tool.setuptools]\npackages = ["greeting"]\n'
    )
    (package / "greeting" / "__init__.py").write_text("WORD = 'hello'\n")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "--disable-pip-version-check", "--target", here / "lib", package, where=tmp_path)
    shared.settled("node1", here.name)
    library = shared.folder("node2") / here.name / "lib"
    code = f"import sys; sys.path.insert(0, {str(library)!r}); import greeting; print(greeting.WORD)"
    assert run(sys.executable, "-B", "-c", code, where=tmp_path) == "hello\n"


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_sqlite_database_that_is_being_written_is_whole_in_the_end(
    shared: Demo, here: Path, tmp_path: Path, journal: str
) -> None:
    database = sqlite3.connect(here / "data.sqlite", isolation_level=None)
    try:
        database.execute(f"pragma journal_mode = {journal}")
        database.execute("create table t (number integer primary key, text text)")
        for number in range(150):
            database.execute("insert into t values (?, ?)", (number, "x" * 1000))
        shared.wait()
        database.execute("delete from t where number % 2")
        database.execute("vacuum")
    finally:
        database.close()
    shared.settled("node1", here.name)
    copy = shutil.copy(shared.folder("node2") / here.name / "data.sqlite", tmp_path)
    database = sqlite3.connect(copy)
    try:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert database.execute("select count(*) from t").fetchone() == (75,)
    finally:
        database.close()


# ------------------------------------------------------------------------------------------- many, large and fast


def test_two_thousand_files_come_move_and_go(shared: Demo, here: Path) -> None:
    for number in range(2000):
        file = here / "many" / f"{number % 10}" / f"{number % 40}" / f"{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d\n" % number * 50)
    assert len(shared.settled("node1", here.name)) == 2000 + 40 + 10 + 1
    stood = inodes(shared.folder("node2") / here.name / "many")
    (here / "many").rename(here / "moved")
    shared.settled("node1", here.name)
    assert inodes(shared.folder("node2") / here.name / "moved") == stood
    shutil.rmtree(here / "moved")
    assert shared.settled("node1", here.name) == {}


def test_a_large_file_arrives_is_overwritten_in_the_middle_and_cut(shared: Demo, here: Path) -> None:
    file = here / "large"
    content = random.Random(1).randbytes(1 << 20)
    file.write_bytes(content * 64)
    assert shared.settled("node1", here.name)[b"large"]
    with file.open("r+b") as opened:
        opened.seek(20 << 20)
        opened.write(b"x" * (1 << 20))
    shared.settled("node1", here.name)
    os.truncate(file, 30 << 20)
    shared.settled("node1", here.name)
    file.rename(here / "renamed")
    shared.settled("node1", here.name)
    (here / "renamed").unlink()
    assert shared.settled("node1", here.name) == {}


DIG = """
import os, sys
root, number = sys.argv[1], sys.argv[2]
for turn in range(60):
    deep = os.path.join(root, f"{number}-{turn}", *"abcdef")
    os.makedirs(deep)
    while deep != root:
        with open(os.path.join(deep, "file"), "w") as file:
            file.write(deep)
        deep = os.path.dirname(deep)
"""


def test_new_directories_are_filled_faster_than_they_can_be_watched(shared: Demo, here: Path) -> None:
    diggers = [subprocess.Popen([sys.executable, "-c", DIG, str(here), str(number)]) for number in range(4)]
    assert [digger.wait(SECONDS) for digger in diggers] == [0] * 4
    found = shared.settled("node1", here.name)
    assert len(found) == 4 * 60 * 14 + 0
    shutil.rmtree(here)
    shared.settled("node1")


CHURN = """
import os, random, shutil, sys
root, seed, turns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random = random.Random(seed)

def somewhere():
    path = root
    while random.random() < 0.7:
        path = os.path.join(path, random.choice("abc"))
    return os.path.join(path, random.choice("abcde"))

def write(path):
    with open(path, random.choice(["w", "a", "r+"])) as file:
        file.write(random.choice("xyz") * random.choice([0, 1, 1, 10, 70_000]))

def remove(path):
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

for turn in range(turns):
    doing = random.choice(["write"] * 4 + ["mkdir"] * 3 + ["rename"] * 4 + ["remove", "chmod", "symlink"])
    path = somewhere()
    try:
        match doing:
            case "write":
                write(path)
            case "mkdir":
                os.mkdir(path)
            case "rename":
                os.rename(path, somewhere())
            case "remove":
                remove(path)
            case "chmod":
                os.chmod(path, random.choice([0o755, 0o700, 0o555]))
            case "symlink":
                os.symlink("abc", path)
    except OSError:
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 20))
def test_whatever_two_programs_do_to_one_tree_at_once_is_everywhere(shared: Demo, here: Path, seed: int) -> None:
    churners = [
        subprocess.Popen([sys.executable, "-c", CHURN, str(here), str(2 * seed + number), "1500"]) for number in (0, 1)
    ]
    assert [churner.wait(SECONDS) for churner in churners] == [0, 0]
    shared.settled("node1", here.name)


def test_nothing_was_kept_aside_and_no_problem_is_left(shared: Demo) -> None:
    """The last of its module: none of the tests before made an edit anywhere but on the leader."""
    shared.settled("node1")
    for name, node in shared.status()["nodes"].items():
        assert (name, node["strays"], node["problems"]) == (name, 0, [])
