"""How the command line reaches the API of the cluster meant (`onefold.find`): with the token of this machine."""

from __future__ import annotations

import ssl

from onefold.client import Client
from onefold.config import API_PORT, WILDCARDS, Address, Config
from onefold.errors import OperatorError
from onefold.roster import SECRET, load

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Where a node answers on its own machine that listens on all addresses."""


def client(config: Config) -> Client:
    """The node of `config`, which runs on this machine, is asked first, then the other members. Raises
    `OperatorError`."""
    told = {member.name: member.api for member in load(config.state).members}
    others = [
        told.get(member.name) or str(member.address.plus(API_PORT))
        for member in config.members
        if member.name != config.name
    ]
    own = [str(_near(config.api.listen))] if config.api.enabled else []
    addresses = [*own, *others] if config.api.cert == config.tls.cert else own
    if not addresses:
        raise OperatorError("no node here serves the API", f"set `api.enabled` in {config.path}")
    return Client(addresses, _token(config), _trust(config))


def _near(address: Address) -> Address:
    return Address(LOOPBACK[address.host], address.port) if address.host in WILDCARDS else address


def _token(config: Config) -> str:
    file = config.state / SECRET
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        raise OperatorError(f"there is no token in {file}", "put one there: the secret alone, mode 600") from None
    except OSError as error:
        raise OperatorError(f"cannot read {file} ({error.strerror})", "run this as the user of the node") from error


def _trust(config: Config) -> ssl.SSLContext:
    """The cluster's authority; or where the API has a certificate of its own, just that one: its names are those by
    which others reach it, and not this machine's loopback."""
    ours = config.api.cert == config.tls.cert
    file = config.tls.ca if ours else config.api.cert
    try:
        context = ssl.create_default_context(cafile=file)
    except OSError as error:
        raise OperatorError(f"cannot use {file} ({error})", "make it readable, or restore it") from error
    if not ours:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
