"""How a voter whose etcd holds no data begins: as a member of a new cluster, or in the place of the member it was.

A member that lost its data must never come back as the same one: it would have forgotten what it voted for and what it
acknowledged, and with its empty log a majority could form that misses committed entries. So it is removed from the
cluster and added anew, under another id of etcd's, and is given everything by the others.

That it was there before is known from the others: a member that once started has made its client URLs known. The
others' peer listeners tell, also while there is no majority. If nobody answers, `wiped` decides.

Each step may be the last before a crash; the next start looks again and goes on: removed, it is added; added, it is
listed without a name, and begins.

Not a learner first: removal and addition leave as many voters as there were, and so the same majority; a learner would
only have to be promoted, by somebody who may crash before.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from onefold.edge import etcd_pb2 as pb
from onefold.edge.etcd_client import MEMBER_ADD, MEMBER_REMOVE, MEMBERS, RANGE, STATUS, EtcdClient
from onefold.edge.grpc_wire import Broken, Refusal
from onefold.edge.tls import TlsFiles, client_context
from onefold.errors import LogUnavailable, OperatorError

ASK_S = 2.0
"""Patience with one member for one answer. On one that is off the network, a first start waits that long."""
RETRY_S = 1.0


class Voter(msgspec.Struct, frozen=True):
    """One voter by the settings: its name, and the URLs of its etcd."""

    name: str
    client_url: str
    peer_url: str


class _Listed(msgspec.Struct, frozen=True, rename={"peer_urls": "peerURLs", "client_urls": "clientURLs"}):
    """A member as etcd lists it. It never started: no `client_urls`; it was added later: no `name` either."""

    id: int
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()


class Joiner:
    """Finds out how the etcd of `own`, which has no data, begins among `others`, of which there are some.

    `wiped`: this node's folder was in the cluster before. `say` takes sentences for whoever runs the machine.
    `seated_by_others`: it does not add itself, the node that leads does, as a learner (`onefold.core.seats`).
    """

    def __init__(
        self,
        own: Voter,
        others: Sequence[Voter],
        files: TlsFiles,
        wiped: bool,
        say: Callable[[str], None],
        seated_by_others: bool = False,
    ) -> None:
        self._own = own
        self._others = others
        self._wiped = wiped
        self._seated_by_others = seated_by_others
        self._say = say
        self._files = files
        self._context = client_context(files.ca, files.certificate, files.key)
        self._context.check_hostname = True

    async def join(self) -> Mapping[str, str] | None:
        """The members to begin with, name → peer URL, as etcd lists them; None: those of the settings, all new.

        Waits, and says why, for as long as the lost member cannot be replaced.
        """
        said = ""
        while True:
            client = EtcdClient([voter.client_url for voter in (*self._others, self._own)], self._files, ASK_S)
            try:
                return await self._next(client)
            except Refusal as error:
                problem = OperatorError(f"etcd does not replace the lost member of {self._own.name} yet ({error})")
            except OperatorError as error:
                problem = error
            finally:
                await client.close()
            if str(problem) != said:
                said = str(problem)
                self._say(said)
            await asyncio.sleep(RETRY_S)

    async def _next(self, client: EtcdClient) -> Mapping[str, str] | None:
        lists = await asyncio.gather(*(asyncio.to_thread(_peers_list, voter, self._context) for voter in self._others))
        known = [self._ours(members) for members in lists if members is not None]
        if not self._wiped and all(_never_started(ours) for ours in known):
            return None
        if not known:
            raise self._lost("no other voter answers")
        members = await self._members(client)
        if members is None:
            raise self._lost("no majority of the voters answers")
        ours = self._ours(members)
        if _never_started(ours):
            return None
        for member in ours:
            if member.name:
                await self._remove(client, member)
                ours = []
        if not ours and self._seated_by_others:
            raise OperatorError(f"{self._own.name} is no member of etcd yet", "the node that leads will add it")
        if not ours:
            added = await client.call(MEMBER_ADD, pb.MemberAddRequest(peer_urls=[self._own.peer_url]))
            members = [_listed(member) for member in added.members]
        return self._named(members)

    async def _members(self, client: EtcdClient) -> list[_Listed] | None:
        """The members, by one who has just proved to be up to date; None when nobody can."""
        for voter in self._others:
            try:
                await client.ask(voter.client_url, RANGE, pb.RangeRequest(key=b"/onefold/"))
                answer = await client.ask(voter.client_url, MEMBERS, pb.MemberListRequest())
                return [_listed(member) for member in answer.members]
            except (Broken, Refusal):
                continue
        return None

    async def _remove(self, client: EtcdClient, member: _Listed) -> None:
        """Remove the member that we were. Raises `OperatorError` when it runs, so that it is somebody else's."""
        if await self._runs(member):
            raise OperatorError(
                f"another node runs as {member.name} at {member.client_urls[0]}",
                "stop one of the two, or give it another name",
            )
        await client.call(MEMBER_REMOVE, pb.MemberRemoveRequest(id=member.id))

    async def _runs(self, member: _Listed) -> bool:
        client = EtcdClient(member.client_urls, self._files, ASK_S)
        try:
            for url in member.client_urls:
                with contextlib.suppress(Broken, Refusal):
                    status = await client.ask(url, STATUS, pb.StatusRequest())
                    if status.header.member_id == member.id:
                        return True
            return False
        finally:
            await client.close()

    def _ours(self, members: Sequence[_Listed]) -> list[_Listed]:
        """We as we were, or were added: that one has no name before its first start."""
        own = self._own
        return [m for m in members if m.name == own.name or (not m.name and own.peer_url in m.peer_urls)]

    def _named(self, members: Sequence[_Listed]) -> Mapping[str, str]:
        """`members` for etcd's command line, which wants a name for each, any that is used once."""
        names = {voter.peer_url: voter.name for voter in (self._own, *self._others)}
        return {member.name or names.get(url, f"{member.id:x}"): url for member in members for url in member.peer_urls}

    def _lost(self, why: str) -> OperatorError:
        fix = "start the others" if len(self._others) > 1 else "start the other one; if it runs, begin anew on both"
        return LogUnavailable(
            f"the etcd of {self._own.name} has lost its data and cannot be replaced while {why}",
            f"{fix} (docs/machines.md)",
        )


def _never_started(ours: Sequence[_Listed]) -> bool:
    """Whether we are a first member whose first start is still to come."""
    return len(ours) == 1 and bool(ours[0].name) and not ours[0].client_urls


def _listed(member: pb.Member) -> _Listed:
    return _Listed(member.id, member.name, tuple(member.peer_urls), tuple(member.client_urls))


def _peers_list(voter: Voter, context: ssl.SSLContext) -> list[_Listed] | None:
    """The members as the peer listener of `voter` tells them; None when it does not."""
    url = urlsplit(voter.peer_url)
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=ASK_S, context=context)
    try:
        connection.request("GET", "/members")
        return msgspec.convert(json.loads(connection.getresponse().read()), list[_Listed])
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
