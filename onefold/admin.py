"""Questions to a node from outside the cluster: the command line's and the demo's side of the peer listener.

The same TLS, frames and greeting as between nodes, with a certificate in the name of `onefold.config.ADMIN`, which is
no member: nodes answer it what `onefold.edge.link` lists for it, and nothing else.
"""

from __future__ import annotations

import asyncio
import ssl

from onefold.config import ADMIN, Config, Member
from onefold.core.messages import Hello, Message, Refused
from onefold.core.wire import RULES, decode_message, encode_message
from onefold.edge.link import FRAME_BYTES_MAX, HEADER
from onefold.edge.link import FrameKind as Kind
from onefold.edge.tls import client_context, peer_name
from onefold.errors import PeerAway, PeerGone, PeerRefused


class Client:
    """A connection to one node, on which one question at a time is asked."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer
        self._asked = 0
        self.closed = False

    @classmethod
    async def connect(cls, config: Config, member: Member, seconds: float) -> Client:
        """Connect to `member` with the certificates that `config` names for the administrator.

        Raises `PeerGone` when it does not answer within `seconds`, `PeerRefused` when another node answers or it does
        not let us in, `OperatorError` when the certificates cannot be read.
        """
        tls = client_context(*config.tls.admin)
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection(*member.address, ssl=tls)
        except ssl.SSLError as error:
            raise _no_tls(member.name, error) from error
        except (OSError, TimeoutError) as error:
            raise PeerGone(f"{member.name} does not answer at {member.address}", "start it") from error
        client = cls(member.name, reader, writer)
        try:
            certified = peer_name(writer.get_extra_info("ssl_object"))
            if certified != member.name:
                raise PeerRefused(
                    f"{certified} answers at the address of {member.name}", "correct `address` in the members"
                )
            client._send(Kind.TELL, Hello(config.folder_id, ADMIN, 0, RULES))
            _, _, answer = await client._receive(seconds)
            if isinstance(answer, Refused):
                raise PeerRefused(answer.what, answer.fix)
        except BaseException:
            client.close()
            raise
        return client

    async def ask(self, message: Message, seconds: float) -> Message:
        """The answer to `message`. Raises `PeerGone` when none comes within `seconds`, or `PeerRefused`
        (`PeerAway`: another node may answer)."""
        self._asked += 1
        self._send(Kind.ASK, message)
        while True:
            kind, number, answer = await self._receive(seconds)
            if kind == Kind.ANSWER and number == self._asked:
                break
        if isinstance(answer, Refused):
            raise (PeerAway if answer.away else PeerRefused)(answer.what, answer.fix)
        return answer

    def close(self) -> None:
        """End the connection at once."""
        self.closed = True
        self._writer.transport.abort()

    def _send(self, kind: Kind, message: Message) -> None:
        data = encode_message(message)
        self._writer.write(HEADER.pack(len(data), kind, self._asked) + data)

    async def _receive(self, seconds: float) -> tuple[int, int, Message]:
        try:
            async with asyncio.timeout(seconds):
                size, kind, number = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                if size > FRAME_BYTES_MAX:
                    raise PeerRefused(f"{self._name} sent a message of {size} bytes", "update Onefold on all nodes")
                return kind, number, decode_message(await self._reader.readexactly(size))
        except TimeoutError as error:
            raise PeerGone(f"{self._name} did not answer within {seconds:g} s") from error
        except ssl.SSLError as error:
            raise _no_tls(self._name, error) from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise PeerGone(f"{self._name} closed the connection") from error


def _no_tls(node: str, error: ssl.SSLError) -> PeerRefused:
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
    return PeerRefused(
        f"no TLS with {node} ({reason})", "give both certificates of the same authority (onefold certify)"
    )
