"""The API comes up beside its node: what it needs is loaded after the start, and what is wrong with it ends that."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onefold.api.late import LateApi
from onefold.config import Address
from onefold.core.messages import Message, Moved
from onefold.core.roster import Roster
from onefold.edge.tls import Authority
from onefold.errors import OperatorError


async def answer(message: Message) -> Message:
    return Moved("b", 7)


def late(directory: Path, port: int, enabled: bool = True) -> LateApi:
    tls = directory / "node"
    Authority.create(directory).issue("a", [], tls, "f")
    listen = Address("127.0.0.1", port)
    api = SimpleNamespace(
        enabled=enabled,
        listen=listen,
        cert=tls / "node.crt",
        key=tls / "node.key",
        connections_max=3,
        body_bytes_max=1 << 20,
    )
    config: Any = SimpleNamespace(name="a", api=api)
    return LateApi(config, answer, Roster)


def test_a_node_starts_without_the_libraries_of_its_api() -> None:
    script = "import sys, onefold.run; print(*{'starlette', 'uvicorn', 'prometheus_client'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


async def test_it_serves_until_it_is_closed(tmp_path: Path, unused_tcp_port: int) -> None:
    api = late(tmp_path, unused_tcp_port)
    serving = asyncio.create_task(api.run())
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
    writer.close()
    assert not serving.done()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await api.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", unused_tcp_port)


async def test_a_port_that_another_has_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        api = late(tmp_path, other.getsockname()[1])
        with pytest.raises(OperatorError, match=r"cannot listen at .* for the API"):
            await api.run()
        await api.close()


async def test_where_it_is_not_enabled_nobody_listens(tmp_path: Path, unused_tcp_port: int) -> None:
    api = late(tmp_path, unused_tcp_port, enabled=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await api.run()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", unused_tcp_port)
    await api.close()
