"""Which node is asked, and what is done when it does not answer: decided here, carried out by either client.

A question goes to the node that answered last. When that cannot be reached, stands by, or (of a question that may be
asked twice) fails on the way, the next one is asked, each once. A write that may have arrived is never sent twice.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from onefold.client.calls import Call
from onefold.client.errors import ClientError, Unavailable, Unreachable, error_of
from onefold.errors import BadSetting


class Reply(NamedTuple):
    """What came back. `body` is empty while a stream is open."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Failure(NamedTuple):
    """No answer came. `sent`: the question may have arrived. `spent`: its content cannot be sent again."""

    why: str
    sent: bool
    spent: bool = False


class Nodes:
    """The addresses of a cluster, the one that answered last first."""

    def __init__(self, addresses: str | Iterable[str]) -> None:
        """Raises `BadSetting` when there is none, or one is not reached by TLS."""
        given = [addresses] if isinstance(addresses, str) else list(addresses)
        if not given:
            raise BadSetting("no address of a node is given", 'give one, as "host:port"')
        self._urls = [_url(address) for address in given]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._urls))

    def answered(self, url: str) -> None:
        at = self._urls.index(url)
        self._urls = self._urls[at:] + self._urls[:at]

    def failed(self, url: str) -> None:
        """The next question goes to another one, if there is one."""
        if self._urls[0] == url:
            self._urls = [*self._urls[1:], url]


Attempts = Generator[str, "Reply | Failure", Reply]
"""Yields the URL to ask, is sent what came of it, and returns the answer, which is a success."""


def attempts(nodes: Nodes, call: Call[Any]) -> Attempts:
    """Raises `ClientError`: the answer's, or `Unreachable`."""
    failures: list[str] = []
    away: ClientError | None = None
    for url in list(nodes):
        came = yield url + call.target
        if isinstance(came, Failure):
            nodes.failed(url)
            failures.append(f"{url.removeprefix('https://')}: {came.why}")
            if came.spent or (came.sent and not call.safe):
                break
            continue
        if came.status < 400:
            nodes.answered(url)
            return came
        error = error_of(came.status, came.headers, came.body)
        if not (isinstance(error, Unavailable) and (error.away or call.safe)):
            nodes.answered(url)
            raise error
        away = away or error
    if away is not None:
        raise away
    raise Unreachable(f"no node answers ({'; '.join(failures)})", "start one, or correct the addresses")


def _url(address: str) -> str:
    scheme, separator, rest = address.rpartition("://")
    if separator and scheme != "https":
        raise BadSetting(f"{address!r} is not reached by TLS", 'give the address as "host:port"')
    host, _, port = rest.rstrip("/").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise BadSetting(f"{address!r} is not the address of a node", 'give it as "host:port"')
    return f"https://{rest.rstrip('/')}"
