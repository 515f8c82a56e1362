"""`onefold config show` and `onefold config check`: each setting of a node, and where its value comes from."""

from __future__ import annotations

import json
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from onefold.config import Config, trace
from onefold.overrides import Origin
from onefold.settings import PLAIN, Setting


class Shown(NamedTuple):
    """A setting, its value in words, and where that comes from: "default", "file" (and the line), "environment" or
    "option" (and its name)."""

    name: str
    value: Any
    unit: str
    origin: str
    where: str


def gather(path: Path, options: Mapping[str, str]) -> tuple[Config, list[Shown]]:
    """Every setting that has one value, in the order of the table. Raises `BadSetting`."""
    config, origins = trace(path, options)
    lines = _lines(config.path.read_text(encoding="utf-8"))
    return config, [_shown(config, setting, origins[setting.name], lines) for setting in PLAIN]


def show(path: Path, options: Mapping[str, str], as_json: bool) -> None:
    """Print the settings. Raises `BadSetting`."""
    config, settings = gather(path, options)
    members = [{"name": m.name, "address": str(m.address), "voter": m.voter} for m in config.members]
    hooks = [hook._asdict() for hook in config.hooks]
    if as_json:
        told = [each._asdict() for each in settings]
        whole = {"file": str(config.path), "settings": told, "members": members, "hooks": hooks}
        print(json.dumps(whole, indent=2))  # noqa: T201
        return
    rows = [(s.name, f"{_text(s.value)} {s.unit}".rstrip(), f"{s.origin} {s.where}".rstrip()) for s in settings]
    rows += [
        (f"member {m['name']}", f"{m['address']}, {'voter' if m['voter'] else 'replica'}", "file") for m in members
    ]
    for hook in config.hooks:
        what = f"{shlex.join(hook.run)}, for {' '.join(hook.match)}"
        rows.append((f"hook {hook.name}", what, f"file {config.path}"))
    if sys.stdout.isatty():
        _table(rows)
    else:
        for row in rows:
            print("  ".join(row))  # noqa: T201


def _table(rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "from", box=None, header_style="bold")
    for name, value, origin in rows:
        style = "dim" if origin == "default" else ""
        table.add_row(*(Text(cell, style=style, overflow="fold") for cell in (name, value, origin)))
    Console().print(table)


def _shown(config: Config, setting: Setting, origin: Origin, lines: Mapping[str, int]) -> Shown:
    where = origin.name
    if origin.kind == "file" and setting.name in lines:
        where = f"{where}:{lines[setting.name]}"
    return Shown(setting.name, _plain(_value(config, setting.name)), setting.unit, origin.kind, where)


def _value(config: Config, name: str) -> Any:
    table, _, key = name.rpartition(".")
    holder: Any = getattr(config, table) if table else config
    if table == "etcd" and key in config.etcd.tls._fields:
        holder = config.etcd.tls
    return getattr(holder, key)


def _plain(value: Any) -> Any:
    """`value` as JSON has it."""
    if type(value) is tuple:
        return [_plain(each) for each in value]
    return value if isinstance(value, bool | int) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _lines(text: str) -> dict[str, int]:
    """The line on which each setting begins: the first with which the text up to there says it.

    Asked of the parser, so that strings and comments that look like settings are none.
    """
    found: dict[str, int] = {}
    lines = text.splitlines()
    begins = 1
    for number in range(1, len(lines) + 1):
        try:
            told = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue  # within a value of several lines
        for name in _names(told):
            found.setdefault(name, begins)
        begins = number + 1
    return found


def _names(told: Mapping[str, Any]) -> list[str]:
    names = []
    for key, value in told.items():
        names += [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key]
    return names
