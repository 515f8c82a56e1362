"""Something that answers as a node would, over TLS, as a test tells it to."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from onefold.edge.tls import Authority


class Asked(NamedTuple):
    """A question that arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """`status` 0: the connection is closed instead. `cut`: so many bytes fewer come than were announced."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    cut: int = 0


class FakeNode:
    """`asked` is what arrived, `answer` what is said to it."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.address = ""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever does not like our certificate has gone."""


@contextmanager
def fake_node(directory: Path, answer: Callable[[Asked], Answer]) -> Iterator[FakeNode]:
    """A listener with a certificate of the authority in `directory`, which is made if need be."""
    node = FakeNode(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self._body(headers))
            node.asked.append(asked)
            said = node.answer(asked)
            self.close_connection = bool(said.cut) or not said.status
            if not said.status:
                return
            self.send_response(said.status)
            for name, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body[: len(said.body) - said.cut])

        do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

        def _body(self, headers: dict[str, str]) -> bytes:
            if headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(headers.get("content-length", "0")))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing is said."""

    context = _context(directory)
    server = _Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    node.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield node
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _context(directory: Path) -> ssl.SSLContext:
    if not (directory / "fake").exists():
        made = (directory / "ca.key").exists()
        authority = Authority.load(directory) if made else Authority.create(directory)
        authority.issue("fake", [], directory / "fake", "folder")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "fake" / "node.crt", directory / "fake" / "node.key")
    return context
