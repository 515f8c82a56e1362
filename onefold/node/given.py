"""What a node is given: who it is, and the ports through which it knows the world."""

from __future__ import annotations

from pathlib import Path

import msgspec

from onefold.ports import (
    BaseStore,
    CatalogueStore,
    Clock,
    Hooks,
    Log,
    Materialiser,
    Objects,
    Peers,
    RecentContents,
    Scanner,
    Strays,
    Watcher,
)


class Ports(msgspec.Struct, frozen=True):
    """Everything that a node knows of the world. `hooks`: None when it has none."""

    clock: Clock
    log: Log
    objects: Objects
    contents: RecentContents
    peers: Peers
    watcher: Watcher
    scanner: Scanner
    materialiser: Materialiser
    catalogue: CatalogueStore
    base: BaseStore
    strays: Strays
    hooks: Hooks | None = None


class Identity(msgspec.Struct, frozen=True):
    """Who a node is, and its settings. `voters` in the order in which they take over; `members` are all. `copies`: a
    directory for copies of files that never rest. `quiet_seconds`: how long an open file must be quiet before it is
    looked at. `entries_kept`: of the log, for nodes that are away. `scrub_days`: in which everything is read again once
    (0: never)."""

    name: str
    incarnation: int
    preferred: bool
    writers: str
    root: bytes
    copies: Path
    quiet_seconds: float
    entries_kept: int
    voters: tuple[str, ...]
    members: tuple[str, ...]
    scrub_days: int = 0
