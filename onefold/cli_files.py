"""`onefold ls`, `cat`, `put`, `rm`, `mv`, `history` and `strays`: the folder through the API, from any machine that has
a token for it."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from onefold.api.answers import ListEntry, PastChange, StrayTold
from onefold.cli_api import client
from onefold.config import Config
from onefold.errors import UserError

STDIN = "-"
KIND_MARKS = {"file": "", "directory": "/", "symlink": "@"}


def ls(config: Config, path: str, long: bool, as_json: bool) -> None:
    """What is in a directory."""
    with client(config) as folder:
        entries = list(folder.list(path, linearizable=True))
    if as_json:
        _print_json(entries)
    elif long:
        _print_table(("mode", "size", "changed", "name"), map(_long, entries))
    else:
        for entry in entries:
            _print(entry.name + KIND_MARKS[entry.kind])


def _long(entry: ListEntry) -> Sequence[str]:
    name = entry.name + (f" -> {entry.target}" if entry.target is not None else KIND_MARKS[entry.kind])
    changed = _time(entry.mtime_ns / 1e9) if entry.kind == "file" else ""
    return f"{entry.mode:03o}", str(entry.size), changed, name


def cat(config: Config, path: str) -> None:
    """A file's content to standard output, checked against its digest."""
    with client(config) as folder, folder.open(path, linearizable=True) as arriving:
        for part in arriving:
            sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


def put(
    config: Config, file: str, path: str, if_match: str | None, if_absent: bool, mode: str | None, as_json: bool
) -> None:
    """Write a local file, or standard input, into the folder."""
    bits = None
    if mode is not None:
        try:
            bits = int(mode, 8)
        except ValueError:
            raise UserError(f"{mode!r} is no mode", "write it as chmod does: 644, say") from None
    if path.endswith("/") and file != STDIN:
        path += os.path.basename(file)
    source = sys.stdin.buffer if file == STDIN else Path(file)
    if isinstance(source, Path) and not source.is_file():
        raise UserError(f"{file} is no file", "name a file, or - for standard input")
    if bits is None and isinstance(source, Path):
        bits = source.stat().st_mode & 0o777
    with client(config) as folder:
        written = folder.write(path, source, if_match, if_absent, bits)
    if as_json:
        _print_json(written)
    else:
        _print(f"{written.path}: {written.size} bytes, digest {written.digest}, entry {written.index}")


def rm(config: Config, path: str, recursive: bool, if_match: str | None) -> None:
    """Remove a file, symlink or directory."""
    with client(config) as folder:
        folder.remove(path, recursive, if_match)


def mv(config: Config, source: str, to: str) -> None:
    """Give a file or directory another path."""
    with client(config) as folder:
        folder.move(source, to + os.path.basename(source) if to.endswith("/") else to)


def history(config: Config, path: str | None, limit: int, as_json: bool) -> None:
    """What became of a path, or of everything, newest first."""
    with client(config) as folder:
        changes = folder.history(path, limit)
    if as_json:
        _print_json(changes)
    else:
        _print_table(("entry", "what", "size", "digest", "node", "path"), map(_change, changes))


def _change(change: PastChange) -> Sequence[str]:
    size = "" if change.size is None else str(change.size)
    return str(change.index), change.verb, size, (change.digest or "")[:12], change.node, change.path


# ------------------------------------------------------------------------------------------------ strays


def strays(config: Config, as_json: bool) -> None:
    """What was kept aside, on all nodes, newest first."""
    with client(config) as folder:
        told = folder.strays()
    if as_json:
        _print_json(told)
        return
    _print_table(("stray", "kept", "size", "path", "why"), map(_stray, told.strays))
    if told.omitted:
        _print(f"and {told.omitted} older ones")
    if told.missing:
        _print(f"not known, since they do not answer: {', '.join(told.missing)}")


def _stray(stray: StrayTold) -> Sequence[str]:
    path = stray.path + KIND_MARKS[stray.kind]
    return f"{stray.node}/{stray.id}", _time(stray.kept_at), str(stray.size), path, stray.reason


def stray_show(config: Config, stray: str) -> None:
    """A stray's content to standard output."""
    node, id = _named(stray)
    with client(config) as folder:
        sys.stdout.buffer.write(folder.read_stray(node, id))
    sys.stdout.buffer.flush()


def stray_restore(config: Config, stray: str, to: str | None) -> None:
    """Write a stray to where it stood, or elsewhere; it is no stray then."""
    node, id = _named(stray)
    with client(config) as folder:
        _print(f"{folder.restore_stray(node, id, to).path} is as the stray was")


def stray_drop(config: Config, stray: str) -> None:
    """Remove a stray for ever."""
    node, id = _named(stray)
    with client(config) as folder:
        folder.drop_stray(node, id)


def _named(stray: str) -> tuple[str, str]:
    node, slash, id = stray.partition("/")
    if not (node and slash and id) or "/" in id:
        raise UserError(f"{stray!r} is no stray", "name it as `onefold strays list` does: NODE/ID")
    return node, id


# ------------------------------------------------------------------------------------------------ telling


def _print(line: str) -> None:
    sys.stdout.buffer.write(os.fsencode(line) + b"\n")
    sys.stdout.buffer.flush()


def _print_json(value: Any) -> None:
    _print(msgspec.json.format(msgspec.json.encode(value)).decode())


def _print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned, with heads, on a terminal; else lines with tabs between."""
    if not sys.stdout.isatty():
        for row in rows:
            _print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head == "size" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _time(seconds: float) -> str:
    """`seconds` since 1970 as this machine's time; as a number where no year has it."""
    try:
        return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f}"
