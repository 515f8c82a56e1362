"""The cluster's own certificate authority, and mutual TLS 1.3 from its certificates.

`init` makes an `Authority`; it signs one certificate per node, used by that node both as server and as client, for
etcd and for our own connections. Who a peer is, is the name in its certificate (`peer_name`): addresses may change.
etcd however checks addresses: that of the member dialled, and that of a peer that dials in. So a certificate also
names every address of its node, and loopback, where a node finds its own member.
"""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from onefold.atomic import replace_file
from onefold.errors import BadSetting, OperatorError, PeerRefused

if TYPE_CHECKING:  # `cryptography` costs some 15 MB: only those who issue certificates load it
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA = "ca.crt"
CA_KEY = "ca.key"
CERTIFICATE = "node.crt"
KEY = "node.key"

BACKDATED_DAYS = 2
"""Certificates are valid from that long ago, against clocks that differ."""
VALID_DAYS = 20 * 365
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class TlsFiles:
    """Where a node's certificates are."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def within(cls, directory: Path) -> TlsFiles:
        """As `Identity.write` leaves them in `directory`."""
        return cls(directory / CA, directory / CERTIFICATE, directory / KEY)


@dataclass(frozen=True)
class Identity:
    """What one node needs to prove who it is, each as PEM. `key` is secret."""

    ca: bytes
    certificate: bytes
    key: bytes

    def write(self, directory: Path) -> None:
        """Write `ca.crt`, `node.key` (0600) and, last, `node.crt` into `directory`, each atomically."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(directory / CA, self.ca, 0o644)
        replace_file(directory / KEY, self.key, 0o600)
        replace_file(directory / CERTIFICATE, self.certificate, 0o644)


class Authority:
    """The key that says who belongs to the cluster."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, directory: Path) -> Authority:
        """A new authority, kept in `directory` as `ca.key` (0600) and `ca.crt`.

        Raises `OperatorError` if there is one already: replacing it would lock every node out.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        if (directory / CA_KEY).exists():
            raise OperatorError(f"{directory} already holds an authority", "use it, or choose another directory")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign("onefold authority", "", (), key, key, None)
        authority = cls(certificate, key)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(directory / CA, _pem(certificate), 0o644)
        replace_file(directory / CA_KEY, _key_pem(key), 0o600)
        return authority

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """The authority kept in `directory`. Raises `OperatorError` when it is not there or not readable."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            certificate = x509.load_pem_x509_certificate((directory / CA).read_bytes())
            key = serialization.load_pem_private_key((directory / CA_KEY).read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise OperatorError(
                f"cannot read the cluster's authority in {directory} ({error})", "run this where `init` was run"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OperatorError(f"{directory / CA_KEY} is no key of ours", "restore it from a backup")
        return cls(certificate, key)

    def sign(self, name: str, hosts: list[str], folder_id: str) -> Identity:
        """A new key and certificate for node `name`, reachable at `hosts` (addresses or DNS names).

        Raises `BadSetting` for a name or host that no certificate can hold.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        if not _NAME.fullmatch(name):
            raise BadSetting(
                f"{name!r} cannot be the name of a node", "use up to 63 letters, digits, dashes, dots and underscores"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(name, folder_id, (name, *hosts, *LOOPBACK), key, self._key, self._certificate)
        return Identity(_pem(self._certificate), _pem(certificate), _key_pem(key))

    def issue(self, name: str, hosts: list[str], directory: Path, folder_id: str) -> None:
        """`sign`, and write what came out into `directory`."""
        self.sign(name, hosts, folder_id).write(directory)


def server_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """For a listener: TLS 1.3 only, and only clients with a certificate of our authority.

    Raises `OperatorError` when a file is missing or is not what it should be.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, ca, certificate, key)
    context.num_tickets = 0  # sessions are long and never resumed
    return context


def client_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """For dialling a peer: TLS 1.3 only. The host name is not checked: ask `peer_name` who answered.

    Raises `OperatorError` when a file is missing or is not what it should be.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, ca, certificate, key)


def peer_name(tls: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The name of the node at the other end, as our authority certified it. Raises `PeerRefused` if it has none."""
    certificate = tls.getpeercert() or {}
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    names = [value for part in subject for key, value in part if key == "commonName"]
    if len(names) != 1 or ("DNS", names[0]) not in certificate.get("subjectAltName", ()):
        raise PeerRefused("a peer's certificate does not name a node", "issue it anew")
    return names[0]


def check_own(ca: Path, certificate: Path, key: Path, name: str) -> None:
    """Raises `OperatorError` unless peers with the same `ca` will take the certificate for one of the node `name`.

    Asked of TLS itself: we greet ourselves, in memory.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(ca, certificate, key).wrap_bio(to_server, to_client, server_side=True)
    client = client_context(ca, certificate, key).wrap_bio(to_client, to_server)
    try:
        for side in (client, server, client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        certified = peer_name(client)
    except ssl.SSLCertVerificationError as error:
        raise OperatorError(
            f"the certificate {certificate} does not hold by the authority {ca} ({error.verify_message})",
            "have that authority issue it anew, or put the right `ca.crt` there",
        ) from error
    except (ssl.SSLError, ValueError, PeerRefused) as error:
        raise OperatorError(f"the certificate {certificate} cannot be used ({error})", "issue it anew") from error
    if certified != name:
        raise OperatorError(f"the certificate {certificate} is that of {certified}, not of {name}", "issue its own")


def _context(protocol: int, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise OperatorError(
            f"cannot use the certificates {ca}, {certificate}, {key} ({error})", "issue them anew, or restore them"
        ) from error
    return context


def _sign(
    name: str,
    folder_id: str,
    names: tuple[str, ...],
    key: EllipticCurvePrivateKey,
    issuer_key: EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
) -> x509.Certificate:
    """A certificate for `key`; the authority's own when `issuer` is None."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if folder_id:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, folder_id))
    subject = x509.Name(attributes)
    authority = issuer is None
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=BACKDATED_DAYS))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False).add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(names)]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    import ipaddress

    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise BadSetting(f"{host!r} is neither an address nor a DNS name", "give one of them") from error


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
