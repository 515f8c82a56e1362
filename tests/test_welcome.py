"""A machine that joins: what it is given, once; what a crash on either side costs; and what is renewed."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from onefold import sign
from onefold.config import ADMIN, Config
from onefold.core.members import member_of, with_invitation
from onefold.core.roster import Roster, RosterMember, Standing, holder
from onefold.edge.tls import Authority, check_own, client_context, is_due, new_request, server_context
from onefold.errors import OperatorError, PeerGone, UserError
from onefold.found import init
from onefold.invitation import Ticket, written
from onefold.join import join
from onefold.roster import load, save
from onefold.welcome import AUTHORITY, Join, renew, revive, tell, welcome

SECRET = "an invitation's"


class Rosters:
    """`ports.RosterStore` in memory. `forestalled`: so often another one replaces it first."""

    def __init__(self, roster: Roster) -> None:
        self.standing = Standing(roster, 1)
        self.forestalled = 0

    async def read(self) -> Standing:
        return self.standing

    async def replace(self, roster: Roster, revision: int) -> bool:
        if self.forestalled:
            self.forestalled -= 1
            self.standing = Standing(self.standing.roster, self.standing.revision + 1)
        if revision != self.standing.revision:
            return False
        self.standing = Standing(roster, revision + 1)
        return True

    async def follow(self) -> AsyncIterator[Standing]:
        yield self.standing

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return init(tmp_path / "www", "web1", "10.0.0.1", None, "any").config


@pytest.fixture
def rosters(config: Config) -> Rosters:
    return Rosters(with_invitation(load(config.state), SECRET, int(time.time()) + 60, True, "", 0.0))


def asked(name: str = "web2", host: str = "10.0.0.2") -> Join:
    node, admin = new_request(), new_request()
    return Join(name, f"{host}:7400", node.request.decode(), admin.request.decode(), f"{host}:7404")


def test_init_can_be_run_again_until_its_settings_stand_there(tmp_path: Path) -> None:
    first = init(tmp_path / "www", "web1", "10.0.0.1", None, "leader")
    before = {path: path.read_bytes() for path in (tmp_path / ".onefold").rglob("*.key")}
    with pytest.raises(UserError, match=r"there is a node in .* already: run it"):
        init(tmp_path / "www", "web1", "10.0.0.1", None, "leader")
    first.config.path.unlink()
    again = init(tmp_path / "www", "web1", "10.0.0.1", None, "leader")
    assert {path: path.read_bytes() for path in (tmp_path / ".onefold").rglob("*.key")} == before
    assert again.secret == ""
    assert holder(load(first.config.state), first.secret)


def test_what_a_crash_left_of_init_is_used(tmp_path: Path) -> None:
    state = tmp_path / ".onefold" / "web1"
    Authority.create(state / "authority")
    begun = init(tmp_path / "www", "web1", "10.0.0.1:7500", None, "leader")
    assert begun.config.me.address == ("10.0.0.1", 7500)
    server_context(*begun.config.tls)
    assert len(member_of(load(state), "web1").serials) == 2


async def test_who_is_invited_is_given_all_that_it_needs(config: Config, rosters: Rosters) -> None:
    rosters.forestalled = 2
    joined = await welcome(config, rosters, SECRET, asked(), time.time())
    assert joined.settings == {"writers": "any", "small_bytes_max": 65_536, "scrub_days": 30}
    assert [member.name for member in joined.roster.members] == ["web1", "web2"]
    assert not joined.roster.tokens
    assert "PRIVATE KEY" in joined.authority_key
    token = holder(rosters.standing.roster, joined.token)
    assert token is not None
    assert token.name == "node-web2"
    member = member_of(rosters.standing.roster, "web2")
    assert (member.seated, member.voter, len(member.serials)) == (False, True, 2)
    assert not rosters.standing.roster.invitations


async def test_an_answer_that_was_lost_is_given_again_to_the_same_key_alone(config: Config, rosters: Rosters) -> None:
    wanted = asked()
    first = await welcome(config, rosters, SECRET, wanted, time.time())
    again = await welcome(config, rosters, SECRET, wanted, time.time())
    assert again.certificate != first.certificate
    assert len(member_of(rosters.standing.roster, "web2").serials) == 4
    assert holder(rosters.standing.roster, first.token) is None
    assert holder(rosters.standing.roster, again.token)
    with pytest.raises(UserError, match="this invitation was used by web2"):
        await welcome(config, rosters, SECRET, asked(), time.time())


async def test_a_replica_is_not_given_the_authoritys_key(config: Config, rosters: Rosters) -> None:
    roster = with_invitation(load(config.state), "replica's", int(time.time()) + 60, False, "", 0.0)
    joined = await welcome(config, Rosters(roster), "replica's", asked(), time.time())
    assert joined.authority_key == ""


@pytest.mark.parametrize("name", ["admin", "web1", "../up", ""])
async def test_a_name_that_is_none_or_anothers_is_refused(config: Config, rosters: Rosters, name: str) -> None:
    before = rosters.standing
    with pytest.raises(UserError):
        await welcome(config, rosters, SECRET, asked(name), time.time())
    assert rosters.standing == before


async def test_what_is_no_request_of_ours_is_refused(config: Config, rosters: Rosters) -> None:
    good = asked()
    bad = Join("web2", good.address, "no request", good.admin_request)
    with pytest.raises(UserError, match="web2 sent no request for a certificate"):
        await welcome(config, rosters, SECRET, bad, time.time())


@pytest.mark.parametrize(("address", "api"), [("x", ""), ("10.0.0.2:7400", "x"), ("10.0.0.2:7400", "*:7404")])
async def test_where_nobody_can_be_reached_is_refused(config: Config, rosters: Rosters, address: str, api: str) -> None:
    before = rosters.standing
    with pytest.raises(UserError, match=r"no address|can be reached"):
        await welcome(config, rosters, SECRET, replace(asked(), address=address, api=api), time.time())
    assert rosters.standing == before


async def test_a_node_without_the_authority_says_who_can(config: Config, rosters: Rosters) -> None:
    (config.state / "authority" / "ca.key").unlink()
    with pytest.raises(OperatorError, match=r"does not hold the cluster's authority .* ask a node that votes"):
        await welcome(config, rosters, SECRET, asked(), time.time())


async def test_certificates_are_asked_for_anew_when_a_third_of_their_time_is_left(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "authority")
    request = new_request()
    long = authority.certify(request.request, "web1", ["10.0.0.1"], "www")
    short = authority.certify(request.request, "web1", ["10.0.0.1"], "www", days=1)
    assert not is_due(long.certificate)
    assert is_due(short.certificate)  # backdated by two days, it has one of three left
    key, certificate = tmp_path / "node.key", tmp_path / "node.crt"
    key.write_bytes(request.key)
    certificate.write_bytes(long.certificate)
    assert await sign.requests((key,), (certificate,)) == ()
    certificate.write_bytes(short.certificate)
    (again,) = await sign.requests((key,), (certificate,))
    assert authority.certify(again.encode(), "web1", [], "www").key == long.key
    assert key.read_bytes() == request.key


async def test_renewed_certificates_are_known_to_the_roster_so_that_they_can_be_revoked(
    config: Config, rosters: Rosters
) -> None:
    wanted = asked()
    await welcome(config, rosters, SECRET, wanted, time.time())
    node, admin = await renew(config, rosters, "web2", wanted.request, wanted.admin_request)
    assert member_of(rosters.standing.roster, "web2").serials[2:] == (node.serial, admin.serial)
    with pytest.raises(UserError, match="there is no node 'web7'"):
        await renew(config, rosters, "web7", wanted.request, wanted.admin_request)


def test_a_context_shows_the_certificate_that_took_the_place_of_the_one_it_had(tmp_path: Path) -> None:
    from onefold.edge.tls import peer_serial, renewed

    authority = Authority.create(tmp_path / "authority")
    authority.issue("web1", [], tmp_path, "www")
    files = (tmp_path / "ca.crt", tmp_path / "node.crt", tmp_path / "node.key")
    server, client = server_context(*files), client_context(*files)

    def shown() -> str:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server)
        for end in (ends[1], ends[0], ends[1], ends[0]):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
        return peer_serial(ends[1])

    before = shown()
    made = authority.certify(new_request((tmp_path / "node.key").read_bytes()).request, "web1", [], "www")
    (tmp_path / "node.crt").write_bytes(made.certificate)
    assert shown() == before
    renewed(tmp_path / "node.crt")
    assert shown() == made.serial


def test_the_admins_name_is_the_one_that_no_node_can_have() -> None:
    from onefold.core.members import RESERVED

    assert {ADMIN} == RESERVED


def test_a_machine_whose_node_was_removed_joins_again_and_one_whose_node_is_a_member_does_not(config: Config) -> None:
    text = written(Ticket(("127.0.0.1:1",), bytes(32), config.folder_id, SECRET))
    with pytest.raises(UserError, match=r"there is a node in .* already: run it"):
        join(text, config.folder, "web1", "10.0.0.1", None)
    save(config.state, Roster(members=(RosterMember("web2", "10.0.0.2:7400", seated=True),)))
    with pytest.raises(PeerGone, match="no node answers"):  # it is asked, so nothing is in the way
        join(text, config.folder, "web1", "10.0.0.1", None)
    (aside,) = config.state.parent.glob("web1.left-*")
    assert (aside / "node.toml").exists()
    assert not config.path.exists()


def over(config: Config) -> None:
    """Its certificate has ended while it was off."""
    authority = Authority.load(config.state / AUTHORITY)
    request = new_request(config.tls.key.read_bytes()).request
    ended = authority.certify(request, config.name, ["10.0.0.1"], config.folder_id, days=-1)
    config.tls.cert.write_bytes(ended.certificate)


async def test_a_node_with_the_authority_that_was_off_for_too_long_certifies_itself_and_tells(
    config: Config, rosters: Rosters
) -> None:
    assert not await revive(config)
    over(config)
    with pytest.raises(OperatorError, match="expired"):
        check_own(*config.tls, config.name)
    assert await revive(config)
    check_own(*config.tls, config.name)
    serials = load(config.state).members[0].serials
    assert len(serials) == 4
    await tell(rosters, config.name, serials)
    assert rosters.standing.roster.members[0].serials == serials
    revision = rosters.standing.revision
    await tell(rosters, config.name, serials)
    assert rosters.standing.revision == revision


async def test_a_node_without_the_authority_whose_certificate_is_over_is_told_to_join_again(config: Config) -> None:
    over(config)
    (config.state / AUTHORITY / "ca.key").unlink()
    with pytest.raises(OperatorError, match=r"are over.*onefold remove web1; then let it join again"):
        await revive(config)


def test_a_certificate_that_has_ended_by_the_clock_here_is_said_to_be_that(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(config)
    monkeypatch.setattr("onefold.join._authority", lambda at, digest: config.tls.ca.read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.tls.cert, config.tls.key)

    def serve() -> None:
        with suppress(ssl.SSLError), listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True):
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        text = written(Ticket((f"127.0.0.1:{listener.getsockname()[1]}",), bytes(32), config.folder_id, SECRET))
        with pytest.raises(PeerGone, match=r"does not hold here \(certificate has expired\): set the clocks"):
            join(text, config.folder.with_name("two"), "web2", "10.0.0.2", None)
        server.join()
