"""The settings of one node, as `node.toml`, the environment and options give them.

What there may be is the table in `onefold.settings`. A `Config` is valid by construction; whatever is wrong is one
`BadSetting` that names where it stands, the setting and the fix. What the machine must provide (the folder, free
ports) is checked by `onefold.claim`.

Everything here is imported by the supervisor, which stays resident: only light modules, and plain tuples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from onefold.errors import BadSetting
from onefold.overrides import DEFAULT, Given, Origin, from_environment, from_options
from onefold.settings import BY_NAME, DERIVED, LISTS, REQUIRED, SETTINGS, TABLES, Setting, wanted

ADMIN = "admin"
"""The name in the certificate of whoever runs `status`, `wait` and the demo's view; no node may have it."""

PORT_MAX = 65_535
ROSTER = "roster.json"
"""In the state directory: the copy of the cluster's roster (`onefold.roster`)."""
COPY_IT = "copy that file from the state directory of another node, all have the same"
WILDCARDS = frozenset(("0.0.0.0", "::"))  # noqa: S104
"""Hosts that stand for all addresses of this machine."""
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
NAME_RULE = "use 1 to 63 letters, digits and dashes, no dash at either end"
PORTS = ("peers", "content between peers", "etcd's clients", "etcd's peers")
"""What each of a node's consecutive ports is for, from the one in `listen` on. They are dialled by other members."""
API_PORT = len(PORTS)
"""The port after those is the users' API's, unless `api.listen` says otherwise. Nobody else's settings depend on it."""


class Address(NamedTuple):
    """A host (name or address, IPv6 without brackets) and the first of a node's ports."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def plus(self, offset: int) -> Address:
        """The address of the node's port for `PORTS[offset]`."""
        return Address(self.host, self.port + offset)


def parse_address(text: str) -> Address | None:
    """What "host:port" says, an IPv6 host in brackets; None when that is not what it is."""
    host, _, port = text.removeprefix("https://").rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isascii() or not port.isdigit() or any(c in host for c in "/ []@") or len(port) > 5:
        return None
    return Address(host, int(port))


class Member(NamedTuple):
    """A node. `voter`: it is meant to vote; `seated`: it does, which one that has joined lately does not yet."""

    name: str
    address: Address
    voter: bool
    seated: bool = True


class Tls(NamedTuple):
    ca: Path
    cert: Path
    key: Path

    @property
    def admin(self) -> Tls:
        """What the command line shows to a node: a certificate in the name of `ADMIN`, kept beside the node's own."""
        return Tls(self.ca, self.cert.with_name("admin.crt"), self.key.with_name("admin.key"))


class Etcd(NamedTuple):
    """`endpoints` empty: each voter runs its own. `tls` is what to show to, and expect of, the existing cluster."""

    endpoints: tuple[Address, ...]
    tls: Tls
    binary: str
    heartbeat_ms: int
    election_ms: int
    entries_kept: int


class Api(NamedTuple):
    """The users' listener: HTTPS with bearer tokens, and no certificates of clients."""

    enabled: bool
    listen: Address
    cert: Path
    key: Path
    body_bytes_max: int
    connections_max: int


class Hook(NamedTuple):
    """A program to run after paths changed that `match` says."""

    name: str
    match: tuple[str, ...]
    run: tuple[str, ...]
    debounce_ms: int
    timeout_seconds: int


class Config(NamedTuple):
    """All settings of one node; paths absolute. `path` is the file they came from."""

    path: Path
    name: str
    folder: Path
    folder_id: str
    state: Path
    listen: Address
    writers: str
    preferred: bool
    small_bytes_max: int
    quiet_ms: int
    scrub_days: int
    log_level: str
    tls: Tls
    etcd: Etcd
    api: Api
    members: tuple[Member, ...]
    hooks: tuple[Hook, ...]
    fixed: bool = True
    """Whether the members stand in that file; else they come from the cluster's roster, of which there is a copy."""

    @property
    def me(self) -> Member:
        return next(member for member in self.members if member.name == self.name)

    @property
    def voters(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.voter)

    @property
    def seated(self) -> tuple[Member, ...]:
        """Those who vote by now."""
        return tuple(member for member in self.members if member.voter and member.seated)

    @property
    def runs_etcd(self) -> bool:
        """Whether this node has an etcd member of its own to run."""
        return self.me.voter and not self.etcd.endpoints


class Traced(NamedTuple):
    """Settings, and where each one that has a single value comes from, by its name."""

    config: Config
    origins: Mapping[str, Origin]


NONE: Mapping[str, str] = {}


def load(path: Path, options: Mapping[str, str] = NONE) -> Config:
    """The settings in the file `path`, in our environment, and in `options` (texts by the settings' names).

    Raises `BadSetting`.
    """
    return trace(path, options).config


def trace(path: Path, options: Mapping[str, str] = NONE) -> Traced:
    """As `load`, with the origins."""
    path = path.absolute()
    raw = parse(path)
    return _build(path, raw, {**from_environment(os.environ), **from_options(options)})


def parse(path: Path) -> dict[str, Any]:
    """The tables of the file `path`, unchecked. Raises `BadSetting` when it is no TOML."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadSetting(f"there is no {path}", "name the node's settings with --config") from None
    except OSError as error:
        raise BadSetting(f"cannot read {path} ({error.strerror})", "make it readable") from error
    except UnicodeDecodeError as error:
        raise BadSetting(f"{path} is not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{path} is not valid TOML, {_lower(str(error))}", "mend that line") from error


def _build(path: Path, raw: dict[str, Any], overrides: Mapping[str, Given]) -> Traced:
    read = _Reader(path, {name: given.origin for name, given in overrides.items()})
    rows = read.rows(raw, "members", "write each as [[members]] with name and address")
    hook_rows = read.rows(raw, "hooks", "write each as [[hooks]] with match and run")
    flat: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in TABLES:
            flat[key] = value
        elif isinstance(value, dict):
            flat |= {f"{key}.{inner}": of for inner, of in value.items()}
        else:
            raise read.wrong(key, "is a table, not a value", f"write its settings under [{key}]")
    values = read.table(flat | {name: given.raw for name, given in overrides.items()}, "")
    in_file = Origin("file", str(path))
    origins = {name: read.origins.get(name, in_file if name in flat else DEFAULT) for name in values}
    if values["state"] is DERIVED:
        values["state"] = state_beside(values["folder"], values["name"])
    roster = None if rows else values["state"] / ROSTER
    given = (Member(row["members.name"], row["members.address"], row["members.voter"]) for row in rows)
    members = tuple(given) if roster is None else _rostered(read, roster)
    _check_members(read, members)
    me = next((member for member in members if member.name == values["name"]), None)
    if me is None:
        names = ", ".join(member.name for member in members)
        what = f"is {values['name']!r}, which is none of the members ({names})"
        raise read.wrong("name", what, "join again: onefold join" if roster else "add a [[members]]")
    config = _derive(read, values, members, me, _hooks(read, hook_rows))
    return Traced(config._replace(fixed=roster is None), origins)


def state_beside(folder: Path, name: str) -> Path:
    """Where the state directory of node `name` is unless somebody says otherwise."""
    return folder.parent / ".onefold" / name


def _rostered(read: _Reader, file: Path) -> tuple[Member, ...]:
    """The members by the copy of the roster. Raises `BadSetting`."""
    import json  # only while a file is read

    try:
        found = json.loads(file.read_bytes())["members"]
        return tuple(
            Member(each["name"], read.value(BY_NAME["members.address"], each["address"]), each["voter"], each["seated"])
            for each in found
        )
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise BadSetting(f"cannot read {file} ({error.strerror})", "make it readable") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadSetting(f"{file}, this node's copy of the roster, is damaged", COPY_IT) from error


def _hooks(read: _Reader, rows: list[dict[str, Any]]) -> tuple[Hook, ...]:
    hooks: dict[str, Hook] = {}
    for row in rows:
        program, *arguments = row["hooks.run"]
        if "/" in program:
            program = str(read.value(BY_NAME["hooks.run"]._replace(kind="path"), program))
        name = row["hooks.name"]
        if name is DERIVED:
            name = re.sub(r"[^A-Za-z0-9]+", "-", program.rpartition("/")[2])[:63].strip("-")
        if not name:
            raise read.wrong("hooks.name", f"is missing for {program!r}", "give that hook a name")
        if name in hooks:
            raise read.wrong("hooks.name", f"{name!r} is there twice", "give each hook its own name")
        run = (program, *arguments)
        hooks[name] = Hook(name, row["hooks.match"], run, row["hooks.debounce_ms"], row["hooks.timeout_seconds"])
    return tuple(hooks.values())


def _derive(
    read: _Reader, values: dict[str, Any], members: tuple[Member, ...], me: Member, hooks: tuple[Hook, ...]
) -> Config:
    def given(name: str, otherwise: Any) -> Any:
        return otherwise if values[name] is DERIVED else values[name]

    folder: Path = values["folder"]
    state: Path = values["state"]
    listen: Address = given("listen", me.address)
    if listen.port != me.address.port or listen.host not in (me.address.host, *WILDCARDS):
        raise read.wrong(
            "listen",
            f"is {listen}, but the members reach {me.name} at {me.address}",
            "make both the same; a node that joined moves by `onefold remove` and joining anew",
        )
    tls = Tls(
        given("tls.ca", state / "tls" / "ca.crt"),
        given("tls.cert", state / "tls" / "node.crt"),
        given("tls.key", state / "tls" / "node.key"),
    )
    if values["etcd.election_ms"] < 5 * values["etcd.heartbeat_ms"]:
        least = 5 * values["etcd.heartbeat_ms"]
        raise read.wrong(
            "etcd.election_ms", f"is {values['etcd.election_ms']}", f"give at least {least} (5 heartbeats)"
        )
    etcd = Etcd(
        values["etcd.endpoints"],
        Tls(given("etcd.ca", tls.ca), given("etcd.cert", tls.cert), given("etcd.key", tls.key)),
        values["etcd.binary"],
        values["etcd.heartbeat_ms"],
        values["etcd.election_ms"],
        values["etcd.entries_kept"],
    )
    plain = ("folder_id", "writers", "preferred", "small_bytes_max", "quiet_ms", "scrub_days", "log_level")
    return Config(
        path=read.path,
        name=me.name,
        folder=folder,
        state=state,
        listen=listen,
        tls=tls,
        etcd=etcd,
        api=_derive_api(read, values, listen, tls, members, me),
        members=members,
        hooks=hooks,
        **{name: values[name] for name in plain},
    )


def _derive_api(
    read: _Reader, values: dict[str, Any], listen: Address, tls: Tls, members: tuple[Member, ...], me: Member
) -> Api:
    at: Address = listen.plus(API_PORT) if values["api.listen"] is DERIVED else values["api.listen"]
    cert, key = values["api.cert"], values["api.key"]
    if (cert is DERIVED) != (key is DERIVED):
        missing = "api.cert" if cert is DERIVED else "api.key"
        raise read.wrong(missing, "is missing", "give both the API's certificate and its key, or neither")
    if values["api.enabled"]:
        if at.port > PORT_MAX:
            raise read.wrong("api.listen", f"would have port {at.port}", "set it, or choose a lower port for `listen`")
        for member in members:
            listened = {member.address.host, listen.host} if member is me else {member.address.host}
            here = at.host in listened or (
                member.address.host == me.address.host and not WILDCARDS.isdisjoint({at.host, *listened})
            )
            taken = at.port - member.address.port
            if here and 0 <= taken < len(PORTS):
                raise read.wrong(
                    "api.listen",
                    f"is {at}, which is a port of {member.name} (for {PORTS[taken]})",
                    "set another one, or keep the members five ports apart",
                )
    return Api(
        values["api.enabled"],
        at,
        tls.cert if cert is DERIVED else cert,
        tls.key if key is DERIVED else key,
        values["api.body_bytes_max"],
        values["api.connections_max"],
    )


def _check_members(read: _Reader, members: tuple[Member, ...]) -> None:
    if not any(member.voter for member in members):
        raise read.wrong(
            "members",
            "names no voter",
            "begin with `onefold init` or `onefold join`, or list every node under [[members]];"
            f" if {ROSTER} was lost, {COPY_IT}",
        )
    ports: dict[tuple[str, int], Member] = {}
    names: set[str] = set()
    for member in members:
        if member.name == ADMIN:
            raise read.wrong("members.name", f"is {ADMIN!r}, which is reserved", "choose another name")
        if member.name in names:
            raise read.wrong("members.name", f"{member.name!r} is there twice", "give each node its own name")
        names.add(member.name)
        for offset in range(len(PORTS)):
            other = ports.setdefault(member.address.plus(offset), member)
            if other is not member:
                raise read.wrong(
                    "members.address",
                    f"of {member.name} ({member.address}) and of {other.name} ({other.address}) share a port",
                    "keep them four ports apart, as each node uses four",
                )


class _Reader:
    """Turns raw TOML values into checked ones, and what is wrong into a sentence that names the file."""

    def __init__(self, path: Path, origins: Mapping[str, Origin]) -> None:
        """`origins`: of what does not come from the file `path`."""
        self.path = path
        self.origins = origins

    def wrong(self, name: str, what: str, fix: str) -> BadSetting:
        origin = self.origins.get(name)
        if origin is None:
            return BadSetting(f"in {self.path}, `{name}` {what}", fix)
        kind = "environment variable" if origin.kind == "environment" else origin.kind
        return BadSetting(f"the {kind} `{origin.name}` {what}", fix)

    def rows(self, raw: dict[str, Any], table: str, fix: str) -> list[dict[str, Any]]:
        """The settings of each of the tables called `table`, which is one of `LISTS`."""
        rows = raw.pop(table, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.wrong(table, "is not a list of tables", fix)
        return [self.table({f"{table}.{key}": value for key, value in row.items()}, table) for row in rows]

    def table(self, raw: dict[str, Any], table: str) -> dict[str, Any]:
        """Every setting of `table` (one of `LISTS`, or "" for all others), given or default."""
        of = {s.name: s.name.partition(".")[0] for s in SETTINGS}
        settings = {s.name: s for s in SETTINGS if (of[s.name] if of[s.name] in LISTS else "") == table}
        for name in raw:
            if name not in settings:
                raise self._unknown(name)
        for name, setting in settings.items():
            if name not in raw and setting.default is REQUIRED:
                raise self.wrong(name, "is missing", f"add it: {_lower(setting.help)}")
        return {
            name: self.value(setting, raw[name]) if name in raw else setting.default
            for name, setting in settings.items()
        }

    def _unknown(self, name: str) -> BadSetting:
        import difflib

        close = difflib.get_close_matches(name, BY_NAME, 1)
        return self.wrong(name, "is no setting", f"did you mean `{close[0]}`?" if close else "see docs/settings.md")

    def value(self, setting: Setting, raw: Any) -> Any:
        """`raw` as the type of `setting`."""
        kind = setting.kind
        # `type`, not `isinstance`: for Python, true is also a number
        fits = type(raw) is {"switch": bool, "number": int, "addresses": list, "words": list}.get(kind, str)
        fits = fits or (kind == "patterns" and type(raw) is list)
        if not fits:
            raise self.wrong(setting.name, f"is {raw!r}", f"give {wanted(setting)}")
        match kind:
            case "number":
                if not setting.least <= raw <= setting.most:
                    raise self.wrong(setting.name, f"is {raw}", f"give {wanted(setting)}")
            case "choice":
                if raw not in setting.choices:
                    raise self.wrong(setting.name, f"is {raw!r}", f"give {wanted(setting)}")
            case "name":
                if not NAME.fullmatch(raw):
                    raise self.wrong(setting.name, f"is {raw!r}", NAME_RULE)
            case "path":
                return self._path(setting, raw)
            case "text":
                if not raw:
                    raise self.wrong(setting.name, "is empty", f"give {wanted(setting)}")
            case "address":
                return self._address(setting, raw, len(PORTS))
            case "endpoint":
                return self._address(setting, raw, 1)
            case "patterns" | "words":
                return self._texts(setting, [raw] if isinstance(raw, str) else raw)
            case "addresses":
                return tuple(self._address(setting, each, 1) for each in raw)
        return raw

    def _texts(self, setting: Setting, raw: list[Any]) -> tuple[str, ...]:
        if not raw or not all(isinstance(each, str) and each and "\0" not in each for each in raw):
            raise self.wrong(setting.name, f"is {raw!r}", f"give {wanted(setting)}, none of them empty")
        return tuple(raw)

    def _path(self, setting: Setting, raw: str) -> Path:
        """In the file, relative to its own directory, so that it means the same wherever a command is given."""
        if not raw or "\0" in raw:
            raise self.wrong(setting.name, f"is {raw!r}", "give a path")
        try:
            base = Path.cwd() if setting.name in self.origins else self.path.parent
            return base / Path(raw).expanduser()
        except RuntimeError as error:
            raise self.wrong(setting.name, f"is {raw!r}, whose home is unknown", "give the whole path") from error

    def _address(self, setting: Setting, raw: Any, ports: int) -> Address:
        address = parse_address(raw) if isinstance(raw, str) else None
        if address is None:
            raise self.wrong(setting.name, f"is {raw!r}", 'write "host:port", as in "10.0.0.1:7400"')
        if not 1 <= address.port <= 65_536 - ports:
            raise self.wrong(setting.name, f"has port {address.port}", f"give a port from 1 to {65_536 - ports}")
        return address


def _lower(sentence: str) -> str:
    """`sentence` as the end of another one."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
