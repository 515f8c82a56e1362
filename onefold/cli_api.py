"""How the command line reaches the API: that of the cluster which `--config` or `--data` means, with the token of this
machine.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from onefold.client import Client
from onefold.config import API_PORT, WILDCARDS, Address, Config, load
from onefold.demo_dir import configs
from onefold.errors import OperatorError
from onefold.roster import SECRET

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Where a node answers on its own machine that listens on all addresses."""


def client(config: Path | None, data: Path) -> Client:
    """A client for the cluster meant. Raises `UserError`, `OperatorError`."""
    nodes = (load(config),) if config is not None else configs(data.absolute())
    return client_of(nodes)


def client_of(nodes: tuple[Config, ...]) -> Client:
    """`nodes` are the settings of those that run on this machine; they are asked first, then the other members."""
    first = nodes[0]
    own = [_near(node.api.listen) for node in nodes if node.api.enabled]
    names = {node.name for node in nodes}
    others = [member.address.plus(API_PORT) for member in first.members if member.name not in names]
    known_elsewhere = first.api.cert == first.tls.cert
    addresses = [*own, *others] if known_elsewhere else own
    if not addresses:
        raise OperatorError("no node here serves the API", f"set `api.enabled` in {first.path}")
    return Client([str(address) for address in addresses], _token(first), _trust(first))


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
