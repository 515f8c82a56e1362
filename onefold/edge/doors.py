"""Who is let in, the same for control and bulk connections (G8).

A peer is who its certificate says, must be a configured member, and must then say `Hello` for the same folder under the
same rules. Until all of that holds, nothing it sends goes further than here.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onefold.core.messages import Hello, Message, Problem
from onefold.edge.tls import peer_serial
from onefold.errors import PeerError, PeerRefused

CONNECT_SECONDS = 2.0
HANDSHAKE_SECONDS = 3.0
"""Longest a stranger may take for TLS, and then again for its `Hello`."""
HELLO_BYTES_MAX = 4096
ADMIN = "admin"
"""The name in the certificate of the command line. No node may have it."""


@dataclass
class Doors:
    """Us, the other members (name to host and control port), and TLS for both directions.

    `peer_name` reads the name out of a finished handshake and raises `PeerRefused` when there is none. `closed`: why no
    peer is let in, but the command line. `members` and `revoked` (serial numbers of certificates, hex) may be replaced
    at any time, by others.
    """

    me: Hello
    members: Mapping[str, tuple[str, int]]
    server: ssl.SSLContext
    client: ssl.SSLContext
    peer_name: Callable[[ssl.SSLObject | ssl.SSLSocket], str]
    closed: Problem | None = None
    revoked: frozenset[str] = frozenset()

    def recognise(self, tls: ssl.SSLObject | ssl.SSLSocket) -> tuple[str, str]:
        """Who is at the other end, and the serial number of the certificate. Raises `PeerRefused`."""
        name, serial = self.peer_name(tls), peer_serial(tls)
        self.check_serial(name, serial)
        return name, serial

    def check_serial(self, name: str, serial: str) -> None:
        """Raises `PeerRefused` when the certificate with which `name` came is not honoured any more."""
        if serial in self.revoked:
            raise PeerRefused(f"the certificate of {name} was revoked", "let it join anew, with another invitation")

    def check_member(self, certified: str) -> None:
        """Raises `PeerRefused` unless `certified`, the name in a peer's certificate, is another member, and may come
        in."""
        if certified == self.me.node or certified not in self.members:
            raise PeerRefused(
                f"{self.me.node} has no other member named {certified}",
                f"add {certified} to the members of {self.me.node}, or take it out of service",
            )
        if self.closed is not None:
            raise PeerRefused(f"{self.me.node} stands by ({self.closed.what})", self.closed.fix)

    def check_visitor(self, certified: str) -> None:
        """As `check_member`, for the control listener, where the command line may come as well."""
        if certified != ADMIN:
            self.check_member(certified)

    def check_answerer(self, certified: str, dialled: str) -> None:
        """Raises `PeerRefused` unless the node that answered is the one that was dialled."""
        if certified != dialled:
            raise PeerRefused(
                f"{certified} answers at the address of {dialled}", f"correct the address of {dialled} in the members"
            )

    def check_hello(self, certified: str, message: Message) -> Hello:
        """The first message of a peer. Raises `PeerRefused` when it is of another folder, rules or name."""
        if not isinstance(message, Hello):
            raise PeerError(f"{certified} did not say hello first", "run the same version of Onefold on all nodes")
        if message.node != certified:
            raise PeerRefused(
                f"the node named {message.node} holds the certificate of {certified}", f"give {message.node} its own"
            )
        if message.folder != self.me.folder:
            raise PeerRefused(
                f"{certified} replicates folder {message.folder}, and {self.me.node} folder {self.me.folder}",
                "let both join the same folder",
            )
        if message.rules != self.me.rules:
            raise PeerRefused(
                f"{certified} follows rules {message.rules}, and {self.me.node} rules {self.me.rules}",
                "run the same version of Onefold on all nodes",
            )
        return message


def tune(sock: socket.socket) -> None:
    """Send at once, and notice a dead peer: after 2 s without acknowledgement, or of silence and two lost probes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000)
