"""The scripts and locks: what can be checked of them without a fresh machine."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
SCRIPTS = [*sorted(PROJECT.glob("scripts/*.sh")), PROJECT / ".ci" / "run"]
LOCKS = ["requirements.lock", "requirements-dev.lock"]


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (PROJECT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", script], check=True, cwd=PROJECT)


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_hold_hashes_and_no_place(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    blocks = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?://|file:/|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_the_test_lock_holds_the_run_time_lock() -> None:
    run, test = pins("requirements.lock"), pins("requirements-dev.lock")
    assert run.items() <= test.items()


def test_the_gate_is_the_one_script() -> None:
    assert "scripts/test_live_replication.sh" in (PROJECT / ".ci" / "run").read_text()
