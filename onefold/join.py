"""`onefold join`: this machine becomes a node of a cluster that exists, by an invitation.

    keys made → asked, certificates given → authority, roster, certificates, node.toml written

Keys come first, and stay: asked again with the same keys after a crash, the cluster gives the same answer. The settings
come last: until they stand there, the command can be run again with the same invitation.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import tomllib
from pathlib import Path

import msgspec

from onefold.atomic import replace_file
from onefold.certify import within
from onefold.claim import LOCK, is_locked, put_aside
from onefold.config import API_PORT, Address, Config, Tls, load, parse_address, state_beside
from onefold.edge.tls import CA, CA_KEY, Authority
from onefold.errors import OnefoldError, OperatorError, PeerGone, PeerRefused, UserError
from onefold.found import (
    PORT,
    SETTINGS,
    address_of,
    check_name,
    make_directories,
    unwritable,
    write_settings,
)
from onefold.invitation import Ticket, read
from onefold.roster import SECRET, save
from onefold.roster import load as load_copy
from onefold.sign import requests
from onefold.voter import REVOKED
from onefold.welcome import AUTHORITY, Join, Joined

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
ANSWER_BYTES_MAX = 4 << 20


def join(text: str, directory: Path, name: str, listen: str, state: Path | None) -> Config:
    """Make the folder `directory` that of node `name`, by the invitation `text`. `listen` "": this machine's address as
    the others see it. Raises `UserError`, `OperatorError`, `PeerError`."""
    ticket = read(text)
    check_name(name)
    folder = directory.absolute()
    state = (state or state_beside(folder, name)).absolute()
    settings = state / SETTINGS
    given = address_of(listen) if listen else None
    try:
        if settings.exists():
            _put_aside_if_out(settings, state)
        make_directories(folder, state)
        files = within(state / "tls")
        request, admin_request = asyncio.run(requests((files.key, files.admin.key)))
        joined, address = _ask_any(ticket, name, given, request, admin_request)
        if joined.folder_id != ticket.folder_id:
            raise PeerRefused(f"that cluster is {joined.folder_id}, not {ticket.folder_id}", "get another invitation")
        _keep(state, files, joined)
        write_settings(settings, name, folder, state, joined.folder_id, address, joined.settings)
    except OSError as error:
        raise unwritable(state, error) from error
    return load(settings)


def _put_aside_if_out(settings: Path, state: Path) -> None:
    """What a node that was taken out left behind is kept elsewhere. Raises `UserError` when it is a member."""
    try:
        node = tomllib.loads(settings.read_text())
        name, folder = str(node["name"]), Path(node["folder"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"there is a node in {state} already, with damaged settings", f"mend {settings}") from None
    members = load_copy(state).members
    if not members or any(member.name == name for member in members) or is_locked(state / LOCK):
        raise UserError(
            f"there is a node in {state} already",
            f"run it: onefold run --config {settings}; if it was removed from its cluster, move {state} away first",
        )
    put_aside(state, folder)


def _keep(state: Path, files: Tls, joined: Joined) -> None:
    replace_file(files.ca, joined.ca.encode())
    if joined.authority_key:
        (state / AUTHORITY).mkdir(mode=0o700, exist_ok=True)
        replace_file(state / AUTHORITY / CA, joined.ca.encode())
        replace_file(state / AUTHORITY / CA_KEY, joined.authority_key.encode(), 0o600)
        revoked = Authority.load(state / AUTHORITY).revocations(joined.roster.revoked)
        replace_file(files.ca.parent / REVOKED, revoked)
    save(state, joined.roster)
    replace_file(state / SECRET, f"{joined.token}\n".encode(), 0o600)
    replace_file(files.admin.cert, joined.admin_certificate.encode())
    replace_file(files.cert, joined.certificate.encode())


def _ask_any(
    ticket: Ticket, name: str, given: Address | None, request: str, admin_request: str
) -> tuple[Joined, Address]:
    """Ask one node after another; what is refused for good is not asked elsewhere."""
    failure: OnefoldError = UserError("the invitation names nobody to ask", "get another: onefold invite")
    for each in ticket.addresses:
        at = parse_address(each)
        if at is None:
            continue
        try:
            return _ask(at, ticket, name, given, request, admin_request)
        except (PeerGone, OperatorError) as error:
            failure = error
    raise failure


def _ask(
    at: Address, ticket: Ticket, name: str, given: Address | None, request: str, admin_request: str
) -> tuple[Joined, Address]:
    ca = _authority(at, ticket.authority)
    context = ssl.create_default_context(cadata=ca)
    context.check_hostname = False  # whoever that authority vouches for may answer for the cluster
    connection = http.client.HTTPSConnection(at.host, at.port, timeout=CONNECT_SECONDS, context=context)
    try:
        connection.connect()
        address = given or _seen_from(connection.sock)
        api = address.plus(API_PORT)
        asked = Join(name, str(address), request, admin_request, str(api))
        connection.sock.settimeout(ANSWER_SECONDS)
        headers = {"Authorization": f"Bearer {ticket.secret}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/join", msgspec.json.encode(asked), headers)
        answer = connection.getresponse()
        data = answer.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise _gone(at, error) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise _refusal(at, answer.status, data)
    joined = msgspec.json.decode(data, type=Joined)
    if ssl.PEM_cert_to_DER_cert(joined.ca) != ssl.PEM_cert_to_DER_cert(ca):
        raise PeerRefused(f"{at} answers for another cluster than it showed", "get another invitation")
    return joined, address


def _authority(at: Address, digest: bytes) -> str:
    """The certificate (PEM) of the cluster's authority, as `at` shows it to anybody. It is believed for its digest."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(at.host, at.port, timeout=CONNECT_SECONDS, context=context)
    try:
        connection.request("GET", "/v1/authority")
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES_MAX).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise _gone(at, error) from error
    finally:
        connection.close()
    try:
        shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).digest()
    except ValueError:
        raise OperatorError(f"no node of Onefold answers at {at}", "see what listens there") from None
    if not hmac.compare_digest(shown, digest):
        raise PeerRefused(
            f"{at} is not of the cluster that the invitation is for: its authority is another one",
            "get another invitation; if that does not help, somebody stands between the machines",
        )
    return text


def _seen_from(sock: socket.socket) -> Address:
    """This machine's address on the way to the cluster."""
    return Address(sock.getsockname()[0], PORT)


def _gone(at: Address, error: Exception) -> PeerGone:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"the certificate of the node at {at} does not hold here ({error.verify_message})"
        return PeerGone(what, "set the clocks of both machines right")
    return PeerGone(f"no node answers at {at} ({error})", "start it, and open its port to this machine")


def _refusal(at: Address, status: int, data: bytes) -> OnefoldError:
    try:
        told = json.loads(data)
        what, fix = str(told["title"]), str(told.get("fix", ""))
    except (ValueError, KeyError, TypeError):
        what, fix = f"{at} answered with status {status}", "see its log"
    if status in (http.client.SERVICE_UNAVAILABLE, http.client.CONFLICT):
        return OperatorError(what, fix)
    return UserError(what, fix)
