"""The etcd member of a voter, from its settings."""

from __future__ import annotations

import sys

from onefold.config import Config
from onefold.edge.etcd_process import EtcdProcess, TlsFiles

REVOKED = "revoked.crl"
"""Beside a node's certificate: what is not honoured any more, as etcd reads it."""
CLIENTS, PEERS = 2, 3
"""Of a node's four ports, those of its etcd member."""


def etcd_of(config: Config) -> EtcdProcess:
    """The member that the node of `config` runs. Started without data beside others, it is `onefold member` first."""
    beginner = [sys.executable, "-P", "-m", "onefold", "member", "--config", str(config.path)]
    return EtcdProcess(
        name=config.name,
        folder_id=config.folder_id,
        directory=config.state / "etcd",
        client_url=f"https://{config.me.address.plus(CLIENTS)}",
        members={member.name: f"https://{member.address.plus(PEERS)}" for member in config.voters},
        tls=TlsFiles(config.tls.ca, config.tls.cert, config.tls.key),
        listen=_listened(config),
        binary=config.etcd.binary,
        heartbeat_ms=config.etcd.heartbeat_ms,
        election_ms=config.etcd.election_ms,
        beginner=beginner if len(config.voters) > 1 else (),
        revoked=None if config.fixed else config.tls.cert.parent / REVOKED,
    )


def _listened(config: Config) -> str | None:
    """What etcd listens on when that is not the address that others dial: it takes no host names."""
    host = config.listen.host
    if host.replace(".", "").isdigit() or ":" in host:
        return None if host == config.me.address.host else (f"[{host}]" if ":" in host else host)
    import socket

    return socket.gethostbyname(host)
