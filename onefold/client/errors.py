"""What may go wrong with a question to the API, one exception for each thing that a program may want to tell apart.

All have `what` and `fix`, as every error of Onefold's; `status` is the answer's (0: there was none).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from onefold.api.answers import ApiProblem
from onefold.errors import OnefoldError


class ClientError(OnefoldError):
    """Base of all. `retry_after`: seconds that the node asks to wait before the next try; None if it did not say."""

    def __init__(self, what: str, fix: str = "", status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(what, fix)
        self.status = status
        self.retry_after = retry_after


class BadRequest(ClientError):
    """400: what was asked is not as it must be."""

    exit_code = 2


class Unauthorized(ClientError):
    """401: there was no token, or it is not known."""

    exit_code = 3


class Forbidden(ClientError):
    """403: the token's role does not allow it."""

    exit_code = 3


class NotFound(ClientError):
    """404: there is nothing of that name."""


class Conflict(ClientError):
    """409: it cannot be done as things are."""


class PreconditionFailed(ClientError):
    """412: what stands there is not what was expected. Nothing changed."""


class TooLarge(ClientError):
    """413: the node takes no file of that size."""


class BadRange(ClientError):
    """416: the content ends before that."""


class TooManyRequests(ClientError):
    """429: too many wrong tokens came from this address; or too many ask at once."""


class ServerFailed(ClientError):
    """500: the node failed to answer, which is a bug of ours."""

    exit_code = 4


class Unavailable(ClientError):
    """503: nobody leads, there is no majority, or the node stands by. If it was a write, its outcome is unknown unless
    `away`: then nothing was done."""

    exit_code = 4

    def __init__(
        self, what: str, fix: str = "", status: int = 0, retry_after: float | None = None, away: bool = False
    ) -> None:
        super().__init__(what, fix, status, retry_after)
        self.away = away


class Unreachable(ClientError):
    """No node answered. Of a write that was sent, the outcome is unknown."""

    exit_code = 4


class BadAnswer(ClientError):
    """What answered is no node of Onefold, or of another version; or the content was not what its digest says."""

    exit_code = 4


_BY_STATUS: dict[int, type[ClientError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    416: BadRange,
    429: TooManyRequests,
}


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
    """The error that an answer without success means."""
    try:
        told = msgspec.json.decode(body, type=ApiProblem)
    except msgspec.MsgspecError:
        told = ApiProblem(status, f"the answer was {status}", "see the node's log")
    retry_after = float(told_after) if (told_after := headers.get("retry-after", "")).isdecimal() else None
    if status == 503:
        return Unavailable(told.title, told.fix, status, retry_after, told.away)
    kind = _BY_STATUS.get(status, BadRequest if 400 <= status < 500 else ServerFailed if status == 500 else BadAnswer)
    return kind(told.title, told.fix, status, retry_after)
