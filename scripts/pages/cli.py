"""docs/cli.md, from the commands as `onefold --help` knows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from onefold.cli import app
from pages import MADE

HEAD = """\
# Command line

Every command with its arguments and options, as `--help` tells them. What `status` and `verify` say, and what exit
codes mean: [commands.md](commands.md).
"""


def page() -> str:
    lines = [HEAD, MADE.format("onefold/cli.py")]
    for words, command in commands(typer.main.get_command(app), ("onefold",)):
        lines += _section(words, command)
    return "\n".join(lines) + "\n"


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that a person may give, by its words."""
    inner = {name: sub for name, sub in getattr(command, "commands", {}).items() if not sub.hidden}
    if not inner or command.invoke_without_command:
        yield words, command
    for name, sub in inner.items():
        yield from commands(sub, (*words, name))


def _section(words: tuple[str, ...], command: Any) -> list[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = [*words, *(_usage(argument) for argument in arguments), *(["[OPTIONS]"] if options else [])]
    lines = ["", f"## {' '.join(words)}", "", f"`{' '.join(usage)}`", "", _plain(command.help)]
    if arguments or options:
        lines += ["", "| argument or option | meaning |", "|---|---|"]
    lines += [f"| `{argument.metavar or argument.name.upper()}` | {_meaning(argument)} |" for argument in arguments]
    return lines + [f"| {_names(option)} | {_meaning(option)} |" for option in options]


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    names = [f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts)]
    return ", ".join(names).replace("|", "\\|")


def _meaning(parameter: Any) -> str:
    said = _plain(getattr(parameter, "help", "") or "")
    default = parameter.default
    if parameter.required:
        return f"{said} Must be given."
    if isinstance(default, str | int | float) and not isinstance(default, bool) and str(default):
        return f"{said} Default: `{default}`."
    return said.replace("[default: ", "Default: ").removesuffix("]") + ("." if "[default: " in said else "")


def _plain(text: str | None) -> str:
    """As one paragraph of Markdown."""
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")
