"""`onefold certify`: certificates for all members of a cluster, made on one machine and carried to the others.

Whatever is there already is left as it is: so running it again, after a member was added, makes only what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onefold.atomic import replace_file
from onefold.config import ADMIN, Config, Tls
from onefold.errors import OperatorError

if TYPE_CHECKING:
    from onefold.edge.tls import Authority


def certify(config: Config, directory: Path) -> list[Path]:
    """Make the cluster's authority in `directory`, and below it a directory for each of the members of `config`.

    Returns the members' directories. What one of them holds belongs into that node's `tls` directory. Raises
    `OperatorError` when something cannot be written, or `directory` holds what is no authority of ours.
    """
    directory = directory.absolute()
    try:
        authority = open_authority(directory)
        for member in config.members:
            certify_node(authority, member.name, member.address.host, config.folder_id, within(directory / member.name))
    except OSError as error:
        raise OperatorError(
            f"cannot write {error.filename or directory} ({error.strerror})", "choose another directory with --out"
        ) from error
    return [directory / member.name for member in config.members]


def open_authority(directory: Path) -> Authority:
    """The authority in `directory`, made if there is none. Raises `OperatorError` when it cannot be read."""
    from onefold.edge.tls import CA_KEY, Authority

    # Its key is written last: without one, it is half made and has signed nothing.
    return Authority.load(directory) if (directory / CA_KEY).exists() else Authority.create(directory)


def certify_node(authority: Authority, name: str, host: str, folder_id: str, files: Tls) -> None:
    """Certificates for the node, and for whoever asks it in the name of `ADMIN`, where missing; each one's last."""
    if not files.cert.exists():
        authority.issue(name, [host], files.cert.parent, folder_id)
    if not files.admin.cert.exists():
        admin = authority.sign(ADMIN, [], folder_id)
        replace_file(files.admin.key, admin.key, 0o600)
        replace_file(files.admin.cert, admin.certificate)


def within(directory: Path) -> Tls:
    """The certificates of a node in `directory`, named as the settings expect them."""
    from onefold.edge.tls import TlsFiles

    files = TlsFiles.within(directory)
    return Tls(files.ca, files.certificate, files.key)
