"""Every question to the API as a value, with what its answer means. No I/O: both clients share all of this."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import IO, Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import urlencode

import msgspec

from onefold.api import answers
from onefold.client.errors import BadAnswer

T = TypeVar("T")
FolderPath = str | bytes
"""A path in the folder: text is taken as UTF-8; any other name only bytes can spell."""
Content = bytes | os.PathLike[str] | IO[bytes] | Iterable[bytes] | AsyncIterable[bytes]
"""What is to be written: the bytes; a file by its path, or open; or parts, one after the other."""


class Call(NamedTuple, Generic[T]):
    """One question. `safe`: asking again does no harm. `answer`: the type of the JSON that comes."""

    method: str
    target: str
    answer: type[T]
    safe: bool = False
    headers: Mapping[str, str] = {}
    json: Any = None
    content: Content | None = None


class Facts(msgspec.Struct, frozen=True):
    """What the headers of a content say. `size` is that of the whole file, `first` the offset of what comes."""

    digest: str
    size: int
    version: int
    index: int
    first: int = 0


def decode(call: Call[T], body: bytes) -> T:
    """Raises `BadAnswer`."""
    if call.answer is bytes or call.answer is type(None):
        return cast(T, body if call.answer is bytes else None)
    try:
        return msgspec.json.decode(body, type=call.answer)
    except msgspec.MsgspecError as error:
        raise BadAnswer(
            f"the answer to {call.method} {call.target} makes no sense ({error})", "update Onefold"
        ) from error


def facts(headers: Mapping[str, str]) -> Facts:
    """Raises `BadAnswer`."""
    try:
        first, size = 0, int(headers["content-length"])
        if "content-range" in headers:
            span, _, whole = headers["content-range"].removeprefix("bytes ").partition("/")
            first, size = int(span.partition("-")[0]), int(whole)
        return Facts(
            digest=headers["etag"].strip('"'),
            size=size,
            version=int(headers["onefold-version"]),
            index=int(headers["onefold-index"]),
            first=first,
        )
    except (KeyError, ValueError) as error:
        raise BadAnswer(f"the headers of a content make no sense ({error})", "update Onefold") from error


# ------------------------------------------------------------------------------------------------ the cluster


def status() -> Call[answers.Status]:
    return _get("/v1/status", answers.Status)


def members() -> Call[answers.Members]:
    return _get("/v1/members", answers.Members)


def move_leader(node: str) -> Call[answers.Leads]:
    return Call("POST", "/v1/leader", answers.Leads, json={"node": node})


def confirm(node: str | None) -> Call[answers.ConfirmedTold]:
    return Call("POST", "/v1/confirm", answers.ConfirmedTold, json={} if node is None else {"node": node})


# ------------------------------------------------------------------------------------------------ files


def listing(path: FolderPath, after: str | None, limit: int, linearizable: bool) -> Call[answers.Listing]:
    """`after`: `next` of the page before, which is percent-encoded already."""
    return _get(
        _at("list", path),
        answers.Listing,
        limit=limit,
        after=after and answers.raw(after),
        consistency=_how(linearizable),
    )


def content(path: FolderPath, first: int, last: int | None, if_range: str | None, linearizable: bool) -> Call[bytes]:
    """The bytes from `first` to `last`, inclusive (None: to the end); all of them if the digest is not `if_range`."""
    headers = {}
    if first or last is not None:
        headers["Range"] = f"bytes={first}-{'' if last is None else last}"
    if if_range is not None:
        headers["If-Range"] = _tag(if_range)
    call = _get(_at("files", path), bytes, consistency=_how(linearizable))
    return call._replace(headers=headers)


def write(
    path: FolderPath, content: Content, if_match: str | None, if_absent: bool, mode: int | None, mtime_ns: int | None
) -> Call[answers.Written]:
    target = _with(_at("files", path), mode=None if mode is None else f"{mode:o}", mtime_ns=mtime_ns)
    headers = {"Content-Type": "application/octet-stream", **_conditions(if_match, if_absent)}
    return Call("PUT", target, answers.Written, headers=headers, content=content)


def make_directory(path: FolderPath) -> Call[answers.Written]:
    return Call("PUT", _at("directories", path), answers.Written)


def remove(path: FolderPath, recursive: bool, if_match: str | None) -> Call[answers.Removed]:
    target = _with(_at("files", path), recursive="true" if recursive else None)
    return Call("DELETE", target, answers.Removed, headers=_conditions(if_match, False))


def move(source: FolderPath, to: FolderPath, if_match: str | None) -> Call[answers.MovedTo]:
    body = {"from": answers.href(_bytes(source)), "to": answers.href(_bytes(to))}
    if if_match is not None:
        body["if_match"] = if_match
    return Call("POST", "/v1/move", answers.MovedTo, json=body)


def history(path: FolderPath | None, limit: int | None) -> Call[answers.History]:
    return _get("/v1/history" if path is None else _at("history", path), answers.History, limit=limit)


# ------------------------------------------------------------------------------------------------ strays


def strays() -> Call[answers.StraysTold]:
    return _get("/v1/strays", answers.StraysTold)


def stray(node: str, id: str) -> Call[bytes]:
    return _get(_stray(node, id), bytes)


def restore_stray(node: str, id: str, to: FolderPath | None) -> Call[answers.Written]:
    body = {} if to is None else {"to": answers.href(_bytes(to))}
    return Call("POST", f"{_stray(node, id)}/restore", answers.Written, json=body)


def drop_stray(node: str, id: str) -> Call[None]:
    return Call("DELETE", _stray(node, id), type(None))


# ------------------------------------------------------------------------------------------------ events, metrics


def events(since: int | None) -> Call[bytes]:
    return _get("/v1/events", bytes, since=since)._replace(headers={"Accept": "text/event-stream"})


def metrics() -> Call[bytes]:
    return _get("/metrics", bytes)


# ------------------------------------------------------------------------------------------------ how it is spelled


def _get(target: str, answer: type[T], **query: str | bytes | int | None) -> Call[T]:
    return Call("GET", _with(target, **query), answer, safe=True)


def _at(what: str, path: FolderPath) -> str:
    return f"/v1/{what}/{answers.href(_bytes(path))}"


def _bytes(path: FolderPath) -> bytes:
    return path if isinstance(path, bytes) else os.fsencode(path)


def _stray(node: str, id: str) -> str:
    return f"/v1/strays/{answers.href(node.encode())}/{answers.href(id.encode())}"


def _with(target: str, **query: str | bytes | int | None) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{target}?{urlencode(given)}" if given else target


def _how(linearizable: bool) -> str | None:
    return "linearizable" if linearizable else None


def _conditions(if_match: str | None, if_absent: bool) -> dict[str, str]:
    headers = {} if if_match is None else {"If-Match": _tag(if_match)}
    return headers | ({"If-None-Match": "*"} if if_absent else {})


def _tag(digest: str) -> str:
    """An ETag; `*` stands for anything that exists."""
    return digest if digest == "*" else f'"{digest}"'
