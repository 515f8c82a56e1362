"""`onefold watch`: the events of a cluster on a terminal, or as lines of JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import msgspec

from onefold.api.answers import Changed, Placed, Reset, Status, raw
from onefold.cli_api import client
from onefold.client.events import Event
from onefold.config import Config
from onefold.core.paths import show

NAMES: dict[type[Event], str] = {Changed: "change", Placed: "placed", Status: "status", Reset: "reset"}
CHANGES_SHOWN = 10


def watch(config: Config, since: int | None, as_json: bool) -> None:
    """Until interrupted, or nobody answers any more. Raises `ClientError`."""
    seen = Lines()
    with client(config) as folder:
        for event in folder.events(since):
            for line in [_json(event)] if as_json else seen.of(event):
                sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def _json(event: Event) -> str:
    return msgspec.json.encode({"event": NAMES[type(event)], **msgspec.to_builtins(event)}).decode()


class Lines:
    """What a person is told of each event; of a status, only what is new."""

    def __init__(self) -> None:
        self._leader: tuple[str, int] | None = None
        self._problems: set[tuple[str, str, str]] = set()

    def of(self, event: Event) -> list[str]:
        at = time.strftime("%H:%M:%S")
        return [f"{at}  {line}" for line in self._told(event)]

    def _told(self, event: Event) -> Iterator[str]:
        match event:
            case Changed(index=index, node=node, changes=changes, omitted=omitted):
                by = f"  by {node}" if node else ""
                for change in changes[:CHANGES_SHOWN]:
                    origin = f" from {show(raw(change.origin))}" if change.origin is not None else ""
                    yield f"#{index}  {change.verb}  {change.path}{origin}{by}"
                more = omitted + len(changes) - len(changes[:CHANGES_SHOWN])
                if more:
                    yield f"#{index}  and {more} more{by}"
            case Placed(index=index, everywhere_ms=ms):
                yield f"#{index}  everywhere after {ms:g} ms"
            case Reset(index=index):
                yield f"what happened up to #{index} is not known any more: list the folder to see it"
            case Status():
                yield from self._status(event)

    def _status(self, status: Status) -> Iterator[str]:
        leader = (status.leader, status.term)
        if leader != self._leader:
            self._leader = leader
            yield f"{status.leader} leads, term {status.term}" if status.leader else "nobody leads"
        problems = {(node.name, p.what, p.where) for node in status.nodes for p in node.problems}
        for node, what, where in sorted(problems - self._problems):
            yield f"{node}: {what}" + (f" ({where})" if where else "")
        for node, what, where in sorted(self._problems - problems):
            yield f"{node}: mended: {what}" + (f" ({where})" if where else "")
        self._problems = problems
