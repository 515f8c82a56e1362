"""Server-Sent Events as values, and what to do when a stream of them breaks off. No I/O."""

from __future__ import annotations

import msgspec

from onefold.api.answers import Changed, Placed, Reset, Status
from onefold.client import calls
from onefold.client.calls import Call
from onefold.client.errors import BadAnswer, ClientError, Unavailable, Unreachable

Event = Changed | Placed | Status | Reset
_TYPES: dict[bytes, type[Changed] | type[Placed] | type[Status] | type[Reset]] = {
    b"change": Changed,
    b"placed": Placed,
    b"status": Status,
    b"reset": Reset,
}
EVENT_BYTES_MAX = 16 << 20
SILENT_SECONDS = 40.0
"""A node says something every 15 seconds, so one that is silent for so long is gone."""
RETRY_SECONDS_MIN = 0.25
RETRY_SECONDS_MAX = 5.0


class Stream:
    """Reads what comes, piece by piece, and knows from where to go on. `index` is that of the last entry told; None as
    long as there was none, and none was asked for."""

    def __init__(self, since: int | None, patience_seconds: float) -> None:
        """`patience_seconds`: how long no node may answer before that is an error."""
        self.index = since
        self._patience = patience_seconds
        self._waited = 0.0
        self._pause = RETRY_SECONDS_MIN
        self._begun = False
        self._rest = bytearray()

    def call(self) -> Call[bytes]:
        """How to ask for what comes next."""
        self._rest.clear()
        return calls.events(self.index)

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes; those of a later version are left out. Raises `BadAnswer`."""
        self._begun = True
        self._waited, self._pause = 0.0, RETRY_SECONDS_MIN
        self._rest += data
        *whole, rest = bytes(self._rest).split(b"\n\n")
        if len(rest) > EVENT_BYTES_MAX:
            raise BadAnswer(f"an event is longer than {EVENT_BYTES_MAX} bytes", "update Onefold")
        self._rest = bytearray(rest)
        return [event for block in whole if (event := self._event(block)) is not None]

    def pause(self, error: ClientError | None) -> float:
        """For how many seconds to wait before `call` again, after the stream ended, or `error`. Raises `error` if there
        is no use in that."""
        if error is not None and not (isinstance(error, Unreachable | Unavailable) and self._begun):
            raise error
        if error is not None and self._waited >= self._patience:
            raise error
        pause = self._pause
        self._waited += pause
        self._pause = min(2 * pause, RETRY_SECONDS_MAX)
        return pause

    def _event(self, block: bytes) -> Event | None:
        fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n") if not line.startswith(b":"))
        kind = _TYPES.get(fields.get(b"event", b""))
        try:
            event = None if kind is None else msgspec.json.decode(fields[b"data"], type=kind)
            if b"id" in fields:
                self.index = int(fields[b"id"])
        except (KeyError, ValueError) as error:
            raise BadAnswer(f"an event makes no sense ({error})", "update Onefold") from error
        return event
