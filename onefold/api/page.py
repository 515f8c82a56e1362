"""The web page of a node: a few static files (`onefold/web`), held in memory, each with its digest as ETag.

Whoever opens the page may load them without a token; all that they show is asked of the API, with one. The headers
here are the second wall: the scripts make no markup of data, and if one ever did, the browser would not run what
is in it. Content of replicated files is never served from here.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

from blake3 import blake3
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

INDEX = "index.html"
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-cache",  # asked again each time, and mostly answered with 304: never a page of two versions
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Asset(NamedTuple):
    """One file of the page."""

    content: bytes
    headers: dict[str, str]


def assets() -> dict[str, Asset]:
    """The files of the page by their names."""
    found = {}
    for file in files("onefold.web").iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            content = file.read_bytes()
            etag = f'"{blake3(content).hexdigest()}"'
            found[file.name] = Asset(content, HEADERS | {"Content-Type": kind, "ETag": etag})
    return found


def routes() -> list[BaseRoute]:
    """`/` and `/static/NAME`. A name that is none of the page's is not found (404)."""
    known = assets()

    async def index(request: Request) -> Response:
        return _answer(request, known[INDEX])

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name == INDEX or name not in known:
            raise HTTPException(404, "the page has no such file")
        return _answer(request, known[name])

    return [Route("/", index, methods=["GET"]), Route("/static/{name}", static, methods=["GET"])]


def _answer(request: Request, asset: Asset) -> Response:
    """The file, or 304 when the browser has it."""
    wanted = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    if asset.headers["ETag"] in wanted:
        return Response(status_code=304, headers=asset.headers)
    return Response(asset.content, headers=asset.headers)
