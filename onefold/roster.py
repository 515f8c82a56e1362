"""A node's copy of the roster: read at the start, kept up to date from etcd, made known there if it is not.

The copy is what a node knows of its cluster before, and without, a majority. In a cluster that nobody has asked for a
roster yet, the first copy to arrive becomes it: that is how `init` and the demo bring their first token along.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import structlog

from onefold.atomic import replace_file
from onefold.config import ROSTER, Config, Member, parse_address
from onefold.core.messages import Problem
from onefold.core.roster import Roster, decode, encode
from onefold.edge.roster_etcd import EtcdRoster
from onefold.edge.tls import TlsFiles
from onefold.errors import Dismissed, OperatorError
from onefold.ports import RosterStore

SECRET = "token"  # noqa: S105
"""In the state directory: the secret that the command line uses on this machine."""
RETRY_SECONDS = 10.0
ETCD_CLIENT, ETCD_PEER = 2, 3
"""Of a node's consecutive ports, those of its etcd member."""

log = structlog.get_logger()


def endpoints(config: Config) -> tuple[list[str], TlsFiles]:
    """Where the etcd of this cluster answers, our own member first, and the certificates for it."""
    if config.etcd.endpoints:
        addresses, tls = list(config.etcd.endpoints), config.etcd.tls
    else:
        own_first = sorted(config.seated or config.voters, key=lambda member: member.name != config.name)
        addresses, tls = [member.address.plus(ETCD_CLIENT) for member in own_first], config.tls
    return [f"https://{address}" for address in addresses], TlsFiles(tls.ca, tls.cert, tls.key)


def with_roster(config: Config, roster: Roster) -> Config:
    """`config` with the members of `roster`; itself when they stand in its file, or `roster` has none.

    Raises `Dismissed` when this node is none of them, `OperatorError` for an address that is none.
    """
    if config.fixed or not roster.members:
        return config
    members = []
    for member in roster.members:
        address = parse_address(member.address)
        if address is None:
            raise OperatorError(f"the cluster's roster has no address for {member.name}", f"remove {member.name}")
        members.append(Member(member.name, address, member.voter, member.seated))
    if all(member.name != config.name for member in members):
        raise Dismissed(f"{config.name} is no member of the cluster any more", "join again: onefold join")
    return config._replace(members=tuple(members))


def peer_urls(roster: Roster) -> dict[str, str]:
    """Where the member of etcd of each node that is meant to vote listens to the others'."""
    places = {member.name: parse_address(member.address) for member in roster.members if member.voter}
    return {name: f"https://{place.plus(ETCD_PEER)}" for name, place in places.items() if place is not None}


def store(config: Config) -> EtcdRoster:
    """The roster of the cluster of `config`."""
    urls, files = endpoints(config)
    return EtcdRoster(urls, config.folder_id, files)


def new_secret() -> str:
    """256 random bits, as text that needs no quoting anywhere."""
    return f"onefold-{secrets.token_urlsafe(32)}"


def load(state: Path) -> Roster:
    """The copy in the state directory; an empty roster when there is none. Raises `OperatorError`."""
    file = state / ROSTER
    try:
        return decode(file.read_bytes())
    except FileNotFoundError:
        return Roster()
    except OSError as error:
        raise OperatorError(f"cannot read {file} ({error.strerror})", "make it readable for this user") from error


def save(state: Path, roster: Roster) -> None:
    """Keep `roster` in the state directory, readable by nobody else. Raises `OSError`."""
    replace_file(state / ROSTER, encode(roster), 0o600)


class RosterCopy:
    """The roster as this node knows it: `roster` is always the newest that it heard of."""

    def __init__(self, state: Path, cluster: RosterStore, changed: Callable[[Roster], None]) -> None:
        """`changed(roster)` after each change. Raises `OperatorError` when the copy cannot be read."""
        self._state = state
        self._cluster = cluster
        self._changed = changed
        self.roster = load(state)
        self._kept = True
        self.problem: Problem | None = None

    async def run(self) -> None:
        """Follow the cluster's roster, for ever. One that cannot be read is a problem, and the last one holds on."""
        while True:
            try:
                await self._follow()
            except OSError as error:
                log.warning("the roster is not kept", error=str(error))
                what = f"this node cannot keep its copy of the cluster's roster ({error.strerror})"
                self.problem = Problem(what, "", "free space for the state directory, or mend its disk")
            except OperatorError as error:
                log.warning("the roster cannot be followed", error=str(error))
                self.problem = Problem(f"the cluster's roster cannot be followed: {error.what}", "", error.fix)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        async for standing in self._cluster.follow():
            if not standing.revision:
                if self.roster != Roster() and await self._cluster.replace(self.roster, 0):
                    log.info("the roster is in etcd", tokens=len(self.roster.tokens))
            elif standing.roster != self.roster:
                await self._take(standing.roster)
            elif not self._kept:
                await self._keep()
            self.problem = None

    async def _take(self, roster: Roster) -> None:
        """It holds here from now on, and is kept. Raises `OSError` when it cannot be kept, and holds all the same: a
        full disk must let nobody in who is revoked."""
        self.roster = roster
        self._kept = False
        try:
            await self._keep()
        except OSError:
            self._changed(roster)
            raise
        self._changed(roster)

    async def _keep(self) -> None:
        await asyncio.to_thread(save, self._state, self.roster)
        self._kept = True
