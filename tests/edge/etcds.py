"""Real etcd members on free ports, with TLS, ended by handle; and the first steps of every test of a log."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from onefold.edge.etcd_process import QUOTA_BYTES, EtcdProcess
from onefold.edge.log_etcd import EtcdLog
from onefold.edge.tls import Authority, TlsFiles
from onefold.ports import Log

_candidates = itertools.cycle(range(19_000 + os.getpid() % 90 * 10, 20_000))


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, below those that the kernel gives to outgoing connections; not soon given again."""
    ports: list[int] = []
    for port in itertools.islice(_candidates, 1000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError("no free ports")


@dataclass
class EtcdCluster:
    """Started members n0, n1, …; each test uses a folder of its own on them."""

    members: list[EtcdProcess]

    def log(self, number: int = 0, folder: str = "", total_s: float = 20.0) -> EtcdLog:
        """The log as node `n<number>` opens it: its own member first."""
        urls = [member.client_url for member in self.members]
        own = self.members[number % len(urls)]
        others = [url for url in urls if url != own.client_url]
        return EtcdLog(
            [own.client_url, *others],
            folder or "f",
            f"n{number}",
            own.tls,
            total_s=total_s,
            ours=True,
            quota_bytes=own.quota_bytes,
        )

    @classmethod
    def start(cls, directory: Path, count: int, quota_bytes: int = QUOTA_BYTES) -> EtcdCluster:
        authority = Authority.create(directory / "authority")
        ports = free_ports(2 * count)
        peers = {f"n{number}": f"https://127.0.0.1:{ports[number]}" for number in range(count)}
        members = []
        for number, name in enumerate(peers):
            authority.issue(name, ["127.0.0.1"], directory / name / "tls", "folder")
            members.append(
                EtcdProcess(
                    name=name,
                    folder_id="folder",
                    directory=directory / name / "etcd",
                    client_url=f"https://127.0.0.1:{ports[count + number]}",
                    members=peers,
                    tls=TlsFiles.within(directory / name / "tls"),
                    quota_bytes=quota_bytes,
                )
            )
        for member in members:
            member.start()
        return cls(members)

    def stop(self) -> None:
        for member in self.members:
            member.kill()


async def lead(log: Log, node: str = "n0") -> int:
    """Make `node` lead, whoever led before; the new term."""
    before = await log.leader()
    after = await log.take(node, before.term if before else 0, "start")
    assert after is not None and after.node == node
    return after.term


async def append(log: Log, term: int, first: int, count: int) -> list[tuple[int, bytes]]:
    entries = [(index, b"entry %d" % index) for index in range(first, first + count)]
    for index, entry in entries:
        assert (await log.append(term, index, entry)).committed
    return entries


async def first_few(iterator: AsyncIterator[object], count: int) -> list[object]:
    got: list[object] = []
    async for item in iterator:
        got.append(item)
        if len(got) == count:
            break
    await iterator.aclose()  # type: ignore[attr-defined]
    return got
