"""The demo's directory: `DIR/node1`, `DIR/node2`, … are the folders; `DIR/.onefold/` holds all else.

`.onefold/demo.json` says what the demo consists of. It is written first; everything else follows from it and is made
only where it is missing, so that an interrupted preparation is completed by the next one.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from onefold.atomic import replace_file
from onefold.certify import certify_node, open_authority
from onefold.config import ADMIN, ROSTER, Address, Config, load
from onefold.core.roster import Role, Roster, with_token
from onefold.errors import BadSetting, OperatorError, UserError
from onefold.roster import SECRET, new_secret, save

if TYPE_CHECKING:
    from onefold.edge.tls import Authority

NODES_MAX = 9
VOTERS_MAX = 5
PORTS_APART = 10
HOST = "127.0.0.1"


class Wanted(NamedTuple):
    """What the command line asks for; None: as it is, or the default."""

    nodes: int | None = None
    base_port: int | None = None
    writers: str | None = None


class Made(NamedTuple):
    """What the demo consists of, as `demo.json` holds it."""

    nodes: int = 3
    base_port: int = 7400
    writers: str = "leader"
    folder_id: str = ""


def voters(nodes: int) -> int:
    """How many of `nodes` vote: the largest odd number, at most five.

    An even one more would tolerate no further failure, only need one more answer: with two voters, the death of either
    stops both. Beyond five every commit gets slower, and three failures at once are rare.
    """
    return min(nodes - 1 + nodes % 2, VOTERS_MAX)


def meta(data: Path) -> Path:
    return data / ".onefold"


def exists(data: Path) -> bool:
    """Whether there is a demo in `data`."""
    return (meta(data) / "demo.json").exists()


def control(data: Path) -> Path:
    """The pipe on which a running demo takes commands."""
    return meta(data) / "demo" / "control"


def configs(data: Path) -> tuple[Config, ...]:
    """The nodes of the demo in `data`; one whose state directory was deleted gets its settings and certificates again.

    Raises `UserError` if there is no demo, `OperatorError` when it cannot be completed.
    """
    made = _read(data)
    if made is None:
        raise UserError(f"there is no demo in {data}", "name its directory with --data, or start one: onefold demo")
    if all(_settings(data, name).exists() for name in _names(made.nodes)):
        return tuple(load(_settings(data, name)) for name in _names(made.nodes))
    return prepare(data, Wanted())


def find(data: Path, name: str) -> Config:
    """The node `name` of the demo in `data`. Raises `UserError`."""
    import difflib

    nodes = {config.name: config for config in configs(data)}
    if name not in nodes:
        close = difflib.get_close_matches(name, nodes, 1)
        fix = f"did you mean {close[0]}?" if close else f"there are {', '.join(nodes)}"
        raise UserError(f"the demo in {data} has no node {name!r}", fix)
    return nodes[name]


def prepare(data: Path, wanted: Wanted) -> tuple[Config, ...]:
    """Make the demo in `data` (or complete it, or take it as it is), and return its nodes.

    Raises `BadSetting` when it exists and is not as `wanted`, `OperatorError` when it cannot be written.
    """
    try:
        meta(data).mkdir(mode=0o700, parents=True, exist_ok=True)
        made = _read(data)
        if made is None:
            made = _new(wanted)
            replace_file(meta(data) / "demo.json", f"{json.dumps(made._asdict())}\n".encode())
        _same(data, made, wanted)
        authority = open_authority(meta(data) / "authority")
        token = _token(data)
        return tuple(_node(data, made, number, authority, token) for number in range(1, made.nodes + 1))
    except OSError as error:
        raise OperatorError(
            f"cannot write {error.filename or data} ({error.strerror})",
            "make it writable for this user, or choose another directory with --data",
        ) from error


def _new(wanted: Wanted) -> Made:
    given = {field: value for field, value in wanted._asdict().items() if value is not None}
    made = Made(**given, folder_id=f"demo-{secrets.token_hex(4)}")
    if not 1 <= made.nodes <= NODES_MAX:
        raise BadSetting(f"--nodes is {made.nodes}", f"give a number from 1 to {NODES_MAX}")
    if made.writers not in ("leader", "any"):
        raise BadSetting(f"--writers is {made.writers!r}", "give leader or any")
    highest = 65_535 - PORTS_APART * made.nodes
    if not 1024 <= made.base_port <= highest:
        raise BadSetting(f"--base-port is {made.base_port}", f"give a port from 1024 to {highest}")
    return made


def _same(data: Path, made: Made, wanted: Wanted) -> None:
    for field, given in wanted._asdict().items():
        standing = getattr(made, field)
        if given is not None and given != standing:
            option = "--" + field.replace("_", "-")
            raise BadSetting(
                f"the demo in {data} was made with {option} {standing}, not {given}",
                f"leave {option} out to resume it, or choose another directory with --data",
            )


def _node(data: Path, made: Made, number: int, authority: Authority, token: str) -> Config:
    name = f"node{number}"
    settings = _settings(data, name)
    (data / name).mkdir(exist_ok=True)
    settings.parent.mkdir(mode=0o700, exist_ok=True)
    if not settings.exists():
        replace_file(settings, _toml(data, made, number).encode())
    config = load(settings)
    certify_node(authority, name, HOST, made.folder_id, config.tls)
    if not (config.state / SECRET).exists():
        if not (config.state / ROSTER).exists():
            save(config.state, with_token(Roster(), ADMIN, Role.ADMIN.name.lower(), token))
        replace_file(config.state / SECRET, f"{token}\n".encode(), 0o600)
    return config


def _token(data: Path) -> str:
    """The secret with which the demo's page and API are used, made if there is none."""
    file = meta(data) / SECRET
    if not file.exists():
        replace_file(file, f"{new_secret()}\n".encode(), 0o600)
    return file.read_text().strip()


def _toml(data: Path, made: Made, number: int) -> str:
    lines = [
        f'name = "node{number}"',
        f"folder = {_quoted(data / f'node{number}')}",
        f"folder_id = {_quoted(made.folder_id)}",
        f"state = {_quoted(meta(data) / f'node{number}')}",
        f"writers = {_quoted(made.writers)}",
        f"preferred = {'true' if number == 1 else 'false'}",
    ]
    for each in range(1, made.nodes + 1):
        address = Address(HOST, made.base_port + PORTS_APART * (each - 1))
        voter = "true" if each <= voters(made.nodes) else "false"
        lines += ["", "[[members]]", f'name = "node{each}"', f'address = "{address}"', f"voter = {voter}"]
    return "\n".join(lines) + "\n"


def _quoted(value: str | Path) -> str:
    """`value` as a TOML string, which JSON's are, but for DEL. Raises `BadSetting` for what no TOML file can hold."""
    text = str(value)
    if not text.isprintable():
        raise BadSetting(f"the path {text!r} holds unprintable characters", "choose another directory with --data")
    return json.dumps(text, ensure_ascii=False)


def _read(data: Path) -> Made | None:
    file = meta(data) / "demo.json"
    try:
        return Made(**json.loads(file.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise OperatorError(f"{file} is damaged ({error})", "choose another directory with --data") from error


def _names(nodes: int) -> tuple[str, ...]:
    return tuple(f"node{number}" for number in range(1, nodes + 1))


def _settings(data: Path, name: str) -> Path:
    return meta(data) / name / "node.toml"
