"""What a check found: about what, how bad, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from onefold.errors import OnefoldError


class Verdict(StrEnum):
    """A warning may cost time or comfort, or is about to become a failure; with a failure a node does not work."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Check(NamedTuple):
    """`about`: what was looked at, in a word or two; `what` was found; `fix`: what to do about it."""

    about: str
    verdict: Verdict
    what: str
    fix: str = ""


def ok(about: str, what: str) -> Check:
    return Check(about, Verdict.OK, what)


def warning(about: str, what: str, fix: str) -> Check:
    return Check(about, Verdict.WARNING, what, fix)


def failure(about: str, what: str, fix: str) -> Check:
    return Check(about, Verdict.FAILURE, what, fix)


def attempt(about: str, look: Callable[[], Sequence[Check]]) -> list[Check]:
    """What `look` finds; its own failure is a finding, too, and keeps no other look from happening."""
    try:
        return list(look())
    except OnefoldError as error:
        return [failure(about, error.what, error.fix)]
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return [
            failure(
                about,
                f"cannot look at{where or ' it'} ({error.strerror or error})",
                "run this as the node's user, or as root",
            )
        ]
