"""Breaks a copy of the code, one mutation at a time, and runs the test that is to fail then."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from mutations.table import Mutation

PROJECT = Path(__file__).parents[2]
COPIED = ("onefold", "tests", "scripts", "pyproject.toml")
TEST_SECONDS_MAX = 900
END_SECONDS_MAX = 60
BROKEN_CODE = ("AttributeError", "ImportError", "IndentationError", "ModuleNotFoundError", "NameError", "SyntaxError")
"""Failures that say that a mutation is no program any more, and nothing of the guarantee."""


class Verdict(Enum):
    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    SKIPPED = "SKIPPED"
    INVALID = "INVALID"


class Outcome(NamedTuple):
    """What became of a mutation, and why: for one that was caught, how its test failed."""

    verdict: Verdict
    why: str


class Run(NamedTuple):
    """One run of one test: the exit status of pytest; how many cases passed; of the others, the first lines."""

    status: int
    passed: int
    failures: tuple[str, ...]
    skipped: tuple[str, ...]
    said: str


class Copy:
    """The project as it is in the working tree, in a directory where it may be broken."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._sound: dict[str, Run] = {}
        self._seconds = itertools.count(1)
        for name in COPIED:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=shutil.ignore_patterns(".*"))
            else:
                shutil.copy2(source, place / name)

    def check(self, mutation: Mutation, test: str) -> Outcome:
        """Whether `test` passes without `mutation`, and fails with it."""
        file = self._place / mutation.file
        text = file.read_text()
        if text.count(mutation.before) != 1:
            return Outcome(
                Verdict.INVALID, f"what it changes is {text.count(mutation.before)} times in {mutation.file}"
            )
        if test not in self._sound:
            self._sound[test] = self._run(test)
        sound = self._sound[test]
        if sound.status == 0 and not sound.passed:
            return Outcome(Verdict.SKIPPED, sound.skipped[0] if sound.skipped else "no test")
        if sound.status != 0:
            return Outcome(Verdict.INVALID, f"its test fails without it: {(*sound.failures, sound.said)[0]}")
        self._write(file, text.replace(mutation.before, mutation.after))
        try:
            return _judge(self._run(test))
        finally:
            self._write(file, text)

    def _write(self, file: Path, text: str) -> None:
        """Python takes what it once compiled for `file` as long as the second and size of that are the same: so each
        text has a second of its own."""
        file.write_text(text)
        second = next(self._seconds)
        os.utime(file, (second, second))

    def _run(self, test: str) -> Run:
        report, scratch = self._place / "report.xml", self._place / "scratch"
        report.unlink(missing_ok=True)
        options = (
            "-q",
            "-p",
            "no:cacheprovider",
            "--hypothesis-seed=0",
            f"--basetemp={scratch}",
            f"--junitxml={report}",
        )
        env = {**os.environ, "PYTHONPATH": str(self._place)}
        with subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, test],
            cwd=self._place,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=TEST_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                _end(process)
                said = f"it had no end within {TEST_SECONDS_MAX} s"
            except BaseException:
                _end(process)
                raise
        return _read(process.returncode, report, said)


def _end(process: subprocess.Popen[str]) -> None:
    """As a person would, so that the test takes down what it has started; by force where that does not help."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _read(status: int, report: Path, said: str) -> Run:
    last = next(iter(reversed(said.strip().splitlines())), "")
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failures = [_first_line(each) for case in cases for each in case.findall("failure")]
    skipped = [_first_line(each) for case in cases for each in case.findall("skipped")]
    passed = sum(not len(case) or {each.tag for each in case} <= {"system-out", "system-err"} for case in cases)
    return Run(status, passed, tuple(failures), tuple(skipped), last)


def _first_line(element: ElementTree.Element) -> str:
    return next(iter(element.get("message", "").splitlines()), "")


def _judge(run: Run) -> Outcome:
    if run.status == 0:
        return Outcome(Verdict.SURVIVED, run.said)
    if run.status != 1 or not run.failures:  # pytest's status for tests that ran and failed, errors around them too
        return Outcome(Verdict.INVALID, f"its test did not come to its end: {run.said}")
    if run.failures[0].startswith(BROKEN_CODE):
        return Outcome(Verdict.INVALID, f"it is no program any more: {run.failures[0]}")
    return Outcome(Verdict.CAUGHT, run.failures[0])


@contextmanager
def copied() -> Iterator[Copy]:
    """A copy, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="mutations-", ignore_cleanup_errors=True) as place:
        os.chmod(place, 0o755)  # some tests go on as nobody
        yield Copy(Path(place))
