"""Paths in URLs: percent-encoded bytes, since names need not be text."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from onefold.api.answers import raw
from onefold.api.problem import ApiError
from onefold.core.paths import RelPath


class _Anything(Convertor[str]):
    """A `{path:path}` of a route: also with newlines. Handlers read the bytes from the request (`path_of`)."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("path", _Anything())


def parse_href(text: str) -> RelPath:
    """The path that `href` made `text` of. Raises `BadPath`."""
    return RelPath.parse(raw(text))


def path_of(request: Request, after: int = 3) -> RelPath:
    """The path that ends the URL of `request`, behind its first `after` slashes. Raises `BadPath`, and `ApiError` (404)
    when what is before it was found by its decoded form only: an encoded slash there would shift the path."""
    spelled: bytes = request.scope["raw_path"]
    *before, path = spelled.split(b"/", after)
    if len(before) < after or any(b"%" in part for part in before):
        raise ApiError(404, f"there is no {spelled.decode('ascii', 'replace')} in this API", "see /v1/openapi.json")
    return RelPath.parse(unquote_to_bytes(path))


def query(request: Request, name: str) -> bytes | None:
    """The query parameter `name`, as bytes; None when it is not there."""
    spelled: bytes = request.scope["query_string"]
    for part in spelled.split(b"&"):
        key, _, value = part.partition(b"=")
        if unquote_to_bytes(key) == name.encode():
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None
