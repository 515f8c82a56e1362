"""Certificates made by a process of its own: making them takes a library of 15 MB, which no resident process keeps.

One job in JSON comes in, one result goes out: `python -m onefold.sign`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from onefold.errors import BadSetting, OnefoldError, OperatorError

SECONDS = 30.0


class Wanted(msgspec.Struct, frozen=True):
    """A certificate for `name` at `hosts`, for the key of `request` (PEM)."""

    name: str
    hosts: tuple[str, ...]
    request: str


class Made(msgspec.Struct, frozen=True):
    """A certificate (PEM), its serial number, and the digest of its key."""

    certificate: str
    serial: str
    key: str


class Sign(msgspec.Struct, frozen=True, tag="sign"):
    """`wanted`, signed by the authority in the directory `authority`. The result: a `Made` for each."""

    authority: str
    folder_id: str
    wanted: tuple[Wanted, ...]


class Revoke(msgspec.Struct, frozen=True, tag="revoke"):
    """The list of what is revoked, as etcd reads it. The result: its text."""

    authority: str
    serials: tuple[str, ...]


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Requests for the keys in these files; one that has none gets one. The result: a text for each.

    With `if_due`, none unless one of these certificates has a third of its time left, or less.
    """

    keys: tuple[str, ...]
    if_due: tuple[str, ...] = ()


Job = Sign | Revoke | Ask
T = TypeVar("T")


async def sign(authority: Path, folder_id: str, wanted: tuple[Wanted, ...]) -> tuple[Made, ...]:
    """Raises `BadSetting` for what cannot be certified, `OperatorError` when the authority is not there."""
    return await _run(Sign(str(authority), folder_id, wanted), tuple[Made, ...])


async def revocations(authority: Path, serials: tuple[str, ...]) -> str:
    """Raises `OperatorError`."""
    return await _run(Revoke(str(authority), serials), str)


async def requests(keys: tuple[Path, ...], if_due: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Raises `OperatorError`."""
    return await _run(Ask(tuple(map(str, keys)), tuple(map(str, if_due))), tuple[str, ...])


class _Failed(msgspec.Struct, frozen=True):
    what: str
    fix: str
    asked_badly: bool


async def _run(job: Job, kind: type[T]) -> T:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "onefold.sign", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate(msgspec.json.encode(job))
    except TimeoutError as error:
        raise OperatorError(f"no certificate was made within {SECONDS:g} s", "see what keeps this machine") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return msgspec.json.decode(out, type=kind)
    if not out:
        raise OperatorError(f"a certificate could not be made (exit code {process.returncode})", "see this node's log")
    failed = msgspec.json.decode(out, type=_Failed)
    raise (BadSetting if failed.asked_badly else OperatorError)(failed.what, failed.fix)


def do(job: Job) -> object:
    """The result of `job`. Raises `OnefoldError`."""
    from onefold.edge.tls import Authority

    if isinstance(job, Ask):
        return _asked(job)
    authority = Authority.load(Path(job.authority))
    if isinstance(job, Revoke):
        return authority.revocations(job.serials).decode()
    found = (authority.certify(w.request.encode(), w.name, list(w.hosts), job.folder_id) for w in job.wanted)
    return tuple(Made(made.certificate.decode(), made.serial, made.key) for made in found)


def _asked(job: Ask) -> tuple[str, ...]:
    from onefold.atomic import replace_file
    from onefold.edge.tls import is_due, new_request

    try:
        if job.if_due and not any(is_due(Path(file).read_bytes()) for file in job.if_due):
            return ()
        found = []
        for file in map(Path, job.keys):
            made = new_request(file.read_bytes() if file.exists() else None)
            if not file.exists():
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(file, made.key, 0o600)
            found.append(made.request.decode())
        return tuple(found)
    except (OSError, ValueError) as error:
        raise OperatorError(f"a key or certificate of this node cannot be used ({error})", "mend it") from error


def main() -> int:
    """One job. Returns the exit status."""
    try:
        result: object = do(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))
        status = 0
    except OnefoldError as error:
        result, status = _Failed(error.what, error.fix, isinstance(error, BadSetting)), error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(result))
    return status


if __name__ == "__main__":
    sys.exit(main())
