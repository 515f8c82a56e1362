"""What a node needs of the other members: ports that answer, by TLS and as who they should be; clocks; a majority."""

from __future__ import annotations

import asyncio
import email.utils
import http.client
import json
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from onefold.admin import Client
from onefold.config import PORTS, Address, Config, Member
from onefold.core.messages import Ask, Cluster, Report
from onefold.doctor.check import Check, failure, ok, warning
from onefold.edge.tls import client_context, peer_name
from onefold.errors import OnefoldError, OperatorError, PeerError, PeerGone
from onefold.voter import CLIENTS, PEERS

SECONDS = 3.0
CONTENT = 1
"""Of a node's ports, that for content."""
SKEW_SECONDS_GOOD = 2.0
SKEW_SECONDS_MAX = 86_400.0
"""Certificates are backdated by two days: a node whose clock is further behind takes a new one for not valid yet."""


class Etcd(NamedTuple):
    """What a member of etcd says: why it is not well ("" if it is), and how far its clock is ahead of ours, between two
    bounds in seconds (None: it does not say)."""

    wrong: str
    skew: tuple[float, float] | None


def look(config: Config) -> Iterator[Check]:
    """Asks all members at once."""
    yield from asyncio.run(_look(config))


async def _look(config: Config) -> list[Check]:
    found = await asyncio.gather(*(_member(config, member) for member in config.members))
    checks = [check for checks, _, _ in found for check in checks]
    outside = config.etcd.endpoints
    if outside:
        etcds = await asyncio.gather(*(_etcd(config, address, config.etcd.tls) for address in outside))
        names = [str(address) for address in outside]
    else:
        etcds = [etcd for _, etcd, _ in found if etcd is not None]
        names = [member.name for member, (_, etcd, _) in zip(config.members, found, strict=True) if etcd is not None]
    voters = len(outside) or len(config.voters)
    reports = [report for _, _, report in found if report is not None]
    return [*checks, quorum(names, etcds, voters, bool(reports)), *_own(config, reports)]


def quorum(names: Sequence[str], etcds: Sequence[Etcd], voters: int, running: bool) -> Check:
    """Whether a majority of etcd's members is well. Before any node is `running` it need not be."""
    ill = [(name, etcd.wrong) for name, etcd in zip(names, etcds, strict=True) if etcd.wrong]
    well = len(etcds) - len(ill)
    majority = voters // 2 + 1
    told = f"{well} of {voters} members are well"
    reasons = "; ".join(f"{name}: {why}" for name, why in ill)
    if well < majority:
        found = f"{told}, {majority} are needed{f' ({reasons})' if reasons else ''}"
        return (failure if running else warning)("etcd's members", found, "start more of them")
    if ill:
        return warning(
            "etcd's members", f"{told} ({reasons})", "start them, or see etcd/etcd.log in the state directory"
        )
    return ok("etcd's members", told)


async def _member(config: Config, member: Member) -> tuple[list[Check], Etcd | None, Report | None]:
    """What there is to say of `member`, what its etcd says, and what it reports of itself."""
    about = f"member {member.name}"
    begun = time.monotonic()
    try:
        report = await _ask(config, member)
    except PeerError as error:
        return [_unreached(config, member, about, error)], await _member_etcd(config, member), None
    except OperatorError as error:
        return [failure(about, error.what, error.fix)], None, None
    took = (time.monotonic() - begun) * 1e3
    offsets = [CONTENT, *([PEERS] if member.voter and not config.etcd.endpoints else [])]
    answers = await asyncio.gather(*(_greet(config, member, offset) for offset in offsets))
    checks = [check for check in answers if check is not None]
    etcd = await _member_etcd(config, member)
    if etcd is not None and etcd.wrong:
        checks.append(failure(about, f"its etcd: {etcd.wrong}", f"open port {member.address.port + CLIENTS} to it"))
    if not checks:
        checks.append(ok(about, f"answers on all its ports ({took:.0f} ms)"))
    if etcd is not None and etcd.skew is not None and member.name != config.name:
        checks.append(clock(member.name, etcd.skew))
    return checks, etcd, report


def clock(name: str, skew: tuple[float, float]) -> Check:
    """How far the clock of `name` is ahead of ours, between two bounds in seconds."""
    low, high = skew
    if low <= 0 <= high:
        return ok(f"clock of {name}", f"agrees with ours, within {max(-low, high):.1f} s")
    least = min(abs(low), abs(high))
    told = f"is {least:.1f} s {'ahead of' if low > 0 else 'behind'} ours, or more"
    if least > SKEW_SECONDS_MAX:
        return failure(f"clock of {name}", told, "run an NTP client on both machines")
    if least > SKEW_SECONDS_GOOD:
        return warning(f"clock of {name}", told, "run an NTP client on both machines")
    return ok(f"clock of {name}", told)


def _unreached(config: Config, member: Member, about: str, error: PeerError) -> Check:
    refused = isinstance(error.__cause__, ConnectionRefusedError)
    if member.name == config.name and isinstance(error, PeerGone):
        return warning(about, "this node does not run", f"onefold run --config {config.path}")
    if refused:
        return warning(about, f"nobody listens at {member.address}", f"start {member.name}")
    fix = error.fix
    if isinstance(error.__cause__, OSError):  # a timeout, too
        last = member.address.port + len(PORTS) - 1
        fix = f"start its machine; open ports {member.address.port} to {last} between the members"
    return failure(about, error.what, fix)


async def _ask(config: Config, member: Member) -> Report | None:
    client = await Client.connect(config, member, SECONDS)
    try:
        answer = await client.ask(Ask(), SECONDS)
    finally:
        client.close()
    return answer.reports[0] if isinstance(answer, Cluster) else None


async def _greet(config: Config, member: Member, offset: int) -> Check | None:
    """What is wrong with the port, by TLS, as the node itself would dial it; None: nothing."""
    address = member.address.plus(offset)
    about = f"member {member.name}"
    what = f"{address} ({PORTS[offset]})"
    try:
        context = client_context(*config.tls)
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(*address, ssl=context)
        certified = peer_name(writer.get_extra_info("ssl_object"))
        writer.transport.abort()
    except TimeoutError:
        return failure(about, f"does not answer at {what}", "open that port between the members")
    except ConnectionRefusedError:
        return failure(about, f"nobody listens at {what}", f"see the log of {member.name}")
    except ssl.SSLError as error:
        return failure(about, f"no TLS at {what}: {error.reason}", "give both certificates of the same authority")
    except OnefoldError as error:
        return failure(about, error.what, error.fix)
    except OSError as error:
        return failure(about, f"cannot be reached at {what} ({error.strerror})", "mend the network")
    if certified != member.name:
        return failure(about, f"{certified} answers at {what}", "correct `address` in the members")
    return None


async def _member_etcd(config: Config, member: Member) -> Etcd | None:
    if not member.voter or config.etcd.endpoints:
        return None
    return await _etcd(config, member.address.plus(CLIENTS), config.tls)


async def _etcd(config: Config, address: Address, tls: Sequence[object]) -> Etcd:
    """The health that the member of etcd at `address` says of itself."""
    try:
        context = client_context(*tls)  # type: ignore[arg-type]
    except OperatorError as error:
        return Etcd(error.what, None)
    return await asyncio.to_thread(health, address, context)


def health(address: Address, context: ssl.SSLContext) -> Etcd:
    """Asked by HTTP. The clock is that of the answer's `Date`, which is cut to a second."""
    connection = http.client.HTTPSConnection(address.host, address.port, timeout=SECONDS, context=context)
    asked = time.time()
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answered = time.time()
        body = answer.read(4096)
    except TimeoutError:
        return Etcd("it does not answer in time", None)
    except (OSError, http.client.HTTPException) as error:
        return Etcd(
            f"it does not answer ({getattr(error, 'reason', None) or getattr(error, 'strerror', None) or error})", None
        )
    finally:
        connection.close()
    skew = None
    date = answer.getheader("Date")
    if date:
        told = email.utils.parsedate_to_datetime(date).timestamp()
        skew = (told - answered, told + 1 - asked)
    return Etcd(_illness(body), skew)


def _illness(body: bytes) -> str:
    try:
        said = json.loads(body)
        healthy, reason = str(said["health"]), str(said.get("reason", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its answer is not that of an etcd"
    return "" if healthy == "true" else reason or "it has no leader, or an alarm"


def _own(config: Config, reports: Sequence[Report]) -> Iterator[Check]:
    """What this node says of itself, if it runs."""
    for report in reports:
        if report.node == config.name:
            for problem in report.problems:
                where = f" ({problem.where})" if problem.where else ""
                yield warning("this node", f"{problem.what}{where}", problem.fix)
            if not report.problems:
                yield ok("this node", f"runs as {report.role} and names no problem")
