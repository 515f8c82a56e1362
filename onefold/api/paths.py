"""Paths in URLs: percent-encoded bytes, since names need not be text."""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from onefold.core.paths import RelPath


class _Anything(Convertor[str]):
    """A `{path:path}` of a route: also with newlines. Handlers read the bytes from the request (`path_of`)."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("path", _Anything())


def href(path: bytes) -> str:
    """What to put into a URL for `path`."""
    return quote_from_bytes(path, safe="/")


def parse_href(text: str) -> RelPath:
    """The path that `href` made `text` of. Raises `BadPath`."""
    return RelPath.parse(unquote_to_bytes(text))


def path_of(request: Request, after: int = 3) -> RelPath:
    """The path that ends the URL of `request`, behind its first `after` slashes. Raises `BadPath`."""
    raw: bytes = request.scope["raw_path"]
    parts = raw.split(b"/", after)
    path = unquote_to_bytes(parts[after]) if len(parts) > after else b""
    return RelPath.parse(path)


def query(request: Request, name: str) -> bytes | None:
    """The query parameter `name`, as bytes; None when it is not there."""
    raw: bytes = request.scope["query_string"]
    for part in raw.split(b"&"):
        key, _, value = part.partition(b"=")
        if unquote_to_bytes(key) == name.encode():
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None
