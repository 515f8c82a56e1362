"""A node that lives in a cluster whose members change: it follows the roster, gives seats where it leads, keeps what is
revoked out, and its own certificates fresh.

In a cluster whose members stand in `node.toml`, only the roster's copy is kept.
"""

from __future__ import annotations

import asyncio
import random

import structlog

from onefold.atomic import replace_file
from onefold.config import Config
from onefold.core.members import member_of
from onefold.core.messages import AskCertificates, Certificates, Message, Problem
from onefold.core.roster import Roster
from onefold.edge.log_etcd import EtcdLog
from onefold.edge.members_etcd import EtcdMembers
from onefold.edge.roster_etcd import EtcdRoster
from onefold.edge.tls import CA_KEY, renewed
from onefold.edge.transfer import PeerNetwork
from onefold.errors import Dismissed, OnefoldError, OperatorError, PeerError
from onefold.node.loop import Node
from onefold.roster import with_roster
from onefold.roster_copy import RosterCopy, endpoints, peer_urls
from onefold.seating import Seating
from onefold.sign import requests, revocations
from onefold.voter import REVOKED
from onefold.welcome import AUTHORITY, renew, tell

RENEWAL_FIRST_SECONDS = 5.0
RENEWAL_SECONDS = 12 * 3600.0
RENEWAL_RETRY_SECONDS = 300.0
CERTIFY_SECONDS = 40.0
LISTED = "revoked.txt"
"""Beside etcd's list of what is revoked: the serial numbers that are in it."""

log = structlog.get_logger()


class Membership:
    """`config` is always that of the newest roster."""

    def __init__(
        self, config: Config, network: PeerNetwork, replicated: EtcdLog, rosters: EtcdRoster, node: Node
    ) -> None:
        """Make and use it on the loop. Raises `OperatorError` when the roster's copy cannot be read."""
        self.config = config
        self._network = network
        self._log = replicated
        self._rosters = rosters
        self._node = node
        urls, files = endpoints(config)
        self._etcd = EtcdMembers(urls, files)
        self._dismissed = asyncio.Event()
        self._revised = asyncio.Event()
        self._unrenewed: list[Problem] = []
        self.copy = RosterCopy(config.state, rosters, self._changed)
        self._serials = tuple(
            serial for member in self.copy.roster.members if member.name == config.name for serial in member.serials
        )
        self.seating = Seating(
            config.name,
            rosters,
            self._etcd,
            peer_urls,
            lambda: bool(node.elector.active),
            node.durable,
            lambda: node.index,
            self._hand_over,
        )
        if not config.fixed:
            node.elector.prepare = self.copy.refresh
        node.keeper.eager = self._seats_wait
        self._changed(self.copy.roster)

    def problems(self) -> list[Problem]:
        """What is wrong with the roster, a seat, or this node's certificates."""
        own = [] if self.copy.problem is None else [self.copy.problem]
        return [*own, *self.seating.problems(), *self._unrenewed]

    async def run(self) -> None:
        """For ever. Raises `Dismissed` once this node is no member any more."""
        async with asyncio.TaskGroup() as stations:
            stations.create_task(self.copy.run())
            if not self.config.fixed:
                stations.create_task(self.seating.run())
                stations.create_task(self._list_revoked())
                stations.create_task(self._renew())
                await self._dismissed.wait()
                raise Dismissed(f"{self.config.name} is no member of the cluster any more")

    async def close(self) -> None:
        await self._etcd.close()

    async def certify(self, peer: str, message: AskCertificates) -> Message:
        """New certificates for `peer`, which proved to be that one. Raises `UserError`, `OperatorError`."""
        node, admin = await renew(self.config, self._rosters, peer, message.request, message.admin_request)
        return Certificates(node.certificate, admin.certificate)

    # -------------------------------------------------------------------------------------------- the roster

    def _changed(self, roster: Roster) -> None:
        if self.config.fixed or not roster.members:
            return
        try:
            self.config = with_roster(self.config, roster)
        except Dismissed:
            self._dismissed.set()
            return
        me = member_of(roster, self.config.name)
        urls = self._endpoints(me.leaving)
        seated = tuple(member.name for member in self.config.seated)
        places = {member.name: (member.address.host, member.address.port) for member in self.config.members}
        self._network.change(places, frozenset(roster.revoked))
        self._log.change(urls, self.config.runs_etcd and me.seated and not me.leaving)
        self._rosters.change(urls)
        self._etcd.change(urls)
        self._node.change(seated, tuple(places))
        self.seating.wake()
        self._revised.set()

    def _endpoints(self, leaving: bool) -> list[str]:
        """Where etcd answers. A node that leaves asks the others': its own member goes first, and that it is out itself
        it must hear all the same."""
        urls, _ = endpoints(self.config)
        if not leaving:
            return urls
        stay = self.config._replace(members=tuple(m for m in self.config.members if m.name != self.config.name))
        return endpoints(stay)[0] or urls

    def _seats_wait(self) -> bool:
        """Whether a seat is to be given or taken, which waits for the disks (`onefold.core.seats`)."""
        here = self._network.connected() | {self.config.name}
        return any(
            member.leaving or (member.voter and not member.seated and member.name in here)
            for member in self.copy.roster.members
        )

    async def _hand_over(self) -> None:
        others = [member.name for member in self.config.seated if member.name != self.config.name]
        reachable = [name for name in others if name in self._network.connected()]
        if not reachable:
            raise PeerError(f"{self.config.name} is to leave, and no other voter is there to lead", "start one")
        await self._node.elector.move(reachable[0], "command")

    # -------------------------------------------------------------------------------------------- certificates

    async def _list_revoked(self) -> None:
        """Keep the list that etcd reads at each handshake."""
        directory = self.config.tls.cert.parent
        authority = self.config.state / AUTHORITY
        if not (self.config.runs_etcd and (authority / CA_KEY).exists()):
            return
        while True:
            self._revised.clear()
            serials = self.copy.roster.revoked
            text = "".join(f"{serial}\n" for serial in serials)
            listed = directory / LISTED
            if (listed.read_text() if listed.exists() else "") != text:
                try:
                    replace_file(directory / REVOKED, (await revocations(authority, serials)).encode())
                    replace_file(listed, text.encode())
                    log.info("revoked certificates are listed", certificates=len(serials))
                except (OperatorError, OSError) as error:
                    log.error("revoked certificates are not listed for etcd", error=str(error))
                    await asyncio.sleep(RENEWAL_FIRST_SECONDS)
                    continue
            await self._revised.wait()

    async def _renew(self) -> None:
        """Look at this node's certificates now and then, and have them renewed when a third of their time is left."""
        await asyncio.sleep(RENEWAL_FIRST_SECONDS)
        while True:
            try:
                await self._renew_if_due()
                self._unrenewed = []
                seconds = RENEWAL_SECONDS
            except (OnefoldError, OSError) as error:
                log.warning("the certificates of this node are not renewed yet", error=str(error))
                what = f"the certificates of this node are to be renewed, and cannot be: {error}"
                self._unrenewed = [Problem(what, "", "it is tried again")]
                seconds = RENEWAL_RETRY_SECONDS
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 (not all nodes at once)

    async def _renew_if_due(self) -> None:
        await tell(self._rosters, self.config.name, self._serials)
        files = self.config.tls
        made = await requests((files.key, files.admin.key), if_due=(files.cert, files.admin.cert))
        if not made:
            return
        certificates = await self._certified(AskCertificates(*made))
        replace_file(files.admin.cert, certificates.admin_certificate.encode())
        replace_file(files.cert, certificates.certificate.encode())
        renewed(files.cert)
        log.info("the certificates of this node are renewed")

    async def _certified(self, wanted: AskCertificates) -> Certificates:
        if (self.config.state / AUTHORITY / CA_KEY).exists():
            return _certificates(await self.certify(self.config.name, wanted))
        failure: OnefoldError = PeerError("no voter is there to sign them", "start one")
        for member in self.config.seated:
            try:
                return _certificates(await self._network.ask(member.name, wanted, CERTIFY_SECONDS))
            except PeerError as error:
                failure = error
        raise failure


def _certificates(message: Message) -> Certificates:
    if not isinstance(message, Certificates):
        raise PeerError(f"{type(message).__name__} is no answer to a request for certificates", "upgrade all nodes")
    return message
