"""The documentation site: it builds without a broken link, needs nothing from elsewhere, and its pages are current."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import problems

PROJECT = Path(__file__).parent.parent
QUIET = {"NO_MKDOCS_2_WARNING": "1"}


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | QUIET,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    done = build(PROJECT / "mkdocs.yml", directory)
    assert done.returncode == 0, done.stderr
    return directory


def fetched(page: str) -> Iterator[str]:
    """Whatever a browser fetches to show a page."""
    for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page):
        if 'rel="canonical"' not in tag:
            yield from re.findall(r'(?:src|href)="([^"]+)"', tag)


def test_the_site_has_every_page_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    for document in (*PROJECT.glob("docs/*.md"), Path("index.md"), Path("guarantees.md")):
        page = (site / document.name).with_suffix(".html").read_text()
        assert not [url for url in fetched(page) if re.match(r"(https?:)?//", url)]


def test_a_broken_link_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[there](#nowhere) [gone](gone.md)\n")
    text = (PROJECT / "mkdocs.yml").read_text().partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(re.sub(r"^hooks: .*$", "", text, flags=re.MULTILINE))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0, done.stdout
    assert "gone.md" in done.stderr
    assert "#nowhere" in done.stderr


def test_pages_made_from_the_code_are_current() -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / "scripts" / "write_docs.py", "--check"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


def test_every_problem_and_every_error_has_a_cure_and_every_problem_a_cause() -> None:
    known = problems.causes()
    told = problems.problems()
    assert len(told) > 40
    assert not [each for each in told if not known.get(each.text, {}).get("cause")], "add it to causes.toml"
    errors = [each for _, kind, _ in problems.KINDS for each in problems.named(kind)]
    assert len(errors) > 80
    cured = {text for text, of in known.items() if "cure" in of}
    assert not [each for each in (*told, *errors) if not each.fix and each.text not in cured], "add it to causes.toml"


def test_causes_are_of_sentences_that_are_said() -> None:
    said = [*problems.problems(), *(each for _, kind, _ in problems.KINDS for each in problems.named(kind))]
    assert problems.causes().keys() <= {each.text for each in said}
