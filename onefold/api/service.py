"""What the API's operations are given: the node that they speak for, and what is known of its cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from onefold.api.feed import Feed
from onefold.api.requests import Requests
from onefold.config import Config
from onefold.core.messages import Message
from onefold.core.roster import Roster
from onefold.errors import PeerAway
from onefold.node.loop import Node


class Service(msgspec.Struct, frozen=True):
    """`ask(message)`: this node's answer, as to the command line. `roster()`: as this node knows it now. `running` is
    the node's loop; None while it stands by. `requests` counts what is asked, `feed` serves those who follow."""

    config: Config
    ask: Callable[[Message], Awaitable[Message]]
    roster: Callable[[], Roster]
    running: Node | None = None
    requests: Requests = msgspec.field(default_factory=Requests)
    feed: Feed = msgspec.field(default_factory=Feed)

    @property
    def node(self) -> Node:
        """Raises `PeerAway` while the node stands by."""
        if self.running is None:
            raise PeerAway(f"{self.config.name} stands by", "see its status, or ask another node")
        return self.running
