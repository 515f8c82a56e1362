"""What a node needs of its files: its folder and state directory, whose they are, and certificates that hold."""

from __future__ import annotations

import datetime
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from onefold.claim import ID as FOLDER_ID
from onefold.claim import META, STATE_ID, check_certificates, check_folder, check_places, check_standing
from onefold.config import Config
from onefold.doctor.check import Check, attempt, failure, ok, warning
from onefold.edge.tls import check_own

DAYS_GOOD = 30
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def look(config: Config) -> Iterator[Check]:
    yield from attempt("folder", lambda: [folder(config)])
    yield from attempt("certificates", lambda: list(certificates(config, datetime.datetime.now(datetime.UTC))))


def folder(config: Config) -> Check:
    """Whether folder and state directory are where they should be, and of this cluster."""
    check_folder(config)
    check_places(config)
    known = config.state / STATE_ID
    cluster = known.read_text(errors="replace").strip() if known.exists() else ""
    if cluster and cluster != config.folder_id:
        return failure(
            "folder",
            f"the state directory {config.state} belongs to the cluster {cluster}, not to {config.folder_id}",
            f"set another `state` in {config.path}, or move that one away",
        )
    if cluster or (config.folder / META / FOLDER_ID).exists():
        check_standing(config)
        return ok("folder", f"{config.folder} is that of the cluster {config.folder_id}")
    return ok("folder", f"{config.folder} is in no cluster yet")


def certificates(config: Config, now: datetime.datetime) -> Iterator[Check]:
    """Whether each can be read, holds by its authority, is of this node, and for how long."""
    check_certificates(config)
    check_own(*config.tls, config.name)
    files = {"authority": config.tls.ca, "node": config.tls.cert, "command line": config.tls.admin.cert}
    if config.etcd.endpoints:
        files |= {"etcd's authority": config.etcd.tls.ca, "for etcd": config.etcd.tls.cert}
    if config.api.enabled:
        files |= {"API": config.api.cert}
    looked: dict[Path, str] = {}
    for whose, file in files.items():
        if looked.setdefault(file, whose) == whose:
            yield from attempt("certificates", partial(lifetime, whose, file, now))
    keys = [
        config.tls.key,
        config.tls.admin.key,
        config.etcd.tls.key,
        *([config.api.key] if config.api.enabled else []),
    ]
    for key in dict.fromkeys(key for key in keys if key.exists()):
        if key.stat().st_mode & _OTHERS:
            yield warning("certificates", f"others may read the private key {key}", f"chmod 600 {key}")


def lifetime(whose: str, file: Path, now: datetime.datetime) -> list[Check]:
    """Of the certificate in `file`, the first there: the others lead to its authority."""
    from cryptography import x509

    about = f"certificate ({whose})"
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError as error:
        return [failure(about, f"{file} is no certificate ({error})", "issue it anew")]
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return [failure(about, f"{file} is not valid before {begins:%Y-%m-%d %H:%M} UTC", "set the clock")]
    if now > ends:
        return [failure(about, f"{file} expired on {ends:%Y-%m-%d}", "issue it anew")]
    days = (ends - now).days
    if days < DAYS_GOOD:
        return [warning(about, f"{file} expires in {days} days", "issue it anew")]
    return [ok(about, f"valid for {days} days")]
