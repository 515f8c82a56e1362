"""`onefold init`: a cluster of one, which others can join.

    authority → certificates → roster → token → node.toml

The settings come last: what a crash leaves before is completed, or used, by running the command again.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import NamedTuple

from onefold.atomic import replace_file
from onefold.certify import open_authority, within
from onefold.config import (
    ADMIN,
    API_PORT,
    NAME,
    NAME_RULE,
    PORTS,
    WILDCARDS,
    Address,
    Config,
    parse_address,
    state_beside,
)
from onefold.config import load as load_settings
from onefold.core.members import with_member
from onefold.core.roster import Roster, RosterMember, with_token
from onefold.errors import BadSetting, OperatorError, UserError
from onefold.roster import SECRET, load, new_secret, save
from onefold.voter import REVOKED
from onefold.welcome import AUTHORITY

PORT = 7400
"""Of a node whose address is given without one."""
SETTINGS = "node.toml"
NEW_ID = "new-folder-id"
HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+", re.ASCII)
PORT_LIMIT = 65_535 - len(PORTS)


class Begun(NamedTuple):
    """A node that can be run. `secret` is that of the administrator's token ("": there was one before)."""

    config: Config
    secret: str


def init(directory: Path, name: str, listen: str, state: Path | None, writers: str) -> Begun:
    """Make the folder `directory` that of the first node of a new cluster. Raises `UserError`, `OperatorError`."""
    check_name(name)
    address = address_of(listen)
    folder = directory.absolute()
    state = (state or state_beside(folder, name)).absolute()
    settings = state / SETTINGS
    if settings.exists():
        raise UserError(f"there is a node in {state} already", f"run it: onefold run --config {settings}")
    try:
        make_directories(folder, state)
        roster = load(state)
        folder_id = _folder_id(state, folder)
        certificates = _certify(state, name, address.host, folder_id)
        secret = ""
        if not roster.members:
            secret = new_secret()
            me = RosterMember(name, str(address), True, certificates, str(address.plus(API_PORT)), seated=True)
            roster = with_token(with_member(Roster(), me), ADMIN, ADMIN, secret)
            replace_file(state / SECRET, f"{secret}\n".encode(), 0o600)
            save(state, roster)
        elif (roster.members[0].name, roster.members[0].address) != (name, str(address)):
            other = roster.members[0]
            raise UserError(
                f"{state} was begun for {other.name} at {other.address}",
                "give the same again, or remove that directory",
            )
        write_settings(settings, name, folder, state, folder_id, address, {"writers": writers})
        (state / NEW_ID).unlink()
    except OSError as error:
        raise unwritable(state, error) from error
    return Begun(load_settings(settings), secret)


def check_name(name: str) -> None:
    """Raises `BadSetting` unless a node can be called so."""
    if name == ADMIN or not NAME.fullmatch(name):
        raise BadSetting(f"--name is {name!r}", f"{NAME_RULE}; not {ADMIN}")


def address_of(listen: str) -> Address:
    """What `--listen` says: a host, with or without a port. Raises `BadSetting`."""
    bare = f"[{listen}]" if listen.count(":") > 1 and not listen.startswith("[") else listen
    address = parse_address(bare) or parse_address(f"{bare}:{PORT}")
    if address is None or not 1 <= address.port <= PORT_LIMIT or not HOST.fullmatch(address.host):
        raise BadSetting(f"--listen is {listen!r}", "give an address of this machine, as in 10.0.0.1:7400")
    if address.host in WILDCARDS:
        raise BadSetting(f"--listen is {listen!r}", "give the address at which the other machines reach this one")
    return address


def make_directories(folder: Path, state: Path) -> None:
    """Both, where missing, but nothing above the folder. Raises `OperatorError`, `OSError`."""
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise OperatorError(f"{folder} is not a directory", "name another one") from None
    except FileNotFoundError:
        raise OperatorError(f"there is no {folder.parent}", "create it, or name another folder") from None
    state.mkdir(mode=0o700, parents=True, exist_ok=True)


def unwritable(state: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"cannot write {error.filename or state} ({error.strerror})",
        "make it writable for this user, or choose another directory with --state",
    )


def write_settings(
    file: Path, name: str, folder: Path, state: Path, folder_id: str, address: Address, more: dict[str, object]
) -> None:
    """`node.toml` of a node whose members are in the roster. Raises `BadSetting` for paths that it cannot hold."""
    values = {"name": name, "folder": str(folder), "folder_id": folder_id, "state": str(state), "listen": str(address)}
    lines = [f"{key} = {toml(value)}" for key, value in (values | more).items()]
    replace_file(file, ("\n".join(lines) + "\n").encode())


def toml(value: object) -> str:
    """A string, number or switch as TOML. Raises `BadSetting` for text that no TOML file can hold."""
    import json

    if isinstance(value, str) and not value.isprintable():
        raise BadSetting(f"{value!r} holds unprintable characters", "choose another directory")
    return json.dumps(value, ensure_ascii=False)


def _folder_id(state: Path, folder: Path) -> str:
    """That of the certificates which are there already, else a new one named after the folder."""
    kept = state / NEW_ID
    if not kept.exists():
        stem = re.sub(r"[^A-Za-z0-9]+", "-", folder.name).strip("-")[:40] or "folder"
        replace_file(kept, f"{stem}-{secrets.token_hex(4)}\n".encode())
    return kept.read_text().strip()


def _certify(state: Path, name: str, host: str, folder_id: str) -> tuple[str, ...]:
    """An authority, and certificates for the node and the command line beside it: their serial numbers."""
    from onefold.edge.tls import CA, described, new_request

    authority = open_authority(state / AUTHORITY)
    files = within(state / "tls")
    files.ca.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(files.ca, (state / AUTHORITY / CA).read_bytes())
    for each, of, hosts in ((files, name, [host]), (files.admin, ADMIN, [])):
        if not each.cert.exists():
            made = new_request()
            replace_file(each.key, made.key, 0o600)
            replace_file(each.cert, authority.certify(made.request, of, hosts, folder_id).certificate)
    replace_file(files.ca.parent / REVOKED, authority.revocations(()))
    return tuple(described(each.read_bytes()).serial for each in (files.cert, files.admin.cert))
