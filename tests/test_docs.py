"""The documents against the code: what they name exists, and what exists is named."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from mutations.table import markdown

from onefold.cli import app
from onefold.config import load
from onefold.settings import BY_NAME, BY_OPTION, BY_VARIABLE, SETTINGS, TABLES

PROJECT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(PROJECT.glob("*.md")), *sorted(PROJECT.glob("docs/*.md"))]
IDS = [str(path.relative_to(PROJECT)) for path in DOCUMENTS]
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)


def text(name: str) -> str:
    return (PROJECT / name).read_text()


def code(document: Path) -> Iterator[str]:
    """Whatever a document shows as code: the lines of its blocks, and spans within a line."""
    within = False
    for line in document.read_text().splitlines():
        if line.startswith("```"):
            within = not within
        elif within:
            yield line
        else:
            yield from re.findall(r"`([^`]+)`", line)


def commands(command: Any = None, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], set[str]]:
    """Every command that a person may give, by its words, with its long options."""
    command = command or typer.main.get_command(app)
    inner = {name: sub for name, sub in getattr(command, "commands", {}).items() if not sub.hidden}
    found = {name: value for of, sub in inner.items() for name, value in commands(sub, (*words, of)).items()}
    if not inner or command.invoke_without_command:
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        found[words] = options - {"--help"}
    return found


COMMANDS = commands()


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            file = document.parent / path if path else document
            assert file.is_file(), target
            assert not anchor or anchor in anchors(file), target


@each_document
def test_files_that_a_document_names_exist(document: Path) -> None:
    for shown in code(document):
        for path in re.findall(r"(?<![\w/.])(?:\./)?((?:onefold|tests|scripts|docs)/[\w./-]*\w)", shown):
            assert (PROJECT / path).exists(), path


def test_every_module_is_in_the_architecture_and_every_one_there_exists() -> None:
    modules = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("onefold/**/*.py") if path.name != "__init__.py"}
    table = text("ARCHITECTURE.md").partition("\n## Modules")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(onefold/[\w/]+\.py)` \|", table, re.MULTILINE)) == modules


def test_every_dependency_is_in_the_architecture_with_its_reason() -> None:
    import tomllib

    project = tomllib.loads(text("pyproject.toml"))["project"]
    section = text("ARCHITECTURE.md").partition("\n## Dependencies")[2].partition("\n## ")[0]
    used, _, for_development = section.partition("For development:")
    for dependency in project["dependencies"]:
        assert f"| {re.split('[>=<]', dependency)[0]} |" in used
    named = for_development.lower()
    for dependency in project["optional-dependencies"]["dev"]:
        assert dependency.removeprefix("types-") in named


@each_document
def test_commands_and_options_that_a_document_shows_exist(document: Path) -> None:
    for shown in code(document):
        for given in re.findall(r"(?:^|[ /(])onefold ((?:[a-z]+ ?)+[^#|&;)]*)", shown):
            words = tuple(given.split())
            known = next((words[:n] for n in (2, 1) if words[:n] in COMMANDS), None)
            group = words[:1] if any(name[0] == words[0] for name in COMMANDS) else None
            assert known or (group and len(words) == 1), f"onefold {given}"
            options = {word for word in words if word.startswith("--")} - {"--help"}
            assert options <= COMMANDS.get(known or (), set()), f"onefold {given}"


def test_every_command_and_option_is_in_the_list_of_commands() -> None:
    rows = dict(re.findall(r"^\| `onefold ([^`]+)` \|(.*)$", text("docs/commands.md"), re.MULTILINE))
    listed = {tuple(word for word in shown.split() if word.islower() and word.isalpha()): shown for shown in rows}
    assert listed.keys() == COMMANDS.keys()
    for command, shown in listed.items():
        assert set(re.findall(r"--[a-z-]+", shown + rows[shown])) >= COMMANDS[command] - BY_OPTION.keys(), command


def test_options_named_alone_exist() -> None:
    everything = set().union(*COMMANDS.values()) | {"--help"}
    for document in (PROJECT / "README.md", PROJECT / "docs" / "commands.md"):
        for shown in code(document):
            if shown.startswith("--"):
                assert shown.split()[0] in everything, shown


@each_document
def test_settings_that_a_document_shows_exist(document: Path) -> None:
    for block in re.findall(r"```toml\n(.*?)```", document.read_text(), re.DOTALL):
        table = ""
        for line in block.splitlines():
            if heading := re.fullmatch(r"\[+(\w+)\]+", line):
                table = heading[1]
                assert table in TABLES
            elif setting := re.match(r"(\w+) = ", line):
                assert f"{table}.{setting[1]}".lstrip(".") in BY_NAME, line
    for shown in code(document):
        table, _, name = shown.partition(".")
        if table in TABLES and name.isidentifier() and name != "pid":
            assert shown in BY_NAME


def test_every_setting_is_documented() -> None:
    page = text("docs/settings.md")
    assert all(f"| `{setting.name.rpartition('.')[2]}` |" in page for setting in SETTINGS)
    assert all(f"`{variable}`, `{option}` |" in page for variable, option in zip(BY_VARIABLE, BY_OPTION, strict=True))


def test_the_settings_for_several_machines_are_valid(tmp_path: Path) -> None:
    first, *more = re.findall(r"```toml\n(.*?)```", text("docs/machines.md"), re.DOTALL)
    for number, settings in enumerate((first, "\n".join([first, *more]))):
        file = tmp_path / f"{number}.toml"
        file.write_text(settings)
        config = load(file)
        assert len(config.voters) == 3
        assert bool(config.etcd.endpoints) == bool(number)


def test_tests_that_the_guarantees_name_exist() -> None:
    there = {
        name for path in PROJECT.glob("tests/**/test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    named = set(re.findall(r"`(test_\w+)`", text("GUARANTEES.md")))
    assert named
    assert named <= there


def test_the_table_of_mutations_is_that_of_the_mutations() -> None:
    section = text("GUARANTEES.md").partition("\n## Mutations\n")[2].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("|")]
    assert shown == markdown().splitlines()  # ./scripts/mutation_check.sh --table


def test_every_guarantee_is_in_both_documents() -> None:
    told = re.findall(r"^\| \*\*(G\d [\w ]+)\*\* \|", text("README.md"), re.MULTILINE)
    kept = re.findall(r"^## (G\d .*)$", text("GUARANTEES.md"), re.MULTILINE)
    assert told == kept
    assert len(kept) == 8


def test_the_changelog_tells_of_this_version() -> None:
    from onefold import __version__

    assert f"\n## {__version__}\n" in text("CHANGELOG.md")
