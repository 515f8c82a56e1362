"""`onefold member`: run by the supervisor in the place of an etcd that has no data, to become that etcd.

Silent, but for what keeps it from beginning.
"""

from __future__ import annotations

import asyncio
import sys
from typing import NoReturn

from onefold.claim import REJOINS
from onefold.config import Config, Member
from onefold.edge.etcd_member import Joiner, Voter
from onefold.edge.tls import TlsFiles
from onefold.voter import CLIENTS, PEERS, etcd_of


def run(config: Config) -> NoReturn:
    """Find out how to begin, and begin. Raises `OperatorError` when etcd cannot be started."""
    own = _voter(config.me)
    others = [_voter(member) for member in config.voters if member.name != config.name]
    files = TlsFiles(config.tls.ca, config.tls.cert, config.tls.key)
    wiped = (config.state / REJOINS).exists() or not config.fixed
    joiner = Joiner(own, others, files, wiped, _say, seated_by_others=not config.fixed)
    etcd_of(config).become(asyncio.run(joiner.join()))


def _voter(member: Member) -> Voter:
    return Voter(member.name, f"https://{member.address.plus(CLIENTS)}", f"https://{member.address.plus(PEERS)}")


def _say(sentence: str) -> None:
    print(f"onefold: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
